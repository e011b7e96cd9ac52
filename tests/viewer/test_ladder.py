"""Sizes from coarse to fine, and bands of rows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raytrans.viewer.ladder import COARSEST, LARGEST_FIRST, Pace, bands, sides


@given(st.integers(1, 200), st.integers(1, 2000))
def test_sizes_grow_to_the_last_and_cost_little_more(first, last):
    found = sides(first, last)
    assert found[-1] == last and all(b > a for a, b in zip(found, found[1:], strict=False))
    assert all(b <= 2 * a for a, b in zip(found, found[1:], strict=False))
    assert found[0] == (first if first < last else last)


def test_sizes_by_hand():
    assert sides(32, 200) == [32, 50, 100, 200] and sides(64, 64) == [64] and sides(96, 40) == [40]


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 20000))
def test_bands_cover_every_row_once(height, width, rays):
    found = bands(height, width, rays)
    assert [row for a, b in found for row in range(a, b)] == list(range(height))
    assert all(b > a for a, b in found)
    assert all(b - a == 1 or (b - a) * width <= rays for a, b in found)
    assert {b - a for a, b in found[:-1]} <= {2**k for k in range(9)} and len({b - a for a, b in found[:-1]}) <= 1
    assert len(found) <= 1 + 2 * height * width / rays or found == [(row, row + 1) for row in range(height)]


def test_the_first_picture_fits_the_speed():
    pace = Pace()
    for _ in range(20):
        pace.measured(10_000, 1.0)
    assert pace.first_side(1.0) == 48 and pace.first_side(0.6) == 80  # sqrt(0.4 * 10,000) is 63, over sqrt(0.6) 81
    assert pace.piece() == pytest.approx(2500, rel=0.01)
    for rate, side in ((1, COARSEST), (10**9, LARGEST_FIRST)):
        for _ in range(40):
            pace.measured(rate, 1.0)
        assert pace.first_side(0.75) == side
    before = pace.rate
    pace.measured(100, 0.0), pace.measured(0, 1.0)
    assert pace.rate == before
