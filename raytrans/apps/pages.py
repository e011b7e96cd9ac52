"""Tables in the pages of the documentation, each between two marks, so that a command can write it again."""

from collections.abc import Sequence
from pathlib import Path

from raytrans.apps import cli
from raytrans.export.files import write_text


def markdown(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table in markdown."""
    lines = [header, ["---"] * len(header), *([cli.cell(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write_section(path: Path, name: str, content: str) -> None:
    """Replace what stands between <!-- name --> and <!-- /name --> in a page; ValueError where it has none such."""
    before, after = sections(path, name)
    write_text(path, f"{before}\n{content}\n{after}")


def sections(path: Path, name: str) -> tuple[str, str]:
    """What comes before and after a section of a page, its marks included.

    Raises:
        ValueError: no such page, or one that has not both marks, each once and in order.
    """
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    if not path.is_file():
        raise ValueError(f"--write: no such page {path}")
    page = path.read_text()
    if page.count(start) != 1 or page.count(end) != 1 or page.index(start) > page.index(end):
        raise ValueError(f"--write: {path}: expected a page with {start} and then {end}, each once, got none such")
    return page[: page.index(start) + len(start)], page[page.index(end) :]
