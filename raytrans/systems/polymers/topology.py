"""What is bonded to what: angles, torsions and pairs of a set of molecules, from their bonds.

Several molecules make one topology; terms never cross from one to another, so that a single call of the force field
serves many systems at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from raytrans.shapes import Int

SCALED = 0.5  # share of the non-bonded terms of atoms three bonds apart


@dataclass(frozen=True)
class Topology:
    """Atoms, and the terms they take part in, by their numbers.

    kinds: element and number of neighbours of every atom, as in "C4". system (A,): the molecule of every atom.
    bonds (B, 2); angles (G, 3), the middle atom in the middle; torsions (T, 4), along the bonds; pairs (P, 2): every
    two atoms of one molecule, the lower number first, and apart (P,): how many bonds lie between them.
    """

    kinds: tuple[str, ...]
    system: Int[Tensor, " atoms"]
    bonds: Int[Tensor, "bonds 2"]
    angles: Int[Tensor, "angles 3"]
    torsions: Int[Tensor, "torsions 4"]
    pairs: Int[Tensor, "pairs 2"]
    apart: Int[Tensor, " pairs"]

    @property
    def elements(self) -> tuple[str, ...]:
        return tuple(kind.rstrip("0123456789") for kind in self.kinds)

    @property
    def systems(self) -> int:
        return int(self.system[-1]) + 1

    def nonbonded(self) -> Tensor:
        """Share of the non-bonded terms of every pair, (P,): 0 up to two bonds apart, `SCALED` at three, then 1."""
        return torch.where(self.apart > 3, 1.0, torch.where(self.apart == 3, SCALED, 0.0)).double()


def _rows(rows: Sequence[Sequence[int]], width: int) -> Tensor:
    return torch.tensor(rows, dtype=torch.long).reshape(-1, width)


def _bonds_between(near: list[list[int]]) -> Tensor:
    """Number of bonds on the shortest way between any two atoms, (A, A)."""
    distance = torch.empty(len(near), len(near), dtype=torch.long)
    for start in range(len(near)):
        reached = {start: 0}
        for atom in (found := [start]):  # grows while it is read
            new = [other for other in near[atom] if other not in reached]
            reached.update(dict.fromkeys(new, reached[atom] + 1))
            found += new
        if len(reached) < len(near):
            raise ValueError("bonds: expected one molecule, got atoms that no bonds connect")
        distance[start, list(reached)] = torch.tensor(list(reached.values()))
    return distance


def topology(elements: Sequence[str], bonds: Sequence[tuple[int, int]]) -> Topology:
    """Angles, torsions and pairs of one molecule from its bonds.

    Raises ValueError for bonds of absent atoms or of an atom with itself, twice the same bond, and loose atoms.
    """
    count, table = len(elements), _rows(bonds, 2)
    known = {tuple(sorted(bond)) for bond in bonds}
    if any(not 0 <= a < b < count for a, b in known) or len(known) != len(bonds):
        raise ValueError(f"bonds: expected different pairs of two of the {count} atoms, got {list(bonds)}")
    near: list[list[int]] = [[] for _ in elements]
    for a, b in sorted(known):
        near[a].append(b)
        near[b].append(a)
    distance = _bonds_between(near)
    angles = [(a, b, c) for b in range(count) for a in near[b] for c in near[b] if a < c]
    torsions = [(a, b, c, d) for b, c in sorted(known) for a in near[b] for d in near[c] if a != c and d not in (a, b)]
    pairs = torch.triu_indices(count, count, 1).T
    return Topology(
        tuple(f"{element}{len(own)}" for element, own in zip(elements, near, strict=True)),
        torch.zeros(count, dtype=torch.long),
        table,
        _rows(angles, 3),
        _rows(torsions, 4),
        pairs,
        distance[pairs[:, 0], pairs[:, 1]],
    )


def join(parts: Sequence[Topology]) -> Topology:
    """Several topologies as one, atoms and systems numbered on."""
    if not parts:
        raise ValueError("parts: expected at least one topology, got none")
    columns: dict[str, list[Tensor]] = {field.name: [] for field in fields(Topology)[1:]}
    atoms = systems = 0
    for part in parts:
        shift = {"system": systems, "apart": 0}
        for name, values in columns.items():
            values.append(getattr(part, name) + shift.get(name, atoms))
        atoms, systems = atoms + len(part.kinds), systems + part.systems
    kinds = tuple(kind for part in parts for kind in part.kinds)
    return Topology(kinds, **{name: torch.cat(values) for name, values in columns.items()})
