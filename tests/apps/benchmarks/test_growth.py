"""Fits on costs that are known."""

import numpy as np
import pytest

from raytrans.apps.benchmarks.growth import fitted, reading

X = np.array([2.0, 4.0, 6.0, 8.0, 12.0, 16.0])


@pytest.mark.parametrize(
    ("seconds", "constant", "slope", "exponent", "words"),
    [
        (0.5 * X, 0.0, 0.5, 1.0, "linear"),
        (3 + 0.5 * X, 3.0, 0.5, None, "linear beside a constant part"),
        (0.1 * X**2, None, None, 2.0, "faster than linear"),
        (0.1 * X**0.5, None, None, 0.5, "slower than linear"),
    ],
)
def test_known_costs_are_found(seconds, constant, slope, exponent, words):
    found = fitted(list(X[::-1]), list(seconds[::-1]))
    if constant is not None:
        assert found["constant"] == pytest.approx(constant, abs=1e-9) and found["slope"] == pytest.approx(slope)
        assert found["r2"] == pytest.approx(1.0)
    else:
        assert found["r2"] < 0.99
    if exponent is not None:  # a power law
        assert found["exponent"] == pytest.approx(exponent) and found["exponent_upper"] == pytest.approx(exponent)
    assert reading(found) == words and found["linear"] == words.startswith("linear")


def test_what_grows_is_linear_once_the_constant_is_taken_away():
    found = fitted(list(X), list(3 + 0.5 * X))
    assert found["exponent_growing"] == pytest.approx(1.0) and found["exponent_upper"] < 0.8


@pytest.mark.parametrize(
    ("x", "seconds"), [([1, 2, 3], [1, 2, 3]), ([0, 1, 2, 3], [1, 2, 3, 4]), ([1, 2, 3, 4], [1, 2])]
)
def test_too_little_to_fit_is_refused(x, seconds):
    with pytest.raises(ValueError, match="four or more positive"):
        fitted(x, seconds)
