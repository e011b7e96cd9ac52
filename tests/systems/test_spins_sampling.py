"""Detailed balance against explicit transition matrices, chains against closed forms and against the exact chain."""

import math

import numpy as np
import pytest
import torch

from raytrans.systems.spins import sampling
from raytrans.systems.spins.double_exchange import DoubleExchange, magnetisation, staggered_magnetisation
from raytrans.systems.spins.fitting import warm_up
from raytrans.systems.spins.sampling import (
    State,
    Turned,
    chain_mean,
    expected_acceptance,
    local_updates,
    metropolis,
    pooled,
    random_spins,
    self_learning_update,
)

DIRECTIONS = torch.eye(3, dtype=torch.float64)
STATES = [(a, b) for a in range(3) for b in range(3)]  # of two spins with three directions
EXACT = torch.tensor([0.0, 1.2, -0.7, 0.3, 2.0, -1.0, 0.9, 0.1, 1.5], dtype=torch.float64)
EFFECTIVE = torch.tensor([0.5, -0.6, 0.2, 1.4, 0.8, 0.0, -0.9, 1.1, 0.4], dtype=torch.float64)
UPDATES, REPLICAS = 3, 20_000


def index_of(spins: torch.Tensor) -> torch.Tensor:
    return spins.argmax(-1) @ torch.tensor([3, 1])


