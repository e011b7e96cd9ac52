"""Kernels between rays and points, and between points, with the interface of `RayKernel`.

Give their classes to `RayConvolution` or `RayAttention` as `kernel`: the layers are written once over every space.

A point has a full rotation group about it, a ray only the turns about itself. Read in the frame of the ray, a feature
of degree l at the point is one channel of every type n = 0 ... l, so a kernel between a ray and a point is a kernel
between typed channels whose phase is that of the point's place around the ray.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from raytrans.fields.so3 import PointBlock, PointType, clebsch_gordan, solid_harmonics
from raytrans.fields.types import FieldType
from raytrans.geometry.spaces import FootPairs, PointFromRay, PointPairs, RayFromPoint
from raytrans.layers.kernel import Neighborhood, RayKernel
from raytrans.layers.linear import signature
from raytrans.layers.radial import RadialNetwork
from raytrans.shapes import Float

# distance, over the unit, from which kernels of points depend on the direction at full strength
POINT_SOFTENING = 0.1


class RayToPointKernel(nn.Module):
    """Kernel from a ray y to a point p: D^l(frame of y) K, K from (n_in, nu_in) to every m of degree l,

        K_m f = sum_b phi_b(r^2) [ W_b q^|m - n_in| e^{i((m - n_in) phi - nu_in t)} f + W'_b (...) conj f ].

    phi is the angle of p around the ray, t its foot, q = r/sqrt(r^2 + s^2). On the ray, r = 0, only m = n_in is left:
    Y_l(d) for invariants.
    """

    def __init__(self, in_type: FieldType | str, out_type: PointType | str, basis: int = 8, extras: int = 0):
        super().__init__()
        self.out_type = PointType(out_type)
        self.inner = RayKernel(in_type, self.out_type.on_ray(), basis, extras, PointFromRay)
        self.in_type, self.radial = self.inner.in_type, self.inner.radial

    def pairs(self, x: Tensor, y: object, unit: Tensor | float) -> FootPairs:
        """Geometry of target points x and source rays y on the pairs."""
        return self.inner.pairs(x, y, unit)

    def forward(self, pairs: FootPairs, features: Tensor, extras: Tensor | None = None) -> Float[Tensor, "*pairs out"]:
        """k(p, y) f(y) of every pair, in world axes."""
        return self.out_type.from_ray(self.inner(pairs, features, extras), pairs.frame)

    def summed(
        self, pairs: FootPairs, features: Tensor, neighborhood: Neighborhood, weights: Tensor, extras=None
    ) -> Tensor:
        """sum_y w_y k(p, y) f(y), (*targets, out_type.dim)."""
        return neighborhood.sum(self(pairs, features, extras) * weights[..., None])

    def __repr__(self) -> str:
        return signature("RayToPointKernel", self.in_type, out=self.out_type)


class PointToRayKernel(nn.Module):
    """Kernel from a point p to a ray x: the transpose of `RayToPointKernel`, D^l(frame of x)^T then K."""

    def __init__(self, in_type: PointType | str, out_type: FieldType | str, basis: int = 8, extras: int = 0):
        super().__init__()
        self.in_type = PointType(in_type)
        self.inner = RayKernel(self.in_type.on_ray(), out_type, basis, extras, RayFromPoint)
        self.out_type, self.radial = self.inner.out_type, self.inner.radial

    def pairs(self, x: object, y: Tensor, unit: Tensor | float) -> FootPairs:
        """Geometry of target rays x and source points y on the pairs."""
        return self.inner.pairs(x, y, unit)

    def forward(self, pairs: FootPairs, features: Tensor, extras: Tensor | None = None) -> Float[Tensor, "*pairs out"]:
        """k(x, p) f(p) of every pair, in the frame of x."""
        return self.inner(pairs, self.in_type.to_ray(features, pairs.frame), extras)

    def summed(
        self, pairs: FootPairs, features: Tensor, neighborhood: Neighborhood, weights: Tensor, extras=None
    ) -> Tensor:
        """sum_p w_p k(x, p) f(p), (*targets, out_type.dim)."""
        return self.inner.summed(pairs, self.in_type.to_ray(features, pairs.frame), neighborhood, weights, extras)

    def __repr__(self) -> str:
        return signature("PointToRayKernel", self.in_type, out=self.out_type)


class PointKernel(nn.Module):
    """Tensor field kernel between points, complete for rotations: Clebsch-Gordan sums of solid harmonics,

        k(x, y) f = sum_b phi_b(r^2) sum_J W_{b,J} C^{l_out}_{l_in, J} ( f, q^J Y_J(direction of y - x) ).

    Powers q^J of q = r/sqrt(r^2 + s^2) make every entry smooth as r -> 0, where only l_out = l_in is left.
    Source: Thomas et al., Tensor field networks, 2018.
    """

    def __init__(self, in_type: PointType | str, out_type: PointType | str, basis: int = 8, extras: int = 0):
        super().__init__()
        self.in_type, self.out_type, self.basis = PointType(in_type), PointType(out_type), basis
        self.radial = RadialNetwork(PointPairs.FEATURES, basis, extras)
        self.weights = nn.ParameterList()
        for out in self.out_type.blocks:
            paths = sum(b.multiplicity * (2 * min(b.l, out.l) + 1) for b in self.in_type.blocks)
            self.weights.append(nn.Parameter(torch.randn(basis, paths, out.multiplicity) / math.sqrt(basis * paths)))

    def pairs(self, x: Tensor, y: Tensor, unit: Tensor | float) -> PointPairs:
        """Geometry of target points x and source points y on the pairs."""
        return PointPairs.of(x, y, unit)

    def carried(self, pairs: PointPairs, features: Tensor) -> Iterator[tuple[PointBlock, Tensor, Tensor]]:
        """For every output block: C(f, q^J Y_J) of all paths (*pairs, paths, 2l + 1), weights (basis, paths, out)."""
        square = pairs.displacement.square().sum(-1, keepdim=True)
        vector = pairs.displacement * (square + POINT_SOFTENING**2).rsqrt()
        sources = list(zip(self.in_type.blocks, self.in_type.split(features), strict=True))
        for out, weight in zip(self.out_type.blocks, self.weights, strict=True):
            paths = []
            for block, part in sources:
                for degree in range(abs(out.l - block.l), out.l + block.l + 1):
                    coupling = clebsch_gordan(block.l, degree, out.l).to(vector) * math.sqrt(out.width)
                    matrix = torch.einsum("abc,...b->...ac", coupling, solid_harmonics(degree, vector))
                    paths.append((part @ matrix).expand(*vector.shape[:-1], -1, -1))
            yield out, torch.cat(paths, -2), weight

    def forward(self, pairs: PointPairs, features: Tensor, extras: Tensor | None = None) -> Float[Tensor, "*pairs out"]:
        """k(x, y) f(y) of every pair."""
        phi, out = self.radial(pairs.features(), extras), []
        for _, value, weight in self.carried(pairs, features):
            mixed = value.mT @ weight.permute(1, 0, 2).flatten(1)
            mixed = (mixed.unflatten(-1, (self.basis, -1)) * phi[..., None, :, None]).sum(-2)
            out.append(mixed.mT.flatten(-2))
        return torch.cat(out, -1)

    def summed(
        self, pairs: PointPairs, features: Tensor, neighborhood: Neighborhood, weights: Tensor, extras=None
    ) -> Tensor:
        """sum_y w_y k(x, y) f(y), (*targets, out_type.dim); the sum is taken before the channels are mixed."""
        phi, out = self.radial(pairs.features(), extras) * weights[..., None], []
        for block, value, weight in self.carried(pairs, features):
            total = neighborhood.contract(phi, value.flatten(-2)).unflatten(-1, (-1, block.width))
            out.append(torch.einsum("...bpw,bpo->...ow", total, weight).flatten(-2))
        return torch.cat(out, -1)

    def __repr__(self) -> str:
        return signature("PointKernel", self.in_type, out=self.out_type)
