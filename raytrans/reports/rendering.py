"""The page of a rendering: pictures beside the truth, numbers, and what made one pixel."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from raytrans.data.views import Views
from raytrans.geometry.cameras import Cameras
from raytrans.reports.charts import Bars, Plot, bars, plots
from raytrans.reports.page import Page
from raytrans.reports.pictures import SHOWN, UNITS, Shown, reduced, show_pictures

MEANS = {
    "psnr": "PSNR, dB",
    "psnr_nearest": "PSNR of the nearest source, dB",
    "ssim": "SSIM",
    "depth_abs_rel": "relative depth error, mean",
    "depth_median": "median",
}
RING, THUMBNAIL = (230, 159, 0), 180
WIDE = 10  # ratio of distances that a linear axis does not show
LINE = 64  # places of the target ray that are drawn in a source


@dataclass(frozen=True)
class PixelPictures:
    """What the pixel's numbers are about: the rendering it is of, its camera, and the sources."""

    color: Tensor
    camera: Cameras
    views: Views


def rendering_page(values: Mapping, shown: Sequence[Shown], pixel: PixelPictures) -> Page:
    """The page about the numbers of `summary.json`, with some of the renderings."""
    page = Page(f"Rendering of {values['scene']}")
    count = len(values["views"])
    page.paragraph(
        f"{count} picture{'s'[: count > 1]} by weights {values['checkpoint']} ({values['checkpoint_hash'][:12]}), "
        f"{values['rays_per_second']:.0f} rays per CPU-second, {values['peak_memory_bytes'] / 1e6:.0f} MB, "
        f"{values['seconds']:.0f} seconds in all."
    )
    page.heading("Pictures")
    ordered = ", from the worst to the best" if values["psnr"] is not None else ""
    text = "Depth is unknown where less than half of a ray meets a surface, or where its distance is a guess."
    page.paragraph(f"{len(shown)} of {count}{ordered}. {text}")
    show_pictures(page, shown)
    page.heading("Numbers")
    known = [name for name in MEANS if values[name] is not None]
    if known:
        page.table(("mean of all pictures", "value"), [(MEANS[name], values[name]) for name in known])
    rows = [
        [row["number"], row["view"], *(row.get(name) for name in known), row["opacity"], len(row["sources"])]
        for row in values["views"]
    ]
    header = ("picture", "view", *(MEANS[name] for name in known), "mean opacity", "sources")
    page.table(header, rows, "Depth errors are relative, over all surfaces.")
    show_pixel(page, values["pixel"], pixel)
    return page


def show_pixel(page: Page, values: Mapping, pictures: PixelPictures) -> None:
    """One pixel: what its ray meets, from which source rays its colour comes, and the answer under rolled cameras."""
    x, y, sources = values["x"], values["y"], values["sources"]
    page.heading(f"One pixel: picture {values['picture']}, column {x}, row {y}")
    page.paragraph(
        f"Colour {', '.join(f'{c:.3f}' for c in values['color'])} (red, green, blue in [0, 1]); "
        f"z-depth {_number(values['depth'])}, along the ray {_number(values['distance'])}, spread "
        f"{_number(values['spread'])} {UNITS}; opacity {values['opacity']:.3f}."
    )
    page.images([("the pixel in the rendering", ringed(pictures.color, (x + 0.5, y + 0.5), width=SHOWN))], SHOWN)
    page.paragraph(
        "Its ray in the sources: the line is where it passes, the ring the point that it meets. Of the colour each "
        "source gives the share below it."
    )
    page.images([_source(values, row, pictures, j) for j, row in enumerate(sources)], THUMBNAIL)
    if panels := pixel_plots(values):
        page.images([("weights along the ray, and shares of the sources by their place", plots(panels, columns=3))])
    page.images([("means over the ray, by the weights of its samples", bars(source_bars(sources)))])
    header = ("view", "angle, degrees", f"distance, {UNITS}", "share of the colour", "attention", "sees the ray")
    names = ("view", "angle", "distance", "share", "attention", "fade")
    page.table(header, [[row[name] for name in names] for row in sources])
    page.paragraph(
        "Angle: between the pixel's ray and the source's ray to the point. Distance: from the source to the point. "
        "Share and attention: means over the ray by the weights of its samples. Sees: 1 well inside the picture of the "
        "source, 0 outside or behind it. A sample's weight is the part of the colour that comes from it; what is left "
        f"of 1 is background ({1 - sum(values['weights']):.3g})."
    )
    show_rolls(page, values)


