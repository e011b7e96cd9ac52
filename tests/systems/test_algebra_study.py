"""The study of the geometric algebras, whole, on budgets of hundredths of a second."""

import importlib.util
import json
import sys
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from raytrans.apps import cli
from raytrans.data.images import read_image

STUDY = Path(__file__).resolve().parents[2] / "docs" / "studies" / "algebra.py"


@pytest.fixture
def study(monkeypatch):
    spec = importlib.util.spec_from_file_location("algebra_study", STUDY)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "algebra_study", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "TEST", {"pairs": 64, "depth": 4})
    monkeypatch.setattr(module, "BATCH", {"pairs": 8, "depth": 2})
    monkeypatch.setattr(module, "PARAMETERS", {"pairs": 3000, "depth": 6000})
    return module


def test_the_study_writes_its_numbers_and_goes_on_where_it_stopped(study, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(study, "PAIR_ARMS", ("E", "iP", "plain"))
    monkeypatch.setattr(study, "DEPTH_ARMS", ("iP", "plain, target frame"))
    command = ["--out", str(tmp_path), "--seeds", "3", "--minutes", "0.0005", "--pool", "4"]
    command += ["--questions", "foot", "depth"]
    assert cli.run(study.main, study.parser(), command) == 0
    first = capsys.readouterr().out
    values = json.loads((tmp_path / "algebra.json").read_text())["questions"]
    assert list(values["foot"]) == list(study.PAIR_ARMS)
    for arm, held in values["foot"].items():
        assert held["steps"]["mean"] >= 1 and 1000 < held["parameters"] < 5000 and held["nominal_flops"] > 1e4
        here, far = (held["errors"][name]["mean"] for name in ("held out", "far"))
        assert far == pytest.approx(here, rel=1e-3)
        # coordinates from no centre are no use so far away, to the arms that have no translations
        assert (arm in ("E", "plain")) == ("far, not centred" in held["errors"])
        assert held["errors"].get("far, not centred", {"mean": 1e9})["mean"] > 100
    assert 0 < values["depth"]["iP"]["errors"]["held out"]["mean"] < 3
    assert all(0 < error < 2 for error in values["depth baselines"].values())
    assert read_image(tmp_path / "algebra.png").shape[2] == 3
    monkeypatch.setattr(study, "train", lambda *_: pytest.fail("what is there already was trained again"))
    assert cli.run(study.main, study.parser(), command) == 0
    again = capsys.readouterr().out
    tables = [[line for line in text.splitlines() if line.startswith("|")] for text in (first, again)]
    assert tables[0] == tables[1] and len(tables[0]) == 2 + 3 + 2 + 2


def test_training_for_pairs_finds_what_is_easy(study, monkeypatch):
    """The nearest point of a line is a product of multivectors: a hundred steps are enough to see it."""
    clock = count()  # a second between two looks: so many seconds are as many steps, on any machine
    monkeypatch.setattr(study, "time", SimpleNamespace(process_time=lambda: float(next(clock))))
    torch.manual_seed(0)
    model = study.build("points", "E", 4)
    before = study.errors("points", model.float())["held out"]
    assert study.train("points", model.float(), study.batches("points", 0, 1), 100.0) == 100
    assert study.errors("points", model)["held out"] < 0.5 * before


def test_arms_have_about_as_many_parameters(study, monkeypatch):
    monkeypatch.setattr(study, "PARAMETERS", {"pairs": 11_000, "depth": 24_000})
    for question in ("points", "depth"):
        for arm in study.arms_of(question):
            model = study.build(question, arm, study.matched(question, arm))
            size = sum(p.numel() for p in model.parameters())
            assert abs(size / study.PARAMETERS[study.kind_of(question)] - 1) < 0.2, (question, arm, size)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["--questions", "planes"], "invalid choice: 'planes'"),
        (["--pool", "0"], "--pool"),
        (["--minutes", "-1"], "--minutes"),
    ],
)
def test_mistakes_are_one_line_and_status_2(study, command, message, capsys):
    assert cli.run(study.main, study.parser(), command) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and message in lines[0]
