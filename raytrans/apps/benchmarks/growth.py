"""How cost grows along an axis: a straight line, and the exponent of a power law, fitted to CPU seconds."""

from collections.abc import Sequence

import numpy as np

LINEAR = 0.1  # distance of an exponent from 1 up to which growth counts as linear


def exponent(x: np.ndarray, seconds: np.ndarray) -> float:
    """Least-squares slope of log seconds over log x: 1 for a cost in proportion to x."""
    return float(np.polyfit(np.log(x), np.log(seconds), 1)[0])


def fitted(x: Sequence[float], seconds: Sequence[float]) -> dict[str, float | bool | None]:
    """Least squares of seconds = constant + slope x with R^2, and exponents over all of x and over its upper half.

    exponent_growing: over the upper half too, of seconds - constant, None where no positive constant leaves something.
    linear: whether either exponent of the upper half is within 0.1 of 1. Raises ValueError for fewer than four points,
    or an x that is not positive.
    """
    if len(x) < 4 or len(x) != len(seconds) or min(x) <= 0:
        raise ValueError(f"x: expected four or more positive values, as many as seconds, got {list(x)}")
    x, seconds = (np.asarray(v, dtype=float)[np.argsort(x)] for v in (x, seconds))
    slope, constant = np.polyfit(x, seconds, 1)
    rest, spread = seconds - constant - slope * x, seconds - seconds.mean()
    upper = slice(len(x) // 2, None)
    growing = seconds[upper] - constant
    out = {
        "constant": float(constant),
        "slope": float(slope),
        "r2": float(1 - rest @ rest / (spread @ spread)),
        "exponent": exponent(x, seconds),
        "exponent_upper": exponent(x[upper], seconds[upper]),
        "exponent_growing": exponent(x[upper], growing) if constant > 0 and growing.min() > 0 else None,
    }
    found = [e for e in (out["exponent_upper"], out["exponent_growing"]) if e is not None]
    return {**out, "linear": any(abs(e - 1) <= LINEAR for e in found)}


def reading(fit: dict[str, object]) -> str:
    """What a fit says, in a few words."""
    if abs(fit["exponent_upper"] - 1) <= LINEAR:
        return "linear"
    if fit["exponent_upper"] > 1:
        return "faster than linear"
    return "linear beside a constant part" if fit["linear"] else "slower than linear"


HEADER = ("from", "to", "constant CPU-s", "CPU-ms each", "R^2", "exponent", "without the constant", "reading")


def cells(fit: dict[str, object]) -> tuple:
    """A row under `HEADER` of a fit with its "values" of x."""
    line = (fit["constant"], 1e3 * fit["slope"], fit["r2"])
    exponents = (fit["exponent_upper"], fit["exponent_growing"])
    shown = (None if e is None else f"{e:.2f}" for e in exponents)
    return (f"{min(fit['values']):g}", f"{max(fit['values']):g}", *(f"{v:.3g}" for v in line), *shown, reading(fit))
