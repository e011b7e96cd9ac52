"""Tables of the benchmark: for the terminal, and for a page between two marks."""

from dataclasses import dataclass
from pathlib import Path

from raytrans.apps import cli
from raytrans.export.files import write_bytes

BEGIN, END = "<!-- benchmark -->", "<!-- /benchmark -->"


@dataclass(frozen=True)
class Table:
    """Rows under a header; the note says what the numbers mean."""

    title: str
    header: tuple[str, ...]
    rows: list[tuple]
    note: str = ""

    def text(self) -> str:
        """For the terminal."""
        return "\n".join([self.title, cli.table(self.header, self.rows)])

    def markdown(self) -> str:
        """For a page: heading, note and table."""
        lines = [self.header, ["---"] * len(self.header), *([cli.cell(v) for v in row] for row in self.rows)]
        body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return "\n\n".join(part for part in (f"## {self.title}", self.note, body) if part)


def write(path: Path, tables: list[Table], facts: str) -> None:
    """Put the tables into a page, in place of what stands between its marks; ValueError where it has none."""
    page = check(path)
    before, rest = page.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    content = "\n\n".join([facts, *(table.markdown() for table in tables)])
    write_bytes(path, f"{before}{BEGIN}\n{content}\n{END}{after}".encode())


def check(path: Path) -> str:
    """The page, which has both marks in order, each once; ValueError otherwise."""
    page = path.read_text()
    if page.count(BEGIN) != 1 or page.count(END) != 1 or page.index(BEGIN) > page.index(END):
        raise ValueError(f"--write: {path}: expected a page with {BEGIN} and then {END}, each once, got none such")
    return page
