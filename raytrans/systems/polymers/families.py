"""Sets of labelled chains: configurations of many families at a temperature, with energies of no common zero."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from raytrans.systems.molecules.elements import ATOMIC_NUMBERS
from raytrans.systems.molecules.xyz import Molecule
from raytrans.systems.polymers.chains import Chain
from raytrans.systems.polymers.dynamics import at_rest, langevin, relaxed, thermal, walk
from raytrans.systems.polymers.reference import Reference
from raytrans.systems.polymers.structures import start_structure
from raytrans.systems.polymers.topology import join, topology

RELAXING = 100  # moves along the forces before anything is hot

ELEMENT_ENERGIES = {"H": -13.6, "C": -1030.0, "O": -2043.0, "F": -2713.0}
"""eV of one atom, of the size that total energies of electrons have; arbitrary."""


@dataclass(frozen=True)
class Sampling:
    """How configurations are drawn: temperature in K, friction in 1/fs, times in fs.

    `walkers` start from random structures of their own; each settles, and then gives a frame `every` so often.
    """

    temperature: float = 500.0
    walkers: int = 10
    frames: int = 5
    settle: int = 200
    every: int = 40
    step: float = 1.0
    friction: float = 0.02

    def __post_init__(self):
        for name in ("walkers", "frames", "settle", "every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")


def zeros_of(chains: Sequence[Chain], scale: float, seed: int) -> list[float]:
    """An arbitrary zero of energy for every chain (eV): those of its elements, and a normal number of its own.

    The second, of deviation `scale`, is what no sum over elements explains. Two lengths of a family have two of them.
    """
    own = scale * torch.randn(len(chains), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return [
        sum(ELEMENT_ENERGIES[element] for element in chain.elements) + float(shift)
        for chain, shift in zip(chains, own, strict=True)
    ]


def sample(
    chains: Sequence[Chain], sampling: Sampling, zeros: Sequence[float], seed: int
) -> list[list[list[Molecule]]]:
    """Configurations by Langevin dynamics of the reference: [chain][walker] is a list of frames.

    Energies are those of the reference plus the zero of the chain. All chains move in one call. Raises what chains,
    structures and `langevin` raise, and ValueError for another number of zeros than chains.
    """
    if len(zeros) != len(chains):
        raise ValueError(f"zeros: expected one for each of the {len(chains)} chains, got {len(zeros)}")
    generator = torch.Generator().manual_seed(seed)
    graphs = [topology(chain.elements, chain.bonds) for chain in chains]
    reference = Reference(join(graphs))
    starts = [torch.cat([start_structure(graph, generator) for graph in graphs]) for _ in range(sampling.walkers)]
    state = at_rest(reference, relaxed(reference, torch.stack(starts), RELAXING))
    state = thermal(state, reference.masses, sampling.temperature, generator)
    condition = (reference.masses, sampling.step, sampling.temperature, sampling.friction, generator)
    settle, every = (round(time / sampling.step) for time in (sampling.settle, sampling.every))
    *_, state = walk(lambda now: langevin(reference, now, *condition), state, settle)
    states = list(walk(lambda now: langevin(reference, now, *condition), state, sampling.frames * every, every))
    sizes = [len(chain.elements) for chain in chains]
    positions, forces = (
        torch.stack([getattr(state, name) for state in states], 1).split(sizes, -2) for name in ("positions", "forces")
    )
    energies = torch.stack([state.energies for state in states], 1)
    return [_labelled(chain, positions[i], energies[..., i] + zeros[i], forces[i]) for i, chain in enumerate(chains)]


def atomic_numbers(chain: Chain) -> torch.Tensor:
    """Atomic numbers of the atoms of a chain, (A,)."""
    return torch.tensor([ATOMIC_NUMBERS[element] for element in chain.elements])


def _labelled(chain: Chain, positions, energies, forces) -> list[list[Molecule]]:
    numbers = atomic_numbers(chain)
    return [
        [Molecule(numbers, x, float(e), f, chain.name) for x, e, f in zip(*walker, strict=True)]
        for walker in zip(positions, energies, forces, strict=True)
    ]


def element_constants(molecules: Sequence[Molecule]) -> dict[int, float]:
    """The energy of an atom of every element (eV) that explains the energies of molecules best, by least squares."""
    known = sorted({int(number) for molecule in molecules for number in molecule.numbers})
    counts = torch.tensor([[int((m.numbers == number).sum()) for number in known] for m in molecules])
    energies = torch.tensor([molecule.energy for molecule in molecules], dtype=torch.float64)
    found = torch.linalg.lstsq(counts.double(), energies[:, None], driver="gelsd").solution.flatten()
    return dict(zip(known, found.tolist(), strict=True))


def without_elements(molecules: Sequence[Molecule], constants: dict[int, float]) -> list[Molecule]:
    """The molecules with the energies of their atoms taken away. Raises ValueError for elements without one."""
    unknown = {int(number) for molecule in molecules for number in molecule.numbers} - set(constants)
    if unknown:
        raise ValueError(f"molecules: expected elements among {sorted(constants)}, got {sorted(unknown)}")
    return [
        replace(molecule, energy=molecule.energy - sum(constants[int(number)] for number in molecule.numbers))
        for molecule in molecules
    ]
