"""Charts, measured in their pixels against the values that they show."""

import math

import numpy as np
import pytest

from raytrans.reports.canvas import COLORS, Axis, Canvas, ticks
from raytrans.reports.charts import BAR_WIDTH, HEIGHT, WIDTH, Bars, Plot, bars, beside, plots, stacked


def spots(picture: np.ndarray, color: tuple[int, int, int]) -> list[np.ndarray]:
    """Middles (x, y) of what is drawn in a colour, from the left to the right, by flooding from pixel to pixel."""
    left = {(int(x), int(y)) for y, x in np.argwhere((picture == color).all(-1))}
    middles = []
    while left:
        todo, found = [left.pop()], []
        while todo:
            x, y = todo.pop()
            found.append((x, y))
            near = {(x + i, y + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            left -= near
            todo += near
        middles.append(np.mean(found, 0))
    return sorted(middles, key=lambda middle: middle[0])


def straight(values, places) -> float:
    """Largest distance, in pixels, of places from those that a straight line of the values gives."""
    fit = np.polyfit(values, places, 1)
    return float(np.abs(np.polyval(fit, values) - places).max())


@pytest.mark.parametrize("log_x, log_y", [(False, False), (True, False), (False, True), (True, True)])
def test_dots_stand_where_their_values_say(log_x, log_y):
    x, y = [1.0, 2.0, 5.0, 40.0], [0.3, 0.05, 0.9, 0.002]
    picture = plots([Plot("share", "angle, degrees", [(x, y)], log_x, log_y, style="dots")])
    assert picture.shape == (HEIGHT, WIDTH, 3) and picture.dtype == np.uint8
    found = np.array(spots(picture, COLORS[0]))
    assert len(found) == 4
    across, upward = (np.log(v) if log else np.array(v) for v, log in ((x, log_x), (y, log_y)))
    assert straight(across, found[:, 0]) < 0.7 and straight(upward, found[:, 1]) < 0.7
    assert np.polyfit(across, found[:, 0], 1)[0] > 0 > np.polyfit(upward, found[:, 1], 1)[0]
    wrong = [np.array(v) if log else np.log(v) for v, log in ((x, log_x), (y, log_y))]
    assert straight(wrong[0], found[:, 0]) > 3 and straight(wrong[1], found[:, 1]) > 3


def test_stems_reach_down_to_zero():
    picture = plots([Plot("weight", "distance", [([1.0, 2.0, 3.0], [0.5, 1.0, 0.25])], style="stems", y_zero=True)])
    drawn = (picture == COLORS[0]).all(-1)
    columns = [column for column in range(WIDTH) if drawn[:, column].sum() > 10]
    tops = {}
    for column in columns:
        rows = np.flatnonzero(drawn[:, column])
        assert HEIGHT - 45 < rows.max() < HEIGHT - 36
        tops.setdefault(column // 60, []).append(rows.max() - rows.min())
    heights = [max(values) for values in tops.values()]
    assert len(heights) == 3
    assert straight([0.5, 1.0, 0.25], np.array(heights, float)) < 1.5


def test_parts_have_colours_of_their_own_and_names():
    parts = [([1, 2], [0.1, 0.2]), None, ([1, 2], [0.2, 0.1])]
    plain, named = (plots([Plot("a", "b", parts)], names) for names in ((), ("one", "two", "three")))
    assert named.shape[0] > plain.shape[0]
    assert all((plain == COLORS[i]).all(-1).any() == (i != 1) for i in range(3))
    assert all((named[:28] == COLORS[i]).all(-1).any() for i in range(3))


def ends(picture: np.ndarray, color: tuple[int, int, int]) -> list[tuple[int, int, int]]:
    """(row, first, last column) of the bars of a colour, from the top."""
    drawn = (picture[60:] == color).all(-1)
    rows = [row for row in range(len(drawn)) if drawn[row].any()]
    middles = [row for row in rows if row - 1 not in rows]
    return [(row + 60, *np.flatnonzero(drawn[row + 3])[[0, -1]].tolist()) for row in middles]


def test_bars_are_as_long_as_their_values():
    values = [3.0, 1.0, 0.0, 2.0]
    found = ends(bars(Bars("PSNR, dB", list("abcd"), {"model": values})), COLORS[0])
    assert len(found) == 3  # nothing is drawn for nothing
    lengths = [last - first + 1 for _, first, last in found]
    np.testing.assert_allclose(np.array(lengths) / lengths[0], [1, 1 / 3, 2 / 3], atol=0.01)
    assert len({first for _, first, _ in found}) == 1


def test_logarithmic_bars_and_their_limits():
    errors, limits = [1e-13, 1e-7, 1e-3, 0.0], [1e-9, 1e-6, 1e-4, 1e-9]
    groups = {"kept": [1e-13, 1e-7, None, 0.0], "broken": [None, None, 1e-3, None]}
    picture = bars(Bars("error", ["w", "x", "y", "z"], groups, True, limits, "tolerance"))
    kept, broken = ends(picture, COLORS[0]), ends(picture, COLORS[1])
    assert len(kept) == 2 and len(broken) == 1 and kept[1][0] < broken[0][0]
    last = [kept[0][2], kept[1][2], broken[0][2]]
    slope, start = np.polyfit(np.log10(errors[:3]), last, 1)
    assert slope > 20 and straight(np.log10(errors[:3]), last) < 1.5
    for row, limit in zip((kept[0][0], kept[1][0], broken[0][0]), limits, strict=False):
        dark = np.flatnonzero((picture[row + 1] < 70).all(-1))
        expected = start + slope * math.log10(limit)
        assert np.abs(dark - expected).min() < 2.5


def test_an_error_without_bound_ends_with_the_axis():
    picture = bars(Bars("error", ["x", "y"], {"broken": [1e30, 1e-3]}, True, [1e-4, 1e-4]))
    (_, first, last), (_, _, short) = ends(picture, COLORS[0])
    assert BAR_WIDTH - 64 <= last <= BAR_WIDTH - 56 and first < short <= last
    assert bars(Bars("error", ["x"], {"broken": [1e30]}, True)).shape[1] == BAR_WIDTH


@pytest.mark.parametrize("least", [1e-12, 1e-4, 5e-4, 1e-3, 2e-3])
def test_bars_may_be_thinner_than_a_pixel(least):
    found = ends(bars(Bars("share", ["x", "y"], {"a": [1.0, least]})), COLORS[0])
    assert len(found) in (1, 2)


def test_long_names_are_cut():
    one, two = (bars(Bars("error", ["view " + "x" * n], {"a": [1.0]})) for n in (40, 400))
    np.testing.assert_array_equal(one, two)


def test_many_decades_have_ticks_at_powers_of_ten():
    found = ticks(1e-13, 2.0, True)
    assert 3 <= len(found) <= 9 and all(abs(math.log10(v) - round(math.log10(v))) < 1e-9 for v in found)
    assert all(1e-13 <= value <= 2 for value in found)


def test_an_axis_is_its_formula_and_ends():
    axis = Axis(1.0, 100.0, 10.0, 30.0, True)
    assert [axis.place(v) for v in (1, 10, 100)] == pytest.approx([10, 20, 30])
    assert axis.place(0.0) == 10 and axis.place(1e6) == 30
    assert Axis(2.0, 2.0, 5.0, 9.0).place(2.0) == 5


def test_text_is_drawn_where_it_is_asked_for():
    canvas = Canvas(100, 40)
    canvas.text((50, 20), "word", "mm")
    rows, columns = np.nonzero((canvas.array() < 200).any(-1))
    assert abs(columns.mean() - 50) < 3 and abs(rows.mean() - 20) < 4
    assert abs((columns.max() - columns.min()) - canvas.length("word")) < 4


def test_pictures_of_different_sizes_are_put_together_on_white():
    first, second = np.full((2, 3, 3), 10, np.uint8), np.full((1, 5, 3), 20, np.uint8)
    below, aside = stacked([first, second]), beside([first, second])
    assert below.shape == (3, 5, 3) and aside.shape == (2, 8, 3)
    assert below[:, :, 0].tolist() == [[10, 10, 10, 255, 255], [10, 10, 10, 255, 255], [20] * 5]
    assert aside[:, :, 0].tolist() == [[10, 10, 10, *[20] * 5], [10, 10, 10, *[255] * 5]]
