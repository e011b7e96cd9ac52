"""The spectrum against closed forms and scipy, weights against loops, symmetries of the exact and effective weight."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch

from raytrans.fields.so3 import PointType
from raytrans.geometry.rigid import random_rotation
from raytrans.geometry.spaces import LatticeSpace
from raytrans.layers.attention import DotLogits
from raytrans.systems.spins.double_exchange import (
    DoubleExchange,
    magnetisation,
    staggered_magnetisation,
    sublattices,
)
from raytrans.systems.spins.effective import EffectiveModel, SpinAttention
from raytrans.systems.spins.fitting import Schedule, least_squares, solve_couplings, squared_error, train
from raytrans.systems.spins.sampling import random_spins

PAULI = np.array([[[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]]])


def spins_of(*shape: int, seed: int = 0) -> torch.Tensor:
    chains = math.prod(shape[:-1])
    return random_spins(chains, shape[-1], torch.Generator().manual_seed(seed)).reshape(*shape, 3)


def busy(model: EffectiveModel, seed: int = 0) -> EffectiveModel:
    """The model in float64 with weights large enough that all its layers do something."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.data = 0.1 * torch.randn(parameter.shape, dtype=torch.float64, generator=generator)
    return model.double()


def slow_hamiltonian(model: DoubleExchange, spins: np.ndarray) -> np.ndarray:
    size = 2 * model.rows * model.columns
    matrix = np.zeros((size, size), complex)
    for r in range(model.rows):
        for c in range(model.columns):
            i = r * model.columns + c
            for a in range(2):
                for j in (((r + 1) % model.rows) * model.columns + c, r * model.columns + (c + 1) % model.columns):
                    matrix[2 * i + a, 2 * j + a] -= model.hopping
                    matrix[2 * j + a, 2 * i + a] -= model.hopping
            matrix[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] += model.coupling / 2 * np.tensordot(spins[i], PAULI, 1)
    return matrix


@pytest.mark.parametrize("size", [(4, 4), (4, 6), (3, 5)])
def test_the_spectrum_is_that_of_a_matrix_written_entry_by_entry(size):
    model = DoubleExchange(*size, coupling=1.7, beta=3.0, hopping=0.8, potential=0.3)
    spins = spins_of(2, 3, size[0] * size[1])
    levels = model.eigenvalues(spins)
    for index in np.ndindex(2, 3):
        expected = scipy.linalg.eigvalsh(slow_hamiltonian(model, spins[index].numpy()))
        np.testing.assert_allclose(levels[index], expected, atol=1e-12)


@pytest.mark.parametrize("size", [(4, 4), (6, 4), (5, 3)])
def test_free_electrons_have_the_band_of_the_lattice(size):
    model = DoubleExchange(*size, coupling=0.0, hopping=0.7, potential=0.1)
    rows, columns = (2 * np.pi * np.arange(n) / n for n in size)
    band = -2 * model.hopping * (np.cos(rows)[:, None] + np.cos(columns))
    np.testing.assert_allclose(
        model.eigenvalues(spins_of(size[0] * size[1])), np.sort(np.repeat(band.ravel(), 2)), atol=1e-12
    )


def test_a_ferromagnet_splits_the_band():
    model = DoubleExchange(4, 4, coupling=3.0)
    momentum = np.pi / 2 * np.arange(4)
    band = -2 * (np.cos(momentum)[:, None] + np.cos(momentum)).ravel()
    up = spins_of(1, 1)[0].expand(16, 3)
    np.testing.assert_allclose(model.eigenvalues(up), np.sort(np.concatenate([band - 1.5, band + 1.5])), atol=1e-12)


def test_the_weight_and_the_energy_are_those_of_a_slow_product():
    model = DoubleExchange(4, 4, coupling=1.0, beta=2.0, potential=-0.4)
    spins = spins_of(3, 16)
    for weight, energy, levels in zip(
        model.log_weight(spins), model.energy_of(model.eigenvalues(spins)), model.eigenvalues(spins), strict=True
    ):
        product = 1.0
        for level in levels.tolist():
            product *= 1 + math.exp(-model.beta * (level + 0.4))
        assert weight.item() == pytest.approx(math.log(product), rel=1e-13)
        mean = sum(level / (1 + math.exp(model.beta * (level + 0.4))) for level in levels.tolist())
        assert energy.item() == pytest.approx(mean, rel=1e-12)


def test_the_energy_is_minus_the_slope_of_the_log_weight():
    step, spins = 1e-4, spins_of(16)
    low, high = (DoubleExchange(4, 4, beta=5.0 + sign * step).log_weight(spins) for sign in (-1, 1))
    model = DoubleExchange(4, 4, beta=5.0)
    assert model.energy_of(model.eigenvalues(spins)).item() == pytest.approx(
        -(high - low).item() / (2 * step), abs=1e-6
    )


