"""Put pictures that the tools wrote together to those of README and model card.

    .venv/bin/python docs/pictures.py demo out/demo
    .venv/bin/python docs/pictures.py depths out/fox out/gum out/scodive
    .venv/bin/python docs/pictures.py sheet out/mary.png

take what `demo`, `render` and `evaluate --contact-sheet` left, and write into docs/images.
"""

import base64
import io
import re
import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

FOLDER = Path(__file__).resolve().parent / "images"
INLINE = re.compile(r'data:image/\w+;base64,([^"\')]+)')
CAPTIONS = ("held-out view", "rendering", "its depth, exact", "its depth, rendered")
WIDTH, GAP, LINE = 924, 6, 22  # pixels


def side_by_side(pictures: list[Image.Image], width: int = WIDTH) -> Image.Image:
    """Pictures of one height from left to right, in as many rows as they need."""
    rows: list[list[Image.Image]] = [[]]
    for picture in pictures:
        if rows[-1] and sum(one.width + GAP for one in (*rows[-1], picture)) - GAP > width:
            rows.append([])
        rows[-1].append(picture)
    height = pictures[0].height + GAP
    out = Image.new("RGB", (width, height * len(rows) - GAP), "white")
    for number, row in enumerate(rows):
        x = 0
        for picture in row:
            out.paste(picture, (x, number * height))
            x += picture.width + GAP
    return out


def scaled(picture: Image.Image, height: int) -> Image.Image:
    return picture.convert("RGB").resize((round(picture.width * height / picture.height), height))


def demo(folder: Path) -> None:
    """demo.jpg: two held-out views with rendering and depth, and eight frames of the orbit, of `make demo`."""
    found = INLINE.findall((folder / "index.html").read_text())[:8]
    views = side_by_side([scaled(Image.open(io.BytesIO(base64.b64decode(one))), 208) for one in found], 850)
    frames = []
    for kind in ("color", "depth"):
        files = sorted((folder / "orbit" / kind).glob("*.png"))
        frames += [scaled(Image.open(files[round(k * len(files) / 8)]), 101) for k in range(8)]
    orbit = side_by_side(frames, 850)
    out = Image.new("RGB", (850, 2 * LINE + 2 + views.height + orbit.height), "white")
    draw, font = ImageDraw.Draw(out), ImageFont.load_default(15)
    for k, text in enumerate(CAPTIONS):
        draw.text((214 * k, 2), text, fill="black", font=font)
    out.paste(views, (0, LINE))
    draw.text((0, LINE + views.height + 2), "eight frames of an orbit: rendered colour and depth", "black", font)
    out.paste(orbit, (0, 2 * LINE + 2 + views.height))
    out.save(FOLDER / "demo.jpg", quality=88)


def depths(*folders: Path) -> None:
    """depth_of_photographs.jpg: every depth map of some renderings."""
    files = [file for folder in folders for file in sorted((folder / "depth").glob("*.png"))]
    side_by_side([scaled(Image.open(file), 100) for file in files]).save(
        FOLDER / "depth_of_photographs.jpg", quality=88
    )


def sheet(file: Path) -> None:
    """mary_rose.jpg: a contact sheet as it is."""
    Image.open(file).convert("RGB").save(FOLDER / "mary_rose.jpg", quality=88)


if __name__ == "__main__":
    {"demo": demo, "depths": depths, "sheet": sheet}[sys.argv[1]](*map(Path, sys.argv[2:]))
