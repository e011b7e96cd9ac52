"""The files and numbers that a study script leaves."""

import json

import numpy as np
import pytest
from PIL import Image

from raytrans.apps.cli import run
from raytrans.apps.studies import script


def test_a_study_leaves_numbers_with_their_origin_and_a_picture(tmp_path, capsys):
    def main(arguments):
        values = {"error": script.spread([1.0, 2.0, 4.0])}
        script.finish(arguments, values, np.full((4, 5, 3), 7, np.uint8), "name")
        return 0

    parser = script.parser("name", "What it does.", 0.5)
    assert run(main, parser, ["--out", str(tmp_path), "--seeds", "3", "4"]) == 0
    found = json.loads((tmp_path / "name.json").read_text())
    assert found["seeds"] == [3, 4] and found["minutes"] == 0.5 and found["cpu_seconds"] > 0
    assert found["error"] == {
        "mean": pytest.approx(7 / 3),
        "deviation": pytest.approx(np.std([1, 2, 4], ddof=1)),
        "count": 3,
    }
    assert {"command", "versions"} <= set(found)
    assert np.asarray(Image.open(tmp_path / "name.png")).tolist() == np.full((4, 5, 3), 7).tolist()
    assert run(main, script.parser("name", "", 0.5), ["--minutes", "0"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_spread_of_few_and_of_none():
    assert script.spread([2.0]) == {"mean": 2.0, "deviation": None, "count": 1}
    assert script.shown(script.spread([2.0])) == "2"
    assert script.shown(script.spread([1.0, 3.0])) == "2 ± 1.4"
    for values in ([], [float("nan")]):
        with pytest.raises(ValueError, match="values: expected finite numbers"):
            script.spread(values)


def test_numbers_at_a_path_are_spread_over_the_seeds():
    rows = [{"errors": {"force": value}} for value in (1.0, 2.0, 6.0)]
    assert script.over_seeds(rows, "errors", "force") == script.spread([1.0, 2.0, 6.0])
    with pytest.raises(KeyError):
        script.over_seeds(rows, "errors", "energy")


def test_floats_of_a_tree_keep_five_digits():
    assert script.rounded({"a": (1.23456789, 7), "b": {"c": "text"}}) == {"a": [1.2346, 7], "b": {"c": "text"}}
