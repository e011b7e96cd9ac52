"""Sections of pages: between the marks and nowhere else."""

import pytest

from raytrans.apps.pages import markdown, sections, write_section


def test_tables_in_markdown():
    assert markdown(("what", "rays"), [("a", 4436), ("b", 1234.56), ("c", None)]).splitlines() == [
        "| what | rays |",
        "| --- | --- |",
        "| a | 4436 |",
        "| b | 1235 |",
        "| c | - |",
    ]


def test_only_the_named_section_of_a_page_changes(tmp_path):
    page = tmp_path / "page.md"
    text = "top\n<!-- frames -->\nold\n<!-- /frames -->\n<!-- other -->\nkept\n<!-- /other -->\n"
    page.write_text(text)
    for _ in range(2):
        write_section(page, "frames", "new")
        assert page.read_text() == text.replace("old", "new")


@pytest.mark.parametrize(
    "text", ["", "<!-- a -->", "<!-- /a --><!-- a -->", "<!-- a --><!-- /a --><!-- a --><!-- /a -->"]
)
def test_a_page_without_marks_is_refused_and_left(tmp_path, text):
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(ValueError, match="--write: .*page.md: expected a page with <!-- a -->"):
        write_section(page, "a", "new")
    assert page.read_text() == text
    with pytest.raises(ValueError, match="no such page"):
        sections(tmp_path / "none.md", "a")
