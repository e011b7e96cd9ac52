"""The contracts of a whole model, measured through the public `render` and `render_rays`."""

import contextlib
import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from raytrans.data.views import Views
from raytrans.equivariance import rigs
from raytrans.equivariance.report import BROKEN, Report, Row, relative_error
from raytrans.geometry.cameras import Cameras
from raytrans.geometry.rays import Rays
from raytrans.geometry.rigid import random_rotation
from raytrans.rendering.compositing import Rendering
from raytrans.rendering.renderer import Renderer
from raytrans.rendering.sources import EncodedViews, source_unit
from raytrans.rendering.synthesis import encode, render, render_rays

TOLERANCES = {
    "world_motion": {torch.float32: 1e-4, torch.float64: 1e-9},
    "far_offset": {torch.float32: 1e-4, torch.float64: 1e-6},
    "scale": {torch.float32: 1e-4, torch.float64: 1e-9},
    "source_order": {torch.float32: 1e-5, torch.float64: 1e-12},
    "target_section": {torch.float32: 1e-4, torch.float64: 1e-9},
    "target_roll": {torch.float32: 1e-4, torch.float64: 1e-9},
    "source_quarter_turn": {torch.float32: 1e-4, torch.float64: 1e-9},
}
"""Row -> dtype -> largest error of an exact contract, as in DESIGN section 5."""
DTYPES = (torch.float32, torch.float64, torch.bfloat16)

SOLID = 0.1  # depths are compared where the opacity is larger in both renderings
VARIATION = 1e-3  # relative range of colours, and relative effect of other images, below which a rendering is constant
FEW_RAYS = 1024  # of the target, where every source is turned in every way
FAR = 1e4  # scene sizes
BARE = "in float64, views not arranged by `encode`"


@dataclass
class Trial:
    """A model with sources, target and their unchanged rendering; changes are drawn from `generator`.

    `size` is the size of the scene, `small` the target with fewer pixels over the same field of view, `exact` the model
    in float64; `dtype` that of the arithmetic.
    """

    model: Renderer
    views: Views
    camera: Cameras
    encoded: EncodedViews
    plain: Rendering
    small: Cameras
    exact: Renderer
    size: float
    dtype: torch.dtype
    generator: torch.Generator
    tell: Callable[[int, int, str], None]

    @property
    def precision(self) -> str:
        return _precision(self.dtype)

    def render(self, views: Views | EncodedViews | None = None, camera: Cameras | None = None, **options) -> Rendering:
        views = self.encoded if views is None else views
        camera = self.camera if camera is None else camera
        return render(self.model, views, camera, precision=self.precision, tell=self.traced, **options)

    def traced(self, rays: int) -> None:
        self.tell(0, rays, "")

    def render_rays(self, rays: Rays) -> Rendering:
        return render_rays(self.model, self.encoded, rays, precision=self.precision)

    def motion(self, length: float) -> tuple[Tensor, Tensor]:
        """A rotation from the Haar measure and a translation by `length` in a random direction."""
        direction = self.normal(3)
        rotation = random_rotation(generator=self.generator, dtype=torch.float64)
        return rotation, length * direction / direction.norm()

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, dtype=torch.float64, generator=self.generator)

    def uniform(self, *shape: int) -> Tensor:
        return torch.rand(shape, dtype=torch.float64, generator=self.generator)


Measured = Iterator[tuple[str, float]]


def difference(got: Rendering, expected: Rendering, typical: Rendering | None = None) -> float:
    """Largest of max|a - b| / max|b| for colours, and for mean depths where opacity > 0.1 in both.

    Free rays have distances in place of depths. `typical` supplies max|b| where only few rays are compared. `BROKEN`
    where something is not finite, or where one rendering is solid but never the other.
    """
    typical = expected if typical is None else typical
    error = relative_error(got.color, expected.color, typical.color)
    if error >= BROKEN or not bool(torch.isfinite(got.opacity).all()):
        return BROKEN
    solid, both = expected.opacity > SOLID, (expected.opacity > SOLID) & (got.opacity > SOLID)
    if not bool(both.any()):
        return BROKEN if bool(solid.any() | (got.opacity > SOLID).any()) else error
    depths = [_mean_depth(r) for r in (got, expected)]
    known = _mean_depth(typical)[typical.opacity > SOLID]
    return max(error, relative_error(depths[0][both], depths[1][both], known))


