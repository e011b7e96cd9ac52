"""Labelled families, what trajectories are compared by, and dynamics with a model."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import wasserstein_distance
from torch import nn

from raytrans.systems.molecules.batches import collate
from raytrans.systems.molecules.forces import energy_and_forces
from raytrans.systems.molecules.torchmd import Architecture, EquivariantTransformer
from raytrans.systems.molecules.training import Loss, Options, fit
from raytrans.systems.molecules.xyz import Molecule
from raytrans.systems.polymers.chains import polymer
from raytrans.systems.polymers.comparison import Comparison, Conditions, distances
from raytrans.systems.polymers.dynamics import BOLTZMANN, at_rest, thermal
from raytrans.systems.polymers.families import (
    ELEMENT_ENERGIES,
    Sampling,
    atomic_numbers,
    element_constants,
    sample,
    without_elements,
    zeros_of,
)
from raytrans.systems.polymers.observables import bond_lengths, distance_of, drift, radius_of_gyration
from raytrans.systems.polymers.reference import Reference
from raytrans.systems.polymers.simulation import learned, simulate
from raytrans.systems.polymers.topology import topology

CHAINS = [polymer("CH2", "F", 1), polymer("COO", "H", 1), polymer("O", "H", 2)]
SHORT = Sampling(temperature=400.0, walkers=2, frames=2, settle=20, every=10)


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def frames(zeros=(0.0, 0.0, 0.0), seed=0):
    return sample(CHAINS, SHORT, zeros, seed)


def test_labels_are_those_of_the_reference_and_the_zero_of_the_chain():
    zeros = zeros_of(CHAINS, 1.0, 3)
    for chain, zero, walkers in zip(CHAINS, zeros, frames(zeros), strict=True):
        reference = Reference(topology(chain.elements, chain.bonds))
        assert len(walkers) == 2 and all(len(walker) == 2 for walker in walkers)
        for molecule in (molecule for walker in walkers for molecule in walker):
            assert torch.equal(molecule.numbers, atomic_numbers(chain)) and molecule.name == chain.name
            energy, forces = reference(molecule.positions)
            assert molecule.energy == pytest.approx(energy.item() + zero, abs=1e-8)
            torch.testing.assert_close(molecule.forces, forces, atol=1e-9, rtol=0)


def test_frames_follow_the_seed_and_walkers_go_their_own_ways():
    first, again, other = frames(), frames(), frames(seed=1)
    assert torch.equal(first[1][0][1].positions, again[1][0][1].positions)
    assert not torch.allclose(first[1][0][1].positions, other[1][0][1].positions)
    assert not torch.allclose(first[1][0][1].positions, first[1][1][1].positions, atol=0.1)


def test_hotter_chains_have_more_energy():
    """The vibrations of N atoms hold about (3N - 6) k T/2."""
    chain, atoms = CHAINS[0], len(CHAINS[0].elements)
    hot = Sampling(temperature=600.0, walkers=24, frames=3, settle=150, every=30)
    mean = {}
    for temperature in (150.0, 600.0):
        sampling = Sampling(temperature, hot.walkers, hot.frames, hot.settle, hot.every)
        ((*walkers,),) = sample([chain], sampling, [0.0], 0)
        mean[temperature] = np.mean([molecule.energy for walker in walkers for molecule in walker])
    expected = (3 * atoms - 6) / 2 * BOLTZMANN * 450
    assert mean[600.0] - mean[150.0] == pytest.approx(expected, rel=0.2)


def test_zeros_are_sums_over_elements_and_a_number_that_none_explains():
    many = [polymer("CH2", "CH3", length) for length in range(1, 200)]
    zeros = zeros_of(many, 0.5, 0)
    elements = [sum(ELEMENT_ENERGIES[element] for element in chain.elements) for chain in many]
    own = np.subtract(zeros, elements)
    assert own.std() == pytest.approx(0.5, rel=0.15) and abs(own.mean()) < 0.15
    assert zeros_of(many, 0.0, 0) == pytest.approx(elements)


def test_what_elements_explain_is_taken_away():
    molecules = [
        Molecule(numbers, 3 * torch.randn(len(numbers), 3, generator=draw(i)).double())
        for i, numbers in enumerate(map(torch.tensor, ([6, 1, 1, 1, 1], [1, 8, 1], [6, 8, 1, 1], [6, 8, 8])))
    ]
    given = {1: -13.0, 6: -1030.0, 8: -2043.5}
    labelled = [Molecule(m.numbers, m.positions, sum(given[int(number)] for number in m.numbers)) for m in molecules]
    found = element_constants(labelled)
    assert found == pytest.approx(given, abs=1e-8)
    assert [m.energy for m in without_elements(labelled, found)] == pytest.approx([0] * 4, abs=1e-7)
    with pytest.raises(ValueError, match=r"molecules: expected elements among \[1, 6\], got \[8\]"):
        without_elements(labelled, {1: 0.0, 6: 0.0})


@pytest.mark.parametrize("temperature", [0.0, -5.0])
def test_impossible_samples_are_refused(temperature):
    with pytest.raises(ValueError, match="temperature: expected a positive number"):
        sample(CHAINS[:1], Sampling(temperature, walkers=1, frames=1, settle=1, every=1), [0.0], 0)
    with pytest.raises(ValueError, match="zeros: expected one for each of the 3 chains, got 1"):
        sample(CHAINS, SHORT, [0.0], 0)
    with pytest.raises(ValueError, match="walkers: expected at least 1, got 0"):
        Sampling(walkers=0)


def test_sizes_of_chains_are_those_of_the_formulas():
    x = torch.tensor([[0.0, 0, 0], [3.0, 0, 0], [0, 4.0, 0]]).double()
    assert bond_lengths(x, torch.tensor([[0, 1], [1, 2]])).tolist() == [3.0, 5.0]
    two = torch.stack([x[:2], 2 * x[:2] + 7])
    apart = radius_of_gyration(two, torch.tensor([1.0, 2.0]).double())
    torch.testing.assert_close(apart, torch.tensor([math.sqrt(2), math.sqrt(8)]).double())  # 3 sqrt(m1 m2)/(m1 + m2)


def test_drift_is_the_slope_of_a_line():
    times = torch.arange(50).double()
    noise = torch.randn(50, 3, generator=draw(), dtype=torch.float64)
    energies = 5 + times[:, None] * torch.tensor([0.5, 0.0, -2.0]).double() + noise
    expected = np.polyfit(times.numpy(), energies.numpy(), 1)[0]
    torch.testing.assert_close(drift(times, energies), torch.tensor(expected))
    with pytest.raises(ValueError, match="times: expected at least two, got 1"):
        drift(times[:1], energies[:1])


def test_the_distance_of_samples_is_that_of_scipy():
    first, second = (torch.randn(n, generator=draw(n), dtype=torch.float64) for n in (37, 60))
    assert distance_of(first, 2 * second + 1) == pytest.approx(wasserstein_distance(first, 2 * second + 1))
    assert distance_of(first, first + 0.25) == pytest.approx(0.25)
    assert distance_of(first, first.flip(0)) == pytest.approx(0, abs=1e-12)
    with pytest.raises(ValueError, match="samples: expected at least one value in each, got 0 and 60"):
        distance_of(first[:0], second)


def transformer(dtype=torch.float64):
    torch.manual_seed(0)
    return EquivariantTransformer([1, 6, 9], Architecture(channels=8, layers=1, heads=2, basis=8, cutoff=4.0)).to(dtype)


def hot(temperature=100.0):
    chain = CHAINS[0]
    reference = Reference(topology(chain.elements, chain.bonds))
    positions = torch.stack([walker[0].positions for walker in frames()[0]])
    return reference, thermal(at_rest(reference, positions), reference.masses, temperature, draw())


def test_a_learned_potential_is_the_model_of_every_walker():
    model, (_, state) = transformer(), hot()
    energies, forces = learned(model, atomic_numbers(CHAINS[0]))(state.positions)
    assert energies.shape == (2, 1) and forces.shape == state.positions.shape
    for walker, energy, force in zip(frames()[0], energies, forces, strict=True):
        alone, own = energy_and_forces(model, collate(walker[:1], torch.float64))
        torch.testing.assert_close(energy, alone, atol=1e-10, rtol=0)
        torch.testing.assert_close(force, own, atol=1e-10, rtol=0)


def test_dynamics_with_a_model_keeps_the_energy_of_the_model():
    reference, state = hot()
    potential = learned(transformer(), atomic_numbers(CHAINS[0]))
    wobble = {}
    for step in (0.5, 0.25):
        ran = simulate(potential, state, reference.masses, step, 20.0, 1.0)
        assert ran.lasted == 20.0 and len(ran.times) == len(ran.energies) == 21 and ran.times[-1] == 20.0
        wobble[step] = (ran.energies - ran.energies[0]).abs().max().item()
        assert (ran.kinetic - ran.kinetic[0]).abs().max() > 20 * wobble[step]
    assert wobble[0.5] / wobble[0.25] == pytest.approx(4, rel=0.25)

    def pushed(positions):  # forces that are the gradient of nothing
        energies, forces = potential(positions)
        return energies, forces + 0.5 * torch.linalg.cross(
            positions, torch.tensor([0.0, 0, 1]).expand_as(positions).double()
        )

    ran = simulate(pushed, state, reference.masses, 0.25, 20.0, 1.0)
    assert (ran.energies - ran.energies[0]).abs().max() > 20 * wobble[0.25]


def test_dynamics_that_falls_apart_says_how_long_it_lasted():
    reference, state = hot()
    calls = []

    def fragile(positions):
        calls.append(1)
        if len(calls) > 8:
            raise ValueError("positions: expected a neighbour of every atom")
        return reference(positions)

    ran = simulate(fragile, state, reference.masses, 0.5, 10.0, 1.0)
    assert ran.lasted == 3.5 and ran.times.tolist() == [0, 1, 2, 3] and len(ran.positions) == 4
    calls += [1] * 8
    with pytest.raises(ValueError, match="expected a neighbour"):  # a start that is refused is a mistake
        simulate(fragile, state, reference.masses, 0.5, 10.0, 1.0)


class Silent(nn.Module):
    """A model that predicts no energy."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, numbers, positions, system, count):
        return (self.weight * positions.sum()).expand(count)


