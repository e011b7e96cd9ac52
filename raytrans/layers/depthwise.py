"""Depth-wise tensor products of features at points with harmonics of a direction: every channel by itself.

    out^{l3}_{c, path} = w_{c, path} sqrt(2 l3 + 1) C^{l3}_{l1 l2}( f^{l1}_c, Y_{l2}(direction) ),     path = (l1, l2, l3)

The weights, one for each channel and path, are functions of the distance: with a `TypedLinear` that mixes the channels
afterwards this is the kernel of tensor field networks with fewer numbers. Directions are unit vectors, so two points at
one place have to be refused before (`PairList.within` does).
"""

import math

import torch
from torch import Tensor, nn

from raytrans.fields.so3 import PointType, clebsch_gordan, solid_harmonics
from raytrans.layers.linear import signature
from raytrans.shapes import Float

Couplings = dict[int, Tensor]
"""Degree l1 -> matrices (*pairs, 2 l1 + 1, columns) that carry f^{l1} to every path from it."""


def paths_from(l1: int, degree: int, out_degree: int) -> list[tuple[int, int]]:
    """(l3, l2) of all paths of a feature of degree l1 with harmonics up to `degree`, ascending; l3 <= out_degree."""
    return [(l3, l2) for l3 in range(out_degree + 1) for l2 in range(degree + 1) if abs(l1 - l2) <= l3 <= l1 + l2]


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
            columns = []
            for l3, l2 in paths_from(l1, degree, out_degree):
                block = torch.zeros((degree + 1) ** 2, 2 * l1 + 1, 2 * l3 + 1, dtype=torch.float64)
                size = math.sqrt((2 * l2 + 1) * (2 * l3 + 1))
                block[l2**2 : (l2 + 1) ** 2] = size * clebsch_gordan(l1, l2, l3).movedim(1, 0)
                columns.append(block)
            self.register_buffer(f"table_{l1}", torch.cat(columns, -1), persistent=False)

    def forward(self, direction: Float[Tensor, "*pairs 3"]) -> Couplings:
        harmonics = torch.cat([solid_harmonics(l, direction) for l in range(self.degree + 1)], -1)
        found = {}
        for l1 in range(self.in_degree + 1):
            table = getattr(self, f"table_{l1}").to(direction.dtype)
            found[l1] = (harmonics @ table.flatten(1)).unflatten(-1, table.shape[1:])
        return found


class DepthwiseTensorProduct(nn.Module):
    """Features (*pairs, in_type.dim), couplings and weights (*pairs, `weights`) -> (*pairs, out_type.dim).

    Output channels of one degree are ordered by the channel of the input, then by the degree of the harmonics; weights
    by the degree and the channel of the input, then by (l3, l2). `couplings` are those of `HarmonicCouplings` with the
    same `degree` and `out_degree`. Source: Liao and Smidt, Equiformer, 2023.
    """

    def __init__(self, in_type: PointType, degree: int, out_degree: int):
        super().__init__()
        self.in_type = in_type
        self.paths = {block.l: paths_from(block.l, degree, out_degree) for block in in_type.blocks}
        counts: dict[int, int] = {}
        for block in in_type.blocks:
            for l3, _ in self.paths[block.l]:
                counts[l3] = counts.get(l3, 0) + block.multiplicity
        self.out_type = PointType(counts)
        self.weights = sum(block.multiplicity * len(self.paths[block.l]) for block in in_type.blocks)

    def forward(
        self, features: Float[Tensor, "*pairs in_dim"], couplings: Couplings, weights: Float[Tensor, "*pairs w"]
    ) -> Float[Tensor, "*pairs out_dim"]:
        if weights.shape[-1] != self.weights:
            raise ValueError(f"weights: expected {self.weights} for each pair, got {weights.shape[-1]}")
        out: dict[int, list[Tensor]] = {block.l: [] for block in self.out_type.blocks}
        start = 0
        for block, part in zip(self.in_type.blocks, self.in_type.split(features), strict=True):
            paths = self.paths[block.l]
            own = weights[..., start : start + block.multiplicity * len(paths)].unflatten(-1, (-1, len(paths)))
            start += block.multiplicity * len(paths)
            carried = part @ couplings[block.l]
            first = column = 0
            for l3 in out:
                count, width = sum(path[0] == l3 for path in paths), 2 * l3 + 1
                block_of = carried[..., column : column + count * width].unflatten(-1, (count, width))
                out[l3].append((block_of * own[..., first : first + count, None]).flatten(-3))
                first, column = first + count, column + count * width
        return torch.cat([part for parts in out.values() for part in parts], -1)

    def __repr__(self) -> str:
        return signature("DepthwiseTensorProduct", self.in_type, out=self.out_type)