def _mean_depth(rendering: Rendering) -> Tensor:
    return rendering.distance_mean if rendering.depth_mean is None else rendering.depth_mean


def _motion_words(sizes: float) -> str:
    return f"rotation and a shift by {sizes:,.0f} scene size{'s'[: sizes > 1]}"


def _world_motion(trial: Trial) -> Measured:
    for factor in (1.0, 10.0):
        rotation, shift = trial.motion(factor * trial.size)
        moved = trial.render(trial.views.moved(rotation, shift), trial.camera.moved(rotation, shift))
        yield _motion_words(factor), difference(moved, trial.plain)


def _far_offset(trial: Trial) -> Measured:
    rotation, shift = trial.motion(FAR * trial.size)
    moved = trial.render(trial.views.moved(rotation, shift), trial.camera.moved(rotation, shift))
    yield _motion_words(FAR), difference(moved, trial.plain)


def _scale(trial: Trial) -> Measured:
    between = 10 ** float(4 * trial.uniform() - 2)
    for factor in (1e-3, between, 1e3):
        where = torch.eye(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64), factor
        scaled = trial.render(trial.views.moved(*where), trial.camera.moved(*where))
        back = replace(scaled, depth_mean=scaled.depth_mean / factor)
        yield f"factor {factor:.3g}", difference(back, trial.plain)


def _source_order(trial: Trial) -> Measured:
    count = len(trial.views)
    orders = {"reversed": list(range(count))[::-1], "shuffled": _shuffled(trial, count)}
    for what, order in orders.items():
        yield what, difference(trial.render(trial.views[order]), trial.plain)
    given = _rendered_bare(trial, trial.views)
    for what, order in orders.items():
        yield f"{what}, {BARE}", _bare_difference(trial, trial.views[order], given)
    twice = trial.views[[*range(count), 0]]
    first = trial.render(twice, trial.small)
    yield "a view given twice", 0.0 if _finite(first) else BROKEN
    again = trial.render(twice[_shuffled(trial, count + 1)], trial.small)
    yield "a view given twice, shuffled", difference(again, first)


def _bare_difference(trial: Trial, views: Views, expected: Rendering) -> float:
    """Difference from a rendering of `_rendered_bare`, both without the arrangement that `encode` gives the views.

    It would hide a network that reads the order, or one that is not exact at quarter turns. Measured in float64, where
    nothing but such a fault is larger than the tolerance of rounding.
    """
    error = difference(_rendered_bare(trial, views), expected)
    return error if error > TOLERANCES["source_quarter_turn"][torch.float64] else 0.0


@torch.no_grad()
def _rendered_bare(trial: Trial, views: Views) -> Rendering:
    encoded = trial.exact.place(trial.exact.encode(views), source_unit(views.cameras))
    return render(trial.exact, encoded, trial.small, precision="float64", tell=trial.traced)


def _shuffled(trial: Trial, count: int) -> list[int]:
    return torch.randperm(count, generator=trial.generator).tolist()


def _finite(rendering: Rendering) -> bool:
    depth = _mean_depth(rendering)[rendering.opacity > SOLID]
    return all(bool(torch.isfinite(v).all()) for v in (rendering.color, rendering.opacity, depth))


def _target_section(trial: Trial) -> Measured:
    rays = trial.camera.rays()
    plain = trial.render_rays(rays)
    turn, slide = 2 * math.pi * trial.uniform(*rays.shape), trial.size * trial.normal(*rays.shape)
    yield "one turn for all rays", difference(trial.render_rays(rays.in_section(1.234)), plain)
    yield "a turn and a slide for every ray", difference(trial.render_rays(rays.in_section(turn, slide)), plain)


