"""Curves of training runs as one picture: a panel for each quantity, a colour for each run."""

from collections.abc import Mapping, Sequence

import numpy as np

from raytrans.reports.charts import COLUMNS, Plot, plots

QUANTITIES = {
    "color": "colour loss",
    "opacity": "opacity loss",
    "depth": "depth loss",
    "proposal": "proposal loss",
    "sweep": "sweep loss",
    "held-out/psnr": "held-out PSNR, dB",
    "held-out/depth": "held-out depth error, relative",
    "check/psnr": "PSNR of check views, dB",
    "waiting": "share of time waiting for data",
}
POINTS = 60  # of a curve; more are averaged

Series = dict[str, tuple[np.ndarray, np.ndarray]]


def series(lines: Sequence[Mapping[str, float | None]]) -> Series:
    """Steps and values of every quantity of `QUANTITIES` that lines of a log hold, at most `POINTS`, means of more."""
    found = {}
    for name in QUANTITIES:
        pairs = [(line["step"], line[name]) for line in lines if line.get(name) is not None and "step" in line]
        if pairs:
            chunks = np.array_split(np.array(pairs, float), min(POINTS, len(pairs)))
            found[name] = tuple(np.array([chunk[:, i].mean() for chunk in chunks]) for i in (0, 1))
    return found


def curves(runs: Mapping[str, Series], columns: int = COLUMNS) -> np.ndarray:
    """A picture (H, W, 3) of runs by name, uint8: losses on logarithmic axes, the rest on linear ones.

    Raises ValueError where no run has a quantity to draw.
    """
    panels = []
    for name in (name for name in QUANTITIES if any(name in run for run in runs.values())):
        parts, title = [run.get(name) for run in runs.values()], QUANTITIES[name]
        positive = all((part[1] > 0).all() for part in parts if part is not None)
        panels.append(Plot(title, "step", parts, log_y="loss" in title and positive))
    if not panels:
        raise ValueError(f"runs: expected one of {', '.join(QUANTITIES)} in a log, got none")
    return plots(panels, tuple(runs) if len(runs) > 1 else (), columns)