def drawn(spin: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return DIRECTIONS[torch.randint(3, spin.shape[:-1], generator=generator)]


def exact(spins: torch.Tensor) -> torch.Tensor:
    return EXACT[index_of(spins)]


def effective(spins: torch.Tensor) -> torch.Tensor:
    return EFFECTIVE[index_of(spins)]


def transition_matrix() -> np.ndarray:
    """Of one self-learning update: every entry by hand."""
    local = np.zeros((9, 9))
    for i, state in enumerate(STATES):
        for site in range(2):
            for direction in range(3):
                other = list(state)
                other[site] = direction
                j = STATES.index(tuple(other))
                accept = min(1.0, math.exp(EFFECTIVE[j] - EFFECTIVE[i]))
                local[i, j] += accept / 6
                local[i, i] += (1 - accept) / 6
    proposal, matrix = np.linalg.matrix_power(local, UPDATES), np.zeros((9, 9))
    for i in range(9):
        for j in range(9):
            accept = min(1.0, math.exp(EXACT[j] - EXACT[i] - EFFECTIVE[j] + EFFECTIVE[i]))
            matrix[i, j] += proposal[i, j] * accept
            matrix[i, i] += proposal[i, j] * (1 - accept)
    return matrix


def counts(update) -> np.ndarray:
    """How often one update leads from every state to every other."""
    generator = torch.Generator().manual_seed(0)
    starts = torch.arange(9).repeat_interleave(REPLICAS)
    spins = DIRECTIONS[torch.tensor(STATES)][starts]
    ends = index_of(update(State.of(exact, spins), generator).spins)
    return torch.bincount(9 * starts + ends, minlength=81).reshape(9, 9).numpy()


def imbalance(counted: np.ndarray) -> float:
    """The largest difference of the flows between two states, in standard errors."""
    weight = torch.softmax(EXACT, 0).numpy()[:, None]
    share = counted / REPLICAS
    flow, variance = weight * share, weight**2 * share * (1 - share) / REPLICAS
    error = np.sqrt(variance + variance.T)
    return float((np.abs(flow - flow.T) / np.where(error > 0, error, 1)).max())


def right(state: State, generator: torch.Generator) -> State:
    return self_learning_update(exact, effective, state, UPDATES, drawn, generator)[0]


def uncorrected(state: State, generator: torch.Generator) -> State:
    return local_updates(effective, State.of(effective, state.spins), UPDATES, drawn, generator)[0]


def half_corrected(state: State, generator: torch.Generator) -> State:
    """Accepted with the ratio of the exact weights alone."""
    other = State.of(exact, uncorrected(state, generator).spins)
    return state.moved(metropolis(other.log_weight - state.log_weight, generator), other)


def test_the_matrix_obeys_detailed_balance_and_the_update_is_that_matrix():
    matrix, weight = transition_matrix(), torch.softmax(EXACT, 0).numpy()
    flow = weight[:, None] * matrix
    np.testing.assert_allclose(flow, flow.T, atol=1e-15)
    np.testing.assert_allclose(weight @ matrix, weight, atol=1e-15)
    counted = counts(right)
    expected = REPLICAS * matrix
    chi_square = ((counted - expected) ** 2 / expected).sum()  # 9 rows of 8 degrees of freedom: 72 +- 12
    assert 30 < chi_square < 125


def test_measured_flows_balance():
    assert imbalance(counts(right)) < 4


@pytest.mark.parametrize("wrong", [uncorrected, half_corrected])
def test_a_wrong_acceptance_is_caught(wrong):
    assert imbalance(counts(wrong)) > 20


def test_sites_in_a_fixed_order_are_caught(monkeypatch):
    """The chain of a sweep keeps the effective weight but does not balance it, and the acceptance needs that."""

    def ordered(log_weight, state, updates, propose, generator):
        for site in [i % 2 for i in range(updates)]:
            spins = state.spins.clone()
            spins[:, site] = propose(spins[:, site], generator)
            other = State.of(log_weight, spins)
            state = state.moved(metropolis(other.log_weight - state.log_weight, generator), other)
        return state, None

    monkeypatch.setattr(sampling, "local_updates", ordered)
    two = lambda state, generator: self_learning_update(exact, effective, state, 2, drawn, generator)[0]  # noqa: E731
    assert imbalance(counts(two)) > 8


def test_the_probability_that_is_returned_is_that_of_acceptance():
    generator = torch.Generator().manual_seed(1)
    spins = DIRECTIONS[torch.tensor(STATES)].repeat(2000, 1, 1)
    before = State.of(exact, spins)
    after, share = self_learning_update(exact, lambda s: -10.0 * effective(s), before, 50, drawn, generator)
    moved = (index_of(after.spins) != index_of(spins)).double().mean().item()
    assert 0 < share.min() < share.max() <= 1 and moved <= share.mean().item() + 0.01
    torch.testing.assert_close(after.log_weight, exact(after.spins))


def test_a_turn_is_as_likely_as_its_reverse():
    """Its density depends on the angle alone: the mean is along the start, of the length of an integral."""
    generator, width = torch.Generator().manual_seed(0), 0.8
    z, rho = np.meshgrid(np.linspace(-8, 8, 801), np.linspace(0, 8, 801))
    density = rho * np.exp(-(z**2 + rho**2) / 2)
    cosine = (1 + width * z) / np.hypot(1 + width * z, width * rho + 1e-300)
    expected = (density * cosine).sum() / density.sum()
    for start in (torch.tensor([0.0, 0.0, 1.0]), torch.tensor([0.6, 0.0, -0.8])):
        end = Turned(width)(start.double().expand(200_000, 3), generator)
        torch.testing.assert_close(end.norm(dim=-1), torch.ones(200_000, dtype=torch.float64))
        along = end @ start.double()
        across = (end - along[:, None] * start.double()).mean(0)
        assert across.abs().max() < 0.01
        assert along.mean().item() == pytest.approx(expected, abs=0.005)


def test_a_turn_by_nothing_is_refused():
    with pytest.raises(ValueError, match="width: expected a positive number, got 0.0"):
        Turned(0.0)


def test_spins_in_a_field_have_the_magnetisation_of_langevin():
    """W = e^{h . sum_i S_i}: <S_z> = coth h - 1/h."""
    generator, field = torch.Generator().manual_seed(0), 2.0
    weight = lambda spins: field * spins[..., 2].sum(-1)  # noqa: E731
    state, means = State.of(weight, random_spins(500, 3, generator)), []
    for _ in range(60):
        state, share = local_updates(weight, state, 6, Turned(1.5), generator)
        means.append(state.spins[..., 2].mean(-1))
    result = chain_mean(torch.stack(means[10:]))
    assert abs(result["mean"] - (1 / math.tanh(field) - 1 / field)) < 4 * result["error"] < 0.02
    assert 0.3 < share.mean() < 0.9


def test_errors_of_correlated_chains_are_those_of_an_autoregression():
    """x' = a x + noise has an autocorrelation time of (1 + a)/(1 - a)/2; errors of single values would be too small."""
    generator, a = torch.Generator().manual_seed(0), 0.8
    value, values = torch.randn(800, generator=generator), []
    for _ in range(400):
        value = a * value + math.sqrt(1 - a**2) * torch.randn(800, generator=generator)
        values.append(value)
    result = chain_mean(torch.stack(values))
    assert result["autocorrelation"] == pytest.approx(4.5, rel=0.15)
    assert result["error"] == pytest.approx(math.sqrt(9 / (800 * 400)), rel=0.1)
    assert pooled([result, result])["error"] == pytest.approx(result["error"] / math.sqrt(2))
    with pytest.raises(ValueError, match="values: expected at least one round of two chains, got 5 of 1"):
        chain_mean(torch.zeros(5, 1))


def test_the_expected_acceptance_is_that_of_normal_residuals():
    """By an integral: the difference of the residuals is normal with mean -mse and variance 2 mse."""
    for mse in (0.01, 0.3, 2.0):
        x = np.linspace(-30, 30, 600_001)
        density = np.exp(-((x + mse) ** 2) / (4 * mse)) / math.sqrt(4 * math.pi * mse)
        integral = np.sum(np.minimum(1, np.exp(np.minimum(x, 0))) * density) * (x[1] - x[0])
        assert expected_acceptance(mse) == pytest.approx(integral, abs=1e-6)


def observed(system: DoubleExchange, states: list[State]) -> dict[str, dict[str, float]]:
    spins = torch.stack([state.spins for state in states])
    values = {
        "log weight": torch.stack([state.log_weight for state in states]),
        "energy": system.energy_of(system.eigenvalues(spins)),
        "magnetisation": magnetisation(spins),
        "staggered": staggered_magnetisation(system.space, spins),
    }
    return {name: chain_mean(value) for name, value in values.items()}


def apart(a: dict[str, float], b: dict[str, float]) -> float:
    return abs(a["mean"] - b["mean"]) / math.hypot(a["error"], b["error"])


def test_self_learning_chains_agree_with_the_exact_chain():
    """Also with an effective weight that is bad, which alone would give wrong numbers. The chains start differently."""
    system, turn = DoubleExchange(4, 4, beta=10.0), Turned(0.7)
    model, state = warm_up(system, 96, turn, torch.Generator().manual_seed(0), rounds=6, sweeps=4)
    model.couplings *= 0.6
    generator, learned = torch.Generator().manual_seed(1), []
    for round_ in range(100):
        state, share = self_learning_update(system.log_weight, model, state, 16, turn, generator)
        learned += [state] if round_ >= 20 else []
    assert 0.1 < share.mean() < 0.9
    plain, exact_states = State.of(system.log_weight, random_spins(64, 16, generator)), []
    for sweep in range(40):
        plain, _ = local_updates(system.log_weight, plain, 16, turn, generator)
        exact_states += [plain] if sweep >= 15 else []
    wrong, alone = State.of(model, state.spins), []
    for round_ in range(40):
        wrong, _ = local_updates(model, wrong, 16, turn, generator)
        alone += [State.of(system.log_weight, wrong.spins)] if round_ >= 10 else []
    truth, found, bad = (observed(system, states) for states in (exact_states, learned, alone))
    assert max(apart(truth[name], found[name]) for name in truth) < 3.5
    assert min(apart(truth[name], bad[name]) for name in ("log weight", "energy", "staggered")) > 5
