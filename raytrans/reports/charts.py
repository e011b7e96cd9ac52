"""Charts as pictures: panels of curves, dots or stems, and bars; every axis says what it shows and in which units."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from raytrans.reports.canvas import GRID, INK, Axis, Canvas, color_number, ticks

COLUMNS, WIDTH, HEIGHT = 4, 320, 230  # panels in a row; pixels
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 30, 40  # around the axes
LEGEND = 24
ROOM = 0.08  # beyond the last dot, for its label
FEW = 12  # points of a curve that are marked one by one
BAR, GAP, BAR_WIDTH, VALUE = 12, 8, 640, 60  # pixels: thickness, between rows, of the chart, for the number at the end
LONGEST = 28  # characters of a name
SHORTEST = 3  # the least value of a logarithmic axis over where it begins
REASONABLE = 1e9  # greater values are drawn as far as the axis goes

Values = Sequence[float] | np.ndarray


@dataclass(frozen=True)
class Plot:
    """A panel: the title says what stands upwards, `x_label` what stands to the right, both with their units.

    parts: (x, y) for each colour, None where that one has nothing here. style: "line", "dots" or "stems" from 0; labels
    stand beside the dots. x_zero, y_zero: the axis begins there.
    """

    title: str
    x_label: str
    parts: Sequence[tuple[Values, Values] | None]
    log_x: bool = False
    log_y: bool = False
    style: str = "line"
    x_zero: bool = True
    y_zero: bool = False
    labels: Sequence[str] = ()


@dataclass(frozen=True)
class Bars:
    """Horizontal bars: a row for each name, in it a bar for each group that has a value there.

    limits: a mark in each row that has one; `limit_name` says what it means.
    """

    title: str
    names: Sequence[str]
    groups: Mapping[str, Sequence[float | None]]
    logarithmic: bool = False
    limits: Sequence[float | None] = ()
    limit_name: str = ""


def plots(panels: Sequence[Plot], names: Sequence[str] = (), columns: int = COLUMNS) -> np.ndarray:
    """Panels side by side as a picture (H, W, 3), uint8; names of the colours, if any, stand above them."""
    columns, rows = min(columns, len(panels)), -(-len(panels) // columns)
    legend = LEGEND if names else 0
    canvas = Canvas(columns * WIDTH, rows * HEIGHT + legend)
    for index, panel in enumerate(panels):
        _panel(canvas, (index % columns * WIDTH, index // columns * HEIGHT + legend), panel)
    canvas.legend(LEFT, 14, names)
    return canvas.array()


def _panel(canvas: Canvas, corner: tuple[float, float], plot: Plot) -> None:
    """Axes with labels and ticks, and what each colour has."""
    known = [part for part in plot.parts if part is not None]
    x, y = (np.concatenate([np.asarray(part[i], float) for part in known]) for i in (0, 1))
    left, right = min(0.0, x.min()) if plot.x_zero and not plot.log_x else x.min(), x.max()
    bottom, top = min(0.0, y.min()) if plot.y_zero else y.min(), y.max()
    if plot.labels:
        right, top = right + ROOM * (right - left), top + ROOM * (top - bottom)
    x_ticks, y_ticks = ticks(left, right, plot.log_x), ticks(bottom, top, plot.log_y)
    edges = corner[0] + LEFT, corner[0] + WIDTH - RIGHT, corner[1] + HEIGHT - BOTTOM, corner[1] + TOP
    across = Axis(min(left, x_ticks[0]), max(right, x_ticks[-1]), edges[0], edges[1], plot.log_x)
    upward = Axis(min(bottom, y_ticks[0]), max(top, y_ticks[-1]), edges[2], edges[3], plot.log_y)
    for value in y_ticks:
        height = upward.place(value)
        canvas.line([(edges[0], height), (edges[1], height)], GRID)
        canvas.text((edges[0] - 6, height), f"{value:.6g}", "rm")
    _below(canvas, across, x_ticks, edges[2])
    canvas.text((edges[0], corner[1] + 14), plot.title)
    canvas.text((edges[1], corner[1] + HEIGHT - 10), plot.x_label, "rm")
    for index, part in enumerate(plot.parts):
        if part is not None:
            places = [(across.place(u), upward.place(v)) for u, v in zip(*part, strict=True)]
            _marks(canvas, plot, places, index, edges[2])


def _below(canvas: Canvas, axis: Axis, values: Sequence[float], y: float) -> None:
    """A horizontal axis at a height, its ticks and their numbers."""
    canvas.line([(axis.start, y), (axis.end, y)], INK)
    for value in values:
        x = axis.place(value)
        canvas.line([(x, y), (x, y + 4)], INK)
        canvas.text((x, y + 7), f"{value:.6g}", "mt")


def _marks(canvas: Canvas, plot: Plot, places: Sequence[tuple[float, float]], index: int, bottom: float) -> None:
    color = color_number(index)
    if plot.style == "line":
        canvas.line(places, color, 2)
    if plot.style == "stems":
        for x, y in places:
            canvas.line([(x, bottom), (x, y)], color, 2)
    for place in places if plot.style != "line" or len(places) <= FEW else ():
        canvas.dot(place, color)
    for (x, y), label in zip(places, plot.labels, strict=False):
        canvas.text((x + 6, y - 7), label)


def bars(chart: Bars) -> np.ndarray:
    """Bars as a picture (H, W, 3), uint8, each with its number at its end."""
    values = [value for group in chart.groups.values() for value in group if value is not None]
    shown = [v for v in [*values, *(limit for limit in chart.limits if limit is not None)] if v < REASONABLE]
    shown = [v for v in shown if v > 0] if chart.logarithmic else [0.0, *shown]
    shown = [min(shown) / SHORTEST, *shown] if chart.logarithmic and shown else shown
    marks = ticks(min(shown), max(shown), chart.logarithmic) if shown else [0.1, 1.0]
    rows = [[group[i] for group in chart.groups.values()] for i in range(len(chart.names))]
    heights = [GAP + BAR * max(1, sum(v is not None for v in row)) for row in rows]
    head = TOP + LEGEND
    canvas = Canvas(BAR_WIDTH, head + sum(heights) + BOTTOM)
    names = [name if len(name) <= LONGEST else name[: LONGEST - 1] + "…" for name in chart.names]
    left = 12 + max(canvas.length(name) for name in names)
    axis = Axis(min([*shown, marks[0]]), max([*shown, marks[-1]]), left, BAR_WIDTH - VALUE, chart.logarithmic)
    canvas.text((left, 14), chart.title)
    _bar_legend(canvas, chart, left)
    for value in marks:
        canvas.line([(axis.place(value), head), (axis.place(value), head + sum(heights))], GRID)
    y = head
    for name, row, height, limit in zip(names, rows, heights, chart.limits or [None] * len(rows), strict=True):
        canvas.text((left - 6, y + height / 2), name, "rm")
        _bar_row(canvas, axis, row, limit, y)
        y += height
    _below(canvas, axis, marks, y)
    return canvas.array()


def _bar_legend(canvas: Canvas, chart: Bars, left: float) -> None:
    names = list(chart.groups)
    canvas.legend(left, TOP + 6, names)
    if chart.limit_name:
        x = left + sum(54 + canvas.length(name) for name in names)
        canvas.line([(x + 12, TOP), (x + 12, TOP + 12)], INK, 2)
        canvas.text((x + 20, TOP + 6), chart.limit_name)


def _bar_row(canvas: Canvas, axis: Axis, row: Sequence[float | None], limit: float | None, y: float) -> None:
    top = y + GAP / 2
    for index, value in enumerate(row):
        if value is None:
            continue
        end = axis.place(value)
        canvas.box((axis.start, top + 1), (end, top + BAR - 1), color_number(index))
        canvas.text((end + 5, top + BAR / 2), f"{value:.3g}")
        top += BAR
    if limit is not None:
        x = axis.place(limit)
        canvas.line([(x, y + 1), (x, max(top, y + GAP / 2 + BAR) + GAP / 2 - 1)], INK, 2)


def stacked(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures (H, W, 3) one below the other, white beside those that are narrower."""
    width = max(one.shape[1] for one in pictures)
    return np.concatenate([_filled(one, len(one), width) for one in pictures])


def beside(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures (H, W, 3) side by side, white below those that are lower."""
    height = max(len(one) for one in pictures)
    return np.concatenate([_filled(one, height, one.shape[1]) for one in pictures], 1)


def _filled(one: np.ndarray, height: int, width: int) -> np.ndarray:
    white = ((0, height - one.shape[0]), (0, width - one.shape[1]), (0, 0))
    return np.pad(one, white, constant_values=255)