def _target_roll(trial: Trial) -> Measured:
    for k in (1, 2, 3):
        turned = trial.render(camera=trial.camera.quarter_turned(k))
        back = turned.map(lambda value, k=k: torch.rot90(value, -k, (0, 1)))
        yield f"camera rolled by {90 * k} degrees", difference(back, trial.plain)
    yield "rays alone, the camera rolled by any angle", _rays_alone(trial, 12)
    height, width = trial.camera.height, trial.camera.width
    top, left = height // 3, width // 4
    window = min(16, height - top), min(15, width - left)
    expected = trial.plain.map(lambda value: value[top : top + window[0], left : left + window[1]])
    cut = trial.camera.cropped(top, left, *window)
    yield "a window, in small chunks", difference(trial.render(camera=cut, chunk=7), expected, trial.plain)
    finer = trial.render(camera=cut.resized(3 * window[0], 3 * window[1]))
    same = finer.map(lambda value: value[1::3, 1::3])
    yield "a window, three times finer", difference(same, expected, trial.plain)


def _rays_alone(trial: Trial, count: int) -> float:
    """Some rays, each as the one pixel of a camera rolled by an angle of its own."""
    places = (trial.uniform(count, 2) * torch.tensor([trial.camera.height, trial.camera.width])).long()
    parts = []
    for row, column in places.tolist():
        pixel = torch.tensor([column + 0.5, row + 0.5], dtype=torch.float64)
        angle = float(2 * math.pi * trial.uniform())
        parts.append(trial.render(camera=rigs.single_pixel(trial.camera, pixel, angle)))
    alone = Rendering.cat(parts).map(lambda value: value[:, 0])
    expected = trial.plain.map(lambda value: value[places[:, 0], places[:, 1]])
    return difference(alone, expected, trial.plain)


def _source_quarter_turn(trial: Trial) -> Measured:
    count = len(trial.views)
    for kind, views in (("as given", trial.views), ("odd sizes, bent lens", rigs.awkward(trial.views))):
        plain = trial.render(views, trial.small)
        turns = [{i: 1 + (i + int(trial.uniform() * 3)) % 3} for i in range(count)]
        together = {i: int(k) for i, k in enumerate(torch.randint(4, (count,), generator=trial.generator))}
        for turn in [*turns, together]:
            what = "all at once" if turn is together else ", ".join(f"view {i} by {90 * k}" for i, k in turn.items())
            turned = trial.render(rigs.quarter_turned(views, turn), trial.small)
            yield f"{what}, {kind}", difference(turned, plain)
        turned = rigs.quarter_turned(views, {i: 1 + i % 3 for i in range(count)})
        yield f"every view, {kind}, {BARE}", _bare_difference(trial, turned, _rendered_bare(trial, views))


_CONTRACTS: dict[str, Callable[[Trial], Measured]] = {
    "world_motion": _world_motion,
    "far_offset": _far_offset,
    "scale": _scale,
    "source_order": _source_order,
    "target_section": _target_section,
    "target_roll": _target_roll,
    "source_quarter_turn": _source_quarter_turn,
}


def _psnr(got: Rendering, expected: Rendering) -> str:
    mse = float((got.color.double() - expected.color.double()).square().mean())
    return f"{-10 * math.log10(max(mse, 1e-30)):.1f} dB between the renderings"


def _source_roll(trial: Trial) -> tuple[float, str]:
    angles = (2 * math.pi * trial.uniform(len(trial.views))).tolist()
    plain = trial.render(rigs.rolled(trial.views, [0.0] * len(angles)))
    turned = trial.render(rigs.rolled(trial.views, angles))
    return difference(turned, plain), f"{_psnr(turned, plain)}; every source by any angle"


def _mirror(trial: Trial) -> tuple[float, str]:
    flipped = trial.render(rigs.mirrored(trial.views), rigs.mirrored_camera(trial.camera))
    back = flipped.map(lambda value: value.flip(1))
    return difference(back, trial.plain), f"{_psnr(back, trial.plain)}; handedness is information"


def _bfloat16(trial: Trial) -> tuple[float, str]:
    model = trial.model if trial.model.dtype == torch.float32 else copy.deepcopy(trial.model).float()
    plain, coarse = (render(model, trial.views, trial.camera, precision=p) for p in ("float32", "bfloat16"))
    return difference(coarse, plain), f"{_psnr(coarse, plain)}; at least 45 expected"


_REPORTED: dict[str, Callable[[Trial], tuple[float, str]]] = {
    "source_roll": _source_roll,
    "mirror": _mirror,
    "bfloat16": _bfloat16,
}
ROWS = len(_CONTRACTS) + len(_REPORTED)
"""What `check_model` measures."""


