"""The study of the equivariant transformer, whole, on a few small molecules and budgets of hundredths of a second."""

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from raytrans.apps import cli
from raytrans.data.images import read_image

STUDY = Path(__file__).resolve().parents[2] / "docs" / "studies" / "torchmd.py"


@pytest.fixture
def study(monkeypatch):
    spec = importlib.util.spec_from_file_location("torchmd_study", STUDY)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "torchmd_study", module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def folder(tmp_path):
    """Files of the names that the study reads, of bent triatomic molecules with a made-up energy."""
    generator = np.random.default_rng(0)
    for name in ("acac_train_300K", "acac_test_MD_600K", "ethanol_train", "ethanol_test_MD"):
        text = ""
        for _ in range(12):
            text += f"3\nProperties=species:S:1:pos:R:3:forces:R:3 energy={generator.normal()}\n"
            for symbol, place in (("O", (0, 0, 0)), ("H", (1, 0, 0)), ("C", (0, 1.2, 0))):
                row = np.concatenate([place + 0.1 * generator.normal(size=3), generator.normal(size=3)])
                text += f"{symbol} {' '.join(map(str, row))}\n"
        (tmp_path / f"{name}.xyz").write_text(text)
    return tmp_path


def short(study, monkeypatch):
    chosen = {name: replace(one, arms=one.arms[:2]) for name, one in list(study.SETS.items())[:1]}
    monkeypatch.setattr(study, "SETS", chosen)
    monkeypatch.setattr(study, "TESTED", 3)


def test_the_study_writes_its_numbers_and_goes_on_where_it_stopped(study, folder, monkeypatch, capsys):
    short(study, monkeypatch)
    command = ["--data", str(folder), "--out", str(folder / "out"), "--seeds", "3", "--minutes", "0.0005"]
    assert cli.run(study.main, study.parser(), command) == 0
    first = capsys.readouterr().out
    values = json.loads((folder / "out" / "torchmd.json").read_text())
    row = values["errors"]["acetylacetone"]["steps"]["invariant"]
    assert row["steps"] == values["errors"]["acetylacetone"]["compute"]["equivariant"]["steps"]
    assert row["steps"]["count"] == 1 and row["test force"]["mean"] > 10 and row["test rotation"]["mean"] < 1
    assert row["flops_per_step"] > 1e6 and values["seeds"] == [3] and values["minutes"] == 0.0005
    assert (
        values["kinds"] == ["H", "C", "O"]
        and len(values["atoms"]["elements"]) == 9
        and values["rays"]["released weights"]["within"][1]["mean"] > 0.5
    )
    assert read_image(folder / "out" / "torchmd.png").shape[2] == 3
    assert "acetylacetone, equal steps" in first and first.count("finished:") == 5

    def fail(*_):
        raise AssertionError("trained again")

    monkeypatch.setattr(study, "fit", fail)
    assert cli.run(study.main, study.parser(), command) == 0
    second = capsys.readouterr().out
    assert "finished:" not in second and second.strip().startswith("acetylacetone, equal compute")


def test_operations_are_those_of_the_products(study):
    counter = study.Products()
    with counter:
        a = torch.ones(3, 4) @ torch.ones(4, 5)
        torch.ones(7, 3) @ a
    assert counter.flops == 2 * (3 * 4 * 5 + 7 * 3 * 5)


def test_mistakes_are_one_line(study, tmp_path, capsys):
    assert cli.run(study.main, study.parser(), ["--data", str(tmp_path / "none"), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert cli.run(study.main, study.parser(), []) == 2
    assert "--data" in capsys.readouterr().err
