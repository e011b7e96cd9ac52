"""Judge the generated training mixture against photographs: steepness of edges and fall of power with frequency."""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import Tensor

from raytrans.apps import cli
from raytrans.apps.captures import evenly_spaced
from raytrans.data.images import resize_area
from raytrans.data.readers import open_scene
from raytrans.data.scene import Scene
from raytrans.data.statistics import gradient_magnitude, luminance, spectrum_slope
from raytrans.training.config import DataConfig, read_config
from raytrans.training.mixture import mesh_files, mixture_scene

NAMES = ("gradient", "slope")
TOLERANCE = 0.2  # of the mean over the captures
OUTSIDE = 1


def parser() -> ArgumentParser:
    """Command line of `tools/image_statistics.py`."""
    out = ArgumentParser(
        prog="image_statistics",
        description="Compare generated scenes, as CONFIG mixes them, with captures: mean gradient magnitude of the "
        "luminance, in sRGB values a pixel, and slope of the power spectrum on log-log axes. Photographs are averaged "
        "down to as many pixels as a square of the side has. Exit status 0 where the means of the mixture lie within "
        f"{TOLERANCE:.0%} of the means over the captures at every side, 1 where not, 2 for a mistake of the call.",
    )
    out.add_argument("config", type=Path, metavar="CONFIG", help="TOML file of a training; its [data] is used")
    out.add_argument("scenes", nargs="+", metavar="SCENE", help=cli.SCENE)
    text = "override config values"
    out.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help=text)
    text = "sides of the squares in pixels (default: 64 128)"
    out.add_argument("--sides", type=cli.positive_int, nargs="+", default=[64, 128], metavar="P", help=text)
    text = "first and last seed of the generated scenes (default: 500200 500299)"
    out.add_argument("--seeds", type=cli.seed, nargs=2, default=[500200, 500299], metavar="S", help=text)
    text = "views of a scene, evenly over it (default: 6)"
    out.add_argument("--views", type=cli.positive_int, default=6, metavar="N", help=text)
    cli.add_json_argument(out)
    return out


def main(arguments: Namespace) -> int:
    """Compare as the command line says; the exit status."""
    config = read_config(arguments.config, arguments.set).data
    meshes = mesh_files(config.meshes)
    captures = {str(path): open_scene(path) for path in arguments.scenes}
    seeds = range(arguments.seeds[0], arguments.seeds[1] + 1)
    if len(seeds) == 0:
        raise ValueError(f"--seeds: expected the first one not after the last, got {seeds.start} and {seeds.stop - 1}")
    values = {"tolerance": TOLERANCE, "seeds": arguments.seeds, "views": arguments.views, "sides": {}}
    photographed = {name: capture_statistics(scene, arguments) for name, scene in captures.items()}
    for i, side in enumerate(arguments.sides):
        shown_alone = replace(config, sizes=(side,), views=max(arguments.views, 2), sources=(1, 1))
        generated = mixture_statistics(shown_alone, seeds, meshes)
        real = {name: found[i] for name, found in photographed.items()}
        values["sides"][str(side)] = compared(real, generated)
        cli.say(shown(side, values["sides"][str(side)]))
    values["within"] = all(row["within"][name] for row in values["sides"].values() for name in NAMES)
    cli.write_report(arguments.json, values)
    word = "within" if values["within"] else "not within"
    cli.say(f"the mixture is {word} {TOLERANCE:.0%} of the mean of the captures")
    return 0 if values["within"] else OUTSIDE


def statistics(images: Iterable[Tensor]) -> tuple[float, float]:
    """Mean gradient magnitude and mean spectral slope of images (H, W, 3); of the latter without plain ones."""
    grays = [luminance(image) for image in images]
    slopes = np.array([spectrum_slope(gray) for gray in grays])
    slope = float(slopes[~np.isnan(slopes)].mean()) if not np.isnan(slopes).all() else float("nan")
    return float(np.mean([gradient_magnitude(gray) for gray in grays])), slope


def capture_statistics(scene: Scene, arguments: Namespace) -> list[tuple[float, float]]:
    """Statistics of some views of a capture at every side; an image is decoded once."""
    scaled: list[list[Tensor]] = [[] for _ in arguments.sides]
    for index in evenly_spaced(len(scene), arguments.views):
        image = scene.image(index)
        for images, side in zip(scaled, arguments.sides, strict=True):
            images.append(resize_area(image, *equal_area(*image.shape[:2], side)))
    return [statistics(images) for images in scaled]


def equal_area(height: int, width: int, side: int) -> tuple[int, int]:
    """Height and width of a picture shrunk to about `side` squared pixels; never enlarged."""
    ratio = min(1.0, side / (height * width) ** 0.5)
    return max(1, round(height * ratio)), max(1, round(width * ratio))


def mixture_statistics(config: DataConfig, seeds: Sequence[int], meshes: Sequence[Path]) -> dict[str, list]:
    """(gradient, slope) of every generated scene, by theme."""
    found: dict[str, list] = {}
    for seed in seeds:
        scene = mixture_scene(config, seed, np.random.default_rng([seed, 1]), meshes)
        found.setdefault(scene.theme, []).append(statistics(scene.images))
    return found


def compared(real: dict[str, tuple[float, float]], generated: dict[str, list]) -> dict[str, object]:
    """Both means, their ratios, and whether each is within the tolerance."""
    captures = np.mean(list(real.values()), axis=0)
    mixture = np.nanmean(np.concatenate([np.array(rows) for rows in generated.values()]), axis=0)
    ratios = mixture / captures

    def named(values: np.ndarray) -> dict[str, object]:
        return dict(zip(NAMES, values.tolist(), strict=True))

    return {
        "scenes": {name: named(np.array(pair)) for name, pair in real.items()},
        "themes": {name: {"scenes": len(rows), **named(np.nanmean(rows, axis=0))} for name, rows in generated.items()},
        "captures": named(captures),
        "mixture": named(mixture),
        "ratio": named(ratios),
        "within": named(np.abs(ratios - 1) <= TOLERANCE),
    }


def shown(side: int, found: dict[str, dict]) -> str:
    """The table of one side."""
    rows = [(name, None, *(row[key] for key in NAMES)) for name, row in found["scenes"].items()]
    rows += [
        (f"generated: {name}", row["scenes"], *(row[key] for key in NAMES)) for name, row in found["themes"].items()
    ]
    for title, key in (("mean of the captures", "captures"), ("mean of the mixture", "mixture"), ("ratio", "ratio")):
        rows.append((title, None, *(found[key][name] for name in NAMES)))
    return cli.table((f"{side}x{side} pixels", "scenes", *NAMES), rows)
