"""Limits that keep the code readable: sizes, inheritance, habits; and no trace of one machine in what is shared."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILE_LINES, FUNCTION_LINES, PARAMETERS, TOOL_LINES = 400, 80, 8, 30

MACHINE = re.compile(r"(?<![\w.}>])/(?:work|tmp|root|home|mnt|opt|Users)/\w")
REGISTRY = re.compile(r"\b(?:pypi\.org|pythonhosted\.org|download\.pytorch\.org|conda\.anaconda\.org)")
UNFINISHED = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X)\b|@[A-Z]+@")


def parameters(function: ast.FunctionDef) -> int:
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    extra = [one for one in (arguments.vararg, arguments.kwarg) if one]
    return len([one for one in named if one.arg not in ("self", "cls")]) + len(extra)


def over_budget(source: str) -> list[str]:
    """What in a file is too long, or takes too much."""
    problems = []
    lines = len(source.splitlines())
    if lines >= FILE_LINES:
        problems.append(f"{lines} lines, fewer than {FILE_LINES} allowed")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = node.end_lineno - node.lineno + 1
            if length > FUNCTION_LINES:
                problems.append(f"{node.lineno} {node.name}: {length} lines, {FUNCTION_LINES} allowed")
            if parameters(node) > PARAMETERS:
                problems.append(f"{node.lineno} {node.name}: {parameters(node)} parameters, {PARAMETERS} allowed")
    return problems


def bad_habits(source: str) -> list[str]:
    """Uses of what this package does without."""
    problems = [f"{word} left behind" for word in UNFINISHED.findall(source)]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("print", "exec", "eval"):
            problems.append(f"{node.lineno} calls {node.func.id}")
        if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
            problems.append(f"{node.lineno} imports *")
        if isinstance(node, ast.ImportFrom) and node.module == "__future__":
            problems.append(f"{node.lineno} imports from __future__, which takes the shapes away from the tests")
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            problems.append(f"{node.lineno} catches everything")
    return problems


def classes(sources: list[str]) -> list[ast.ClassDef]:
    return [node for source in sources for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef)]


def towers(sources: list[str]) -> list[str]:
    """Classes that derive from another class of the package."""
    found = classes(sources)
    ours = {node.name for node in found}
    bases = [(node.name, base) for node in found for base in node.bases]
    named = [(name, base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "")) for name, base in bases]
    return [f"{name} derives from {base}" for name, base in named if base in ours]


def python_files(*folders: str) -> list[Path]:
    return sorted(file for folder in folders for file in (ROOT / folder).rglob("*.py"))


def tracked_texts() -> dict[str, str]:
    """Every text file under version control, by name."""
    try:
        listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git clone, or no git here: the list of tracked files is unknown")
    texts = {}
    for name in filter(None, listing.decode().split("\0")):
        content = (ROOT / name).read_bytes() if (ROOT / name).is_file() else b""
        if b"\0" not in content[:8192]:
            texts[name] = content.decode(errors="replace")
    return texts


def places(texts: dict[str, str]) -> list[str]:
    """Lines that name a folder of one machine or the host of a registry."""
    return [
        f"{name}:{number}: {line.strip()[:80]}"
        for name, text in texts.items()
        for number, line in enumerate(text.splitlines(), 1)
        if MACHINE.search(line) or REGISTRY.search(line)
    ]


@pytest.mark.parametrize(
    "file", python_files("raytrans", "tools", "tests", "docs"), ids=lambda f: str(f.relative_to(ROOT))
)
def test_files_and_functions_stay_short(file):
    assert over_budget(file.read_text()) == []


@pytest.mark.parametrize("file", python_files("raytrans"), ids=lambda f: str(f.relative_to(ROOT)))
def test_the_package_keeps_good_habits(file):
    assert bad_habits(file.read_text()) == []


def test_tools_are_thin():
    long = {file.name: len(file.read_text().splitlines()) for file in python_files("tools")}
    assert {name: lines for name, lines in long.items() if lines >= TOOL_LINES} == {}


def test_classes_derive_from_nothing_of_ours():
    assert towers([file.read_text() for file in python_files("raytrans")]) == []


def test_pages_are_finished():
    pages = {name: UNFINISHED.findall(text) for name, text in tracked_texts().items() if name.endswith(".md")}
    assert "README.md" in pages and not any(pages.values())
    assert UNFINISHED.findall("see @NUM" + "BERS@") and not UNFINISHED.findall("me@example.org, a@B")


def test_what_is_shared_names_no_machine():
    texts = tracked_texts()
    assert "pyproject.toml" in texts
    assert places({name: text for name, text in texts.items() if name != "tests/test_style.py"}) == []


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("x = 1\n" * FILE_LINES, 1),
        ("def f():\n" + "    x = 1\n" * FUNCTION_LINES, 1),
        ("def f():\n" + "    x = 1\n" * (FUNCTION_LINES - 1), 0),
        ("def f(a, b, c, d, e, f, g, h, *, i): pass", 1),
        ("class A:\n    def f(self, a, b, c, d, e, f, g, h): pass", 0),
    ],
)
def test_the_budget_counts(source, count):
    assert len(over_budget(source)) == count


@pytest.mark.parametrize(
    "source",
    ["print(1)", "from math import *", "from __future__ import annotations", "# TO" + "DO", "try: x\nexcept: pass"],
)
def test_bad_habits_are_found(source):
    assert len(bad_habits(source)) == 1


def test_towers_are_found():
    assert towers(["class A(nn.Module): pass", "class B(layers.A): pass", "class C(ValueError): pass"]) == [
        "B derives from A"
    ]


@pytest.mark.parametrize(
    ("line", "count"),
    [
        ("path = '/work/data'", 1),
        ("cd /home/someone/x", 1),
        ("pip install -i https://pypi.org/simple", 1),
        ("#!/usr/bin/env bash", 0),
        ("https://example.org/home/page", 0),
        ("out/tmp/file", 0),
    ],
)
def test_traces_of_a_machine_are_found(line, count):
    assert len(places({"file": line})) == count
