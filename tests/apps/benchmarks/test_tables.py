"""Tables in a page: between the marks and nowhere else."""

import pytest

from raytrans.apps.benchmarks.tables import BEGIN, END, Table, check, write

TABLE = Table("Speed", ("what", "rays"), [("rendering", 4436), ("training", 1234.56), ("nothing", None)], "A note.")


def test_tables_replace_what_stands_between_the_marks(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"# Title\n\n{BEGIN}\nold\n{END}\n\nAfter.\n")
    for _ in range(2):
        write(page, [TABLE, TABLE], "A machine.")
        lines = page.read_text().splitlines()
        assert lines[0] == "# Title" and lines[-1] == "After." and "old" not in lines
        assert lines.count("## Speed") == 2 and lines.index("A machine.") > lines.index(BEGIN)
        start = lines.index("| what | rays |")
        assert lines[start + 1 : start + 5] == [
            "| --- | --- |",
            "| rendering | 4436 |",
            "| training | 1235 |",
            "| nothing | - |",
        ]


@pytest.mark.parametrize("text", ["", BEGIN, f"{END}{BEGIN}", f"{BEGIN}{END}{BEGIN}{END}"])
def test_a_page_without_marks_is_refused_and_left(tmp_path, text):
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(ValueError, match="--write: .*page.md: expected a page with"):
        write(page, [TABLE], "A machine.")
    with pytest.raises(ValueError):
        check(page)
    assert page.read_text() == text
