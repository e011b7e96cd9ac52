"""Envelopes and splits of a budget against a law whose optimum has a closed form."""

import numpy as np
import pytest
from scipy import optimize

from raytrans.systems.scaling.fits import fit_power_law
from raytrans.systems.scaling.split import envelope, fit_envelope, fit_surface

FLOOR, A, B, ALPHA, BETA = 0.1, 40.0, 30.0, 0.5, 0.35
WORK, SAMPLES = np.logspace(3, 6, 7), np.logspace(2, 5, 9)
SHARE = BETA / (ALPHA + BETA)


def losses(rng=None, seeds=1, noise=0.0, floor=FLOOR, work=WORK, samples=SAMPLES):
    exact = floor + A * work[:, None] ** -ALPHA + B * samples**-BETA
    rng = rng or np.random.default_rng(0)
    return exact * np.exp(noise * rng.standard_normal((seeds, *exact.shape)))


def slow_envelope(compute, logs, budgets):
    """The least of a curve on a fine path to the budget, over all sizes."""
    out = []
    for budget in budgets:
        best = (np.inf, -1)
        for size, (own, curve) in enumerate(zip(compute, logs, strict=True)):
            if own[0] <= budget:
                path = np.r_[own[own <= budget], min(budget, own[-1])]
                best = min(best, (np.interp(np.log(path), np.log(own), curve).min(), size))
        out.append(best)
    return np.array(out).T


def test_the_envelope_is_that_of_a_slow_loop():
    rng = np.random.default_rng(0)
    compute = WORK[:, None] * SAMPLES
    logs = np.log(losses(rng, noise=0.3)[0])
    budgets = np.logspace(5.1, 11.5, 40)
    got = envelope(compute, logs, budgets)
    assert np.allclose(got, slow_envelope(compute, logs, budgets), atol=1e-12)
    assert len(set(got[1].tolist())) > 3


def test_the_envelope_of_a_fine_grid_is_the_least_loss_of_the_budget():
    """Against a numerical minimum along work samples = budget, and its law against the closed form without a floor."""
    work, samples = np.logspace(2, 7, 101), np.logspace(1, 7, 241)
    grid = losses(floor=0.0, work=work, samples=samples)
    budgets = np.logspace(6, 10, 9)
    got = fit_envelope(work[:, None] * samples, grid, budgets)

    def along(budget):
        found = optimize.minimize_scalar(
            lambda log: A * np.exp(-ALPHA * log) + B * (budget / np.exp(log)) ** -BETA, bounds=(4, 17), method="bounded"
        )
        return found.fun, np.exp(found.x)

    expected = np.array([along(budget) for budget in budgets]).T
    assert np.allclose(got.losses, expected[0], rtol=1e-3)
    best = work[list(got.sizes)]
    assert np.abs(np.log(best / expected[1])).max() < 0.25  # two steps of the grid; the minimum is flat
    assert np.polyfit(np.log(budgets), np.log(best), 1)[0] == pytest.approx(SHARE, abs=0.02)
    assert got.law.exponent == pytest.approx(ALPHA * BETA / (ALPHA + BETA), abs=2e-3)


def test_the_surface_is_found_without_noise():
    surface = fit_surface(WORK, SAMPLES, losses())
    found = surface.floor, surface.a, surface.b, surface.alpha, surface.beta
    assert found == pytest.approx((FLOOR, A, B, ALPHA, BETA), rel=2e-2)
    assert surface.misfit < 1e-3 and surface.determined and surface.share_interval is None


def test_the_best_split_is_where_no_other_is_better():
    surface = fit_surface(WORK, SAMPLES, losses())
    for budget in (1e7, 1e9):
        work, samples = surface.best(budget)
        assert work * samples == pytest.approx(budget)
        around = [surface(work * f, samples / f) for f in (0.97, 1.0, 1.03)]
        assert around[1] < min(around[0], around[2])
    exact = (ALPHA * A / (BETA * B)) ** (1 / (ALPHA + BETA)) * 1e8**SHARE
    assert surface.best(1e8)[0] == pytest.approx(exact, rel=0.03)


def test_the_interval_of_the_split_covers_it():
    """And refuses the split of a law with the exponents swapped."""
    rng = np.random.default_rng(1)
    hits = wrong = 0
    for _ in range(10):
        grid = losses(rng, seeds=3, noise=0.01)[:, ::2, ::2]
        low, high = fit_surface(WORK[::2], SAMPLES[::2], grid, repeats=50).share_interval
        hits += low <= SHARE <= high
        wrong += low <= 1 - SHARE <= high
    assert hits >= 8 and wrong <= 1


def test_a_grid_that_does_not_depend_on_size_determines_no_split():
    flat = (0.1 + B * SAMPLES**-BETA) * np.ones((1, len(WORK), 1))
    assert not fit_surface(WORK, SAMPLES, flat).determined


def test_the_interval_of_the_envelope_covers_its_exponent():
    rng = np.random.default_rng(2)
    budgets = np.logspace(6, 10, 8)
    exact = fit_envelope(WORK[:, None] * SAMPLES, losses(), budgets).law.exponent
    hits = 0
    for _ in range(60):
        grid = losses(rng, seeds=3) * np.exp(0.03 * rng.standard_normal((3, len(WORK), 1)))  # a run as a whole
        low, high = fit_envelope(WORK[:, None] * SAMPLES, grid, budgets, repeats=200).law.interval
        hits += low <= exact <= high
    assert hits >= 53


def test_more_budget_never_makes_it_worse():
    logs = np.log(losses(np.random.default_rng(4), noise=1.0)[0])
    assert (np.diff(envelope(WORK[:, None] * SAMPLES, logs, np.logspace(5.1, 12, 60))[0]) <= 1e-12).all()


def test_one_size_alone_is_a_fit_of_its_curve():
    grid = losses(np.random.default_rng(3), seeds=4, noise=0.02, floor=0.0)[:, :1]
    compute = (WORK[:1, None] * SAMPLES)[:, 1:-1]
    got = fit_envelope(compute, grid[..., 1:-1], compute[0]).law
    alone = fit_power_law(compute[0], grid[:, 0, 1:-1], joint=True)
    assert got.exponent == pytest.approx(alone.exponent, abs=1e-9) and got.interval == pytest.approx(alone.interval)


@pytest.mark.parametrize(
    ("compute", "values", "budgets", "words"),
    [
        (np.ones((2, 3)), np.ones((1, 2, 3)), [1, 1, 1], "compute: expected at least 2 .* rise"),
        (np.ones((2, 3)), np.ones((1, 3, 2)), [1, 1, 1], "compute, losses: expected"),
        ([[1, 2, 3.0]], [[[1, 2, np.nan]]], [1, 2, 3], "losses: expected finite positive"),
        ([[1, 2, 3.0]], [[[1, 2, 3]]], [0.5, 2, 4], "budgets: expected at least 1, the least compute, got 0.5"),
        ([[1, 2, 3.0]], [[[1, 2, 3]]], [1, 2], "budgets: expected at least 3"),
    ],
)
def test_what_has_no_envelope_is_refused(compute, values, budgets, words):
    with pytest.raises(ValueError, match=words):
        fit_envelope(compute, values, budgets)


def test_a_surface_needs_three_sizes_and_lengths():
    with pytest.raises(ValueError, match="at least 3 sizes"):
        fit_surface(WORK[:2], SAMPLES, np.ones((1, 2, 9)))