@pytest.mark.parametrize("offsets", [True, False])
def test_constants_of_compositions_can_be_left_out(offsets):
    groups = [[molecule for walker in walkers for molecule in walker] for walkers in frames((3.0, -2.0, 5.0))[:2]]
    options = Options(Loss(1.0, 0.0), steps=1, batch=8, offsets=offsets)
    (loss,) = fit(Silent(), groups[0] + groups[1], options).losses
    energies = np.array([[molecule.energy for molecule in group] for group in groups])
    explained = energies.mean(1, keepdims=True) if offsets else 0.0
    assert loss == pytest.approx(np.mean((energies - explained) ** 2))


def test_a_run_is_told_by_its_lengths_and_energies():
    compared = Comparison(polymer("CH2", "OH", 1), Conditions(settle=5))
    reference, start = compared.reference, compared.start(0)
    ran = simulate(reference, start, reference.masses, 1.0, 40.0, 10.0)
    found = compared.reference_run(0, 0.04)
    for walker, name in enumerate(("same start", "other start")):
        facts, samples = found[name], compared.samples(ran.positions[:, walker])
        assert {key: value.numel() for key, value in samples.items()} == {
            "C-C": 5,
            "C-H": 25,
            "C-O": 5,
            "H-O": 5,
            "Rg": 5,
        }
        assert {key: (v[0], v[200], v[-1]) for key, v in facts["quantiles"].items()} == {
            key: pytest.approx(np.quantile(value.numpy(), (0, 0.5, 1))) for key, value in samples.items()
        }
        slope, level = np.polyfit(np.arange(5) * 0.01, ran.energies[:, walker].numpy(), 1)
        about = ran.energies[:, walker].numpy() - slope * np.arange(5) * 0.01 - level
        expected = {"lasted": 0.04, "drift": 1000 * slope, "wobble": 1000 * about.std()}
        assert {key: facts[key] for key in expected} == pytest.approx(expected, rel=1e-6)
        assert facts["kinetic"] == pytest.approx(ran.kinetic[:, walker].mean().item())
    apart = distances(*found.values())
    assert set(apart) == set(samples) and min(apart.values()) > 0
    assert set(distances(found["same start"], found["same start"]).values()) == {0.0}
