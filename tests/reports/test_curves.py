"""Curves, found again in the pixels of the picture."""

import numpy as np
import pytest

from raytrans.reports.canvas import COLORS, ticks
from raytrans.reports.charts import COLUMNS, HEIGHT, WIDTH
from raytrans.reports.curves import curves, series


def test_a_series_holds_the_means_of_equal_parts_of_a_log():
    rng = np.random.default_rng(0)
    values = rng.random(600)
    lines = [{"step": 10 * k, "color": float(v)} for k, v in enumerate(values)] + [{"step": 5, "held-out/psnr": None}]
    steps, means = series(lines)["color"]
    expected = [sum(values[10 * i : 10 * i + 10]) / 10 for i in range(60)]
    np.testing.assert_allclose(means, expected)
    np.testing.assert_allclose(steps, [100 * i + 45 for i in range(60)])
    assert set(series(lines)) == {"color"}


@pytest.mark.parametrize("low, high", [(23.1, 24.9), (0.0, 4300.0), (0.3, 0.31), (29.0, 29.0), (-2.0, 1.0)])
def test_ticks_are_few_round_numbers_that_are_alike_far_apart(low, high):
    found = ticks(low, high)
    gaps = np.diff(found)
    assert 2 <= len(found) <= 6 and np.ptp(gaps) < 1e-9 * max(abs(np.array(found)))
    mantissa = gaps[0] / 10.0 ** np.floor(np.log10(gaps[0]) + 1e-9)
    assert min(abs(mantissa - m) for m in (1, 2, 5, 10)) < 1e-6


def test_logarithmic_ticks_are_1_2_5_times_powers_of_ten():
    assert ticks(0.0015, 0.03, True) == pytest.approx([0.002, 0.005, 0.01, 0.02])
    assert len(ticks(0.0031, 0.0033, True)) >= 2


def places(picture: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    """(x, y) of all pixels of a colour."""
    return np.argwhere((picture == color).all(-1))[:, ::-1]


def test_a_line_that_rises_does_so_in_the_picture():
    steps = np.arange(0.0, 100, 5)
    rising = {"held-out/psnr": (steps, 20 + steps / 10)}
    falling = {"held-out/psnr": (steps, 30 - steps / 10)}
    picture = curves({"one": rising, "two": falling})
    assert picture.dtype == np.uint8 and picture.shape[1] == WIDTH and picture.shape[2] == 3
    for color, sign in ((COLORS[0], -1), (COLORS[1], 1)):
        found = places(picture, color)
        found = found[found[:, 1] > 40]  # below the legend
        left, right = (found[found[:, 0] == x][:, 1].mean() for x in (found[:, 0].min(), found[:, 0].max()))
        assert sign * (right - left) > 0.8 * (HEIGHT - 90)
    alone = curves({"one": rising})
    assert len(places(alone, COLORS[0])) > 100 and len(places(alone, COLORS[1])) == 0


def test_panels_stand_side_by_side_and_what_is_absent_has_none():
    part = (np.array([1.0, 2.0]), np.array([0.1, 0.2]))
    names = ["color", "opacity", "depth", "proposal", "held-out/psnr"]
    picture = curves({"run": {name: part for name in names}})
    assert picture.shape[:2] == (2 * HEIGHT, COLUMNS * WIDTH)
    assert (picture[HEIGHT:, WIDTH:] == 255).all() and not (picture[HEIGHT:, :WIDTH] == 255).all()
    with pytest.raises(ValueError, match="expected one of color, .* got none"):
        curves({"run": {}})
