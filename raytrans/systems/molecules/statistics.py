"""Which atoms a transformer of molecules attends to: mean |A| by elements, by bond and by distance."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from raytrans.layers.statistics import AttentionStatistics, attention_statistics, bins
from raytrans.systems.molecules.batches import collate
from raytrans.systems.molecules.elements import SYMBOLS, bonded
from raytrans.systems.molecules.torchmd import EquivariantTransformer
from raytrans.systems.molecules.xyz import Molecule

EDGES = (0.8, 1.2, 1.6, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0)
"""Angstrom, of the bins of distance."""


@dataclass(frozen=True)
class PairAttention:
    """Mean |A| over layers and heads of all pairs (P,) of different atoms, with what they are.

    target, source: atomic numbers of the atom that attends and of the one attended to; distance in Angstrom.
    """

    attention: Tensor
    target: Tensor
    source: Tensor
    distance: Tensor
    bond: Tensor

    def by_elements(self, elements: Sequence[int]) -> AttentionStatistics:
        """(target, source, 1); pairs with other elements are left out.

        Raises ValueError for numbers that no element has, and for one that is named twice.
        """
        if len(set(elements)) != len(elements) or not all(0 < n < len(SYMBOLS) for n in elements):
            raise ValueError(f"elements: expected different atomic numbers, got {list(elements)}")
        place = torch.full((len(SYMBOLS),), -1)
        place[list(elements)] = torch.arange(len(elements))
        return self._by([place[self.target], place[self.source]], [len(elements)] * 2)

    def by_bond(self) -> AttentionStatistics:
        """(not bonded, bonded; 1)."""
        return self._by([self.bond.long()], [2])

    def by_distance(self, edges: Sequence[float] = EDGES) -> AttentionStatistics:
        """(bins of distance, 1)."""
        return self._by([bins(self.distance, edges)], [len(edges) - 1])

    def _by(self, labels: list[Tensor], sizes: list[int]) -> AttentionStatistics:
        return attention_statistics(self.attention[:, None], labels, sizes)


def pair_attention(model: EquivariantTransformer, molecules: Sequence[Molecule]) -> PairAttention:
    """The attention of a model over all pairs of the molecules, 64 of them at a time. No gradients."""
    dtype, parts = next(model.parameters()).dtype, []
    everything = collate(molecules, dtype)
    for index in torch.arange(everything.count).split(64):
        batch = everything.select(index)
        with torch.no_grad():
            pairs, attention = model.attention(batch.numbers, batch.positions, batch.system)
        i, j = pairs.target_index, pairs.source_index
        distance = (batch.positions[i] - batch.positions[j]).norm(dim=-1)
        target, source = batch.numbers[i], batch.numbers[j]
        own = (attention.abs().mean((0, 2)), target, source, distance, bonded(target, source, distance))
        parts.append([value[i != j] for value in own])
    return PairAttention(*(torch.cat(values) for values in zip(*parts, strict=True)))
