"""The lower envelope of a grid of sizes and lengths, and how to split a budget between the two.

A run of one size gives losses at several lengths. `work` is the compute of a sample at each size, so that the compute
of a cell of the grid is work times samples.
"""

from dataclasses import dataclass

import numpy as np

from raytrans.systems.scaling.fits import LEVEL, REPEATS, PowerLaw, Values, fitted_law, nonnegative
from raytrans.systems.scaling.resampling import interval, resampled

EXPONENTS = (0.02, 3.0)
ROUNDS, GRID = 5, 11  # of a search that narrows to two steps of its grid at each round
CHUNK = 50  # draws at once


def envelope(compute: np.ndarray, logs: np.ndarray, budgets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least log loss that a run reaches within every budget, and the number of its size, (*b, budgets) each.

    `logs` (*b, sizes, lengths) at `compute` (sizes, lengths), rising with the length. Between two lengths a curve is
    straight in the logarithms; a run that has ended keeps its best loss. Raises ValueError for a budget below all runs.
    """
    at = np.log(budgets)
    if at.min() < np.log(compute.min()) - 1e-9:
        raise ValueError(f"budgets: expected at least {compute.min():g}, the least compute, got {min(budgets):g}")
    curves = []
    for own, curve in zip(np.log(compute), np.moveaxis(logs, -2, 0), strict=True):
        place = np.clip(np.searchsorted(own, at) - 1, 0, len(own) - 2)
        share = ((at - own[place]) / (own[place + 1] - own[place])).clip(max=1)
        value = (1 - share) * curve[..., place] + share * curve[..., place + 1]
        best = np.minimum(value, np.minimum.accumulate(curve, -1)[..., place])
        curves.append(np.where(share > -1e-9, best, np.inf))
    curves = np.stack(curves)
    return curves.min(0), curves.argmin(0)


@dataclass(frozen=True)
class Envelope:
    """The best of all sizes: budgets, losses there, the number of the best size, and the law that they follow."""

    budgets: tuple[float, ...]
    losses: tuple[float, ...]
    sizes: tuple[int, ...]
    law: PowerLaw


def fit_envelope(
    compute: Values,
    losses: Values,
    budgets: Values,
    floor: bool = False,
    repeats: int = REPEATS,
    level: float = LEVEL,
) -> Envelope:
    """The lower envelope of losses (seeds, sizes, lengths) at compute (sizes, lengths), and its power law.

    Of geometric means over the seeds. Draws take whole runs, each size apart, and choose the best size anew, so that
    the interval knows that the best of several is chosen. Raises ValueError for compute that does not rise with the
    length, losses that are not finite and positive, or a budget below all runs.
    """
    compute, losses = _checked_grid(compute, losses)
    budgets = np.asarray(budgets, float)
    if budgets.ndim != 1 or len(budgets) < 3 or not (np.isfinite(budgets).all() and (budgets > 0).all()):
        raise ValueError(f"budgets: expected at least 3 finite positive numbers, got {budgets.tolist()}")
    logs, drawn = np.log(losses), None
    least, sizes = envelope(compute, logs.mean(0), budgets)
    if len(logs) > 1:
        drawn = envelope(compute, resampled(logs, 1, repeats, seed=0), budgets)[0]
    freedom = max(1, (len(logs) - 1) * len(set(sizes.tolist())))
    law = fitted_law(budgets, envelope(compute, logs, budgets)[0], least, drawn, floor, level, freedom)
    return Envelope(tuple(budgets.tolist()), tuple(np.exp(least).tolist()), tuple(sizes.tolist()), law)


@dataclass(frozen=True)
class Surface:
    """L = floor + a work^-alpha + b samples^-beta, with intervals over seeds (None from a single seed).

    share: beta/(alpha + beta), the power of the budget with which the best work of a sample grows; the number of
    samples takes the rest. determined: whether both terms are there and no exponent sits at an end of the search.
    """

    floor: float
    a: float
    b: float
    alpha: float
    beta: float
    share: float
    share_interval: tuple[float, float] | None
    misfit: float
    determined: bool

    def __call__(self, work: Values, samples: Values) -> Values:
        """The loss at work and samples."""
        work, samples = np.asarray(work, float), np.asarray(samples, float)
        return self.floor + self.a * work**-self.alpha + self.b * samples**-self.beta

    def best(self, budget: Values) -> tuple[Values, Values]:
        """Work of a sample and number of samples of the least loss at a budget, their product.

        work = (alpha a / (beta b))^(1/(alpha + beta)) budget^(beta/(alpha + beta)), where the derivative along
        work samples = budget vanishes.
        """
        both = self.alpha + self.beta
        work = (self.alpha * self.a / (self.beta * self.b)) ** (1 / both) * np.asarray(budget, float) ** self.share
        return work, budget / work


def fit_surface(work: Values, samples: Values, losses: Values, repeats: int = 200, level: float = LEVEL) -> Surface:
    """Fit L = E + a work^-alpha + b samples^-beta to losses (seeds, sizes, lengths) by least squares of L/fit - 1.

    work (sizes,) and samples (lengths,), or (sizes, lengths) each. E, a and b are at least 0, and for each pair of
    exponents the solution of a linear problem. Draws as in `fit_envelope`. Raises ValueError for fewer than 3 sizes or
    lengths, and for values that are not finite and positive.
    """
    losses = np.asarray(losses, float)
    if losses.ndim != 3 or min(losses.shape[1:]) < 3:
        raise ValueError(f"losses: expected (seeds, at least 3 sizes, at least 3 lengths), got shape {losses.shape}")
    work, samples = np.asarray(work, float), np.asarray(samples, float)
    work = work[:, None] if work.ndim == 1 else work
    work, samples = (np.broadcast_to(v, losses.shape[1:]) for v in (work, samples))
    _checked_grid(work * samples, losses)
    logs = np.log(losses)
    means = logs.mean(0)
    scale = work.min(), samples.min()
    x = np.stack([work.ravel() / scale[0], samples.ravel() / scale[1]])
    exponents, weights = _surface(x, means.reshape(1, -1))
    (alpha, beta), (bottom, a, b) = exponents[0].tolist(), weights[0].tolist()
    bounds = None
    if len(logs) > 1:
        drawn = resampled(logs, 1, repeats, seed=0).reshape(repeats, -1)
        found = np.concatenate([_surface(x, drawn[i : i + CHUNK])[0] for i in range(0, repeats, CHUNK)])
        freedom = (len(logs) - 1) * losses.shape[1]
        bounds = interval(beta / (alpha + beta), found[:, 1] / found.sum(1), level, freedom)
    fitted = bottom + a * x[0] ** -alpha + b * x[1] ** -beta
    inner = all(EXPONENTS[0] * 1.05 < value < EXPONENTS[1] / 1.05 for value in (alpha, beta))
    return Surface(
        bottom,
        a * scale[0] ** alpha,
        b * scale[1] ** beta,
        alpha,
        beta,
        beta / (alpha + beta),
        bounds,
        float(np.sqrt(np.mean((means.ravel() - np.log(fitted)) ** 2))),
        inner and a > 0 and b > 0,
    )


def _checked_grid(compute: Values, losses: Values) -> tuple[np.ndarray, np.ndarray]:
    compute, losses = np.asarray(compute, float), np.asarray(losses, float)
    if losses.ndim != 3 or compute.shape != losses.shape[1:] or not losses.size:
        expected = "(sizes, lengths) and (seeds, sizes, lengths)"
        raise ValueError(f"compute, losses: expected {expected}, got {compute.shape}, {losses.shape}")
    if compute.shape[1] < 2 or not (
        np.isfinite(compute).all() and (compute > 0).all() and (np.diff(compute) > 0).all()
    ):
        raise ValueError(f"compute: expected at least 2 finite positive numbers that rise along a row, got {compute}")
    if not (np.isfinite(losses).all() and (losses > 0).all()):
        raise ValueError(f"losses: expected finite positive numbers, got {losses.min()} to {losses.max()}")
    return compute, losses


def _surface(x: np.ndarray, logs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Exponents (repeats, 2) and weights (repeats, 3) of E, work and samples, from log losses (repeats, cells)."""
    losses = np.exp(logs)[:, None, None]
    rows = np.arange(len(logs))
    ends = np.log(np.broadcast_to(np.array(EXPONENTS), (len(logs), 2, 2)))  # (repeats, exponent, low and high)
    for _ in range(ROUNDS):
        grid = np.linspace(ends[..., 0], ends[..., 1], GRID, axis=-1)  # (repeats, 2, GRID)
        powers = x[:, None] ** -np.exp(grid)[..., None]  # (repeats, 2, GRID, cells)
        shape = (len(logs), GRID, GRID, x.shape[1])
        columns = [np.ones(shape), powers[:, 0, :, None], powers[:, 1, None]]
        design = np.stack([np.broadcast_to(column, shape) / losses for column in columns], -1)
        weights, errors = nonnegative(design)
        first, second = np.divmod(errors.reshape(len(logs), -1).argmin(1), GRID)
        best = np.stack([first, second], 1)
        around = [np.take_along_axis(grid, (best + s).clip(0, GRID - 1)[..., None], 2)[..., 0] for s in (-1, 0, 1)]
        ends = np.stack([around[0], around[2]], -1)
    return np.exp(around[1]), weights[rows, first, second]
