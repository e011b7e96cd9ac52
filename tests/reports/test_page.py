import base64
import io
import os

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from raytrans.reports.page import Page


def content(uri, kind):
    head, _, data = uri.partition(",")
    assert head == f"data:{kind};base64"
    return base64.b64decode(data, validate=True)


def test_parts_come_in_the_order_of_the_calls(read_html):
    page = Page("Report")
    page.heading("First")
    page.paragraph("Some text.")
    page.table(["name", "value"], [["a", 1]], caption="Numbers")
    page.heading("Second")
    reader = read_html(page.html())
    assert page.html().startswith("<!doctype html>")
    assert [tag for tag in reader.tags if tag in ("title", "h1", "h2", "p", "table")] == [
        *("title", "h1", "h2", "p", "table", "h2")
    ]
    assert reader.of("title") == reader.of("h1") == ["Report"]
    assert reader.of("h2") == ["First", "Second"] and reader.of("p") == ["Some text."]
    assert reader.of("caption") == ["Numbers"]


# Control characters and line ends that HTML itself does not keep are left out.
@given(st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1))
def test_text_is_never_read_as_html(read_html, text):
    page = Page(text)
    page.paragraph(text)
    page.table([text], [[text]], caption=text)
    page.images([(text, np.zeros((2, 2, 3), np.uint8))])
    reader = read_html(page.html())
    for tag in ("title", "h1", "p", "caption", "th", "td", "figcaption"):
        assert reader.of(tag) == [text]


def test_markup_in_text_makes_no_tag(read_html):
    page = Page("</title><script>alert(1)</script>")
    page.images([('"><script>x</script>', np.zeros((2, 2), np.uint8))])
    page.table(["<b>"], [["<script>"]])
    tags = read_html(page.html()).tags
    assert "script" not in tags and "b" not in tags and tags.count("img") == 1


def test_cells_show_values(read_html):
    page = Page("Report")
    row = ["text", 1234567, 1 / 3, 2.5e-12, True, None, np.float32(0.5), torch.tensor(7), float("nan")]
    page.table([str(index) for index in range(len(row))], [row])
    cells = [(kind, text) for tag, kind, text in read_html(page.html()).texts if tag == "td"]
    assert [text for _, text in cells] == ["text", "1234567", "0.3333", "2.5e-12", "yes", "", "0.5", "7", "nan"]
    assert [index for index, (kind, _) in enumerate(cells) if kind == "number"] == [1, 2, 3, 6, 7, 8]


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match=r"rows\[1\]: expected 2 cells, got 1"):
        Page("Report").table(["a", "b"], [[1, 2], [3]])


def test_images_are_in_the_page_pixel_for_pixel(read_html):
    color = torch.rand(5, 7, 3)
    grey = np.arange(6, dtype=np.uint8).reshape(2, 3)
    page = Page("Report")
    page.images([("colour", color), ("grey", grey)], width=200)
    reader = read_html(page.html())
    first, second = (np.asarray(Image.open(io.BytesIO(content(uri, "image/png")))) for uri in reader.sources)
    assert np.array_equal(first, (color.double().numpy() * 255).round().astype(np.uint8))
    assert np.array_equal(second, grey)
    assert page.html().count('width="200"') == 2


def test_a_video_is_in_the_page(read_html, tmp_path):
    levels = [0.2, 0.5, 0.8]
    page = Page("Report")
    page.video("orbit", [torch.full((16, 18, 3), level) for level in levels], fps=12)
    (uri,) = read_html(page.html()).sources
    (tmp_path / "video.mp4").write_bytes(content(uri, "video/mp4"))
    frames = imageio_ffmpeg.read_frames(str(tmp_path / "video.mp4"))
    about = next(frames)
    found = [np.frombuffer(frame, np.uint8).mean() / 255 for frame in frames]
    assert about["size"] == (18, 16) and about["fps"] == 12
    assert np.allclose(found, levels, atol=0.02)


def test_a_page_needs_nothing_else(read_html):
    page = Page("Report")
    page.images([("a", np.zeros((2, 2, 3)))])
    page.video("b", [np.zeros((4, 4, 3))] * 2)
    html = page.html()
    assert len(read_html(html).sources) == 2 and all(uri.startswith("data:") for uri in read_html(html).sources)
    assert "http" not in html and "url(" not in html and "@import" not in html


def test_saving_is_all_or_nothing(tmp_path, monkeypatch):
    path = tmp_path / "new" / "page.html"
    Page("Old ☀").save(path)
    old = path.read_text(encoding="utf-8")
    assert "Old ☀" in old

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(OSError, match=r"page\.html"):
        Page("New").save(path)
    assert path.read_text(encoding="utf-8") == old
    assert list(path.parent.iterdir()) == [path]
