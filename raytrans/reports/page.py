"""A report as one HTML file that needs no other: text, tables, pictures and videos inside it as data."""

import base64
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from torch import Tensor

from raytrans.export.files import png_bytes, write_text, write_video

MARK = '<meta name="generator" content="raytrans">'  # by which a page is known to be ours
COMPRESSION = 6  # of pictures: hardly larger than the smallest, in a sixth of the time
STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; }
caption, figcaption { text-align: left; font-size: 0.875rem; }
th, td { padding: 0.2rem 0.8rem; border-bottom: 1px solid #8886; text-align: left; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
.row { display: flex; flex-wrap: wrap; gap: 1rem; margin: 1rem 0; }
figure { margin: 0; }
img, video { display: block; max-width: 100%; height: auto; image-rendering: pixelated; }
"""


class Page:
    """Collects the parts of a report in the order of the calls; text is escaped, never read as HTML."""

    def __init__(self, title: str):
        self.title = title
        self._parts: list[str] = []

    def heading(self, text: str) -> None:
        self._parts.append(f"<h2>{escape(text)}</h2>")

    def paragraph(self, text: str) -> None:
        self._parts.append(f"<p>{escape(text)}</p>")

    def table(self, header: Sequence[str], rows: Iterable[Sequence[object]], caption: str = "") -> None:
        """A table; numbers stand right, floats with four significant digits, True and False as yes and no.

        Raises ValueError for a row that has not as many cells as the header.
        """
        rows = [tuple(row) for row in rows]
        for index, row in enumerate(rows):
            if len(row) != len(header):
                raise ValueError(f"rows[{index}]: expected {len(header)} cells, got {len(row)}")
        lines = [f"<caption>{escape(caption)}</caption>"] if caption else []
        lines.append("<thead><tr>" + "".join(f"<th>{escape(name)}</th>" for name in header) + "</tr></thead><tbody>")
        lines += ["<tr>" + "".join(map(_cell, row)) + "</tr>" for row in rows]
        self._parts.append("\n".join(["<table>", *lines, "</tbody></table>"]))

    def images(self, pictures: Iterable[tuple[str, Tensor | np.ndarray]], width: int | None = None) -> None:
        """A row of (caption, image) side by side: images (H, W) or (H, W, 3), floats in [0, 1] or uint8.

        width: of each on the screen, in pixels; by default one for one.
        """
        figures = []
        for caption, image in pictures:
            size = width or image.shape[1]
            source = _uri("image/png", png_bytes(image, compression=COMPRESSION))
            figures.append(_figure(f'<img src="{source}" width="{size}" alt="{escape(caption)}">', caption))
        self._parts.append("\n".join(['<div class="row">', *figures, "</div>"]))

    def video(
        self, caption: str, frames: Iterable[Tensor | np.ndarray], fps: float = 24.0, width: int | None = None
    ) -> None:
        """A looping video of frames (H, W, 3), floats in [0, 1] or uint8, all of one size."""
        with TemporaryDirectory() as folder:
            write_video(Path(folder) / "video.mp4", frames, fps)
            source = _uri("video/mp4", (Path(folder) / "video.mp4").read_bytes())
        size = f' width="{width}"' if width else ""
        video = f'<video src="{source}"{size} controls autoplay loop muted playsinline></video>'
        self._parts.append("\n".join(['<div class="row">', _figure(video, caption), "</div>"]))

    def html(self) -> str:
        """The whole page."""
        head = f'<meta charset="utf-8">{MARK}<meta name="viewport" content="width=device-width, initial-scale=1">'
        head += f"\n<title>{escape(self.title)}</title>\n<style>{STYLE}</style>"
        body = "\n".join([f"<h1>{escape(self.title)}</h1>", *self._parts])
        return f'<!doctype html>\n<html lang="en">\n<head>{head}</head>\n<body>\n{body}\n</body>\n</html>\n'

    def save(self, path: str | Path) -> None:
        """Write the page: the file is the old one or the whole new one, never a part."""
        write_text(path, self.html())


def _cell(value: object) -> str:
    if isinstance(value, (Tensor, np.generic)):
        value = value.item()
    if value is None:
        return "<td></td>"
    if isinstance(value, bool):
        return f"<td>{'yes' if value else 'no'}</td>"
    if isinstance(value, (int, float)):
        return f'<td class="number">{value if isinstance(value, int) else format(value, ".4g")}</td>'
    return f"<td>{escape(str(value))}</td>"


def _figure(content: str, caption: str) -> str:
    return f"<figure>{content}<figcaption>{escape(caption)}</figcaption></figure>"


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
