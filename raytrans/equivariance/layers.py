"""Equivariance of typed layers on rays, measured at generic pairs and on every singular stratum.

layer(h x, h y, rho_in(h) f) = rho_out(h) layer(x, y, f)      h: a new section for every ray
layer(g x, g y, f) = layer(x, y, f)                           g: a rigid motion, or a similarity that scales the unit
"""

import copy
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from raytrans.equivariance.report import BROKEN, Report, Row, relative_error
from raytrans.equivariance.strata import STRATA, ray_sets
from raytrans.fields.multivectors import MultivectorType
from raytrans.fields.so3 import PointType
from raytrans.fields.types import FieldType
from raytrans.geometry.rays import Rays
from raytrans.geometry.rigid import random_rotation
from raytrans.layers.linear import AnyType, as_type
from raytrans.layers.neighborhood import Elements

Kind = AnyType | MultivectorType
CHANGES = ("sections", "motion", "scale", "order")
POINT_STRATA = ("generic", "coincident", "far")  # of a point and a ray, or of two points
TOLERANCES = {torch.float32: 1e-3, torch.float64: 1e-9}
UNIT = 0.7  # not one, so that a layer that forgets its unit is found
VARIATION = 1e-6  # relative difference between the outputs of unrelated inputs; below it a layer is constant
FADED = 1e-3  # share of the generic output below which a stratum's own output is too small to be divided by


@dataclass(frozen=True)
class Inputs:
    """Arguments of a layer: targets, sources, features (on the targets first, if it has a query), unit of length."""

    x: Elements
    y: Elements
    features: tuple[Tensor, ...]
    unit: float


@dataclass(frozen=True)
class Typed:
    """A layer with the types of its features; `on` says whether features live on targets (0) or sources (1).

    `pointwise` layers act on the features of every ray alone and take neither rays nor unit.
    """

    function: Callable[..., Tensor]
    types: tuple[Kind, ...]
    on: tuple[int, ...]
    out_type: Kind
    pointwise: bool

    @property
    def points(self) -> tuple[bool, bool]:
        """Whether the targets and the sources are points."""
        return isinstance(self.out_type, PointType), isinstance(self.types[-1], PointType)

    @property
    def changes(self) -> tuple[str, ...]:
        """Changes that mean something: points have no sections, and nothing moves the features of a ray alone."""
        world = [isinstance(t, (PointType, MultivectorType)) for t in (self.out_type, self.types[-1])]
        vacuous = {"sections"} if all(world) else set()
        if self.pointwise:
            vacuous |= {"scale"} if any(world) else {"scale", "motion"}
        return tuple(change for change in CHANGES if change not in vacuous)

    def __call__(self, inputs: Inputs) -> Tensor:
        with torch.no_grad():
            if self.pointwise:
                return self.function(*inputs.features)
            return self.function(inputs.x, inputs.y, *inputs.features, unit=inputs.unit)


