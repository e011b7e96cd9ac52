"""Power laws of losses, L = E + A x^-g, with intervals over seeds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from raytrans.systems.scaling.resampling import interval, resampled

EXPONENTS = (0.01, 4.0)  # that are looked for where there is a floor
ROUNDS, GRID = 5, 25  # of a search that narrows to two steps of its grid at each round
REPEATS, LEVEL = 1000, 0.95

Values = float | Sequence | np.ndarray


@dataclass(frozen=True)
class PowerLaw:
    """L = floor + amplitude x^-exponent, with intervals over seeds (None from a single seed).

    misfit: root mean square of the log of loss over fit, at the geometric means over the seeds. seeds: the exponent
    of every seed's losses alone. identified: whether a fitted floor is told from 0, so that its exponent means
    something; None without a floor.
    """

    amplitude: float
    exponent: float
    floor: float
    interval: tuple[float, float] | None
    floor_interval: tuple[float, float] | None
    misfit: float
    seeds: tuple[float, ...]
    identified: bool | None

    def __call__(self, x: Values) -> Values:
        """The loss at x."""
        return self.floor + self.amplitude * np.asarray(x, float) ** -self.exponent


def fit_power_law(
    x: Values,
    losses: Values,
    floor: bool = False,
    joint: bool = False,
    repeats: int = REPEATS,
    level: float = LEVEL,
) -> PowerLaw:
    """Fit L = A x^-g, or E + A x^-g with `floor`, to losses (seeds, points) at x (points,); all of them positive.

    By least squares of the logarithm, or with a floor of L/fit - 1, of geometric means over the seeds, E and A at least
    0. The interval of g comes from `repeats` draws of the seeds at every point, or of whole rows where the points of a
    seed come from one run (`joint`), at `level`; it says nothing about how well a power law describes the means, which
    `misfit` says. Raises ValueError for values that are not finite and positive, for fewer points than unknowns and
    one more, and for points at one x.
    """
    if repeats < 1 or not 0 < level < 1:
        raise ValueError(f"repeats, level: expected at least 1, and a share between 0 and 1, got {repeats}, {level}")
    x, losses = _checked(x, losses, 4 if floor else 3)
    logs, drawn = np.log(losses), None
    if len(logs) > 1:
        drawn = resampled(logs, 1 if joint else 0, repeats, seed=0)
    return fitted_law(x, logs, logs.mean(0), drawn, floor, level, (len(logs) - 1) * (1 if joint else len(x)))


def fitted_law(
    x: np.ndarray,
    logs: np.ndarray,
    means: np.ndarray,
    drawn: np.ndarray | None,
    floor: bool,
    level: float,
    freedom: int,
) -> PowerLaw:
    """The law of log losses `means` (points,), its intervals from draws of them (repeats, points), and that of every
    seed alone from `logs` (seeds, points).
    """
    fit = _with_floor if floor else _without_floor
    exponent, bottom, amplitude = (float(value[0]) for value in fit(x, means[None]))
    bounds = floor_bounds = None
    if drawn is not None:
        exponents, floors, _ = fit(x, drawn)
        bounds = interval(exponent, exponents, level, freedom)
        floor_bounds = interval(bottom, floors, level, freedom) if floor else None
    misfit = means - np.log(bottom + amplitude * x**-exponent)
    return PowerLaw(
        amplitude,
        exponent,
        bottom,
        bounds,
        floor_bounds,
        float(np.sqrt(np.mean(misfit**2))),
        tuple(map(float, fit(x, logs)[0])),
        (floor_bounds is not None and floor_bounds[0] > 0) if floor else None,
    )


def overlap(first: tuple[float, float], second: tuple[float, float]) -> bool:
    """Whether two intervals have a point in common."""
    return first[0] <= second[1] and second[0] <= first[1]


def _checked(x: Values, losses: Values, least: int) -> tuple[np.ndarray, np.ndarray]:
    """x (points,) and losses (seeds, points) as arrays of numbers that a power law can have."""
    x, losses = np.asarray(x, float), np.atleast_2d(np.asarray(losses, float))
    if x.ndim != 1 or losses.ndim != 2 or losses.shape[1] != len(x) or not len(losses):
        raise ValueError(f"losses: expected (seeds, {x.shape[0] if x.ndim else '?'} points), got shape {losses.shape}")
    if len(x) < least:
        raise ValueError(f"x: expected at least {least} points, got {len(x)}")
    for name, values in (("x", x), ("losses", losses)):
        if not (np.isfinite(values).all() and (values > 0).all()):
            raise ValueError(f"{name}: expected finite positive numbers, got {values.min()} to {values.max()}")
    if x.max() < x.min() * (1 + 1e-9):
        raise ValueError(f"x: expected different values, got {x[0]:g} at every point")
    return x, losses


def _without_floor(x: np.ndarray, logs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Exponents, floors (zeros) and amplitudes of log losses (repeats, points): a straight line in the logarithms."""
    along = np.log(x) - np.log(x).mean()
    slope = (logs - logs.mean(1, keepdims=True)) @ along / (along @ along)
    return -slope, np.zeros(len(logs)), np.exp(logs.mean(1) - slope * np.log(x).mean())


def _with_floor(x: np.ndarray, logs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Exponents, floors and amplitudes of log losses (repeats, points): for each exponent the rest is linear."""
    start = x.min()  # where the amplitude is counted, so that no power is huge
    losses = np.exp(logs)
    low, high = (np.full(len(logs), value) for value in EXPONENTS)
    for _ in range(ROUNDS):
        grid = np.linspace(np.log(low), np.log(high), GRID, axis=1)  # (repeats, GRID)
        powers = (x / start) ** -np.exp(grid)[..., None]
        design = np.stack([np.ones_like(powers), powers], -1) / losses[:, None, :, None]
        weights, errors = nonnegative(design)
        best = errors.argmin(1)
        rows = np.arange(len(logs))
        low = np.exp(grid[rows, (best - 1).clip(0)])
        high = np.exp(grid[rows, (best + 1).clip(max=GRID - 1)])
    exponents, weights = np.exp(grid[rows, best]), weights[rows, best]
    return exponents, weights[:, 0], weights[:, 1] * start**exponents


def nonnegative(design: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights (*b, k) >= 0 of the least squares of `design` (*b, points, k) against ones, and their squared error (*b).

    The best of all subsets of at most k columns whose own solution is not negative: exact, for a few columns.
    """
    count = design.shape[-1]
    square = np.swapaxes(design, -1, -2) @ design
    right = design.sum(-2)
    best = np.zeros((*design.shape[:-2], count))
    least = np.full(design.shape[:-2], float(design.shape[-2]))
    for chosen in range(1, 1 << count):
        kept = [i for i in range(count) if chosen >> i & 1]
        part = square[..., kept, :][..., kept]
        scale = np.trace(part, axis1=-2, axis2=-1)[..., None, None] * 1e-12 * np.eye(len(kept))
        solved = np.linalg.solve(part + scale, right[..., kept, None])[..., 0]
        weights = np.zeros_like(best)
        weights[..., kept] = solved
        error = ((design @ weights[..., None])[..., 0] - 1) ** 2
        better = (solved >= 0).all(-1) & (error.sum(-1) < least)
        best[better], least[better] = weights[better], error.sum(-1)[better]
    return best, least
