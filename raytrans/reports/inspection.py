"""The page of an inspection: verdict, pictures, rig, epipolar lines on real pairs, numbers."""

import math
from collections.abc import Mapping, Sequence

import torch

from raytrans.data.inspection import Inspection
from raytrans.data.scene import Scene
from raytrans.data.scoring import triangulated
from raytrans.reports.charts import Bars, bars
from raytrans.reports.page import Page
from raytrans.reports.rig import epipolar_picture, rig_views

SHEET, THUMBNAIL = 24, 144
LINES, BARS = 10, 20


def inspection_page(scene: Scene, done: Inspection, max_size: int) -> Page:
    """All of an inspection as a page."""
    page = Page(f"Cameras of {scene.path}")
    page.paragraph(done.verdict[:1].upper() + done.verdict[1:] + ".")
    for remark in done.remarks:
        page.paragraph(remark[:1].upper() + remark[1:] + ".")
    page.heading("Views")
    shown = sorted({round(i * (len(scene) - 1) / max(1, SHEET - 1)) for i in range(SHEET)})
    page.paragraph(f"{len(shown)} of {len(scene)} views, in the order of the files.")
    page.images((f"{i}: {scene.frames[i].image.name}", scene.views([i], THUMBNAIL).image(0)) for i in shown)
    page.heading("Rig")
    page.paragraph(
        "Every camera as a pyramid that opens where it looks, dark blue to yellow by index; grey: where matches meet. "
        "Cameras that should look at a thing but look away, or stand in a heap, show wrong axes or exchanged matrices."
    )
    page.images(rig_views(scene.cameras, scene_points(done)).items())
    if done.matches.views:
        _pairs(page, scene, done, max_size)
    return page


def scene_points(done: Inspection) -> torch.Tensor:
    """World points (n, 3) where trusted matches meet; none where nothing was matched."""
    if not done.matches.views:
        return torch.zeros(0, 3, dtype=torch.float64)
    first, _, sure = triangulated(done.matches)
    cameras = done.matches.cameras[done.matches.sides()[0]]
    rays = cameras.pixel_rays(done.matches.pixels[:, 0])
    reach = first / (rays.direction * cameras.forward).sum(-1)
    return (cameras.centers + reach[:, None] * rays.direction)[sure]


def pair_bars(rows: Sequence[Mapping]) -> Bars:
    """Median epipolar distance of the worst pairs."""
    shown = rows[:BARS]
    names = ["views {} and {}".format(*row["views"]) for row in shown]
    medians = [row["median"] if math.isfinite(row["median"]) else None for row in shown]
    return Bars("median epipolar distance, pixels", names, {"median": medians})


def _pairs(page: Page, scene: Scene, done: Inspection, max_size: int) -> None:
    rows = done.pairs()
    page.heading("Epipolar lines")
    page.paragraph(
        "Dots of one colour are one feature in both views. Under right poses each dot on the right lies on the line of "
        "its colour, the ray of the dot on the left. Shown: the worst pair, a middling one, the best one."
    )
    for row in [rows[k] for k in sorted({0, len(rows) // 2, len(rows) - 1})]:
        i, j = row["views"]
        number = done.matches.views.index((i, j))
        own = (done.matches.pair == number).nonzero()[:, 0]
        own = own[torch.linspace(0, len(own) - 1, LINES).long()]
        cameras = done.matches.cameras[[i, j]]
        images = tuple(scene.views([k], max_size).image(0) for k in (i, j))
        depth = triangulated(done.matches)[0][own].nan_to_num(1.0)
        names = [f"{k} ({scene.frames[k].image.name})" for k in (i, j)]
        caption = f"views {names[0]} and {names[1]}: {row['matches']} matches, median {row['median']:.2f} pixels"
        page.images([(caption, epipolar_picture(images, cameras, done.matches.pixels[own], depth))])
    page.heading("Pairs")
    page.images([(f"the worst of {len(rows)} pairs, the longest first", bars(pair_bars(rows)))])
    table = [(*row["views"], row["matches"], row["median"]) for row in rows]
    page.table(("view", "view", "matches", "median distance, pixels"), table, f"largest side {max_size} pixels at most")
    for title, values in (("Near and far", done.bounds), ("Depth files", done.depth)):
        if values is not None:
            page.heading(title)
            page.table(("what", "value"), values.items())
