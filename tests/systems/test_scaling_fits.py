"""Power laws of synthetic losses whose exponents are known, and intervals that cover them as often as they say."""

import math

import numpy as np
import pytest
from scipy import optimize, stats

from raytrans.systems.scaling.fits import fit_power_law, nonnegative, overlap
from raytrans.systems.scaling.resampling import interval, resampled, student_quantile

X = np.logspace(8, 11, 8)


def synthetic(rng, exponent=0.3, noise=0.05, seeds=3, amplitude=50.0, floor=0.0, x=X):
    return (floor + amplitude * x**-exponent) * np.exp(noise * rng.standard_normal((seeds, len(x))))


def test_without_noise_the_law_is_found_to_rounding():
    law = fit_power_law(X, 50 * X[None] ** -0.3)
    assert law.exponent == pytest.approx(0.3, abs=1e-12) and law.amplitude == pytest.approx(50, rel=1e-10)
    assert law.floor == 0 and law.interval is None and law.identified is None and law.misfit < 1e-12
    assert np.allclose(law(X), 50 * X**-0.3, rtol=1e-10)


def test_a_floor_is_found_without_noise():
    law = fit_power_law(X, np.stack([0.02 + 50 * X**-0.3] * 2), floor=True)
    assert law.exponent == pytest.approx(0.3, abs=1e-4) and law.floor == pytest.approx(0.02, rel=1e-3)
    assert law.amplitude == pytest.approx(50, rel=1e-2) and law.identified


def test_a_straight_line_is_that_of_scipy():
    rng = np.random.default_rng(0)
    losses = synthetic(rng)
    line = stats.linregress(np.log(X), np.log(losses).mean(0))
    law = fit_power_law(X, losses)
    assert law.exponent == pytest.approx(-line.slope, abs=1e-12)
    assert law.seeds == pytest.approx([-stats.linregress(np.log(X), np.log(row)).slope for row in losses])


def test_the_fit_with_a_floor_is_that_of_scipy():
    losses = np.exp(np.log(synthetic(np.random.default_rng(1), floor=0.05, noise=0.02)).mean(0))
    found = optimize.least_squares(
        lambda p: (p[0] + p[1] * (X / X[0]) ** -p[2]) / losses - 1, [0.04, 0.1, 0.4], xtol=1e-14, ftol=1e-14
    )
    law = fit_power_law(X, losses, floor=True)
    assert law.floor == pytest.approx(found.x[0], rel=1e-4) and law.exponent == pytest.approx(found.x[2], rel=1e-4)


@pytest.mark.parametrize(("seeds", "joint"), [(3, False), (5, False), (4, True)])
def test_intervals_cover_the_exponent_as_often_as_they_say(seeds, joint):
    """150 studies with seeds of their own; and an exponent that is wrong by two intervals is refused by nearly all."""
    rng = np.random.default_rng(seeds)
    hits = wrong = 0
    for _ in range(150):
        losses = synthetic(rng, seeds=seeds)
        if joint:  # the points of a seed swing together
            losses = losses * X ** (0.02 * rng.standard_normal((seeds, 1)))
        low, high = fit_power_law(X, losses, joint=joint, repeats=400).interval
        hits += low <= 0.3 <= high
        wrong += low <= 0.3 + 2 * (high - low) <= high
    assert 0.88 <= hits / 150 <= 0.99
    assert wrong / 150 < 0.02


def test_drawing_points_apart_is_too_sure_where_a_seed_swings_as_a_whole():
    """The negative control of `joint`."""
    rng = np.random.default_rng(9)
    hits = 0
    for _ in range(100):
        losses = synthetic(rng, seeds=4, noise=0.01) * (X / 10**9.5) ** (0.02 * rng.standard_normal((4, 1)))
        low, high = fit_power_law(X, losses, repeats=200).interval
        hits += low <= 0.3 <= high
    assert hits / 100 < 0.8


def test_intervals_with_a_floor_cover_it():
    rng = np.random.default_rng(2)
    hits = floors = 0
    for _ in range(30):
        law = fit_power_law(X, synthetic(rng, floor=0.05, noise=0.02), floor=True, repeats=150)
        hits += law.interval[0] <= 0.3 <= law.interval[1]
        floors += law.floor_interval[0] <= 0.05 <= law.floor_interval[1]
    assert hits >= 25 and floors >= 25


