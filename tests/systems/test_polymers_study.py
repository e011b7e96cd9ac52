"""The study script, at a size of seconds."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch

import raytrans
from raytrans.apps import cli
from raytrans.systems.molecules.elements import SYMBOLS
from raytrans.systems.molecules.torchmd import Architecture
from raytrans.systems.molecules.xyz import Molecule
from raytrans.systems.polymers import families
from raytrans.systems.polymers.chains import polymer
from raytrans.systems.polymers.comparison import Conditions
from raytrans.systems.polymers.families import Sampling, sample

SCRIPT = Path(raytrans.__file__).parents[1] / "docs" / "studies" / "polymers.py"
CALM = Sampling(walkers=2, frames=2, settle=4, every=2)


@pytest.fixture
def study(monkeypatch):
    spec = importlib.util.spec_from_file_location("polymers_study", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "polymers_study", module)
    spec.loader.exec_module(module)
    small = {
        "FAMILIES": [("CH2", "H"), ("O", "H")],
        "HELD_OUT": (("O", "CH3"),),
        "SHORT": (1, 2),
        "LONG": 3,
        "SAMPLING": CALM,
        "OTHERS": CALM,
        "TRAINING_WALKERS": 1,
        "STEPS_PER_MINUTE": 3000,
        "ARCHITECTURE": Architecture(channels=8, layers=1, heads=2, basis=8, cutoff=4.0),
        "MOVING": ("CH2", "H", 1),
        "CONDITIONS": Conditions(settle=10),
        "METHANOL": tuple(sorted([6] * 3 + [1] * 8)),
    }
    for name, value in small.items():
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(families, "RELAXING", 10)
    return module


def write(path, molecules):
    lines = []
    for m in molecules:
        lines += [str(len(m.numbers)), f'Properties=species:S:1:pos:R:3:forces:R:3 energy={m.energy!r} pbc="F F F"']
        for number, x, f in zip(m.numbers, m.positions.tolist(), m.forces.tolist(), strict=True):
            lines.append(" ".join([SYMBOLS[number], *(f"{value:.10f}" for value in (*x, *f))]))
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture
def files(study, tmp_path):
    """Frames of four chains under the names of the four molecules."""
    chains = [polymer("CH2", "OH", 1), polymer("CH2", "CH3", 1), polymer("COO", "H", 1), polymer("O", "CH3", 1)]
    for names, walkers in zip(
        study.DFT_FILES.values(), sample(chains, CALM, [-100.0, -50.0, 0.0, 9.0], 0), strict=True
    ):
        for name in filter(None, names):
            write(tmp_path / name, walkers[0] + walkers[1])
    return tmp_path


def test_the_study_runs_and_goes_on_where_it_was(study, files, tmp_path, capsys):
    command = ["--data", str(files), "--out", str(tmp_path / "out"), "--seeds", "0", "1", "--minutes", "0.001"]
    command += ["--picoseconds", "0.04", "--workers", "1"]
    assert cli.run(study.main, study.parser(), command) == 0
    found = json.loads((tmp_path / "out" / "polymers.json").read_text())
    assert set(found["polymers"]) == set(study.ARMS) and set(found["dft"]) == set(study.DFT_ARMS)
    assert {row["steps"] for rows in (found["polymers"], found["dft"]) for row in rows.values()} == {3}
    assert {row["parameters"] for row in found["polymers"].values()} == {found["polymers"][study.FORCES]["parameters"]}
    nothing = found["facts"]["nothing"]
    for row in found["polymers"].values():  # three steps: near the start, where all is worth nothing
        for name in study.SETS:
            assert row[f"force: {name}"]["count"] == 2
            assert 0.2 < row[f"force: {name}"]["mean"] / nothing[name]["force"] < 2
    assert found["facts"]["chains"] == {"seen families": 4, "longer chains": 2, "held-out families": 1}
    moved = found["dynamics"]
    assert moved["reference"]["Rg"]["mean"] == 0 and moved["reference, other start"]["Rg"]["mean"] > 0
    assert moved["learned forces"]["lasted"]["mean"] == pytest.approx(0.04)
    assert (tmp_path / "out" / "polymers.png").stat().st_size > 1000
    runs = (tmp_path / "out" / "runs.jsonl").read_bytes()
    capsys.readouterr()
    assert cli.run(study.main, study.parser(), command) == 0
    assert (tmp_path / "out" / "runs.jsonl").read_bytes() == runs and "finished" not in capsys.readouterr().out


def test_mistakes_are_one_line(study, tmp_path, capsys):
    command = ["--out", str(tmp_path / "out"), "--minutes", "0.001", "--picoseconds", "0.01", "--workers", "1"]
    assert cli.run(study.main, study.parser(), [*command, "--data", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert cli.run(study.main, study.parser(), command) == 2
    assert "--data" in capsys.readouterr().err


def test_walkers_are_trained_on_or_tested_on(study):
    train, sets = study.labelled()
    tested = [molecule for systems in sets.values() for system in systems for molecule in system]
    assert not {id(molecule) for molecule in train} & {id(molecule) for molecule in tested}
    assert len(train) == 4 * 2 and [len(systems) for systems in sets.values()] == [4, 2, 1]
    compositions = [{m.composition for m in system} for system in sets["seen families"]]
    assert all(len(one) == 1 for one in compositions)
    assert all(m.composition not in {t.composition for t in train} for s in sets["held-out families"] for m in s)


def test_compositions_tell_the_chains_apart(study):
    """So that a constant of a composition is one of a chain, in the study as it is."""
    spec = importlib.util.spec_from_file_location("polymers_again", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["polymers_again"] = module
    try:
        spec.loader.exec_module(module)
        chains = module.chains_of(module.FAMILIES, module.SHORT)
    finally:
        del sys.modules["polymers_again"]
    assert len({tuple(sorted(chain.elements)) for chain in chains}) == len(chains) == 42
    assert len(module.FAMILIES) + len(module.HELD_OUT) == 24


def test_errors_forget_one_constant_of_every_system(study):
    class Exact(torch.nn.Module):
        """Half the sum of squares of coordinates, so that forces are minus the positions."""

        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(()))

        def forward(self, numbers, positions, system, count):
            squares = self.weight * positions.square().sum(-1) / 2
            return squares.new_zeros(count).index_add(0, system, squares)

    generator = torch.Generator().manual_seed(0)

    def system(zero, off):
        xs = torch.randn(3, 2, 3, generator=generator, dtype=torch.float64)
        steps = (off, 0.0, -off)
        return [
            Molecule(torch.tensor([1, 6]), x, float(x.square().sum() / 2) + zero + step, 0.01 - x)
            for x, step in zip(xs, steps, strict=True)
        ]

    found = study.errors(Exact(), [system(100.0, 0.03), system(-7.0, 0.0)])
    assert found["force"] == pytest.approx(10, rel=1e-3) and found["energy"] == pytest.approx(10, rel=1e-3)
