"""Depth-wise tensor products of features at points with harmonics of a direction: every channel by itself.

    out^{l3}_{c, path} = w_{c, path} sqrt(2 l3 + 1) C^{l3}_{l1 l2}( f^{l1}_c, Y_{l2}(direction) ),   path = (l1, l2, l3)

The weights, one for each path and channel, are functions of the distance: with a `TypedLinear` that mixes the channels
afterwards this is the kernel of tensor field networks with fewer numbers. Directions are unit vectors, so two points at
one place have to be refused before (`PairList.within` does).
"""

import math
from collections import Counter

import torch
from torch import Tensor, nn

from raytrans.fields.so3 import PointType, clebsch_gordan, solid_harmonics
from raytrans.layers.linear import TypedLinear, signature
from raytrans.shapes import Float

Couplings = dict[int, Tensor]
"""Degree l1 -> matrices (*pairs, rows, 2 l1 + 1) that carry f^{l1} to every path from it; a row is (l3, m3, l2)."""


def paths_from(l1: int, degree: int, out_degree: int) -> dict[int, list[int]]:
    """Degrees l2 <= `degree` that lead from l1 to every l3 <= `out_degree`, {l3: [l2, ...]}, both ascending."""
    found = {}
    for l3 in range(out_degree + 1):
        if degrees := [l2 for l2 in range(degree + 1) if abs(l1 - l2) <= l3 <= l1 + l2]:
            found[l3] = degrees
    return found


class HarmonicCouplings(nn.Module):
    """Directions (*pairs, 3) -> matrices sum_b C_{abc} Y_b of all paths, for features of degrees up to `in_degree`.

    They depend on the geometry alone, so that all layers share them. Y_{l2} has |Y| = sqrt(2 l2 + 1), each component of
    size one. Raises ValueError for a degree beyond 3.
    """

    def __init__(self, in_degree: int, degree: int, out_degree: int):
        super().__init__()
        for name, value in (("in_degree", in_degree), ("degree", degree), ("out_degree", out_degree)):
            if not 0 <= value <= 3:
                raise ValueError(f"{name}: expected 0 to 3, got {value}")
        self.in_degree, self.degree = in_degree, degree
        for l1 in range(in_degree + 1):
            rows = []
            for l3, degrees in paths_from(l1, degree, out_degree).items():
                block = torch.zeros((degree + 1) ** 2, 2 * l3 + 1, len(degrees), 2 * l1 + 1, dtype=torch.float64)
                for place, l2 in enumerate(degrees):
                    size = math.sqrt((2 * l2 + 1) * (2 * l3 + 1))
                    block[l2**2 : (l2 + 1) ** 2, :, place] = size * clebsch_gordan(l1, l2, l3).permute(1, 2, 0)
                rows.append(block.flatten(1, 2))
            self.register_buffer(f"table_{l1}", torch.cat(rows, 1), persistent=False)

    def forward(self, direction: Float[Tensor, "*pairs 3"]) -> Couplings:
        harmonics = torch.cat([solid_harmonics(l, direction) for l in range(self.degree + 1)], -1)
        found = {}
        for l1 in range(self.in_degree + 1):
            table = getattr(self, f"table_{l1}").to(direction.dtype)
            found[l1] = (harmonics @ table.flatten(1)).unflatten(-1, table.shape[1:])
        return found


class DepthwiseTensorProduct(nn.Module):
    """Features (*pairs, in_type.dim), couplings and weights (*pairs, `weights`) -> (*pairs, out_type.dim).

    Output channels of one degree are ordered by (l1, l2, c), weights by (l1, l3, l2, c), all ascending. `couplings` are
    those of `HarmonicCouplings` with the same `degree` and `out_degree`. Source: Liao and Smidt, Equiformer, 2023.
    """

    def __init__(self, in_type: PointType | str, degree: int, out_degree: int):
        super().__init__()
        self.in_type = PointType(in_type)
        # number of paths from every degree l1 to every degree l3
        self.paths = {
            block.l: {l3: len(found) for l3, found in paths_from(block.l, degree, out_degree).items()}
            for block in self.in_type.blocks
        }
        counts: Counter[int] = Counter()
        for block in self.in_type.blocks:
            counts.update({l3: block.multiplicity * n for l3, n in self.paths[block.l].items()})
        self.out_type, self.weights = PointType(dict(counts)), counts.total()

    def parts(self, features: Tensor, couplings: Couplings, weights: Tensor) -> dict[int, list[Tensor]]:
        """For every degree l3 the products (*pairs, 2 l3 + 1, channels) from every l1: the layout that mixes fast."""
        if weights.shape[-1] != self.weights:
            raise ValueError(f"weights: expected {self.weights} for each pair, got {weights.shape[-1]}")
        blocks, out = self.in_type.blocks, {block.l: [] for block in self.out_type.blocks}
        sizes = [block.multiplicity * n for block in blocks for n in self.paths[block.l].values()]
        scales = iter(weights.split(sizes, -1))
        for block, part in zip(blocks, self.in_type.split(features), strict=True):
            counts = self.paths[block.l]
            carried = (couplings[block.l] @ part.mT).split([(2 * l3 + 1) * n for l3, n in counts.items()], -2)
            for (l3, n), value in zip(counts.items(), carried, strict=True):
                scale = next(scales).unflatten(-1, (1, n, block.multiplicity))
                out[l3].append((value.unflatten(-2, (-1, n)) * scale).flatten(-2))
        return out

    def forward(
        self, features: Float[Tensor, "*pairs in_dim"], couplings: Couplings, weights: Float[Tensor, "*pairs w"]
    ) -> Float[Tensor, "*pairs out_dim"]:
        parts = self.parts(features, couplings, weights)
        return torch.cat([torch.cat(found, -1).mT.flatten(-2) for found in parts.values()], -1)

    def __repr__(self) -> str:
        return signature("DepthwiseTensorProduct", self.in_type, out=self.out_type)


class DepthwiseLinear(nn.Module):
    """L DTP(f, Y; w): a depth-wise tensor product and the `TypedLinear` that mixes its channels to `out_type`.

    The same numbers as the two one after the other, without the product in the layout of features. Raises ValueError
    for an output degree that no path reaches.
    """

    def __init__(self, in_type: PointType | str, out_type: PointType | str, degree: int):
        super().__init__()
        self.out_type = PointType(out_type)
        self.product = DepthwiseTensorProduct(in_type, degree, max(self.out_type.counts))
        self.in_type, self.weights = self.product.in_type, self.product.weights
        self.mix = TypedLinear(self.product.out_type, self.out_type)

    def forward(
        self, features: Float[Tensor, "*pairs in_dim"], couplings: Couplings, weights: Float[Tensor, "*pairs w"]
    ) -> Float[Tensor, "*pairs out_dim"]:
        parts, out = self.product.parts(features, couplings, weights), []
        for block, weight in zip(self.out_type.blocks, self.mix.weights, strict=True):
            found = parts[block.l]
            rows = weight.split([part.shape[-1] for part in found])
            total = sum(part @ own for part, own in zip(found, rows, strict=True))
            out.append((total + self.mix.bias if block.invariant else total).mT.flatten(-2))
        return torch.cat(out, -1)

    def __repr__(self) -> str:
        return signature("DepthwiseLinear", self.in_type, out=self.out_type)
