"""The pages of the studies: their commands can be typed, and their numbers, pictures and scripts are there."""

import importlib.util
import json
import re
import shlex
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs/studies").glob("*.md"))
COMMAND = re.compile(r"^ {4}\S*python docs/studies/(\w+)\.py(.*)$", re.MULTILINE)


def script(name: str):
    spec = importlib.util.spec_from_file_location(f"page_{name}", ROOT / f"docs/studies/{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def parser_of(module):
    return module.arguments_parser() if hasattr(module, "arguments_parser") else module.parser()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_parse_and_numbers_and_pictures_are_there(page):
    text, found = page.read_text(), 0
    for name, words in COMMAND.findall(text):
        parser_of(script(name)).parse_args(shlex.split(words))
        found += 1
    assert found
    numbers = json.loads(page.with_suffix(".json").read_text())
    assert numbers["seeds"] == [0, 1, 2] and numbers["cpu_seconds"] > 60 and "torch" in numbers["versions"]
    picture = f"study_{page.stem}.png"
    assert f"images/{picture})" in text and (ROOT / "docs/images" / picture).read_bytes().startswith(b"\x89PNG")


def test_all_six_have_a_page():
    assert [page.stem for page in PAGES] == ["algebra", "equiformer", "polymers", "scaling", "spins", "torchmd"]
