"""Intervals over seeds: bootstrap of runs, widened for how few of them there are."""

import math

import numpy as np


def resampled(values: np.ndarray, shared: int, repeats: int, seed: int) -> np.ndarray:
    """Means over the seeds of `values` (seeds, *cells), drawn again with replacement, (repeats, *cells).

    Cells that share their first `cells.ndim - shared` indices belong to one run and are drawn together; other runs are
    drawn apart. Deviations from the mean over n seeds are stretched by sqrt(n/(n-1)): drawn as they are, they vary less
    than the seeds do.
    """
    count = len(values)
    if count < 2:
        raise ValueError(f"values: expected at least 2 seeds to draw from, got {count}")
    center = values.mean(0)
    stretched = center + math.sqrt(count / (count - 1)) * (values - center)
    runs = values.shape[1 : values.ndim - shared]
    index = np.random.default_rng(seed).integers(0, count, (repeats, count, *runs))
    index = index.reshape(index.shape + (1,) * shared)
    return np.take_along_axis(np.broadcast_to(stretched, (repeats, *values.shape)), index, 1).mean(1)


def interval(estimate: float, draws: np.ndarray, level: float, freedom: int) -> tuple[float, float]:
    """Percentile interval of bootstrap draws (repeats,), stretched about the estimate by t/z.

    t is Student's quantile at `freedom` degrees of freedom and z that of the normal distribution: draws know how far
    seeds spread from these seeds alone. Draws that are not finite count as beyond both ends.
    """
    tail = (1 - level) / 2
    stretch = student_quantile(1 - tail, freedom) / student_quantile(1 - tail, math.inf)
    unknown = ~np.isfinite(draws)
    low = np.quantile(np.where(unknown, -np.inf, draws), tail, method="inverted_cdf")
    high = np.quantile(np.where(unknown, np.inf, draws), 1 - tail, method="inverted_cdf")
    return float(estimate + stretch * (low - estimate)), float(estimate + stretch * (high - estimate))


def student_quantile(probability: float, freedom: float) -> float:
    """Quantile of Student's distribution with `freedom` degrees of freedom (inf: the normal one), 0.5 <= p < 1.

    t = sqrt(freedom) tan(angle), whose density in the angle is cos^(freedom - 1), summed by Simpson's rule.
    """
    if not 0.5 <= probability < 1 or freedom < 1:
        raise ValueError(f"probability, freedom: expected 0.5 <= p < 1 and at least 1, got {probability} and {freedom}")
    if math.isinf(freedom):
        return math.sqrt(2) * _root(math.erf, 2 * probability - 1, 8.0)
    angles = np.linspace(0, math.pi / 2, 4097)
    whole = _simpson(np.cos(angles) ** (freedom - 1), angles[-1])

    def share(angle: float) -> float:
        return _simpson(np.cos(np.linspace(0, angle, 4097)) ** (freedom - 1), angle) / whole

    return math.sqrt(freedom) * math.tan(_root(share, 2 * probability - 1, math.pi / 2))


def _simpson(values: np.ndarray, length: float) -> float:
    weights = np.ones(len(values))
    weights[1:-1:2], weights[2:-1:2] = 4, 2
    return float(weights @ values) * length / (3 * (len(values) - 1))


def _root(function, value: float, high: float) -> float:
    """Where a rising function of [0, high] reaches a value, by bisection."""
    low = 0.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if function(middle) < value else (low, middle)
    return (low + high) / 2
