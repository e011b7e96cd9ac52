"""The site of the documentation: every page has its place, and links lead to the same files as in the repository."""

import importlib.util
import posixpath
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NAVIGATION = re.compile(r"^ +- [^:]+: (\S+)$", re.MULTILINE)
NUMBER = re.compile(r"-?\d+\.\d")
LINK = re.compile(r"\]\(([^)#\s]+)(#[^)\s]*)?\)")


def module(name: str):
    """A script of docs/, which is no package."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", ROOT / "docs" / f"{name}.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


HOOKS, FIGURES = module("hooks"), module("figures")
PAGES = [f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))]
PAGES += [path for path in HOOKS.OUTSIDE if path.endswith(".md")]


def links(markdown: str) -> list[str]:
    return [path for path, _ in LINK.findall(markdown) if not path.startswith(("http://", "https://"))]


def test_the_navigation_names_every_page_once():
    text = (ROOT / "mkdocs.yml").read_text()
    named = NAVIGATION.findall(text[text.index("\nnav:") :])
    assert sorted(named) == sorted(page.removeprefix("docs/") for page in PAGES)


def test_what_lies_outside_of_docs_exists_and_hides_no_page():
    assert [path for path in HOOKS.OUTSIDE if not (ROOT / path).is_file()] == []
    assert [path for path in HOOKS.OUTSIDE if (ROOT / "docs" / path).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_the_same_files_in_the_site(page):
    markdown = (ROOT / page).read_text()
    for before, after in zip(links(markdown), links(HOOKS.carried(markdown, page)), strict=True):
        meant = (ROOT / page).parent.joinpath(before).resolve().relative_to(ROOT).as_posix()
        folder = posixpath.dirname(page.removeprefix("docs/"))
        reached = posixpath.normpath(posixpath.join(folder, after))
        assert not reached.startswith(".."), f"{page}: {before} leaves the site"
        assert (reached if reached in HOOKS.OUTSIDE else f"docs/{reached}") == meant


@pytest.mark.parametrize(
    ("page", "before", "after"),
    [
        ("README.md", "[a](docs/design.md#6-the-house)", "[a](design.md#6-the-house)"),
        ("README.md", "![a](scenes/contact_sheet.png)", "![a](scenes/contact_sheet.png)"),
        ("docs/design.md", "[a](../CONTRIBUTING.md#a-new-reader)", "[a](CONTRIBUTING.md#a-new-reader)"),
        ("docs/design.md", "[a](layers.md) [b](#top)", "[a](layers.md) [b](#top)"),
        ("scenes/README.md", "![a](contact_sheet.png)", "![a](contact_sheet.png)"),
        ("scenes/README.md", "[a](../docs/scenes.md)", "[a](../scenes.md)"),
        ("docs/design.md", "[a](https://example.org/a.md) f(x)", "[a](https://example.org/a.md) f(x)"),
    ],
)
def test_links_are_carried_over(page, before, after):
    assert HOOKS.carried(before, page) == after


def differs(drawn: str, kept: str) -> bool:
    """Whether two figures differ by more than rounding, which torch may do differently elsewhere."""
    if NUMBER.sub("", drawn) != NUMBER.sub("", kept):
        return True
    pairs = zip(NUMBER.findall(drawn), NUMBER.findall(kept), strict=True)
    return any(abs(float(a) - float(b)) > 0.15 for a, b in pairs)


def test_the_figure_is_what_its_code_draws(monkeypatch):
    kept = FIGURES.FILE.read_text()
    assert not differs(FIGURES.conventions(), kept)
    monkeypatch.setattr(FIGURES, "CAMERA", FIGURES.CAMERA.rolled(0.01))
    assert differs(FIGURES.conventions(), kept)


def test_the_figure_has_pixel_centres_at_a_half():
    drawn = "".join(FIGURES.pixels())
    left, top = map(float, re.search(r'<line x1="([\d.]+)" y1="([\d.]+)"', drawn).groups())
    centres = [(float(x), float(y)) for x, y in re.findall(r'cx="([\d.]+)" cy="([\d.]+)" r="2.5"', drawn)]
    side = centres[1][0] - centres[0][0]
    assert centres == [(left + (x + 0.5) * side, top + (y + 0.5) * side) for y in range(3) for x in range(4)]
