"""Finished measurements come back from the file, and are made once."""

import json

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
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["key"] for line in lines] == [["arm", 0, 0.5], ["arm", 1, 0.5], ["arm", 0, 0.25]]


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
