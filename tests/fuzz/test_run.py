"""The fuzzing program: it finds a fault that is put into a reader, keeps it, says so, and finds none where none is."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz import run

ROOT = Path(__file__).resolve().parents[2]
needs_atheris = pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="needs the extra fuzz")


def test_without_atheris_it_says_so_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["fuzz", "--seconds", "1"])
    monkeypatch.setattr(run.importlib.util, "find_spec", lambda name: None)
    assert run.main() == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.slow
@needs_atheris
@pytest.mark.parametrize("broken", [False, True])
def test_a_fault_is_found_kept_and_told(tmp_path, broken):
    for folder in ("raytrans", "tests/fuzz", "tests/data/readers"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    reader = tmp_path / "raytrans/data/ply.py"
    if broken:
        reader.write_text(
            reader.read_text().replace('raise ValueError(f"{path}: cut short', 'raise KeyError(f"{path}: cut')
        )
    words = ["--seconds", "20", "--runs", "300", "--only", "ply", "--out", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.run", *words], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == broken, done.stdout + done.stderr
    row = done.stdout.splitlines()[-2].split()
    assert row[0] == "ply" and int(row[1]) >= 300 and int(row[3]) >= int(row[2]) > 0
    kept = list((tmp_path / "out/ply/faults").glob("fault-*"))
    assert bool(kept) is broken and ("traceback: KeyError at ply.py" in done.stdout) is broken
