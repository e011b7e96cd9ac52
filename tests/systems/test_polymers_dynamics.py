"""Integrators against closed forms of the harmonic oscillator, and energy conservation with the reference."""

import math

import numpy as np
import pytest
import torch

from raytrans.systems.polymers.chains import polymer
from raytrans.systems.polymers.dynamics import (
    ACCELERATION,
    BOLTZMANN,
    State,
    at_rest,
    constant_energy,
    kinetic_energies,
    langevin,
    relaxed,
    thermal,
    verlet,
    walk,
)
from raytrans.systems.polymers.reference import Reference
from raytrans.systems.polymers.structures import start_structure
from raytrans.systems.polymers.topology import topology

STIFFNESS, MASS, TEMPERATURE = 3.0, 2.0, 400.0  # eV/A^2, amu, K
FREQUENCY = math.sqrt(STIFFNESS * ACCELERATION / MASS)  # 1/fs


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def well(positions):
    """A harmonic well for every atom: energies (*batch,) and forces."""
    return STIFFNESS / 2 * positions.square().sum((-1, -2)), -STIFFNESS * positions


def ethanol(temperature=300.0):
    """The reference of CH3-CH2-OH and one hot walker of it."""
    chain = polymer("CH2", "OH", 1)
    graph = topology(chain.elements, chain.bonds)
    reference = Reference(graph)
    state = at_rest(reference, relaxed(reference, start_structure(graph, draw()), 300))
    return reference, thermal(state, reference.masses, temperature, draw(1))


def total(state, masses):
    return state.energies.squeeze(-1) + kinetic_energies(state, masses)


def euler(potential, state, masses, step):
    """Explicit Euler, of first order: what the checks have to refuse."""
    positions = state.positions + step * state.velocities
    velocities = state.velocities + step * ACCELERATION / masses[:, None] * state.forces
    return State(positions, velocities, *potential(positions))


def energy_errors(integrator, steps=(1.0, 0.5, 0.25, 0.125), time=24.0):
    """Largest change of the energy over a time, for every step."""
    reference, start = ethanol()
    before = total(start, reference.masses)
    return [
        max(
            float((total(state, reference.masses) - before).abs())
            for state in walk(
                lambda s, h=step: integrator(reference, s, reference.masses, h), start, round(time / step)
            )
        )
        for step in steps
    ]


def order(errors, steps=(1.0, 0.5, 0.25, 0.125)):
    return np.polyfit(np.log(steps), np.log(errors), 1)[0]


def test_the_error_of_the_energy_falls_as_the_square_of_the_step():
    errors = energy_errors(verlet)
    assert order(errors) == pytest.approx(2, abs=0.1)
    assert errors[0] < 0.05 and errors[-1] > 1e-6  # eV: neither wild nor the rounding
    assert order(energy_errors(euler, steps=(0.125, 0.0625, 0.03125)), (4, 2, 1)) < 1.5


def test_energy_does_not_drift():
    reference, start = ethanol()
    move = constant_energy(reference, reference.masses, 0.5)
    energies = torch.stack([total(state, reference.masses) for state in walk(move, start, 1000)])
    slope = np.polyfit(np.arange(1000) * 0.5e-3, energies.numpy(), 1)[0]
    assert abs(slope) < 0.02 and energies.std() < 0.02  # eV/ps and eV, of 0.3 eV that move


def test_time_turns_round():
    reference, start = ethanol()
    state = start
    for _ in range(100):
        state = verlet(reference, state, reference.masses, 0.5)
    assert (state.positions - start.positions).abs().max() > 0.05
    for _ in range(100):
        state = verlet(reference, state, reference.masses, -0.5)
    torch.testing.assert_close(state.positions, start.positions, atol=1e-9, rtol=0)
    torch.testing.assert_close(state.velocities, start.velocities, atol=1e-10, rtol=0)
    there = euler(reference, start, reference.masses, 0.5)
    back = euler(reference, there, reference.masses, -0.5)
    assert (back.velocities - start.velocities).abs().max() > 1e-5  # a step that cannot be undone is seen


def test_momenta_of_a_free_molecule_are_kept():
    reference, start = ethanol()
    masses = reference.masses[:, None]
    *_, last = walk(constant_energy(reference, reference.masses, 0.5), start, 100)
    for kept in (
        lambda s: (masses * s.velocities).sum(0),
        lambda s: (masses * torch.linalg.cross(s.positions, s.velocities)).sum(0),
    ):
        torch.testing.assert_close(kept(last), kept(start), atol=1e-10, rtol=0)
        assert kept(start).abs().max() > 1e-3


