"""Pages of commands: which pictures they show, between the worst and the best, and where they are written."""

from argparse import Namespace
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from raytrans.apps import cli
from raytrans.apps.captures import Capture, evenly_spaced
from raytrans.apps.outputs import PAGE
from raytrans.export.files import read_json_lines
from raytrans.geometry.cameras import Cameras
from raytrans.reports.page import Page
from raytrans.reports.pictures import Shown
from raytrans.reports.rendering import PixelPictures, rendering_page
from raytrans.reports.training import training_page
from raytrans.training.loop import LOG

PICTURES = 6


def chosen(qualities: Sequence[float | None], count: int = PICTURES) -> list[int]:
    """Indices of `count` of them, from the worst to the best, or evenly along the way where no quality is known."""
    order = list(range(len(qualities)))
    if all(quality is not None for quality in qualities):
        order.sort(key=qualities.__getitem__)
    return [order[k] for k in evenly_spaced(len(order), count)]


def page_of_rendering(
    capture: Capture, cameras: Sequence[Cameras], frames: Sequence[np.ndarray], depths: Sequence, values: Mapping
) -> Page:
    """The page of `tools/render.py`: frames (H, W, 3) uint8 and depths (H, W), NaN where unknown, by `summary.json`."""
    rows = values["views"]
    shown = []
    for number in chosen([row.get("psnr") for row in rows]):
        view = rows[number]["view"]
        truth = (None, None) if view is None else (capture.image(view), capture.depth(view))
        name = f"picture {number}" + ("" if view is None else f", view {view}")
        shown.append(Shown(name, _color(frames[number]), torch.as_tensor(depths[number]), *truth))
    number = values["pixel"]["picture"]
    sources = capture.views(rows[number]["sources"])
    return rendering_page(values, shown, PixelPictures(_color(frames[number]), cameras[number], sources))


def write_training_page(arguments: Namespace, what: str, facts: Mapping[str, object]) -> None:
    """The page of a run beside its log, unless `--no-report` leaves it out."""
    out, title = arguments.out, f"{what}: {arguments.out.resolve().name}"
    file = None if arguments.no_report else out / PAGE
    cli.write_page(file, lambda: training_page(title, facts, read_json_lines(out / LOG)))


def _color(frame: np.ndarray) -> torch.Tensor:
    return torch.as_tensor(frame).float() / 255