def equivariance_error(
    layer: Callable[..., Tensor],
    in_type: Kind | str | Sequence[Kind | str] | None = None,
    out_type: Kind | str | None = None,
    query_type: Kind | str | None = None,
    count: int = 5,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> dict[str, float]:
    """Relative error of a layer for every change and stratum, such as {"sections, parallel": 2e-16, ...}.

    The layer is called as layer(x, y, features, unit=u) with target rays (T,), source rays (S,), features
    (S, in_type.dim), and returns (T, out_type.dim); with a `query_type` as layer(x, y, query, features, unit=u). One
    without a parameter `unit` is called as layer(features), or layer(*features) for several types. Types default to the
    layer's own attributes; a module is copied and cast to `dtype`.

    Changes: "sections" (every frame turned, every anchor slid, at random), "motion" (a rotation and a translation of
    everything), "scale" (a similarity, the unit scaled along), "order" (targets and sources permuted). The error is
    max|a - b| / max|b|, or 1e30 where the output is not finite, has another shape, or does not depend on the input.
    Where a type is a `PointType`, targets or sources are points (T, 3), whose features a rotation turns; multivectors
    (`MultivectorType`) change by the versor of the motion, of translations as large as the unit.

    Raises ValueError where types are neither given nor known. Source: DESIGN section 3 for the strata; the idea of a
    public checker is that of e3nn's `equivariance_error`.
    """
    typed = _typed(layer, in_type, out_type, query_type, dtype)
    generator = torch.Generator().manual_seed(seed)
    strata = POINT_STRATA if any(typed.points) else STRATA
    strata = strata[:1] if typed.pointwise else strata
    changes = typed.changes
    names = [f"{change}, {stratum}" for stratum in strata for change in changes]
    first, other = (typed(_drawn(typed, "generic", count, dtype, generator)) for _ in range(2))
    expected = (count + (1 if typed.pointwise else 0), typed.out_type.dim)
    if tuple(first.shape) != expected:
        raise ValueError(
            f"layer: expected output of shape {expected} for out_type {typed.out_type}, got {tuple(first.shape)}"
        )
    typical = first.abs().max().item()
    if not VARIATION < relative_error(other, first) < BROKEN:
        return dict.fromkeys(names, BROKEN)
    errors = {}
    for stratum in strata:
        inputs = _drawn(typed, stratum, count, dtype, generator)
        plain = typed(inputs)
        for change in changes:
            changed, expected = _CHANGES[change](typed, inputs, plain, generator)
            errors[f"{change}, {stratum}"] = _error(typed(changed), expected, typical)
    return errors


def check_layer(layer: Callable[..., Tensor], tolerance: float | None = None, **options) -> Report:
    """A report with one row per change, the worst of all strata; `options` are those of `equivariance_error`.

    The tolerance is 1e-9 in float64 and 1e-3 in float32 by default.
    """
    tolerance = TOLERANCES[options.get("dtype", torch.float64)] if tolerance is None else tolerance
    rows: dict[str, Row] = {}
    for name, error in equivariance_error(layer, **options).items():
        change, stratum = name.split(", ")
        if change not in rows or error > rows[change].error:
            rows[change] = Row(change, error, tolerance, f"worst at: {stratum}")
    return Report(tuple(rows.values()), title=repr(layer))


def _typed(layer, in_type, out_type, query_type, dtype) -> Typed:
    function = copy.deepcopy(layer).to(dtype) if isinstance(layer, nn.Module) else layer
    signature = inspect.signature(layer.forward if isinstance(layer, nn.Module) else layer)
    pointwise = "unit" not in signature.parameters
    if in_type is None and hasattr(layer, "in_type1"):
        in_type = (layer.in_type1, layer.in_type2)
    in_type = getattr(layer, "in_type", None) if in_type is None else in_type
    out_type = getattr(layer, "out_type", None) if out_type is None else out_type
    query_type = getattr(layer, "query_type", None) if query_type is None else query_type
    for name, value in (("in_type", in_type), ("out_type", out_type)):
        if value is None:
            raise ValueError(f"{name}: expected a field type, as the layer has no attribute of that name, got none")
    single = isinstance(in_type, (str, Kind))
    types = tuple(_kind(t) for t in ([in_type] if single else in_type))
    on = (1,) * len(types)
    if query_type is not None:
        types, on = (_kind(query_type), *types), (0, *on)
    return Typed(function, types, on, _kind(out_type), pointwise)


def _kind(description: Kind | str) -> Kind:
    return description if isinstance(description, MultivectorType) else as_type(description)


def _drawn(typed: Typed, stratum: str, count: int, dtype: torch.dtype, generator: torch.Generator) -> Inputs:
    tilt = 10 * torch.finfo(dtype).eps ** 0.5
    sides = list(ray_sets("generic" if stratum == "far" else stratum, count, generator, tilt))
    for side, points in enumerate(typed.points):
        if points:
            sides[side] = sides[side].anchor + (1e3 * (1 - 2 * side) if stratum == "far" else 0.0)
    if all(typed.points) and stratum == "coincident":
        sides[1] = torch.cat([sides[0], sides[1][-1:]])
    features = tuple(
        torch.randn(len(sides[side]), t.dim, dtype=torch.float64, generator=generator).to(dtype)
        for t, side in zip(typed.types, typed.on, strict=True)
    )
    return Inputs(sides[0].to(dtype), sides[1].to(dtype), features, UNIT)


def _error(got: Tensor, expected: Tensor, typical: float) -> float:
    """Relative error; where a stratum makes the layer vanish, relative to a share of its `typical` output."""
    return relative_error(got, expected, max(expected.abs().max().item(), FADED * typical))


def _sections(typed: Typed, inputs: Inputs, plain: Tensor, generator: torch.Generator) -> tuple[Inputs, Tensor]:
    rays, gauges = [], []
    for side in (inputs.x, inputs.y):
        gauge = torch.randn(2, len(side), dtype=torch.float64, generator=generator) * torch.tensor([[3.0], [1.0]])
        angle, slide = gauge.to(side.dtype)
        rays.append(side.in_section(angle, inputs.unit * slide) if isinstance(side, Rays) else side)
        gauges.append((angle, slide))
    features = tuple(
        _turned(t, f, *gauges[side]) for t, f, side in zip(typed.types, inputs.features, typed.on, strict=True)
    )
    out = gauges[1] if typed.pointwise else gauges[0]
    return Inputs(*rays, features, inputs.unit), _turned(typed.out_type, plain, *out)


def _motion(typed: Typed, inputs: Inputs, plain: Tensor, generator: torch.Generator) -> tuple[Inputs, Tensor]:
    return _moved(typed, inputs, plain, 1.0, generator)


def _scale(typed: Typed, inputs: Inputs, plain: Tensor, generator: torch.Generator) -> tuple[Inputs, Tensor]:
    return _moved(typed, inputs, plain, 37.0, generator)


def _turned(kind: Kind, features: Tensor, angle: Tensor, slide: Tensor) -> Tensor:
    """Features in new sections, which those in the axes of the world do not have."""
    return kind.transform(features, angle, slide) if isinstance(kind, FieldType) else features


def _moved(typed: Typed, inputs: Inputs, plain: Tensor, scale: float, generator) -> tuple[Inputs, Tensor]:
    rotation = random_rotation(generator=generator, dtype=torch.float64)
    translation = 3 * scale * torch.randn(3, dtype=torch.float64, generator=generator)

    def place(side: Elements) -> Elements:
        # the action is exact to float64, whatever the layer computes in
        exact = side.to(torch.float64)
        points = not isinstance(side, Rays)
        moved = scale * exact @ rotation.mT + translation if points else exact.moved(rotation, translation, scale)
        return moved.to(side.dtype)

    def turn(kind: Kind, f: Tensor) -> Tensor:
        if isinstance(kind, MultivectorType):
            return kind.transform(f.double(), rotation, translation / scale).to(f.dtype)
        return kind.transform(f.double(), rotation).to(f.dtype) if isinstance(kind, PointType) else f

    features = tuple(turn(t, f) for t, f in zip(typed.types, inputs.features, strict=True))
    return Inputs(place(inputs.x), place(inputs.y), features, scale * inputs.unit), turn(typed.out_type, plain)


def _order(typed: Typed, inputs: Inputs, plain: Tensor, generator: torch.Generator) -> tuple[Inputs, Tensor]:
    orders = [torch.randperm(len(side), generator=generator) for side in (inputs.x, inputs.y)]
    features = tuple(f[orders[side]] for f, side in zip(inputs.features, typed.on, strict=True))
    changed = Inputs(inputs.x[orders[0]], inputs.y[orders[1]], features, inputs.unit)
    return changed, plain[orders[1] if typed.pointwise else orders[0]]


_CHANGES = {"sections": _sections, "motion": _motion, "scale": _scale, "order": _order}
