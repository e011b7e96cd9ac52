"""The page of an evaluation: a table of scenes and methods, PSNR as bars, renderings beside the truth."""

from collections.abc import Mapping, Sequence

from raytrans.reports.charts import Bars, bars
from raytrans.reports.page import Page
from raytrans.reports.pictures import Shown, show_pictures

HEADER = ("PSNR, dB", "SSIM", "relative depth error, median", "mean", "within 3 %")
QUALITIES = ("psnr", "ssim", "depth_median", "depth_mean", "depth_close")


def evaluation_page(values: Mapping, methods: Sequence[str], shown: Mapping[str, Sequence[Shown]]) -> Page:
    """The page about the numbers that `tools/evaluate.py --json` writes, with some renderings of every scene.

    The first of the methods is what is evaluated, the others what it is compared with.
    """
    scenes = values["scenes"]
    page = Page("Held-out views against renderers that learn nothing")
    page.paragraph(
        f"Weights {values['checkpoint']} ({values['checkpoint_hash'][:12]}); {values['sources']} sources, long side at "
        f"most {values['max_size']} pixels, unless the scene is a generated test set."
    )
    page.heading("Scenes")
    page.images([("mean PSNR over the held-out views", bars(psnr_bars(scenes, methods)))])
    if len({one["protocol"] for one in scenes}) > 1:
        page.images([("mean PSNR under every protocol", bars(protocol_bars(scenes, methods[0])))])
    rows = []
    for one in scenes:
        for method in methods:
            margin = one["worst_margin"] if method == methods[0] else None
            row = one["scene"], one["protocol"], len(one["views"]), method
            rows.append((*row, *(one[method][name] for name in QUALITIES), margin))
    caption = "Margin: by how much the worst view beats its nearest source."
    page.table(("scene", "protocol", "views", "method", *HEADER, "margin, dB"), rows, caption)
    for name, pictures in shown.items():
        page.heading(name)
        page.paragraph(f"From the worst to the best, under {scenes[0]['protocol']}.")
        show_pictures(page, pictures)
    return page


def psnr_bars(scenes: Sequence[Mapping], methods: Sequence[str]) -> Bars:
    """PSNR of every scene by method, under the first protocol."""
    first = [one for one in scenes if one["protocol"] == scenes[0]["protocol"]]
    groups = {method: [one[method]["psnr"] for one in first] for method in methods}
    return Bars("PSNR, dB", _names([one["scene"] for one in first]), groups)


def protocol_bars(scenes: Sequence[Mapping], method: str) -> Bars:
    """PSNR of every scene by protocol."""
    protocols = list(dict.fromkeys(one["protocol"] for one in scenes))
    found = {(one["scene"], one["protocol"]): one[method]["psnr"] for one in scenes}
    names = list(dict.fromkeys(one["scene"] for one in scenes))
    groups = {protocol: [found[name, protocol] for name in names] for protocol in protocols}
    return Bars("PSNR, dB", _names(names), groups)


def _names(scenes: Sequence[str]) -> list[str]:
    """The last parts of their paths."""
    return [scene.rstrip("/").rpartition("/")[2] for scene in scenes]
