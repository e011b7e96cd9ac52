"""The study script on a tiny lattice, and its mistakes."""

import importlib.util
import json
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest

FILE = Path(__file__).resolve().parents[2] / "docs" / "studies" / "spins.py"


@pytest.fixture(scope="module")
def script():
    specification = importlib.util.spec_from_file_location("spins_study", FILE)
    module = importlib.util.module_from_spec(specification)
    sys.modules["spins_study"] = module
    specification.loader.exec_module(module)
    return module


def test_a_tiny_study(script, tmp_path, capsys):
    few = {"discarded": 1, "rounds": 4, "depths": (1, 2), "heads": (1, 2), "steps": 25, "acceptance_rounds": 1}
    short = {"long_sweeps": 2, "comparison": (1, 3), "exact_sweeps": (1, 3)}
    chains = {"chains": 40, "test_chains": 20, "acceptance_chains": 16, "exact_chains": 8}
    plan = script.Plan(size=4, beta=8.0, sweeps=1, **few, **short, **chains)
    arguments = Namespace(out=tmp_path, seeds=[0, 1], minutes=1.0)
    result = script.study(plan, arguments)
    script.script.finish(arguments, result, script.picture(result), "spins")
    values = json.loads((tmp_path / "spins.json").read_text())
    assert [row["parameters"] for row in values["arms"]] == [6, 24, 42, 42, 78]
    seeds = [json.loads((tmp_path / f"seed_{seed}.json").read_text()) for seed in (0, 1)]
    for row, first, second in zip(values["arms"], *(one["arms"] for one in seeds), strict=True):
        assert row["mse"]["mean"] == pytest.approx((first["mse"] + second["mse"]) / 2)
        assert first["mse"] != second["mse"] and 0 < row["acceptance"]["mean"] <= 1
    assert values["laws"]["layers >= 1"]["interval"] is not None
    assert "exact" in values["chains"] and "uncorrected, linear" in values["chains"]
    assert (tmp_path / "spins.png").stat().st_size > 1000
    table = script.tables(result)
    assert "2 heads, layers >= 1" not in table  # two points make no power law
    assert f"{values['arms'][0]['mse']['mean']:.3g} ±" in table
    before = (tmp_path / "seed_0.json").read_text()
    assert json.loads(json.dumps(script.study(plan, arguments)))["arms"] == values["arms"]
    assert (tmp_path / "seed_0.json").read_text() == before  # taken up, not measured again


def test_the_ordered_and_the_random_start_differ_where_nothing_is_discarded(script):
    """The transient that the study discards is there, so that its halves can disagree."""
    import torch

    plan = script.Plan(size=4, beta=8.0, exact_chains=16, exact_sweeps=(0, 1))
    spins = script.exact_chain(plan, torch.Generator().manual_seed(0))
    means = [script.observed(plan.system, half)["staggered"]["mean"] for half in (spins[:, ::2], spins[:, 1::2])]
    assert means[0] - means[1] > 0.3 and np.isfinite(means).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--size", "5"], "rows: expected an even number at half filling (potential 0), got 5"),
        (["--size", "2"], "rows: expected a whole number of at least 3, got 2"),
        (["--beta", "0"], "beta: expected a positive number, got 0.0"),
        (["--coupling", "nan"], "coupling: expected a finite number, got nan"),
    ],
)
def test_mistakes_are_one_line(script, options, message, tmp_path, capsys):
    arguments = ["--out", str(tmp_path / "out"), "--minutes", "0.001", *options]
    assert script.cli.run(script.main, script.arguments_parser(), arguments) == 2
    assert capsys.readouterr().err == f"spins: error: {message}\n"


def test_the_script_is_run_as_a_file(tmp_path):
    done = subprocess.run([sys.executable, str(FILE), "--size", "7"], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1) and "got 7" in done.stderr
