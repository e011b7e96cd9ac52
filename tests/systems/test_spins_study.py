"""The study script on a tiny lattice, and its mistakes."""

import importlib.util
import json
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch

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
    for row, (layers, heads) in zip(values["arms"], plan.arms, strict=True):
        files = [tmp_path / f"seed_{seed}_{layers}_layers_{heads}_heads.json" for seed in (0, 1)]
        first, second = (json.loads(file.read_text())["row"] for file in files)
        assert row["mse"]["mean"] == pytest.approx((first["mse"] + second["mse"]) / 2)
        assert first["mse"] != second["mse"] and 0 < row["acceptance"]["mean"] <= 1
    assert values["laws"]["layers >= 1"]["interval"] is not None
    assert "exact" in values["chains"] and "uncorrected, linear" in values["chains"]
    assert (tmp_path / "spins.png").stat().st_size > 1000
    table = script.tables(result)
    assert "2 heads, layers >= 1" not in table  # two points make no power law
    assert f"{values['arms'][0]['mse']['mean']:.3g} ±" in table
    files[0].unlink()  # that piece is measured again and comes out alike, all others are taken up
    again = script.study(plan, arguments)
    assert [row["mse"] for row in again["arms"]] == [row["mse"] for row in values["arms"]]
    assert again["chains"] == values["chains"]
    for name, content in (("seed_0_exact.json", b"{}"), ("seed_0_sample.pt", b"foo"), ("plan.json", b"foo")):
        held = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name}: (expected|not valid)"):
            script.study(plan, arguments)
        (tmp_path / name).write_bytes(held)
    with pytest.raises(ValueError, match="out: expected an empty folder or one of the same plan, got"):
        script.study(script.Plan(size=4), arguments)


def test_the_ordered_and_the_random_start_differ_where_nothing_is_discarded(script):
    """The transient that the study discards is there, so that its halves can disagree."""
    plan = script.Plan(size=4, beta=8.0, exact_chains=16, exact_sweeps=(0, 1))
    chains = script.exact(plan, torch.Generator().manual_seed(0))["chains"]
    means = [chains[f"exact, from {start}"]["staggered"]["mean"] for start in ("order", "random")]
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