def check_model(
    model: Renderer,
    views: Views,
    camera: Cameras,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    tell: Callable[[int, int, str], None] = lambda rows, rays, what: None,
) -> Report:
    """Measure every contract of a rendering on given sources and target; see DESIGN section 5 for the rows.

    The model is copied and cast to `dtype`, float32 or float64, which also fixes the tolerances. bfloat16 is arithmetic
    of a float32 model, which keeps contracts only as far as it rounds: its errors are reported, without one. Error is
    max|a - b| / max|b| of colours everywhere and of `depth_mean` where opacity > 0.1 in both. A rendering that is not
    finite has error 1e30, and so has every contract of a model whose rendering is the same at all pixels or for other
    source images: such a model would keep every promise. `tell(rows, rays, what)` is called with the number of rows
    that are over, with rays that are traced, and with the name of the row that begins.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype: expected one of {', '.join(map(str, DTYPES))}, got {dtype}")
    weights = torch.float32 if dtype == torch.bfloat16 else dtype
    with _exact_arithmetic():
        model = model if model.dtype == weights else copy.deepcopy(model).to(weights)
        trial = _trial(model, views, camera, dtype, seed, tell)
        useless = _useless(trial)
        rows = [_contract(name, trial, useless) for name in _CONTRACTS]
        rows += [_reported(name, trial) for name in _REPORTED]
    size = f"{camera.width} x {camera.height} pixels (width x height)"
    return Report(tuple(rows), f"{trial.precision}, {len(views)} sources, target of {size}")


def _precision(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _trial(model: Renderer, views: Views, camera: Cameras, dtype: torch.dtype, seed: int, tell: Callable) -> Trial:
    with torch.autocast(model.device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
        encoded = encode(model, views)
    shrink = min(1.0, (FEW_RAYS / (camera.height * camera.width)) ** 0.5)
    small = camera.resized(max(1, int(shrink * camera.height)), max(1, int(shrink * camera.width)))
    return Trial(
        model=model,
        views=views,
        camera=camera,
        encoded=encoded,
        plain=render(model, encoded, camera, precision=_precision(dtype)),
        exact=model if model.dtype == torch.float64 else copy.deepcopy(model).double(),
        small=small,
        size=rigs.scene_size(views, camera),
        dtype=dtype,
        generator=torch.Generator().manual_seed(seed),
        tell=tell,
    )


def _useless(trial: Trial) -> str:
    """Why no contract can be passed, or ''."""
    if not _finite(trial.plain):
        return "the rendering is not finite"
    color = trial.plain.color.flatten(0, -2)
    if not (color.amax(0) - color.amin(0)).max() > VARIATION * color.abs().max():
        return "the rendering is constant: the same at all pixels"
    noise = [torch.rand(image.shape, generator=trial.generator) for image in trial.views.images]
    noisy = Views(noise, trial.views.cameras, trial.views.priors)
    plain, other = (trial.render(views, trial.small) for views in (trial.views, noisy))
    # at the median pixel: where nobody sees stands the mean colour of the sources, and it follows them in any model
    effect = (other.color - plain.color).abs().amax(-1).median()
    if not effect > VARIATION * plain.color.abs().max():
        return "the rendering is constant: the same for other source images"
    return ""


def _contract(name: str, trial: Trial, useless: str) -> Row:
    tolerance = TOLERANCES[name].get(trial.dtype)
    if useless:
        return Row(name, BROKEN, tolerance, useless)
    trial.tell(0, 0, name)
    worst, note = -1.0, ""
    try:
        for what, error in _CONTRACTS[name](trial):
            if error > worst:
                worst, note = error, what
    except ValueError as refused:
        return Row(name, BROKEN, tolerance, str(refused))
    trial.tell(1, 0, name)
    return Row(name, worst, tolerance, f"worst: {note}")


def _reported(name: str, trial: Trial) -> Row:
    trial.tell(0, 0, name)
    try:
        error, note = _REPORTED[name](trial)
    except ValueError as refused:
        return Row(name, BROKEN, None, str(refused))
    trial.tell(1, 0, name)
    return Row(name, error, None, note)


@contextlib.contextmanager
def _exact_arithmetic() -> Iterator[None]:
    """No TF32 on a GPU while contracts are measured."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
