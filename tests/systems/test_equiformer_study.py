"""The study of the Equiformer, small: what it writes, what it does not do twice, what it refuses."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from raytrans.apps import cli
from raytrans.systems.molecules.equiformer import EquiformerConfig

SCRIPT = Path(__file__).resolve().parents[2] / "docs/studies/equiformer.py"
TINY = {"channels": (4, 2), "blocks": 1, "heads": 2, "basis": 6, "radial": 6}


@pytest.fixture
def study(monkeypatch):
    spec = importlib.util.spec_from_file_location("equiformer_study", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    arms = {"mlp": EquiformerConfig(**TINY), "dot": EquiformerConfig(**TINY, attention="dot")}
    monkeypatch.setattr(module, "ARMS", arms)
    return module


@pytest.fixture
def data(tmp_path, study):
    """Files of the names that the study reads: water and hydrogen peroxide with forces drawn at random."""
    generator = np.random.default_rng(0)
    places = {"O": [0.0, 0, 0], "H": [0.96, 0, 0], "H2": [-0.24, 0.93, 0], "O2": [0.3, -0.4, 1.3]}
    for name, atoms in zip((*study.TRAIN, *study.TEST.values()), ("O H H2", "O H H2 O2") * 2, strict=True):
        frames = []
        for _ in range(5):
            rows = [(a[0], *(places[a] + 0.05 * generator.standard_normal(3))) for a in atoms.split()]
            lines = [" ".join(map(str, (*row, *generator.standard_normal(3)))) for row in rows]
            head = f"{len(rows)}\nProperties=species:S:1:pos:R:3:forces:R:3 energy={generator.standard_normal() - 100}"
            frames.append("\n".join([head, *lines]))
        (tmp_path / name).write_text("\n".join(frames) + "\n")
    return tmp_path


def run(study, *words):
    return cli.run(study.main, study.parser(), list(map(str, words)))


def test_it_writes_numbers_and_a_picture_and_trains_nothing_twice(study, data, capsys, monkeypatch):
    out = data / "out"
    words = ("--data", data, "--out", out, "--minutes", "0.002", "--seeds", "0", "1", "--frames", "3")
    assert run(study, *words) == 0
    values = json.loads((out / "equiformer.json").read_text())
    assert list(values["arms"]) == ["mlp", "dot"] and values["seeds"] == [0, 1] and values["cpu_seconds"] > 0
    for arm in values["arms"].values():
        assert arm["parameters"] > 100 and arm["energy_flops"] > 1000 and len(arm["runs"]) == 2
        for name in study.TEST:
            found = [one["errors"][name]["force"] for one in arm["runs"]]
            assert arm["errors"][name]["force"]["mean"] == pytest.approx(np.mean(found)) and min(found) > 0
            # float32, in meV/Angstrom, of forces of an eV/Angstrom
            assert max(one["errors"][name]["rotation"] for one in arm["runs"]) < 0.1
    assert (out / "equiformer.png").read_bytes().startswith(b"\x89PNG")
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(table) == 4 and table[2].startswith("| mlp | 4x0+2x1 |")

    def never(*_):
        raise AssertionError("trained again")

    monkeypatch.setattr(study, "run", never)
    assert run(study, *words) == 0
    assert json.loads((out / "equiformer.json").read_text())["arms"] == values["arms"]
    with pytest.raises(AssertionError, match="trained again"):
        run(study, *words, "--minutes", "0.003")
    with pytest.raises(AssertionError, match="trained again"):
        run(study, *words, "--steps", "2")


def test_steps_are_a_budget_too(study, data):
    assert run(study, "--data", data, "--out", data / "out", "--steps", "2", "--seeds", "3", "--arms", "mlp") == 0
    [found] = json.loads((data / "out/equiformer.json").read_text())["arms"]["mlp"]["runs"]
    assert found["steps"] == 2 and found["seed"] == 3


def test_mistakes_are_one_line_and_status_two(study, data, capsys):
    assert run(study, "--data", data / "nowhere", "--out", data / "out") == 2
    assert run(study, "--data", data, "--arms", "none") == 2
    assert run(study) == 2
    (data / study.TRAIN[0]).write_text("1\nenergy=1\nXx 0 0 0\n")
    assert run(study, "--data", data, "--out", data / "out") == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 4 and all(line.startswith("equiformer: error: ") for line in lines)
    assert "cannot be read" in lines[0] and "--data" in lines[2] and "symbol of an element, got 'Xx'" in lines[3]


def test_frames_are_spread_evenly(study):
    assert study.evenly(list(range(10)), 4) == [0, 3, 6, 9] and study.evenly([1, 2], 5) == [1, 2]
