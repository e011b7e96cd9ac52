"""Convolution over any pair of spaces: sum the kernel over the sources that a target sees."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from raytrans.geometry.pairs import in_precision
from raytrans.layers.kernel import Neighborhood, RayKernel
from raytrans.layers.linear import AnyType, signature
from raytrans.layers.neighborhood import Elements, Gathered, batch_of
from raytrans.shapes import Float


def pair_units(unit: Tensor | float, neighborhood: Neighborhood) -> Tensor | float:
    """The unit of length laid on the pairs: a positive number, or a tensor (*targets) where scenes differ."""
    if not bool((torch.as_tensor(unit) > 0).all()):
        raise ValueError(f"unit: expected a positive length, got {unit}")
    return neighborhood.target(unit) if isinstance(unit, Tensor) and unit.ndim else unit


def checked_features(layer: nn.Module, name: str, features: Tensor) -> Tensor:
    """The features themselves; ValueError where they are no tensor in the precision of the layer's weights."""
    if not isinstance(features, Tensor):
        raise ValueError(f"{name}: expected a tensor, got {type(features).__name__}")
    expected = next((p.dtype for p in layer.parameters()), features.dtype)
    if features.dtype != expected and not torch.is_autocast_enabled(features.device.type):
        raise ValueError(f"{name}: expected the precision of the layer, {expected}, got {features.dtype}")
    return features


def pair_geometry(
    kernel: nn.Module, x: Elements, y: Elements, features: Tensor, neighborhood: Neighborhood, unit: Tensor | float
):
    """Geometry of all pairs, computed in the precision of the rays (cameras give float64), then in that of features."""
    checked_features(kernel, "features", features)
    pairs = kernel.pairs(neighborhood.target(x), neighborhood.source(y), pair_units(unit, neighborhood))
    return in_precision(pairs, features.dtype)


def everything(x: Elements, y: Elements) -> Gathered:
    """The dense neighbourhood of rays or points (*batch, 3)."""
    return Gathered.dense(batch_of(x), batch_of(y))


def convolve(
    kernel: nn.Module,
    x: Elements,
    y: Elements,
    features: Tensor,
    neighborhood: Neighborhood,
    unit: Tensor | float = 1.0,
    weights: Tensor | None = None,
    extras: Tensor | None = None,
) -> Float[Tensor, "*targets out"]:
    """out(x) = sum_y w_y k(x, y) f(y) over a neighbourhood; weights (*pairs) default to 1/number of sources.

    x, y are rays, points or directions with batch shapes `neighborhood.targets` and `.sources`, extras (*pairs, e) are
    further invariants. Written once for every kernel.
    """
    pairs = pair_geometry(kernel, x, y, features, neighborhood, unit)
    laid = neighborhood.source(features)
    weights = 1 / neighborhood.count(features) if weights is None else weights.to(features.dtype)
    return kernel.summed(pairs, laid, neighborhood, weights, extras)


class RayConvolution(nn.Module):
    """Ray-to-ray convolution with the complete kernel, of types `in_type` on the sources to `out_type` on the targets.

        out(x) = sum_y w_y sum_b phi_b(cos theta, reciprocal/unit) [ W_b E(x, y) f(y) + W'_b E'(x, y) conj f(y) ]

    Equivariant to rigid motions and, as lengths are counted in `unit`, to similarities that scale the unit along.
    `kernel` is the class of kernels of the two spaces; those of `raytrans.layers.points` make it a convolution between
    rays and points.
    """

    def __init__(
        self,
        in_type: AnyType | str,
        out_type: AnyType | str,
        basis: int = 8,
        extras: int = 0,
        kernel: Callable[..., nn.Module] = RayKernel,
    ):
        super().__init__()
        self.kernel = kernel(in_type, out_type, basis, extras)
        self.in_type, self.out_type = self.kernel.in_type, self.kernel.out_type

    def forward(
        self,
        x: Elements,
        y: Elements,
        features: Float[Tensor, "... in_dim"],
        neighborhood: Neighborhood | None = None,
        unit: Tensor | float = 1.0,
        weights: Tensor | None = None,
        extras: Tensor | None = None,
    ) -> Float[Tensor, "... out_dim"]:
        """Features (*sources, in_type.dim) to (*targets, out_type.dim).

        The neighbourhood is dense by default; weights and extras are given per pair, weights default to the mean.
        """
        neighborhood = everything(x, y) if neighborhood is None else neighborhood
        return convolve(self.kernel, x, y, features, neighborhood, unit, weights, extras)

    def __repr__(self) -> str:
        return signature("RayConvolution", self.in_type, out=self.out_type)
