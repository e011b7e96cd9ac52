"""One pixel of a rendering explained: its samples, the sources that it is made of, the answer under rolled cameras."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from raytrans.data.views import Views
from raytrans.equivariance.models import TOLERANCES
from raytrans.equivariance.rigs import single_pixel
from raytrans.geometry.cameras import Cameras
from raytrans.rendering.compositing import Rendering
from raytrans.rendering.contributions import Contributions, contributions
from raytrans.rendering.depth import confidence
from raytrans.rendering.renderer import Renderer
from raytrans.rendering.sources import EncodedViews
from raytrans.rendering.synthesis import render

ROLLS = (30, 90, 135, 180, 250)  # degrees
BLACK = 1 / 255  # darker colours are compared as if they were this bright
SURE = 0.9  # of the best confidence in a picture


def sure_pixel(out: Rendering) -> tuple[int, int]:
    """Column and row of the pixel nearest to the middle of a picture among those whose depth is surest."""
    trust = confidence(out)
    rows, columns = (trust >= SURE * trust.max()).nonzero().unbind(-1)
    middle = (trust.shape[0] - 1) / 2, (trust.shape[1] - 1) / 2
    nearest = ((rows - middle[0]) ** 2 + (columns - middle[1]) ** 2).argmin()
    return int(columns[nearest]), int(rows[nearest])


def explained(
    model: Renderer,
    views: Views,
    indices: Sequence[int],
    camera: Cameras,
    pixel: tuple[int, int],
    encoded: EncodedViews,
    precision: str = "float32",
) -> dict[str, object]:
    """What made a pixel (column, row), as plain numbers; lengths in the units of the poses, None where unknown.

    sources: for each of `indices`, the angle in degrees and the distance at which it sees the point of the pixel, where
    that is in its image, and its mean share, attention and fade along the ray. rolls: colour and depth of the same ray
    from the camera rolled, and the largest relative change of the two; tolerance: of that, in float32.
    """
    place = torch.tensor(pixel, dtype=torch.float64) + 0.5
    found = contributions(model, views, camera, place, encoded, precision)
    out = found.out
    lengths = {name: _known(getattr(out, name)) for name in ("depth", "distance", "spread")}
    return {
        "x": pixel[0],
        "y": pixel[1],
        "color": out.color.tolist(),
        **lengths,
        "opacity": out.opacity.item(),
        "distances": [_known(value) for value in found.distance],
        "weights": found.weight.tolist(),
        "sources": source_rows(found, views.cameras, indices, camera, place),
        "rolls": roll_rows(model, encoded, camera, place, out, precision),
        "tolerance": TOLERANCES["target_roll"][torch.float32] if precision == "float32" else None,
    }


def source_rows(
    found: Contributions, cameras: Cameras, indices: Sequence[int], camera: Cameras, place: Tensor
) -> list[dict[str, object]]:
    """A row for each source; the point is where the ray meets a surface, or its heaviest sample."""
    ray = camera.pixel_rays(place)
    finite = found.distance.isfinite()
    reach = found.out.distance
    if not reach.isfinite() and finite.any():
        reach = found.distance[torch.where(finite, found.weight, -1.0).argmax()]
    means = {name: found.of_sources(getattr(found, name)).tolist() for name in ("share", "attention", "fade")}
    rows = []
    for j, index in enumerate(indices):
        toward = ray.point(reach) - cameras[j].centers
        angle = torch.atan2(torch.linalg.cross(ray.direction, toward).norm(), ray.direction @ toward)
        pixel, depth = cameras[j].project(ray.point(reach))
        inside = depth > 0 and bool(
            ((pixel >= 0) & (pixel < torch.tensor([cameras[j].width, cameras[j].height]))).all()
        )
        row = {"view": index, "angle": _known(angle.rad2deg()), "distance": _known(toward.norm())}
        row["place"] = pixel.tolist() if inside else None
        rows.append(row | {name: values[j] for name, values in means.items()})
    return rows


def roll_rows(
    model: Renderer, encoded: EncodedViews, camera: Cameras, place: Tensor, out: Rendering, precision: str
) -> list[dict[str, object]]:
    """The answers from the camera rolled by `ROLLS`, against the one that is not."""
    rows = []
    for degrees in ROLLS:
        rolled = render(model, encoded, single_pixel(camera, place, math.radians(degrees)), precision)
        rolled = rolled.map(lambda value: value[0, 0].cpu())
        change = [((rolled.color - out.color).abs().max() / out.color.abs().max().clamp_min(BLACK)).item()]
        if out.depth.isfinite() and rolled.depth.isfinite():
            change.append(((rolled.depth - out.depth).abs() / out.depth).item())
        row = {"degrees": degrees, "color": rolled.color.tolist(), "depth": _known(rolled.depth)}
        rows.append(row | {"change": max(change)})
    return rows


def _known(value: Tensor) -> float | None:
    return value.item() if bool(value.isfinite()) else None
