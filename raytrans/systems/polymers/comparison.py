"""Dynamics with a fitted model beside that with the reference: from the same start, by the same numbers."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from raytrans.systems.polymers.chains import Chain
from raytrans.systems.polymers.dynamics import State, at_rest, thermal
from raytrans.systems.polymers.families import Sampling, atomic_numbers, sample
from raytrans.systems.polymers.observables import bond_lengths, distance_of, drift, radius_of_gyration
from raytrans.systems.polymers.reference import Reference
from raytrans.systems.polymers.simulation import Trajectory, learned, simulate
from raytrans.systems.polymers.topology import topology

QUANTILES = torch.linspace(0, 1, 401, dtype=torch.float64)


@dataclass(frozen=True)
class Conditions:
    """Temperature of the start in K; the step, the time between frames and that before the start in fs."""

    temperature: float = 300.0
    step: float = 1.0
    every: float = 10.0
    settle: int = 1000


class Comparison:
    """Dynamics of one chain at constant energy. What a run gives are `facts`: numbers and quantiles, fit for JSON."""

    def __init__(self, chain: Chain, conditions: Conditions):
        self.chain, self.conditions = chain, conditions
        self.graph = topology(chain.elements, chain.bonds)
        self.reference = Reference(self.graph)
        self.start = cache(self.start)

    def start(self, seed: int) -> State:
        """Two walkers at the temperature: the second shows how much trajectories of one length differ anyway."""
        temperature = self.conditions.temperature
        calm = Sampling(temperature, walkers=2, frames=1, settle=self.conditions.settle)
        ((first, second),) = sample([self.chain], calm, [0.0], 100 + seed)
        state = at_rest(self.reference, torch.stack([first[0].positions, second[0].positions]))
        return thermal(state, self.reference.masses, temperature, torch.Generator().manual_seed(200 + seed))

    def reference_run(self, seed: int, picoseconds: float) -> dict[str, dict]:
        """What both walkers of a seed do under the reference."""
        ran = self._run(self.reference, self.start(seed), picoseconds)
        return {"same start": self.facts(ran, 0), "other start": self.facts(ran, 1)}

    def learned_run(self, model: nn.Module, seed: int, picoseconds: float) -> dict:
        """What the first walker of a seed does under a model."""
        start = self.start(seed)
        first = State(**{name: getattr(start, name)[:1] for name in State.__dataclass_fields__})
        return self.facts(self._run(learned(model, atomic_numbers(self.chain)), first, picoseconds), 0)

    def _run(self, potential, start: State, picoseconds: float) -> Trajectory:
        step, every = self.conditions.step, self.conditions.every
        return simulate(potential, start, self.reference.masses, step, 1000 * picoseconds, every)

    def samples(self, positions: Tensor) -> dict[str, Tensor]:
        """Bond lengths by the elements at their ends, as in "C-H", and "Rg", in A, of frames (frames, atoms, 3)."""
        ends = ["-".join(sorted(self.chain.elements[atom] for atom in bond)) for bond in self.chain.bonds]
        lengths = bond_lengths(positions, self.graph.bonds)
        values = {
            kind: lengths[:, [index for index, own in enumerate(ends) if own == kind]].flatten()
            for kind in sorted(set(ends))
        }
        return values | {"Rg": radius_of_gyration(positions, self.reference.masses)}

    def facts(self, ran: Trajectory, walker: int) -> dict:
        """lasted (ps), drift of the total energy (meV/ps), its deviation about that line (meV), mean kinetic energy
        (eV), and quantiles of `samples` (A), of one walker.
        """
        energies = ran.energies[:, walker]
        slope = float(drift(ran.times / 1000, energies)) if len(ran.times) > 1 else 0.0
        line = energies - slope * ran.times / 1000
        values = self.samples(ran.positions[:, walker])
        return {
            "lasted": ran.lasted / 1000,
            "drift": 1000 * slope,
            "wobble": 1000 * float(line.std(correction=0)),
            "kinetic": float(ran.kinetic[:, walker].mean()),
            "quantiles": {name: value.quantile(QUANTILES).tolist() for name, value in values.items()},
        }


def distances(found: Mapping, other: Mapping) -> dict[str, float]:
    """How far the distributions of two runs are apart (`distance_of`), in mA, by what is distributed."""
    return {
        name: 1000 * distance_of(*(torch.tensor(run["quantiles"][name]).double() for run in (found, other)))
        for name in found["quantiles"]
    }
