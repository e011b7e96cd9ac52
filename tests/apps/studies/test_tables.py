"""Paired statistics against scipy, loops and simulated effects; the tables of a study."""

import math
import statistics

import numpy as np
import pytest
from scipy import stats

from raytrans.apps import pages
from raytrans.apps.studies import tables

GROUP = ("easy", 64, 6, "I/I")


def rows(values: dict[str, float], protocol: str = "I/I", view: str = "0") -> list[dict]:
    """Scores of scenes with one view each."""
    group = {"set": "easy", "size": 64, "sources": 6, "protocol": protocol}
    return [group | {"scene": scene, "view": view, "psnr": value, "ssim": None} for scene, value in values.items()]


def test_one_seed_is_the_paired_t_test():
    generator = np.random.default_rng(1)
    own, other = generator.normal(20, 3, (9, 1)), generator.normal(19, 3, (9, 1))
    found = tables.paired(own - other)
    assert found.mean / found.error == pytest.approx(stats.ttest_rel(own[:, 0], other[:, 0]).statistic)
    assert found.deviation == pytest.approx(statistics.stdev((own - other)[:, 0]))
    assert (found.won, found.scenes, found.seeds) == (sum(own[:, 0] > other[:, 0]), 9, 1)


def test_one_scene_is_the_spread_of_its_seeds():
    d = np.array([[0.3, -0.1, 0.7]])
    assert tables.paired(d).error == pytest.approx(stats.sem(d[0]))


def test_scenes_and_seeds_by_a_loop():
    d = np.array([[1.0, 2.0, 4.0], [0.5, 1.0, 3.0], [-2.0, -1.0, 0.5], [0.0, -0.4, 1.5]])
    scenes, seeds = d.shape
    grand = sum(d.ravel()) / 12
    row, column = [sum(d[i]) / seeds for i in range(scenes)], [sum(d[:, j]) / scenes for j in range(seeds)]
    a = seeds * sum((m - grand) ** 2 for m in row) / (scenes - 1)
    b = scenes * sum((m - grand) ** 2 for m in column) / (seeds - 1)
    rest = [(d[i, j] - row[i] - column[j] + grand) ** 2 for i in range(scenes) for j in range(seeds)]
    e = sum(rest) / ((scenes - 1) * (seeds - 1))
    found = tables.paired(d)
    assert found.error == pytest.approx(math.sqrt((a + b - e) / 12))
    assert found.deviation == pytest.approx(statistics.stdev(d.ravel().tolist()))
    assert found.won == 3 and found.mean == pytest.approx(grand)


def test_the_error_is_the_spread_of_the_mean_over_repeated_studies():
    generator = np.random.default_rng(2)
    shape = 4000, 6, 4
    d = generator.normal(0, 0.8, (*shape[:2], 1)) + generator.normal(0, 0.5, (shape[0], 1, shape[2]))
    d = d + generator.normal(0, 0.6, shape)
    errors = [tables.paired(one).error ** 2 for one in d]
    assert math.sqrt(np.mean(errors)) == pytest.approx(d.mean((1, 2)).std(), rel=0.05)
    naive = [one.std(ddof=1) / math.sqrt(one.size) for one in d]
    assert np.mean(naive) < 0.7 * d.mean((1, 2)).std()


def test_a_single_difference_has_no_spread():
    found = tables.paired(np.array([[0.5]]))
    assert (found.mean, found.deviation, found.error, found.won) == (0.5, None, None, 1)


def test_equal_arms_differ_by_nothing():
    scores = {(arm, seed): rows({"1": 20.1 + seed, "2": 30.3}) for arm in ("a", "b") for seed in (0, 1)}
    [one] = tables.comparisons(scores, ["a", "b"], "a")
    assert one.arm == "b" and (one.paired.mean, one.paired.deviation, one.paired.error, one.paired.won) == (0, 0, 0, 0)


def test_pairs_are_the_scenes_and_seeds_that_both_arms_have():
    scores = {
        ("a", 0): rows({"1": 20.0, "2": 25.0, "3": 30.0}),
        ("a", 1): rows({"1": 21.0, "2": 26.0}),
        ("a", 2): rows({"1": 99.0}),
        ("b", 0): rows({"2": 26.0, "1": 20.5}),
        ("b", 1): rows({"1": 20.0, "2": 27.0, "3": 0.0}),
    }
    own, other = tables.matrix(scores, ("b", "a"), GROUP, "psnr")
    np.testing.assert_array_equal(own - other, [[0.5, -1.0], [1.0, 1.0]])
    [one] = tables.comparisons(scores, ["a", "b"], "a")
    assert (one.paired.mean, one.paired.won, one.paired.scenes, one.paired.seeds) == (0.375, 1, 2, 2)


def test_a_scene_is_the_mean_of_the_views_that_both_arms_have():
    scores = {("a", 0): rows({"1": 20.0, "2": 30.0}) + rows({"1": 22.0}, view="8")}
    assert tables.matrix(scores, ("a",), GROUP, "psnr")[0].tolist() == [[21.0], [30.0]]
    scores["b", 0] = rows({"1": 19.0}, view="8")
    assert [m.tolist() for m in tables.matrix(scores, ("a", "b"), GROUP, "psnr")] == [[[22.0]], [[19.0]]]


def test_tables_in_markdown():
    scores = {("a", 0): rows({"1": 20.0}) + rows({"1": 18.0}, "I/SE3"), ("b", 0): rows({"1": 20.25})}
    text = pages.markdown(*tables.mean_table(scores, ["a", "b", "never measured"], "psnr", 2)).splitlines()
    assert text[0] == "| set | pixels | sources | arm | scenes | I/I | I/SE3 |"
    assert text[2:] == ["| easy | 64 | 6 | a | 1 | 20.00 | 18.00 |", "| easy | 64 | 6 | b | 1 | 20.25 | - |"]
    compared = pages.markdown(*tables.comparison_table(tables.comparisons(scores, ["a", "b"], "a")))
    assert compared.endswith("| easy | 64 | 6 | I/I | b | +0.25 | - | - | 1 of 1 | 1 |")