def test_verlet_turns_an_oscillator_at_its_known_frequency():
    step, count = 1.0, 400
    masses = torch.tensor([MASS]).double()
    start = at_rest(well, torch.tensor([[0.1, -0.2, 0.3]]).double())
    *_, last = walk(constant_energy(well, masses, step), start, count)
    numeric = 2 / step * math.asin(FREQUENCY * step / 2)  # leapfrog: sin(w' h/2) = w h/2
    torch.testing.assert_close(last.positions, start.positions * math.cos(numeric * step * count), atol=1e-10, rtol=0)


STEP, FRICTION = 8.0, 0.02


def sampled(move, walkers=500, settle=60, steps=240):
    """<x^2> and <v^2> of every walker in the well, averaged over its time: (walkers,) each."""
    masses = torch.tensor([MASS]).double()
    generator = draw()
    start = at_rest(well, torch.zeros(walkers, 1, 3).double())
    state = thermal(start, masses, TEMPERATURE, generator)
    squares = [
        torch.stack([s.positions.square().mean((-1, -2)), s.velocities.square().mean((-1, -2))])
        for s in walk(lambda s: move(well, s, masses, generator), state, settle + steps)
    ]
    return torch.stack(squares[settle:]).mean(0)


def too_quiet(potential, state, masses, generator):
    """Langevin dynamics whose noise lacks its balance with the friction, 1 - c in place of 1 - c^2."""
    kept = math.exp(-FRICTION * STEP)
    return langevin(potential, state, masses, STEP, TEMPERATURE / (1 + kept), FRICTION, generator)


def deviations(values, expected):
    """Standard errors between the mean of independent walkers and an expectation."""
    return float((values.mean() - expected) / (values.std() / len(values) ** 0.5))


def test_langevin_dynamics_samples_the_well_at_its_temperature():
    assert FREQUENCY * STEP > 0.9  # a coarse step: positions are right all the same
    places, velocities = sampled(lambda p, s, m, g: langevin(p, s, m, STEP, TEMPERATURE, FRICTION, g))
    energy = BOLTZMANN * TEMPERATURE
    assert abs(deviations(places, energy / STIFFNESS)) < 4
    # what the splitting does to velocities: k T/m (1 - (w h)^2/4)
    share = 1 - (FREQUENCY * STEP) ** 2 / 4
    assert abs(deviations(velocities, share * energy * ACCELERATION / MASS)) < 4
    assert abs(deviations(velocities, energy * ACCELERATION / MASS)) > 10
    assert abs(deviations(sampled(too_quiet)[0], energy / STIFFNESS)) > 10


def test_velocities_are_drawn_at_the_temperature():
    masses = torch.tensor([1.0, 16.0]).double()
    state = thermal(at_rest(well, torch.zeros(4000, 2, 3).double()), masses, 300.0, draw())
    variance = state.velocities.square().mean((0, 2))
    torch.testing.assert_close(variance, BOLTZMANN * 300 * ACCELERATION / masses, rtol=0.05, atol=0)
    assert kinetic_energies(state, masses).mean().item() == pytest.approx(3 * BOLTZMANN * 300, rel=0.05)


def test_units_are_those_of_nature():
    joule_per_ev, kilogram_per_amu, metre = 1.602176634e-19, 1.66053906892e-27, 1e-10
    expected = joule_per_ev / metre / kilogram_per_amu * 1e-30 / metre  # m/s^2 -> A/fs^2
    assert pytest.approx(expected, rel=1e-8) == ACCELERATION
    assert pytest.approx(1.380649e-23 / joule_per_ev, rel=1e-9) == BOLTZMANN


def test_relaxing_lowers_the_energy():
    chain = polymer("CF2", "CF3", 2)
    graph = topology(chain.elements, chain.bonds)
    reference = Reference(graph)
    x = torch.stack([start_structure(graph, draw(seed)) for seed in range(3)])
    rested = relaxed(reference, x, 100)
    assert (reference(rested)[0] < reference(x)[0]).all()
    assert reference(rested)[1].norm(dim=-1).max() < 0.5 * reference(x)[1].norm(dim=-1).max()


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_impossible_conditions_are_refused(value):
    masses = torch.tensor([MASS]).double()
    state = at_rest(well, torch.zeros(1, 3).double())
    with pytest.raises(ValueError, match="temperature: expected a positive number, got"):
        thermal(state, masses, value, draw())
    for name in ("temperature", "friction", "step"):
        numbers = {"temperature": 300.0, "friction": 0.01, "step": 1.0} | {name: value}
        with pytest.raises(ValueError, match=f"{name}: expected a positive number, got"):
            langevin(well, state, masses, generator=draw(), **numbers)
    with pytest.raises(ValueError, match="step: expected"):
        constant_energy(well, masses, value)
    with pytest.raises(ValueError, match="masses: expected 1 positive"):
        thermal(state, torch.tensor([-1.0]), 300.0, draw())
