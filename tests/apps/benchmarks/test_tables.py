"""Tables in a page: between the marks and nowhere else."""

from raytrans.apps.benchmarks.tables import Table, write

TABLE = Table("Speed", ("what", "rays"), [("rendering", 4436), ("training", 1234.56), ("nothing", None)], "A note.")


def test_tables_replace_what_stands_between_the_marks(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# Title\n\n<!-- benchmark -->\nold\n<!-- /benchmark -->\n\nAfter.\n")
    for _ in range(2):
        write(page, [TABLE, TABLE], "A machine.")
        lines = page.read_text().splitlines()
        assert lines[0] == "# Title" and lines[-1] == "After." and "old" not in lines
        assert lines.count("## Speed") == 2 and lines.index("A machine.") > lines.index("<!-- benchmark -->")
        start = lines.index("| what | rays |")
        assert lines[start + 1 : start + 5] == [
            "| --- | --- |",
            "| rendering | 4436 |",
            "| training | 1235 |",
            "| nothing | - |",
        ]
