"""Whatever the pages tell people to type: snippets run, commands parse, links lead somewhere."""

import importlib
import re
import shlex
import textwrap
from pathlib import Path
from urllib.parse import unquote

import pytest
import torch

from raytrans import layers
from raytrans.apps.commands import module_of
from raytrans.rendering.renderer import Renderer
from raytrans.training.config import read_config

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "scenes/README.md")]
DOCUMENTS += sorted((ROOT / "docs").rglob("*.md"))
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"^(?: {4}| {8})(?! ).*$", re.MULTILINE)
SWITCH = re.compile(r"^\| (?:`(model\..*)`|nothing) \|.*\| ([\d,]+) \|$", re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
COMMAND = re.compile(r"(?:(?:python\S*|torchrun .*?) tools/(\w+)\.py\b|raytrans ([a-z][a-z-]+)(?= ))(.*)")


def title(document: Path) -> str:
    return document.relative_to(ROOT).as_posix()


def snippets(text: str, language: str = "python") -> list[tuple[int, str]]:
    """(line of the first statement, source) of every fenced block in a language."""
    found = FENCE.finditer(text)
    return [(text.count("\n", 0, m.start()) + 2, m[2]) for m in found if m[1] == language]


def run(source: str, line: int, name: str, namespace: dict) -> None:
    """Run a snippet so that an error names the line of the document."""
    exec(compile("\n" * (line - 1) + source, name, "exec"), namespace)


def commands(text: str) -> list[tuple[str, list[str]]]:
    """(tool, arguments) of every command line that calls a tool or `raytrans COMMAND`, in fenced or indented blocks."""
    blocks = [m[2] for m in FENCE.finditer(text) if m[1] != "python"]
    blocks += [textwrap.dedent(m[0]) for m in INDENTED.finditer(FENCE.sub("", text))]
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    found = [COMMAND.search(line) for line in lines]
    return [(m[1] or module_of(m[2]), shlex.split(m[3], comments=True)) for m in found if m]


def anchors(text: str) -> set[str]:
    """Names that links may give to the headings of a document."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.fixture
def copy_of_the_root(tmp_path, monkeypatch):
    """The current folder looks like the root of the repository, but whatever is written there goes with the test."""
    for name in ("scenes", "configs", "docs", "tools"):
        (tmp_path / name).symlink_to(ROOT / name, target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def one_thread():
    """Threads that share busy cores wait for each other at every one of the many small operations."""
    torch.set_num_threads(1)


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("document", DOCUMENTS, ids=title)
def test_snippets_run_in_the_order_of_the_page(document, copy_of_the_root):
    before = {path.name for path in copy_of_the_root.iterdir()}
    namespace = {"__name__": "snippet"}
    for line, source in snippets(document.read_text()):
        run(source, line, str(document), namespace)
    assert {path.name for path in copy_of_the_root.iterdir()} == before


def test_there_are_snippets_and_commands_to_try():
    texts = {title(document): document.read_text() for document in DOCUMENTS}
    assert len(snippets(texts["README.md"])) >= 3
    assert len(snippets(texts["docs/layers.md"])) >= 8
    assert {tool for text in texts.values() for tool, _ in commands(text)} >= {"render", "evaluate", "verify", "train"}


def test_every_layer_is_on_its_page():
    assert [name for name in layers.__all__ if name not in (ROOT / "docs/layers.md").read_text()] == []


def test_the_table_of_switches_counts_the_parameters():
    rows = SWITCH.findall((ROOT / "docs/training.md").read_text())
    assert len(rows) >= 15
    for changes, stated in rows:
        model = Renderer(read_config(str(ROOT / "configs/small.toml"), shlex.split(changes)).model)
        assert f"{sum(p.numel() for p in model.parameters()):,}" == stated, changes


def test_a_broken_snippet_is_found_at_its_line():
    text = "# Page\n\n```python\nvalue = 1\nassert value == 2\n```\n"
    [(line, source)] = snippets(text)
    with pytest.raises(AssertionError) as caught:
        run(source, line, "page.md", {})
    assert caught.traceback[-1].lineno + 1 == 5


@pytest.mark.parametrize("document", DOCUMENTS, ids=title)
def test_commands_are_understood_by_their_parsers(document):
    for tool, arguments in commands(document.read_text()):
        assert (ROOT / f"tools/{tool}.py").is_file()
        parser = importlib.import_module(f"raytrans.apps.{tool}").parser()
        assert parser.parse_args(arguments) is not None


@pytest.mark.parametrize("document", DOCUMENTS, ids=title)
def test_links_lead_to_files_and_headings(document):
    for target in LINK.findall(FENCE.sub("", document.read_text())):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = unquote(target).partition("#")
        file = document.parent / path if path else document
        assert file.exists(), f"{document.name} links to {target}"
        assert not anchor or anchor in anchors(file.read_text()), f"{document.name} links to {target}"


def test_pictures_of_the_pages_stay_small():
    sizes = {path.name: path.stat().st_size for path in (ROOT / "docs" / "images").iterdir()}
    assert sizes and {name: size for name, size in sizes.items() if size >= 300_000} == {}
