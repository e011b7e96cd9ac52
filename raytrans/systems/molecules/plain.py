"""Transformers of molecules without rotations: the arms that the equivariant transformer is compared with.

`PlainTransformer` reads the coordinates of every atom about the centre of its molecule. With `DisplacementFeatures` in
place of distances the invariant transformer reads x_j - x_i of every pair and knows no rotations either. The two differ
in what a pair shows, the second and the invariant one in the symmetry alone.
"""

import math

import torch
from torch import Tensor, nn

from raytrans.layers.neighborhood import PairList
from raytrans.layers.radial import GaussianBasis
from raytrans.shapes import Float, Int
from raytrans.systems.molecules.graph import Elements, neighbors, sum_of_systems
from raytrans.systems.molecules.torchmd import Architecture
from raytrans.systems.plain import PlainBlock


class AxisFeatures(nn.Module):
    """MLP of Gaussians of each coordinate, even from -extent to extent, of vectors (N, 3): (N, out)."""

    def __init__(self, count: int, extent: float, out: int):
        super().__init__()
        self.basis, self.extent = GaussianBasis(count, 2 * extent), extent
        self.feed = nn.Sequential(nn.Linear(3 * count, 64), nn.SiLU(), nn.Linear(64, out))

    def forward(self, vector: Float[Tensor, "n 3"]) -> Float[Tensor, "n out"]:
        return self.feed(self.basis(vector + self.extent).flatten(-2))


class DisplacementFeatures(nn.Module):
    """phi(d) times axis features of the displacement: what filters read in place of `DistanceFeatures`."""

    def __init__(self, count: int, cutoff: float):
        super().__init__()
        self.axes = AxisFeatures(count, cutoff, count)

    def forward(self, displacement: Tensor, distance: Tensor, fade: Tensor) -> Float[Tensor, "p k"]:
        return self.axes(displacement) * fade[:, None]


class PlainTransformer(nn.Module):
    """Energies from elements and centred coordinates: exact for translations and permutations, not for rotations.

    All atoms of a molecule see each other, the cutoff of the architecture is where the Gaussians of coordinates end.
    Raises ValueError for other elements, atoms without a neighbour, and atoms at one place.
    """

    def __init__(self, elements: list[int], architecture: Architecture | None = None):
        super().__init__()
        size = architecture or Architecture()
        self.elements = Elements(elements)
        self.own = nn.Embedding(self.elements.count, size.channels)
        self.place = AxisFeatures(size.basis, size.cutoff, size.channels)
        self.layers = nn.ModuleList([PlainBlock(size.channels, size.heads) for _ in range(size.layers)])
        self.head = nn.Sequential(
            nn.LayerNorm(size.channels),
            nn.Linear(size.channels, size.channels),
            nn.SiLU(),
            nn.Linear(size.channels, 1),
        )

    def forward(
        self, numbers: Int[Tensor, " a"], positions: Float[Tensor, "a 3"], system: Int[Tensor, " a"], count: int
    ) -> Float[Tensor, " b"]:
        others, itself = neighbors(positions, system, math.inf), torch.arange(len(numbers), device=numbers.device)
        ends = (torch.cat([index, itself]) for index in (others.target_index, others.source_index))
        pairs = PairList(*ends, (len(numbers),), (len(numbers),))
        total = positions.new_zeros(count, 3).index_add(0, system, positions)
        centre = total / torch.bincount(system, minlength=count)[:, None]
        x = self.own(self.elements(numbers)) + self.place(positions - centre[system])
        for layer in self.layers:
            x = layer(x, x, pairs)
        return sum_of_systems(self.head(x)[:, 0], system, count)
