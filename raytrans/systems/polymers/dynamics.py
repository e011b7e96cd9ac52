"""Molecular dynamics of any potential: velocity Verlet at constant energy, Langevin dynamics at a temperature.

A potential gives energies and forces (*batch, atoms, 3) of positions (*batch, atoms, 3); the batch holds independent
walkers. Units: eV, Angstrom, fs, amu, K.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from raytrans.shapes import Float

Potential = Callable[[Tensor], tuple[Tensor, Tensor]]

BOLTZMANN = 8.617333262e-5  # eV/K
ACCELERATION = 9.648533212e-3  # A/fs^2 that 1 eV/A gives to 1 amu


@dataclass(frozen=True)
class State:
    """Walkers at one time: positions (A) and velocities (A/fs), (*batch, atoms, 3), with energies and forces there."""

    positions: Tensor
    velocities: Tensor
    energies: Tensor
    forces: Tensor


def _positive(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise ValueError(f"{name}: expected a positive number, got {value}")


def _checked_masses(masses: Tensor, positions: Tensor) -> Tensor:
    if masses.shape != positions.shape[-2:-1] or not bool((masses > 0).all()):
        raise ValueError(f"masses: expected {positions.shape[-2]} positive numbers, got {masses.tolist()}")
    return masses[:, None]


def at_rest(potential: Potential, positions: Float[Tensor, "*batch atoms 3"]) -> State:
    """Walkers that do not move yet."""
    return State(positions, torch.zeros_like(positions), *potential(positions))


def thermal(state: State, masses: Tensor, temperature: float, generator: torch.Generator) -> State:
    """The same places with velocities drawn at a temperature (K): normal, of variance k T/m.

    Raises ValueError for masses (amu) and temperatures that are not positive.
    """
    _positive("temperature", temperature)
    mass = _checked_masses(masses, state.positions)
    draw = torch.randn(state.positions.shape, generator=generator, dtype=torch.float64).to(state.positions)
    return replace(state, velocities=draw * (BOLTZMANN * temperature * ACCELERATION / mass).sqrt())


def kinetic_energies(state: State, masses: Tensor) -> Tensor:
    """sum m v^2/2 of every walker, (*batch,), in eV."""
    return (masses[:, None] * state.velocities.square()).sum((-1, -2)) / (2 * ACCELERATION)


def verlet(potential: Potential, state: State, masses: Tensor, step: float) -> State:
    """One step of velocity Verlet, `step` in fs: v += h a/2, x += h v, v += h a/2.

    Reversible in time; the energy oscillates about its value by an amount of order step^2. A negative step goes back.
    """
    kick = step / 2 * ACCELERATION / masses[:, None]
    half = state.velocities + kick * state.forces
    positions = state.positions + step * half
    energies, forces = potential(positions)
    return State(positions, half + kick * forces, energies, forces)


def langevin(
    potential: Potential,
    state: State,
    masses: Tensor,
    step: float,
    temperature: float,
    friction: float,
    generator: torch.Generator,
) -> State:
    """One BAOAB step of Langevin dynamics: step in fs, temperature in K, friction in 1/fs.

    The velocities decay by c = e^{-friction step} and gain noise of variance (1 - c^2) k T/m in the middle of the step.
    Positions in a harmonic well have the right variance k T/stiffness at any stable step.
    Raises ValueError for a temperature, friction or step that is not positive.
    Source: Leimkuhler and Matthews, Rational construction of stochastic numerical methods for molecular sampling, 2013.
    """
    for name, value in (("temperature", temperature), ("friction", friction), ("step", step)):
        _positive(name, value)
    mass = masses[:, None]
    kick = step / 2 * ACCELERATION / mass
    kept = math.exp(-friction * step)
    noise = torch.randn(state.positions.shape, generator=generator, dtype=torch.float64).to(state.positions)
    half = state.velocities + kick * state.forces
    positions = state.positions + step / 2 * half
    half = kept * half + (BOLTZMANN * temperature * ACCELERATION * (1 - kept**2) / mass).sqrt() * noise
    positions = positions + step / 2 * half
    energies, forces = potential(positions)
    return State(positions, half + kick * forces, energies, forces)


def walk(move: Callable[[State], State], state: State, steps: int, every: int = 1) -> Iterator[State]:
    """The states after every `every` moves, of `steps` in all."""
    for index in range(1, steps + 1):
        state = move(state)
        if index % every == 0:
            yield state


def constant_energy(potential: Potential, masses: Tensor, step: float) -> Callable[[State], State]:
    """A move of `verlet`, for `walk`. Raises ValueError for a step (fs) that is not positive."""
    _positive("step", step)
    return lambda state: verlet(potential, state, masses, step)


def relaxed(potential: Potential, positions: Tensor, steps: int, reach: float = 0.02) -> Tensor:
    """Positions after `steps` moves along the forces, each walker's fastest atom at most `reach` (A) a move.

    Where forces are below 1 eV/A it moves in proportion. Enough to leave the overlaps of a structure made by hand.
    """
    for _ in range(steps):
        forces = potential(positions)[1]
        largest = forces.norm(dim=-1).amax(-1).clamp_min(1.0)[..., None, None]
        positions = positions + reach * forces / largest
    return positions
