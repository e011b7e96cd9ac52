"""Renderings beside the truth: colours, error, depth, each with its scale."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from raytrans.export.files import depth_colors, depth_range, palette_colors
from raytrans.reports.canvas import INK, Canvas, ticks
from raytrans.reports.page import Page

UNITS = "units of the poses"
DEPTH, ERROR = "VIRIDIS", "INFERNO"  # colour maps of even lightness, which any kind of colour vision can read
LARGEST, SHOWN = 400, 240  # pixels: larger pictures are averaged down, smaller ones shown enlarged
LEAST_ERROR = 0.05  # upper end of the scale of errors at least
BAR_WIDTH, BAR_HEIGHT, MARGIN, APART = 420, 16, 30, 36  # of a scale in pixels; between its numbers
SHEET_HEIGHT, SHEET_WIDTH, SHEET_GAP = 100, 1300, 6


@dataclass(frozen=True)
class Shown:
    """A rendering and the truth, None where unknown: colours (H, W, 3) in [0, 1], z-depth (H, W), NaN where unknown."""

    name: str
    color: Tensor
    depth: Tensor
    target: Tensor | None = None
    true_depth: Tensor | None = None

    def error(self) -> Tensor:
        """Mean absolute error of the three colours (H, W)."""
        return (self.color.clamp(0, 1) - self.target).abs().mean(-1)


def show_pictures(page: Page, shown: Sequence[Shown], units: str = UNITS) -> None:
    """A row for each: target, rendering, error and depth, as far as they are known; scales that hold for all."""
    near, far = depth_range([known for one in shown for known in (one.depth, one.true_depth) if known is not None])
    errors = [one.error().flatten() for one in shown if one.target is not None]
    high = max(LEAST_ERROR, float(np.quantile(torch.cat(errors).numpy(), 0.99))) if errors else LEAST_ERROR
    scales = [("black: unknown", depth_scale(near, far, units))] if near is not None else []
    scales += [("brighter: farther off; whatever is beyond the end looks like it", error_scale(high))] if errors else []
    page.images(scales)
    for one in shown:
        pictures = [] if one.target is None else [(f"{one.name}: target", one.target)]
        pictures.append((f"{one.name}: rendering", one.color.clamp(0, 1)))
        if one.target is not None:
            pictures.append(
                (f"error, mean {one.error().mean():.3g}", palette_colors(one.error().numpy() / high, ERROR))
            )
        pictures.append((f"z-depth, {units}", depth_colors(one.depth, near, far, DEPTH)))
        if one.true_depth is not None:
            pictures.append(("its true z-depth", depth_colors(one.true_depth, near, far, DEPTH)))
        small = [(caption, reduced(picture)) for caption, picture in pictures]
        page.images(small, max(SHOWN, small[0][1].shape[1]))


def reduced(picture: Tensor | np.ndarray) -> np.ndarray:
    """A picture (H, W, 3) as uint8, averaged down to `LARGEST` pixels on its long side if it is larger."""
    import cv2

    pixels = (picture * 255).round().byte().numpy() if isinstance(picture, Tensor) else picture
    height, width = pixels.shape[:2]
    factor = LARGEST / max(height, width)
    if factor >= 1:
        return pixels
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return cv2.resize(np.ascontiguousarray(pixels), size, interpolation=cv2.INTER_AREA)


def depth_scale(near: float, far: float, units: str = UNITS) -> np.ndarray:
    """The colours of depths from near to far, even in 1 / depth as in the pictures, with numbers."""
    far = max(far, near * (1 + 1e-6))
    inverse = np.linspace(1 / near, 1 / far, BAR_WIDTH - 2 * MARGIN)
    numbers = [near, *ticks(near, far, far > 10 * near), far]
    marks = [(value, (1 / near - 1 / value) / (1 / near - 1 / far)) for value in numbers]
    return _scale(depth_colors(1 / inverse[None], near, far, DEPTH)[0], marks, f"z-depth, {units}")


def error_scale(high: float) -> np.ndarray:
    """The colours of errors from 0 to `high`, with numbers."""
    colors = palette_colors(np.linspace(0, 1, BAR_WIDTH - 2 * MARGIN)[None], ERROR)[0]
    return _scale(colors, [(value, value / high) for value in ticks(0, high)], "absolute error of colours in [0, 1]")


def _scale(colors: np.ndarray, marks: Sequence[tuple[float, float]], label: str) -> np.ndarray:
    """A strip of colours over (value, share of the way) for some values, those that leave room for their numbers."""
    canvas = Canvas(BAR_WIDTH, BAR_HEIGHT + 50)
    for x, color in enumerate(colors.tolist()):
        canvas.box((MARGIN + x, 4), (MARGIN + x + 1, 4 + BAR_HEIGHT), tuple(color))
    last = -APART
    for value, share in marks:
        x = MARGIN + share * len(colors)
        room = share == 1 or share < 1 - APART / len(colors)
        if 0 <= share <= 1 and x - last >= APART and room:
            canvas.line([(x, 4 + BAR_HEIGHT), (x, 8 + BAR_HEIGHT)], INK)
            canvas.text((x, 11 + BAR_HEIGHT), f"{value:.3g}", "mt")
            last = x
    canvas.text((BAR_WIDTH / 2, BAR_HEIGHT + 40), label, "mm")
    return canvas.array()


def contact_sheet(shown: list[Shown]) -> np.ndarray:
    """Target, rendering and depth of every view at one small height, side by side as far as `SHEET_WIDTH` allows."""
    rows: list[list[np.ndarray]] = [[]]
    for one in shown:
        strip = np.pad(_strip(one), ((0, SHEET_GAP), (0, SHEET_GAP), (0, 0)), constant_values=255)
        if rows[-1] and sum(s.shape[1] for s in rows[-1]) + strip.shape[1] > SHEET_WIDTH:
            rows.append([])
        rows[-1].append(strip)
    lines = [np.concatenate(row, 1) for row in rows]
    width = max(line.shape[1] for line in lines)
    return np.concatenate([np.pad(x, ((0, 0), (0, width - x.shape[1]), (0, 0)), constant_values=255) for x in lines])


def _strip(one: Shown) -> np.ndarray:
    import cv2

    height, width = one.target.shape[:2]
    size = max(1, round(width * SHEET_HEIGHT / height)), SHEET_HEIGHT
    pictures = [(value.clamp(0, 1) * 255).round().byte().numpy() for value in (one.target, one.color)]
    shrink = cv2.INTER_AREA if height > SHEET_HEIGHT else cv2.INTER_NEAREST
    return np.concatenate([cv2.resize(p, size, interpolation=shrink) for p in [*pictures, depth_colors(one.depth)]], 1)
