"""Write the scenes that ship with the repository, and their contact sheet."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

import numpy as np

from raytrans.apps import cli
from raytrans.data.generate import GeneratedScene, generated_scene
from raytrans.export.files import depth_colors, depth_step, write_depth_png, write_png, write_transforms

FOLDER = Path(__file__).resolve().parents[2] / "scenes"
VIEWS = 16
SIDES = ((128, 128), (96, 144), (144, 96), (113, 151), (160, 112), (90, 120), (128, 171), (140, 105))
"""Sizes (H, W) of the scene that mixes them, twice over."""

SHIPPED = {
    "blocks": dict(seed=3046, kind="easy", size=(128, 128)),
    "room": dict(seed=3102, kind="full", size=(128, 128)),
    "sculpture": dict(seed=3056, kind="full", size=SIDES * 2),
}
"""Folder -> arguments of `generated_scene`."""


def parser() -> ArgumentParser:
    """Command line of `tools/make_scenes.py`."""
    out = ArgumentParser(
        prog="make_scenes",
        description="Draw the scenes that ship in scenes/ again, the same to the last bit on one machine.",
    )
    text = "folder to write to (default: the repository's scenes)"
    out.add_argument("--out", type=cli.output_folder, default=FOLDER, metavar="DIR", help=text)
    return out


def main(arguments: Namespace) -> int:
    """Draw as the command line says; the exit status."""
    make_scenes(arguments.out)
    return 0


def make_scenes(folder: str | Path) -> None:
    """Draw every shipped scene into its own folder below `folder`, and `contact_sheet.png` beside them."""
    rows = []
    for name, arguments in SHIPPED.items():
        scene = generated_scene(count=VIEWS, **arguments)
        write_generated(Path(folder) / name, scene)
        rows.append(_strip(scene))
    write_png(Path(folder) / "contact_sheet.png", np.concatenate(rows))


def write_generated(folder: str | Path, scene: GeneratedScene) -> None:
    """Write a generated scene as `transforms.json`, `images/0000.png` and so on, and 16-bit `depth/0000.png`.

    The stored depth is z-depth in steps of `depth_unit_scale_factor`, see `depth_step`. 0 is where nothing is.
    """
    folder, numbers = Path(folder), [f"{i:04d}" for i in range(len(scene))]
    step = depth_step(max(float(depth.nan_to_num(0).max()) for depth in scene.depth))
    for number, image, depth in zip(numbers, scene.images, scene.depth, strict=True):
        write_png(folder / f"images/{number}.png", image)
        write_depth_png(folder / f"depth/{number}.png", depth, step)
    images, depths = ([f"{kind}/{number}.png" for number in numbers] for kind in ("images", "depth"))
    write_transforms(folder / "transforms.json", scene.cameras, images, depths, step, replace=True)


def _strip(scene: GeneratedScene, height: int = 72, views: int = 8) -> np.ndarray:
    """Every second view over its depth, scaled to one height, as one row that fills the width of square views."""
    import cv2

    shown = range(0, len(scene), len(scene) // views)
    colors = [(scene.images[i].numpy() * 255).round().astype(np.uint8) for i in shown]
    rows = []
    for pictures in (colors, [depth_colors(scene.depth[i]) for i in shown]):
        widths = [round(picture.shape[1] * height / picture.shape[0]) for picture in pictures]
        scaled = [
            cv2.resize(p, (w, height), interpolation=cv2.INTER_AREA) for p, w in zip(pictures, widths, strict=True)
        ]
        row = np.concatenate(scaled, axis=1)[:, : height * views]
        rows.append(np.pad(row, ((0, 0), (0, height * views - row.shape[1]), (0, 0)), constant_values=255))
    return np.concatenate(rows)
