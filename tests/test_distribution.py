"""What is built from the project: a source archive, a wheel from it, and the program in a bare environment."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from importlib import import_module
from pathlib import Path

import pytest

from raytrans.training.checkpoint import RELEASED

ROOT = Path(__file__).resolve().parents[1]
WEIGHTS = "raytrans/weights/small.safetensors"
BUILD = "import sys; from setuptools import build_meta; getattr(build_meta, sys.argv[1])(sys.argv[2])"


def test_the_entry_point_is_a_function():
    [(name, target)] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"].items()
    module, function = target.split(":")
    assert name == "raytrans" and callable(getattr(import_module(module), function))


def build(kind: str, source: Path, out: Path) -> Path:
    """Build what PEP 517 names `kind` from a folder, with the setuptools that is here."""
    out.mkdir()
    subprocess.run([sys.executable, "-c", BUILD, kind, out], cwd=source, check=True, capture_output=True)
    [file] = out.iterdir()
    return file


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> tuple[Path, Path]:
    """(source archive, wheel that is built from what it holds)."""
    folder = tmp_path_factory.mktemp("built")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "raytrans", source / "raytrans", ignore=shutil.ignore_patterns("__pycache__"))
    archive = build("build_sdist", source, folder / "sdist")
    with tarfile.open(archive) as opened:
        opened.extractall(folder / "unpacked")
    [unpacked] = (folder / "unpacked").iterdir()
    return archive, build("build_wheel", unpacked, folder / "wheel")


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_its_weights(built):
    with zipfile.ZipFile(built[1]) as wheel:
        names = set(wheel.namelist())
        assert wheel.read(WEIGHTS) == RELEASED.read_bytes()
        [facts] = [wheel.read(name).decode() for name in names if name.endswith(".dist-info/METADATA")]
    files = {str(file.relative_to(ROOT)) for file in (ROOT / "raytrans").rglob("*.py")}
    assert {name for name in names if ".dist-info/" not in name} == files | {WEIGHTS, "raytrans/py.typed"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    required = [line for line in re.findall(r"^Requires-Dist: (.*)$", facts, re.MULTILINE) if "extra ==" not in line]
    assert sorted(required) == sorted(project["dependencies"])


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_the_wheel_works_in_a_bare_environment(built, tmp_path):
    """Installed as `.ci/setup` does, but without extras, from wherever this machine's pip takes torch."""
    venv.create(tmp_path / "env", with_pip=True)
    programs = tmp_path / "env" / "bin"
    surroundings = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(*command: str | Path) -> str:
        done = subprocess.run(command, cwd=tmp_path, env=surroundings, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run(programs / "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt", built[1])
    present = {line.split("==")[0].lower() for line in run(programs / "pip", "list", "--format=freeze").splitlines()}
    assert {"raytrans", "torch"} <= present and not present & {"beartype", "pycolmap", "pytest", "scipy", "trimesh"}
    shutil.copytree(ROOT / "scenes" / "blocks", tmp_path / "scene")
    versions = dict(line.split(" ", 1) for line in run(programs / "raytrans", "--version").splitlines())
    assert versions.keys() == {"raytrans", "torch", "numpy", "python", "device"}
    options = ["--out", "out", "--max-size", "16", "--sources", "2", "--views", "orbit", "--frames", "1"]
    run(programs / "raytrans", "render", "scene", *options)
    assert (tmp_path / "out" / "transforms.json").is_file() and list((tmp_path / "out").rglob("0000.png"))
    assert str(tmp_path) in run(programs / "python", "-c", "import raytrans; print(raytrans.load.__code__.co_filename)")