def test_a_floor_that_is_not_there_is_not_identified():
    rng = np.random.default_rng(3)
    laws = [fit_power_law(X, synthetic(rng), floor=True, repeats=150) for _ in range(12)]
    assert sum(law.identified for law in laws) <= 1
    sure = [fit_power_law(X, synthetic(rng, floor=0.1, noise=0.01), floor=True, repeats=150) for _ in range(3)]
    assert all(law.identified for law in sure)


def test_a_curve_that_is_no_power_law_shows_as_misfit():
    bent = np.exp(-X / X[-1])[None].repeat(3, 0)
    assert fit_power_law(X, bent).misfit > 0.1 > fit_power_law(X, synthetic(np.random.default_rng(0))).misfit


@pytest.mark.parametrize("freedom", [1, 2, 3, 10, 37.5, math.inf])
@pytest.mark.parametrize("probability", [0.5, 0.9, 0.975, 0.995])
def test_quantiles_are_those_of_scipy(probability, freedom):
    expected = stats.t.ppf(probability, freedom) if math.isfinite(freedom) else stats.norm.ppf(probability)
    assert student_quantile(probability, freedom) == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_draws_spread_as_the_mean_of_seeds_does():
    values = np.random.default_rng(4).standard_normal((3, 5))
    drawn = resampled(values, 0, 40_000, seed=0)
    assert np.allclose(drawn.mean(0), values.mean(0), atol=0.02)
    assert np.allclose(drawn.std(0), values.std(0, ddof=1) / math.sqrt(3), rtol=0.03)
    apart = np.corrcoef(drawn.T) - np.eye(5)
    assert np.abs(apart).max() < 0.03
    together = resampled(np.repeat(values[:, :1], 5, 1), 1, 1000, seed=0)
    assert np.ptp(together, axis=1).max() < 1e-12 < np.ptp(drawn, axis=1).min()


def test_draws_that_found_nothing_leave_an_interval_open():
    draws = np.r_[np.full(90, 1.0), np.full(10, np.nan)]
    assert interval(1.0, draws, 0.95, 10) == (-math.inf, math.inf)
    assert interval(1.0, np.linspace(0, 2, 1001), 0.95, 10**6) == pytest.approx((0.05, 1.95), abs=0.003)


def test_weights_are_those_of_nonnegative_least_squares():
    rng = np.random.default_rng(5)
    design = rng.standard_normal((40, 9, 3)) + 0.3
    weights, errors = nonnegative(design)
    for one, got, error in zip(design, weights, errors, strict=True):
        expected, norm = optimize.nnls(one, np.ones(9))
        assert np.allclose(got, expected, atol=1e-7) and error == pytest.approx(norm**2, abs=1e-7)


@pytest.mark.parametrize(
    ("x", "losses", "words"),
    [
        (X[:2], np.ones((3, 2)), "x: expected at least 3 points, got 2"),
        (X, np.ones((3, 5)), r"losses: expected \(seeds, 8 points\)"),
        (X, -np.ones((3, 8)), "losses: expected finite positive"),
        (X, np.full((3, 8), np.nan), "losses: expected finite positive"),
        (np.ones(8), np.ones((3, 8)), "x: expected different values"),
        (-X, np.ones((3, 8)), "x: expected finite positive"),
    ],
)
def test_what_cannot_be_fitted_is_refused(x, losses, words):
    with pytest.raises(ValueError, match=words):
        fit_power_law(x, losses)


def test_intervals_overlap_or_do_not():
    assert overlap((0, 2), (1, 3)) and overlap((0, 3), (1, 2)) and overlap((0, 1), (1, 2))
    assert not overlap((0, 1), (1.1, 2)) and not overlap((2, 3), (0, 1))


def test_draws_need_two_seeds():
    with pytest.raises(ValueError, match="at least 2 seeds"):
        resampled(np.ones((1, 4)), 0, 10, seed=0)


@pytest.mark.parametrize("wrong", [{"repeats": 0}, {"level": 95.0}, {"level": 0.0}])
def test_intervals_of_no_draws_and_of_no_level_are_refused(wrong):
    with pytest.raises(ValueError, match="repeats, level: expected at least 1, and a share between 0 and 1"):
        fit_power_law(X, np.ones((3, 8)), **wrong)
