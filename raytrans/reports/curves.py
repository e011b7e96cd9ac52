"""Curves of training runs as one picture: a panel for each quantity, a colour for each run."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

QUANTITIES = {
    "color": "colour loss",
    "opacity": "opacity loss",
    "depth": "depth loss",
    "proposal": "proposal loss",
    "sweep": "sweep loss",
    "held-out/psnr": "held-out PSNR, dB",
    "held-out/depth": "held-out depth error, relative",
    "check/psnr": "PSNR of check views, dB",
}
# told apart with any kind of colour vision; source: "Color Universal Design", Okabe and Ito 2008
COLORS = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233), (0, 0, 0))
POINTS = 60  # of a curve; more are averaged
COLUMNS, WIDTH, HEIGHT, TEXT = 4, 320, 230, 13  # panels in a row; pixels
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 30, 40  # around the axes
FINER = 3  # drawn larger and averaged down, for smooth lines
GRID, INK = (222, 222, 222), (40, 40, 40)

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


def curves(runs: Mapping[str, Series]) -> np.ndarray:
    """A picture (H, W, 3) of runs by name, uint8: losses on logarithmic axes, the rest on linear ones.

    Raises ValueError where no run has a quantity to draw.
    """
    from PIL import Image, ImageDraw, ImageFont

    names = [name for name in QUANTITIES if any(name in run for run in runs.values())]
    if not names:
        raise ValueError(f"runs: expected one of {', '.join(QUANTITIES)} in a log, got none")
    columns, rows = min(COLUMNS, len(names)), -(-len(names) // COLUMNS)
    legend = 24 if len(runs) > 1 else 0
    size = columns * WIDTH, rows * HEIGHT + legend
    image = Image.new("RGB", (FINER * size[0], FINER * size[1]), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(FINER * TEXT)
    for index, name in enumerate(names):
        corner = index % COLUMNS * WIDTH, index // COLUMNS * HEIGHT + legend
        _panel(draw, font, corner, QUANTITIES[name], [run.get(name) for run in runs.values()])
    x = LEFT
    for color, name in zip(_colors(len(runs)), runs if legend else (), strict=False):
        _line(draw, [(x, 14), (x + 24, 14)], color, 2)
        draw.text((FINER * (x + 30), FINER * 14), name, INK, font, anchor="lm")
        x += 54 + draw.textlength(name, font) / FINER
    return np.asarray(image.resize(size, Image.Resampling.BOX))


def _colors(count: int) -> list[tuple[int, int, int]]:
    return [COLORS[i % len(COLORS)] for i in range(count)]


def _panel(draw, font, corner: tuple[float, float], title: str, parts: Sequence[tuple | None]) -> None:
    """Axes with labels and ticks, and a line for each run that has this quantity."""
    known = [part for part in parts if part is not None]
    steps, values = (np.concatenate([part[i] for part in known]) for i in (0, 1))
    logarithmic = "loss" in title and bool((values > 0).all())
    x_ticks, y_ticks = ticks(0.0, steps.max()), ticks(values.min(), values.max(), logarithmic)
    scale = np.log10 if logarithmic else np.asarray
    low, high = scale(min(y_ticks[0], values.min())), scale(max(y_ticks[-1], values.max()))
    right = max(x_ticks[-1], steps.max())

    def place(step: float, value: float) -> tuple[float, float]:
        x = corner[0] + LEFT + (WIDTH - LEFT - RIGHT) * step / right
        return x, corner[1] + HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (scale(value) - low) / (high - low)

    bottom = min(y_ticks[0], values.min())
    for value in y_ticks:
        _line(draw, [place(0, value), place(right, value)], GRID, 1)
        x, y = place(0, value)
        draw.text((FINER * (x - 6), FINER * y), f"{value:.6g}", INK, font, anchor="rm")
    for step in x_ticks:
        x, y = place(step, bottom)
        _line(draw, [(x, y), (x, y + 4)], INK, 1)
        draw.text((FINER * x, FINER * (y + 7)), f"{step:.6g}", INK, font, anchor="mt")
    _line(draw, [place(0, bottom), place(right, bottom)], INK, 1)
    draw.text((FINER * (corner[0] + LEFT), FINER * (corner[1] + 14)), title, INK, font, anchor="lm")
    draw.text((FINER * (corner[0] + WIDTH - RIGHT), FINER * (corner[1] + HEIGHT - 10)), "step", INK, font, anchor="rm")
    for color, part in zip(_colors(len(parts)), parts, strict=True):
        if part is not None:
            points = [place(*pair) for pair in zip(*part, strict=True)]
            _line(draw, points, color, 2)
            _dots(draw, points if len(points) <= 12 else [], color)


def _line(draw, points: Sequence[tuple[float, float]], color: tuple[int, int, int], width: int) -> None:
    draw.line([(FINER * x, FINER * y) for x, y in points], color, FINER * width, joint="curve")


def _dots(draw, points: Sequence[tuple[float, float]], color: tuple[int, int, int]) -> None:
    for x, y in points:
        draw.circle((FINER * x, FINER * y), FINER * 3, color)


def ticks(low: float, high: float, logarithmic: bool = False) -> list[float]:
    """Round numbers in [low, high], or around it where fewer than two are inside: 1, 2, 5 times powers of ten."""
    if logarithmic:
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        every = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
    else:
        span = (high - low) or abs(high) or 1.0
        power = 10.0 ** math.floor(math.log10(span / 4))
        step = next(f * power for f in (1, 2, 5, 10) if f * power >= span / 4)
        every = [step * k for k in range(math.floor(low / step), math.ceil(high / step) + 1)]
    inside = [value for value in every if low <= value <= high]
    if len(inside) >= 2:
        return inside
    below, above = [v for v in every if v <= low][-1:], [v for v in every if v >= high][:1]
    return sorted({*below, *inside, *above}) if len({*below, *inside, *above}) > 1 else [every[0], every[-1]]
