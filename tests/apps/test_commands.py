"""The program `raytrans`: its list of commands, mistakes in one line, and the tools under its names."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import raytrans
from raytrans.apps import commands
from raytrans.apps.commands import COMMANDS, command, main, module_of
from raytrans.apps.version import checkout_commit, facts

ROOT = Path(raytrans.__file__).parents[1]
OF_THE_REPOSITORY = {"make_scenes", "results", "start"}  # they write the scenes and the pages of a checkout


def python(*arguments: str, before: str = "") -> subprocess.CompletedProcess:
    """`python -m raytrans ARGUMENTS`, after a line of Python."""
    code = f"import runpy, sys\n{before}\nsys.argv = {['raytrans', *arguments]}\n"
    program = [sys.executable, "-c", code + "runpy.run_module('raytrans', run_name='__main__', alter_sys=True)"]
    return subprocess.run(program, cwd=ROOT, capture_output=True, text=True)


def test_the_list_needs_neither_torch_nor_numpy():
    """Both are made impossible to import."""
    absent = "sys.modules.update(torch=None, numpy=None)"
    bare, helped = python(before=absent), python("--help", before=absent)
    assert (bare.returncode, bare.stderr) == (0, "") and bare.stdout == helped.stdout
    lines = bare.stdout.splitlines()
    assert [sum(line.startswith(f"  {name} ") for line in lines) for name in COMMANDS] == [1] * len(COMMANDS)
    assert len(lines) == len(COMMANDS) + 5 and max(map(len, lines)) <= 120


def test_a_missing_package_is_one_line():
    done = python("render", "--help", before="sys.modules['torch'] = None")
    assert (done.returncode, done.stdout) == (2, "") and done.stderr.count("\n") == 1
    assert done.stderr.startswith("raytrans render: error: ") and "torch" in done.stderr
    assert "`pip install --editable .` installs" in done.stderr


def test_ctrl_c_while_torch_is_imported_is_one_line():
    interrupt = "class Finder:\n    def find_spec(name, path, target=None):\n        if name == 'torch':\n"
    interrupt += "            raise KeyboardInterrupt\nsys.meta_path.insert(0, Finder)"
    done = python("verify", before=interrupt)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "raytrans verify: error: interrupted\n")


@pytest.mark.parametrize(
    ("name", "hint"),
    [("rendr", " (is it render?)"), ("inspect_scene", " (is it inspect?)"), ("--versions", ""), ("", ""), ("../x", "")],
)
def test_an_unknown_command_is_one_line(capsys, name, hint):
    assert main([name]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err == f"raytrans: error: expected a command of `raytrans --help`, got {name!r}{hint}\n"


def test_every_tool_is_a_command_and_says_the_same():
    tools = {file.stem: file.read_text() for file in (ROOT / "tools").glob("*.py")}
    found = {module_of(name): text for name, text in COMMANDS.items()}
    assert found.keys() == tools.keys() - OF_THE_REPOSITORY
    assert found == {name: ast.get_docstring(ast.parse(tools[name])) for name in found}


@pytest.mark.parametrize("name", COMMANDS)
def test_help_names_the_command(capsys, name):
    with pytest.raises(SystemExit) as stopped:
        main([name, "--help"])
    out, err = capsys.readouterr()
    assert stopped.value.code == 0 and err == ""
    assert out.split()[: 3 + ("[-h]" in out)][:3] == ["usage:", "raytrans", name]


def test_a_command_imports_its_own_module_alone(monkeypatch):
    asked = []
    monkeypatch.setattr(commands.importlib, "import_module", lambda name: asked.append(name) or sys.modules[name])
    for name in ("cli", "curves"):
        __import__(f"raytrans.apps.{name}")
    command("curves", "raytrans curves")
    assert asked == ["raytrans.apps.cli", "raytrans.apps.curves"]


def test_arguments_mistakes_and_status_are_those_of_the_tool(capsys, tmp_path):
    assert main(["render", str(tmp_path / "nowhere"), "--out", str(tmp_path / "out")]) == 2
    out, err = capsys.readouterr()
    assert err.startswith("raytrans render: error: ") and "nowhere" in err and err.count("\n") == 1
    assert main(["inspect", "--max-size", "0"]) == 2
    assert "raytrans inspect: error: argument --max-size" in capsys.readouterr().err
    assert main(["--version", "more"]) == 2
    assert capsys.readouterr().err == "raytrans --version: error: unrecognized arguments: more\n"


def test_the_version_names_what_runs(capsys):
    import torch

    assert main(["--version"]) == 0
    lines = dict(line.split(" ", 1) for line in capsys.readouterr().out.splitlines())
    assert lines == facts()
    assert (lines["raytrans"], lines["torch"]) == (raytrans.__version__, torch.__version__)
    assert lines["device"].startswith("cuda (" if torch.cuda.is_available() else "cpu")


@pytest.fixture
def checkout(tmp_path) -> tuple[Path, str]:
    """A folder under git with one commit, and the name of that."""
    names = {f"GIT_{who}_{what}": "x@y" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    folder = tmp_path / "checkout"
    try:
        subprocess.run(["git", "init", "-q", folder], check=True, capture_output=True)
    except OSError:
        pytest.skip("there is no git here")
    commit = ["git", "-C", folder, "commit", "-q", "--allow-empty", "-m", "first"]
    subprocess.run(commit, env={**os.environ, **names}, check=True, capture_output=True)
    head = (folder / ".git" / (folder / ".git" / "HEAD").read_text().split()[1]).read_text().strip()
    return folder, head


def test_the_commit_is_that_of_this_checkout_and_no_other(checkout, tmp_path, monkeypatch):
    folder, head = checkout
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))  # as in a hook of another project
    assert len(head) == 40 and checkout_commit(folder) == head
    (folder / "env" / "site-packages").mkdir(parents=True)
    assert checkout_commit(folder / "env" / "site-packages") is None
    assert checkout_commit(tmp_path) is None


def test_without_git_or_a_commit_there_is_none(checkout, tmp_path, monkeypatch):
    subprocess.run(["git", "init", "-q", tmp_path / "empty"], check=True)
    assert checkout_commit(tmp_path / "empty") is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert checkout_commit(checkout[0]) is None
