"""The site of the documentation: every page has its place, and links lead to the same files as in the repository."""

import importlib.util
import posixpath
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
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
PAGES = [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "docs").rglob("*.md"))]
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


@pytest.fixture
def copy(tmp_path):
    """What the site is made of, in a folder of its own."""
    for path in ("mkdocs.yml", "Makefile", *HOOKS.OUTSIDE):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / path)
    shutil.copytree(ROOT / "docs", tmp_path / "docs", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


@pytest.mark.skipif(
    importlib.util.find_spec("material") is None or shutil.which("make") is None,
    reason="needs the extra docs, and make",
)
def test_the_site_is_built_and_refuses_links_that_lead_nowhere(copy):
    command = ["make", "--old-file=.venv/.installed", "docs", f"PYTHON_IN_VENV={sys.executable}"]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    built = {path.relative_to(copy / "out/site").as_posix() for path in (copy / "out/site").rglob("*.html")}
    pages = {page.removeprefix("docs/").replace("README.md", "index.md").replace(".md", ".html") for page in PAGES}
    assert built == {*pages, "404.html"}
    loaded = re.compile(r"<(?:script|img|link|iframe)[^>]*(?:src|href)=\"?https?:")
    assert [page for page in built if loaded.search((copy / "out/site" / page).read_text())] == []
    (copy / "docs" / "start.md").write_text(
        "# Start\n\n[a](none.md), [a](design.md#none), [a](#none), ![a](none.png)\n"
    )
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True)
    assert done.returncode != 0 and done.stderr.count("WARNING") == 4


def differs(drawn: str, kept: str) -> bool:
    """Whether two figures differ by more than rounding, which torch may do differently elsewhere."""
    if NUMBER.sub("", drawn) != NUMBER.sub("", kept):
        return True
    pairs = zip(NUMBER.findall(drawn), NUMBER.findall(kept), strict=True)
    return any(abs(float(a) - float(b)) > 0.15 for a, b in pairs)


@pytest.mark.parametrize("name", list(FIGURES.FIGURES))
def test_figures_are_what_their_code_draws(name):
    kept = (FIGURES.FOLDER / name).read_text()
    assert not differs(FIGURES.FIGURES[name](), kept)
    assert any(f"](images/{name})" in (ROOT / page).read_text() for page in PAGES)


def test_a_figure_that_is_out_of_date_is_found(monkeypatch):
    kept = FIGURES.conventions()
    monkeypatch.setattr(FIGURES, "CAMERA", FIGURES.CAMERA.rolled(0.01))
    assert differs(FIGURES.conventions(), kept)


def test_entries_of_the_kernel_are_drawn_by_their_formula():
    """u^|n_out - n_in| v^|n_out + n_in|, u = s/sqrt(s^2 + 0.01^2), s = sin(theta/2), v the same with the cosine."""
    theta = 10 ** np.linspace(-4, 0, 120)
    u, v = (s / np.sqrt(s**2 + 0.01**2) for s in (np.sin(theta / 2), np.cos(theta / 2)))
    curves = re.findall(r'<polyline points="([^"]*)"', "".join(FIGURES.entries()))
    for (n_out, n_in), curve in zip(((1, 1), (1, 0), (1, -1)), curves, strict=True):
        heights = [float(point.split(",")[1]) for point in curve.split()]
        expected = 260 - 200 * u ** abs(n_out - n_in) * v ** abs(n_out + n_in)
        np.testing.assert_allclose(heights, expected, atol=0.1)


def test_the_figure_has_pixel_centres_at_a_half():
    drawn = "".join(FIGURES.pixels())
    left, top = map(float, re.search(r'<line x1="([\d.]+)" y1="([\d.]+)"', drawn).groups())
    centres = [(float(x), float(y)) for x, y in re.findall(r'cx="([\d.]+)" cy="([\d.]+)" r="2.5"', drawn)]
    side = centres[1][0] - centres[0][0]
    assert centres == [(left + (x + 0.5) * side, top + (y + 0.5) * side) for y in range(3) for x in range(4)]
