"""Tables of the benchmark: for the terminal, and for a page between two marks."""

from dataclasses import dataclass
from pathlib import Path

from raytrans.apps import cli, pages

SECTION = "benchmark"


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
        return "\n\n".join(
            part for part in (f"## {self.title}", self.note, pages.markdown(self.header, self.rows)) if part
        )


def write(path: Path, tables: list[Table], facts: str) -> None:
    """Put the tables into a page, in place of what stands between its marks; ValueError where it has none."""
    pages.write_section(path, SECTION, "\n\n".join([facts, *(table.markdown() for table in tables)]))
