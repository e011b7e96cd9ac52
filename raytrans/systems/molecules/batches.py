"""Many molecules as one list of atoms: what models and losses read."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from raytrans.geometry.rigid import random_rotation
from raytrans.shapes import Float, Int
from raytrans.systems.molecules.xyz import Molecule

Composition = tuple[int, ...]


@dataclass(frozen=True)
class Batch:
    """B molecules of A atoms in all, one after the other.

    `system` says which molecule an atom belongs to, in ascending order; `kind` is the place of a molecule's composition
    in the list `kinds`. Energies (eV) are float64 whatever the positions are, since they are large beside their
    differences; energies and forces (eV/Angstrom) are NaN where they are not known.
    """

    numbers: Int[Tensor, " a"]
    positions: Float[Tensor, "a 3"]
    system: Int[Tensor, " a"]
    kind: Int[Tensor, " b"]
    energies: Float[Tensor, " b"]
    forces: Float[Tensor, "a 3"]
    kinds: tuple[Composition, ...]

    @property
    def count(self) -> int:
        """Number of molecules B."""
        return len(self.kind)

    def sizes(self) -> Int[Tensor, " b"]:
        """Number of atoms of every molecule."""
        return torch.bincount(self.system, minlength=self.count)

    def select(self, index: Int[Tensor, " s"]) -> "Batch":
        """The molecules `index`, in that order."""
        sizes = self.sizes()
        starts, own = sizes.cumsum(0) - sizes, sizes[index]
        system = torch.arange(len(index)).repeat_interleave(own)
        atoms = torch.arange(len(system)) - (own.cumsum(0) - own)[system] + starts[index][system]
        parts = {name: getattr(self, name)[atoms] for name in ("numbers", "positions", "forces")}
        return replace(self, system=system, kind=self.kind[index], energies=self.energies[index], **parts)

    def rotated(self, rotation: Float[Tensor, "b 3 3"]) -> "Batch":
        """Every molecule, with its forces, turned by its own rotation about the origin."""
        own = rotation.to(self.positions)[self.system]
        turned = (torch.einsum("aij,aj->ai", own, value) for value in (self.positions, self.forces))
        return replace(self, **dict(zip(("positions", "forces"), turned, strict=True)))


def kinds_of(molecules: Sequence[Molecule]) -> tuple[Composition, ...]:
    """The compositions of molecules, ascending."""
    return tuple(sorted({molecule.composition for molecule in molecules}))


def collate(
    molecules: Sequence[Molecule],
    dtype: torch.dtype = torch.float32,
    kinds: tuple[Composition, ...] | None = None,
) -> Batch:
    """One batch of molecules. Raises ValueError for none, and for a composition that is not among `kinds`."""
    if not molecules:
        raise ValueError("molecules: expected at least one, got none")
    kinds = kinds_of(molecules) if kinds is None else kinds
    unknown = [molecule.composition for molecule in molecules if molecule.composition not in kinds]
    if unknown:
        raise ValueError(f"molecules: expected compositions among the {len(kinds)} known ones, got {unknown[0]}")
    sizes = torch.tensor([len(molecule.numbers) for molecule in molecules])
    forces = [torch.full_like(m.positions, torch.nan) if m.forces is None else m.forces for m in molecules]
    energies = [torch.nan if molecule.energy is None else molecule.energy for molecule in molecules]
    place = {composition: index for index, composition in enumerate(kinds)}
    return Batch(
        torch.cat([molecule.numbers for molecule in molecules]),
        torch.cat([molecule.positions for molecule in molecules]).to(dtype),
        torch.arange(len(molecules)).repeat_interleave(sizes),
        torch.tensor([place[molecule.composition] for molecule in molecules]),
        torch.tensor(energies, dtype=torch.float64),
        torch.cat(forces).to(dtype),
        kinds,
    )


def turned(molecules: Sequence[Molecule], seed: int) -> list[Molecule]:
    """Every molecule about its centre, turned by a random rotation of its own, its forces with it."""
    generator = torch.Generator().manual_seed(seed)
    rotations = random_rotation(len(molecules), generator=generator, dtype=torch.float64)
    return [_turned(molecule, rotation) for molecule, rotation in zip(molecules, rotations, strict=True)]


def _turned(molecule: Molecule, rotation: Tensor) -> Molecule:
    positions = (molecule.positions - molecule.positions.mean(0)) @ rotation.mT
    return replace(
        molecule, positions=positions, forces=molecule.forces @ rotation.mT if molecule.forces is not None else None
    )
