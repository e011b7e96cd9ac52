"""Molecular dynamics with a fitted model, or with the reference, at constant energy."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from raytrans.shapes import Float, Int
from raytrans.systems.molecules.batches import Batch
from raytrans.systems.molecules.forces import energy_and_forces
from raytrans.systems.polymers.dynamics import Potential, State, constant_energy, kinetic_energies, walk


def learned(model: nn.Module, numbers: Int[Tensor, " atoms"]) -> Potential:
    """The potential of a fitted model for one molecule: energies (*batch, 1), forces of positions (*batch, atoms, 3).

    The model computes in its own precision; positions and results have that of the walkers.
    """
    dtype, atoms = next(model.parameters()).dtype, len(numbers)

    def potential(positions: Tensor) -> tuple[Tensor, Tensor]:
        shape, count = positions.shape[:-2], positions.shape[:-2].numel()
        # one place for all walkers, so that a far one loses no digits
        local = (positions - positions.mean(-2, keepdim=True)).reshape(-1, 3).to(dtype)
        system = torch.arange(count).repeat_interleave(atoms)
        unknown = torch.full((count,), torch.nan, dtype=torch.float64)
        kind = torch.zeros(count, dtype=torch.long)
        batch = Batch(numbers.repeat(count), local, system, kind, unknown, torch.full_like(local, torch.nan), ((),))
        energies, forces = energy_and_forces(model, batch)
        return energies.to(positions).reshape(*shape, 1), forces.to(positions).reshape(positions.shape)

    return potential


@dataclass(frozen=True)
class Trajectory:
    """Frames at times (fs): positions (frames, walkers, atoms, 3), total and kinetic energies (frames, walkers) in eV.

    `lasted` is how many fs went well: less than asked for where a molecule fell apart.
    """

    times: Float[Tensor, " frames"]
    positions: Float[Tensor, "frames walkers atoms 3"]
    energies: Float[Tensor, "frames walkers"]
    kinetic: Float[Tensor, "frames walkers"]
    lasted: float


def simulate(potential: Potential, start: State, masses: Tensor, step: float, time: float, every: float) -> Trajectory:
    """Dynamics at constant energy for `time` from where a state is, a frame every `every`, all in fs.

    Forces at the start are those of the potential, whatever the state came with. Stops early where the potential
    refuses the positions, as it does once atoms meet, are alone or are nowhere.
    """
    stride = max(1, round(every / step))
    steps = round(time / step)
    start = replace(start, **dict(zip(("energies", "forces"), potential(start.positions), strict=True)))
    states, count = [start], 0
    try:
        for state in walk(constant_energy(potential, masses, step), start, steps):
            count += 1
            if count % stride == 0:
                states.append(state)
    except ValueError:
        pass
    kinetic = torch.stack([kinetic_energies(state, masses) for state in states])
    energies = torch.stack([state.energies[..., 0] for state in states]) + kinetic
    times = torch.arange(len(states)).double() * stride * step
    return Trajectory(times, torch.stack([state.positions for state in states]), energies, kinetic, count * step)
