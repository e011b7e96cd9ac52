"""The page of a verification: every contract as a bar beside its tolerance."""

from collections.abc import Mapping

from raytrans.data.views import Views
from raytrans.reports.charts import Bars, bars
from raytrans.reports.page import Page

GROUPS = ("kept", "broken", "reported")
THUMBNAIL = 144


def verification_page(values: Mapping, views: Views) -> Page:
    """The page about the numbers that `tools/verify.py --json` writes, with the source views."""
    page = Page(f"Contracts on {values['scene']}")
    broken = [name for name, row in values["contracts"].items() if not row["passed"]]
    page.paragraph(
        "Every contract holds." if values["passed"] else f"Broken: {', '.join(broken) or 'nothing measured'}."
    )
    height, width = values["size"]
    page.paragraph(
        f"One view of {width} x {height} pixels (width x height) from {values['sources']} sources, "
        f"in {values['dtype']}, by weights {values['checkpoint']} ({values['checkpoint_hash'][:12]}), "
        f"seed {values['seed']}."
    )
    page.heading("What may not change the rendering")
    page.images(
        [("logarithmic axis; a bar that ends left of the mark is within tolerance", bars(contract_bars(values)))]
    )
    rows = [(name, row["error"], row["tolerance"], row["passed"]) for name, row in values["contracts"].items()]
    page.table(("contract", "error", "tolerance", "kept"), rows, "Error is max|a - b| / max|b|.")
    page.paragraph("Reported, not promised:")
    page.table(("change", "error"), [(name, row["error"]) for name, row in values["reported"].items()])
    page.heading("Sources")
    page.images([(f"source {j}", views.image(j)) for j in range(len(views))], THUMBNAIL)
    return page


def contract_bars(values: Mapping) -> Bars:
    """Errors of contracts and of what is only reported, by whether they are kept."""
    contracts, reported = values["contracts"], values["reported"]
    rows = [(row["error"], "kept" if row["passed"] else "broken", row["tolerance"]) for row in contracts.values()]
    rows += [(row["error"], "reported", None) for row in reported.values()]
    groups = {group: [error if own == group else None for error, own, _ in rows] for group in GROUPS}
    limits = [limit for _, _, limit in rows]
    return Bars("relative error", [*contracts, *reported], groups, True, limits, "tolerance")
