"""The page of a training run: its curves, and where they began and ended."""

from collections.abc import Mapping, Sequence

from raytrans.reports.curves import QUANTITIES, curves, series
from raytrans.reports.page import Page

ACROSS = 3  # panels beside each other that a page holds at full size


def training_page(title: str, facts: Mapping[str, object], lines: Sequence[Mapping[str, float | None]]) -> Page:
    """The page about a run: facts as they are, and what the lines of its log say."""
    page = Page(title)
    page.table(("what", "value"), facts.items())
    page.heading("Curves")
    if not series(lines):
        page.paragraph("Nothing is logged yet.")
        return page
    page.paragraph("Losses are drawn on logarithmic axes; many steps are averaged into one point.")
    page.images([("means over equal parts of the log", curves({"run": series(lines)}, ACROSS))])
    rows = []
    for name, label in QUANTITIES.items():
        known = [(line["step"], line[name]) for line in lines if line.get(name) is not None]
        if known:
            rows.append((label, *known[0], *known[-1]))
    page.table(("quantity", "first step", "value", "last step", "value"), rows, "As logged, each line of the log once.")
    return page
