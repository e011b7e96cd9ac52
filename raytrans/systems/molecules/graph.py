"""What every model of molecules asks first: which elements the atoms are, and which atoms see each other."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from raytrans.layers.neighborhood import PairList
from raytrans.shapes import Float, Int
from raytrans.systems.molecules.elements import LEAST_DISTANCE, SYMBOLS


class Elements(nn.Module):
    """Atomic numbers to places in a list of known elements. Raises ValueError for others, and for a list of none."""

    def __init__(self, numbers: Sequence[int]):
        super().__init__()
        known = sorted(set(numbers))
        if not known or not 0 < known[0] <= known[-1] < len(SYMBOLS):
            raise ValueError(f"elements: expected atomic numbers from 1 to {len(SYMBOLS) - 1}, got {list(numbers)}")
        self.count = len(known)
        place = torch.full((len(SYMBOLS),), -1)
        place[known] = torch.arange(self.count)
        self.register_buffer("place", place, persistent=False)

    def forward(self, numbers: Int[Tensor, " a"]) -> Int[Tensor, " a"]:
        inside = (numbers >= 0) & (numbers < len(SYMBOLS))
        places = torch.where(inside, self.place[numbers.clamp(0, len(SYMBOLS) - 1)], -1)
        if (places < 0).any():
            known = " ".join(SYMBOLS[n] for n in (self.place >= 0).nonzero().flatten().tolist())
            atom = int((places < 0).nonzero()[0, 0])
            raise ValueError(f"numbers: expected elements among {known}, got {int(numbers[atom])} for atom {atom}")
        return places


def neighbors(positions: Float[Tensor, "a 3"], system: Int[Tensor, " a"], cutoff: float) -> PairList:
    """All pairs of atoms of one molecule nearer than the cutoff.

    Raises ValueError for atoms that have no neighbour, that are nearer than `LEAST_DISTANCE`, or that are not finite,
    saying which, and for a `system` of another length.
    """
    if system.shape != positions.shape[:1]:
        raise ValueError(f"system: expected one number for each of {len(positions)} atoms, got {tuple(system.shape)}")
    pairs = PairList.within(positions, cutoff, system)
    with torch.no_grad():
        close = (pairs.source(positions) - pairs.target(positions)).norm(dim=-1) < LEAST_DISTANCE
    if close.any():
        place = int(close.nonzero()[0, 0])
        first, second = int(pairs.target_index[place]), int(pairs.source_index[place])
        raise ValueError(
            f"positions: expected atoms at least {LEAST_DISTANCE} Angstrom apart, got atoms {first} and {second} nearer"
        )
    alone = torch.bincount(pairs.target_index, minlength=len(positions)) == 0
    if alone.any():
        atom = int(alone.nonzero()[0, 0])
        raise ValueError(
            f"positions: expected a neighbour within {cutoff:g} Angstrom of every atom, got none for atom {atom} "
            f"of molecule {int(system[atom])}"
        )
    return pairs


def sum_of_systems(values: Float[Tensor, " a"], system: Int[Tensor, " a"], count: int) -> Float[Tensor, " b"]:
    """Per-atom values summed over every molecule. Raises ValueError where `count` is not that of the molecules."""
    found = int(system.max()) + 1 if len(system) else 0
    if count != found or (len(system) and int(system.min()) < 0):
        raise ValueError(f"count: expected {found} molecules, from 0 on, as system has them, got {count}")
    return values.new_zeros(count).index_add(0, system, values)