def show_rolls(page: Page, values: Mapping) -> None:
    """What the network answers for the same ray when the camera is rolled about its axis."""
    page.heading("The same ray from a rolled camera")
    page.paragraph(
        "The camera is turned about its optical axis and asked for the same ray again. An equivariant network gives "
        "the same answer up to rounding, one that reads directions in the frame of the camera another one."
    )
    rows = [(row["degrees"], *row["color"], row["depth"], row["change"]) for row in values["rolls"]]
    page.table(("roll, degrees", "red", "green", "blue", f"z-depth, {UNITS}", "largest relative change"), rows)
    page.images([("relative change of the answer, the worse of colour and depth", bars(roll_bars(values)))])


def pixel_plots(values: Mapping) -> list[Plot]:
    """Weight of the samples by distance, and share of the sources by angle and by distance; none without lengths."""
    finite = [(d, w) for d, w in zip(values["distances"], values["weights"], strict=True) if d is not None]
    sources = [row for row in values["sources"] if row["angle"] is not None]
    if not finite or not sources:
        return []
    wide = finite[-1][0] > WIDE * finite[0][0]
    part = tuple(zip(*finite, strict=True))
    panels = [Plot("weight", f"distance, {UNITS}", [part], wide, style="stems", x_zero=False, y_zero=True)]
    labels = [str(row["view"]) for row in sources]
    for name, label in (("angle", "angle, degrees"), ("distance", f"source to point, {UNITS}")):
        part = [row[name] for row in sources], [row["share"] for row in sources]
        panels.append(Plot("share of the colour", label, [part], style="dots", y_zero=True, labels=labels))
    return panels


def source_bars(sources: Sequence[Mapping]) -> Bars:
    """Share of the colour and attention for every source."""
    groups = {label: [row[name] for row in sources] for label, name in (("share", "share"), ("attention", "attention"))}
    return Bars("part of each source", [f"view {row['view']}" for row in sources], groups)


def roll_bars(values: Mapping) -> Bars:
    """Change of the answer for every roll beside the tolerance."""
    rows = values["rolls"]
    limit, limits = values["tolerance"], [values["tolerance"]] * len(rows)
    names = [f"{row['degrees']:g} degrees" for row in rows]
    return Bars(
        "relative change",
        names,
        {"change": [row["change"] for row in rows]},
        True,
        limits,
        "tolerance" if limit else "",
    )


def ringed(image: Tensor, place: Sequence[float], path: np.ndarray | None = None, width: int = THUMBNAIL) -> np.ndarray:
    """A picture, enlarged to about `width` if it is small, with a ring around a place (x, y) and a path (n, 2)."""
    import cv2

    pixels = reduced(image.clamp(0, 1))
    factor = max(1, round(width / pixels.shape[1]))
    scale = factor * pixels.shape[1] / image.shape[1]
    large = np.repeat(np.repeat(pixels, factor, 0), factor, 1).copy()
    if path is not None and len(path) > 1:
        cv2.polylines(large, [(path * scale).round().astype(np.int32).reshape(-1, 1, 2)], False, RING, 1, cv2.LINE_AA)
    if np.isfinite(place).all():
        at = [round(float(v) * scale) for v in place]
        cv2.circle(large, at, 8, (0, 0, 0), 4, cv2.LINE_AA)
        cv2.circle(large, at, 8, RING, 2, cv2.LINE_AA)
    return large


def _source(values: Mapping, row: Mapping, pictures: PixelPictures, j: int) -> tuple[str, np.ndarray]:
    """A source with the ray in it, and what it gives."""
    image, camera = pictures.views.image(j), pictures.views.cameras[j]
    ray = pictures.camera.pixel_rays(torch.tensor([[values["x"] + 0.5, values["y"] + 0.5]]).double())
    finite = [d for d in values["distances"] if d is not None]
    place, path = (np.nan, np.nan), None
    if finite:
        steps = torch.logspace(*(float(np.log10(d)) for d in (finite[0], finite[-1])), LINE, dtype=torch.float64)
        pixels, depth = camera.project(ray.point(steps))
        inside = (depth > 0) & (pixels > -50).all(-1) & (pixels < 50 + max(image.shape)).all(-1)
        path = pixels[inside].numpy()
        place = row["place"] or place
    return f"view {row['view']}: {row['share']:.3f}", ringed(image, place, path)


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4g}"
