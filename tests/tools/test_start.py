"""The scripts in tools/: one line where raytrans cannot be imported or Ctrl-C comes early, else the command itself."""

import importlib
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


# Asks every tool for help in a process of its own, a copy of one that has imported what `start` imports first anyway.
HELP = """
import os, runpy, sys
tools, out, *names = sys.argv[1:]
sys.path[:] = [tools, *sys.path, os.path.dirname(tools)]
import raytrans.apps.cli
for name in names:
    child = os.fork()
    if child == 0:
        for number, stream in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{out}/{name}.{stream}", os.O_WRONLY | os.O_CREAT), number)
        sys.argv = [f"{tools}/{name}.py", "--help"]
        runpy.run_path(sys.argv[0], run_name="__main__")
        sys.exit("the tool returned")
    with open(f"{out}/{name}.status", "w") as file:
        file.write(str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])))
"""


@pytest.fixture(scope="module")
def helped(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("help")
    subprocess.run([sys.executable, "-c", HELP, TOOLS, out, *NAMES], check=True)
    return out


@pytest.mark.parametrize("name", NAMES)
def test_every_tool_explains_itself(helped, name):
    status, out, err = ((helped / f"{name}.{part}").read_text() for part in ("status", "out", "err"))
    assert status == "0" and f"usage: {name}" in out and err == ""


@pytest.mark.parametrize("name", ["demo", "evaluate", "export", "inspect_scene", "render", "verify"])
def test_scenes_of_every_format_are_named_alike(name):
    words = " ".join(importlib.import_module(f"raytrans.apps.{name}").parser().format_help().split())
    assert "folder of a scene, or the path of its camera file" in words
    assert "with a transforms.json" not in words


def test_a_mistake_has_its_status():
    done = subprocess.run([sys.executable, TOOLS / "render.py", "nowhere"], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("render: error: ")