def test_cold_electrons_overflow_nothing():
    """At beta -> infinity log W is -beta times the energy of the filled levels; float32 keeps its digits."""
    spins = spins_of(16)
    model = DoubleExchange(4, 4, beta=1e5)
    levels = model.eigenvalues(spins)
    assert model.log_weight(spins).item() == pytest.approx(-1e5 * levels[levels < 0].sum().item(), rel=1e-6)
    assert torch.isfinite(model.log_weight(spins.float()))


def test_half_filling_has_a_symmetric_spectrum():
    levels = DoubleExchange(4, 6).eigenvalues(spins_of(24))
    np.testing.assert_allclose(levels, -levels.flip(-1), atol=1e-12)
    assert torch.sigmoid(-20.0 * levels).sum().item() == pytest.approx(24)


def moved_spins(space: LatticeSpace, spins: torch.Tensor, move: tuple) -> torch.Tensor:
    moved = torch.empty_like(spins)
    moved[..., space.act(torch.arange(space.sites), *move), :] = spins
    return moved


MOVES = [
    (0, (1, 0), False),
    (0, (3, 2), False),
    (1, (0, 0), False),
    (2, (0, 1), False),
    (0, (0, 0), True),
    (3, (2, 1), True),
]


@pytest.mark.parametrize("size", [(4, 4), (6, 4)])
def test_both_weights_are_invariant(size):
    space, spins = LatticeSpace(*size), spins_of(3, size[0] * size[1])
    rotation = random_rotation(generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    model = busy(EffectiveModel(space, layers=2, heads=3))
    moves = [move for move in MOVES if size[0] == size[1] or move[0] % 2 == 0]
    for weight in (DoubleExchange(*size).log_weight, model):
        with torch.no_grad():
            plain = weight(spins)
            assert plain.std() > 0.01  # a constant would be invariant too
            for changed in (spins @ rotation.mT, -spins @ rotation.mT, *(moved_spins(space, spins, m) for m in moves)):
                np.testing.assert_allclose(weight(changed), plain, rtol=1e-12, atol=1e-10)
            shuffled = spins[:, torch.randperm(space.sites, generator=torch.Generator().manual_seed(2))]
            assert (weight(shuffled) - plain).abs().max() > 1e-3


@pytest.mark.parametrize("broken", ["bias", "shells"])
def test_a_layer_that_breaks_a_symmetry_is_found(broken):
    space, spins = LatticeSpace(4, 4), spins_of(3, 16)
    model = busy(EffectiveModel(space, layers=1, heads=2))
    if broken == "bias":
        inner = model.blocks[0].forward
        model.blocks[0].forward = lambda s: inner(s + 1e-3 * torch.tensor([0.0, 0.0, 1.0]))
        changed = spins @ random_rotation(generator=torch.Generator().manual_seed(1), dtype=torch.float64).mT
    else:
        model.blocks[0].sums.members = model.blocks[0].sums.members.roll(1, -1)
        changed = moved_spins(space, spins, (1, (0, 0), False))
    with torch.no_grad():
        assert (model(changed) - model(spins)).abs().max() > 1e-5


def test_attention_is_a_slow_loop():
    space, spins = LatticeSpace(4, 4), spins_of(2, 16)
    layer = SpinAttention(space, heads=2).double()
    weight = 0.3 * torch.randn(layer.sums.weight.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    layer.sums.weight.data = weight
    shells, got = space.shells(), layer(spins).detach()
    for spin, result in zip(spins, got, strict=True):
        q, k, v = (
            [[sum(weight[c, shells[i, j]] * spin[j] for j in range(16)) for i in range(16)] for c in (2 * p, 2 * p + 1)]
            for p in range(3)
        )
        for i in range(16):
            total = spin[i].clone()
            for h in range(2):
                for j in range(16):
                    total += max(0.0, float(q[h][i] @ k[h][j]) / math.sqrt(3)) * v[h][j]
            np.testing.assert_allclose(result[i], total / total.norm(), atol=1e-12)


def test_its_weights_are_the_dot_products_of_the_core():
    q, k = torch.randn(5, 1, 6), torch.randn(1, 7, 6)
    own = torch.einsum("ihc,jhc->ijh", q[:, 0].unflatten(-1, (2, 3)), k[0].unflatten(-1, (2, 3))) / math.sqrt(3)
    torch.testing.assert_close(DotLogits(PointType("2x1"), 2)(q, k), own)


def test_the_linear_model_is_a_sum_over_bonds():
    space, spins = LatticeSpace(4, 6), spins_of(24)
    model = busy(EffectiveModel(space))
    shells, counts, total = space.shells(), {}, {}
    for i in range(24):
        for j in range(i):
            n = int(shells[i, j])
            counts[n] = counts.get(n, 0) + 1
            total[n] = total.get(n, 0.0) + float(spins[i] @ spins[j])
    couplings = model.couplings.tolist()
    expected = sum(couplings[n - 1] * total[n] / math.sqrt(counts[n]) for n in total)
    assert model(spins).detach().item() == pytest.approx(expected + model.offset.item(), rel=1e-12)


@pytest.mark.parametrize(("layers", "heads", "count"), [(0, 1, 10), (1, 1, 40), (4, 1, 130), (2, 4, 250)])
def test_parameters_of_6x6_are_thirty_a_head_and_layer(layers, heads, count):
    assert EffectiveModel(LatticeSpace(6, 6), layers, heads).parameter_count() == count


def test_a_new_layer_is_the_identity():
    spins, space = spins_of(16), LatticeSpace(4, 4)
    torch.testing.assert_close(SpinAttention(space, 2).double()(spins), spins)


def test_couplings_of_a_linear_weight_are_recovered():
    space, spins = LatticeSpace(4, 4), spins_of(200, 16)
    truth, model = busy(EffectiveModel(space)), EffectiveModel(space).double()
    with torch.no_grad():
        solve_couplings(model, spins, truth(spins))
    torch.testing.assert_close(model.couplings, truth.couplings, atol=1e-9, rtol=0)
    assert squared_error(model, spins, truth(spins).detach()) < 1e-18


def test_solved_couplings_are_those_of_numpy():
    features, target = torch.randn(50, 4), torch.randn(50)
    columns = np.concatenate([features.double().numpy(), np.ones((50, 1))], 1)
    expected = np.linalg.lstsq(columns, target.double().numpy(), rcond=None)[0]
    np.testing.assert_allclose(least_squares(features, target), expected, atol=1e-10)


def test_training_lowers_the_error_on_spins_it_has_not_seen():
    torch.manual_seed(0)
    system = DoubleExchange(4, 4, beta=8.0)
    spins = spins_of(600, 16)
    weight = system.log_weight(spins).float()
    seen, unseen = (spins[:480].float(), weight[:480]), (spins[480:].float(), weight[480:])
    errors = []
    for layers in (0, 1):
        model = EffectiveModel(system.space, layers, heads=2)
        train(model, *seen, Schedule(steps=120, batch=96), torch.Generator().manual_seed(0))
        errors.append(squared_error(model, *unseen))
    assert errors[1] < 0.7 * errors[0] < 0.7 * unseen[1].var().item()


def test_magnetisations_of_ordered_spins():
    space = LatticeSpace(4, 6)
    up = torch.tensor([0.0, 0.6, 0.8]).expand(24, 3)
    signs = torch.tensor([[(-1.0) ** (r + c) for c in range(6)] for r in range(4)]).reshape(24, 1)
    for spins, uniform, staggered in ((up, 1, 0), (signs * up, 0, 1)):
        assert magnetisation(spins).item() == pytest.approx(uniform, abs=1e-6)
        assert staggered_magnetisation(space, spins).item() == pytest.approx(staggered, abs=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: DoubleExchange(5, 6), "rows: expected an even number at half filling .*, got 5"),
        (lambda: DoubleExchange(6, 7), "columns: expected an even number at half filling .*, got 7"),
        (lambda: DoubleExchange(2, 4), "rows: expected a whole number of at least 3, got 2"),
        (lambda: DoubleExchange(4, 1), "columns: expected a whole number of at least 3, got 1"),
        (lambda: DoubleExchange(4, 4, beta=0.0), "beta: expected a positive number, got 0"),
        (lambda: DoubleExchange(4, 4, coupling=math.nan), "coupling: expected a finite number, got nan"),
        (lambda: DoubleExchange(4, 4).log_weight(torch.zeros(15, 3)), r"spins: expected shape \(..., 16, 3\), got"),
        (lambda: DoubleExchange(4, 4).log_weight(torch.full((16, 3), math.nan)), "spins: expected finite numbers"),
        (
            lambda: DoubleExchange(4, 4).log_weight(torch.full((16, 3), 2.0)),
            "expected unit vectors, got lengths 3.46",
        ),
        (lambda: sublattices(LatticeSpace(4, 5)), "columns: expected an even number for two sublattices, got 5"),
        (lambda: EffectiveModel(LatticeSpace(4, 4), -1), "layers: expected at least 0, got -1"),
        (lambda: EffectiveModel(LatticeSpace(4, 4), 1, 0), "heads: expected at least 1, got 0"),
        (lambda: EffectiveModel(LatticeSpace(4, 4))(torch.zeros(9, 3)), r"spins: expected shape \(..., 16, 3\), got"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
