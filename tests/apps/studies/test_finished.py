"""Finished measurements come back from the file, and are made once."""

import json
import time

import pytest

from raytrans.apps.studies.finished import Finished


def test_values_are_made_once_and_kept(tmp_path):
    file, made = tmp_path / "out" / "runs.jsonl", []

    def make(value):
        made.append(value)
        return {"value": value}

    first = Finished(file)
    assert first.get(("arm", 0, 0.5), lambda: make(3.25)) == {"value": 3.25}
    assert first.get(("arm", 1, 0.5), lambda: make(4.0)) == {"value": 4.0}
    again = Finished(file)
    assert again.get(("arm", 0, 0.5), lambda: make(9.0)) == {"value": 3.25} and made == [3.25, 4.0]
    assert again.get(("arm", 0, 0.25), lambda: make(5.0)) == {"value": 5.0}
    assert 0 <= again.cpu_seconds - first.cpu_seconds < 5 and Finished(file).cpu_seconds == again.cpu_seconds
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["key"] for line in lines] == [["arm", 0, 0.5], ["arm", 1, 0.5], ["arm", 0, 0.25]]


def test_the_seconds_are_those_of_all_processes(tmp_path):
    file = tmp_path / "runs.jsonl"
    rows = [
        {"key": [name], "settings": {}, "value": {}, "cpu_seconds": seconds}
        for name, seconds in (("a", 1.5), ("b", 2.0), ("a", 4.0))
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = Finished(file)
    assert found.cpu_seconds == 7.5 and set(found.values) == {("a",), ("b",)}

    def work():
        start = time.process_time()
        while time.process_time() < start + 0.05:
            sum(range(1000))
        return {}

    found.get(("c",), work)
    assert 7.55 <= found.cpu_seconds < 8


def test_other_settings_make_other_values(tmp_path):
    file = tmp_path / "runs.jsonl"
    assert Finished(file, {"channels": (4, 2)}).get(("arm",), lambda: {"value": 1}) == {"value": 1}
    assert Finished(file, {"channels": (4, 3)}).get(("arm",), lambda: {"value": 2}) == {"value": 2}
    again = Finished(file, {"channels": (4, 2)})
    assert again.values == {("arm",): {"value": 1}} and len(file.read_text().splitlines()) == 2


def test_what_fails_leaves_nothing(tmp_path):
    file = tmp_path / "runs.jsonl"
    with pytest.raises(ZeroDivisionError):
        Finished(file).get(("arm",), lambda: {"value": 1 / 0})
    assert not file.exists()


def test_other_files_are_refused(tmp_path):
    file = tmp_path / "runs.jsonl"
    file.write_text("hello\n")
    with pytest.raises(ValueError, match="line 1: expected JSON"):
        Finished(file)
    for row, message in (
        ({"key": [[1]], "value": {}, "cpu_seconds": 1.0}, "expected a key of texts and numbers"),
        ({"key": ["a"], "value": {}, "cpu_seconds": "x"}, "expected a table of values and CPU seconds"),
        ({"key": ["a"], "value": 1, "cpu_seconds": 1.0}, "expected a table of values and CPU seconds"),
    ):
        file.write_text(json.dumps({**row, "settings": {}}) + "\n")
        with pytest.raises(ValueError, match=f"line 1: {message}"):
            Finished(file)
    file.write_text('{"key": ["a"], "value": {}}\n')
    with pytest.raises(ValueError, match="line 1: expected cpu_seconds, key, settings, value, got key, value"):
        Finished(file)
