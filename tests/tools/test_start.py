"""The scripts in tools/: one line where raytrans cannot be imported or Ctrl-C comes early, else the command itself."""

import importlib
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"
NAMES = sorted(file.stem for file in TOOLS.glob("*.py") if file.stem != "start")


def run(name: str, *arguments: str, before: str = "") -> subprocess.CompletedProcess:
    """Run a tool as a script, after a line of Python."""
    path = str(TOOLS / f"{name}.py")
    code = f"import runpy, sys\n{before}\nsys.path.insert(0, {str(TOOLS)!r})\nsys.argv = {[path, *arguments]}\n"
    command = [sys.executable, "-c", code + f"runpy.run_path({path!r}, run_name='__main__')"]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_package_is_one_line(name):
    done = run(name, "--help", before="sys.modules['raytrans'] = None")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith(f"{name}: error: ") and done.stderr.count("\n") == 1
    assert "make setup" in done.stderr and f".venv/bin/python tools/{name}.py" in done.stderr


def test_ctrl_c_while_torch_is_imported_is_one_line():
    interrupt = "class Finder:\n    def find_spec(name, path, target=None):\n        if name == 'torch':\n"
    interrupt += "            raise KeyboardInterrupt\nsys.meta_path.insert(0, Finder)"
    done = run("render", "--help", before=interrupt)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "render: error: interrupted\n")


def helped(name: str, out: Path) -> tuple[int, str, str]:
    """Status, output and errors of a tool asked for help: run as a script by a copy of this process."""
    child = os.fork()
    if child == 0:
        status: object = "the tool returned"
        try:
            with open(out / "out", "w") as sys.stdout, open(out / "err", "w") as sys.stderr:
                sys.argv = [f"{TOOLS}/{name}.py", "--help"]
                sys.path.insert(0, str(TOOLS))
                runpy.run_path(sys.argv[0], run_name="__main__")
        except SystemExit as end:
            status = end.code
        finally:
            os._exit(status if isinstance(status, int) else 1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return status, (out / "out").read_text(), (out / "err").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_every_tool_explains_itself(tmp_path, name):
    importlib.import_module("raytrans.apps.commands").command(name, name)  # once, for every fork
    status, out, err = helped(name, tmp_path)
    assert status == 0 and f"usage: {name}" in out and err == ""


@pytest.mark.parametrize("name", ["demo", "evaluate", "export", "inspect_scene", "render", "verify"])
def test_scenes_of_every_format_are_named_alike(name):
    words = " ".join(importlib.import_module(f"raytrans.apps.{name}").parser().format_help().split())
    assert "folder of a scene, or the path of its camera file" in words
    assert "with a transforms.json" not in words


def test_a_mistake_has_its_status():
    done = subprocess.run([sys.executable, TOOLS / "render.py", "nowhere"], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("render: error: ")
