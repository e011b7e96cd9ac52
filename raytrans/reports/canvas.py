"""What charts are drawn on and with: smooth lines, text, and axes with round numbers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# told apart with any kind of colour vision; source: "Color Universal Design", Okabe and Ito 2008
COLORS = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233), (0, 0, 0))
GRID, INK = (222, 222, 222), (40, 40, 40)
FINER = 3  # drawn larger and averaged down, for smooth lines
TEXT = 13  # pixels
DECADES = 3  # more of them have ticks at powers of ten alone
MOST = 8  # ticks of a logarithmic axis

Place = tuple[float, float]
Color = tuple[int, int, int]


def color_number(index: int) -> Color:
    """The colour of the n-th of some things; they repeat."""
    return COLORS[index % len(COLORS)]


class Canvas:
    """A white picture; places (x, y) and widths in its pixels."""

    def __init__(self, width: float, height: float):
        from PIL import Image, ImageDraw, ImageFont

        self.size = round(width), round(height)
        self._image = Image.new("RGB", (FINER * self.size[0], FINER * self.size[1]), "white")
        self._draw, self._font = ImageDraw.Draw(self._image), ImageFont.load_default(FINER * TEXT)

    def line(self, points: Sequence[Place], color: Color, width: int = 1) -> None:
        """A line through some points."""
        self._draw.line([(FINER * x, FINER * y) for x, y in points], color, FINER * width, joint="curve")

    def dot(self, place: Place, color: Color, radius: float = 3) -> None:
        """A disc."""
        self._draw.circle((FINER * place[0], FINER * place[1]), FINER * radius, color)

    def box(self, first: Place, second: Place, color: Color) -> None:
        """A filled box between its top left and bottom right corner; nothing where it is thinner than can be seen."""
        left, top, right, bottom = (round(FINER * value) for value in (*first, *second))
        if right > left and bottom > top:
            self._draw.rectangle((left, top, right - 1, bottom - 1), color)

    def text(self, place: Place, text: str, anchor: str = "lm", color: Color = INK) -> None:
        """Text at a place; the anchor as Pillow has it."""
        self._draw.text((FINER * place[0], FINER * place[1]), text, color, self._font, anchor=anchor)

    def length(self, text: str) -> float:
        """Width of a text."""
        return self._draw.textlength(text, self._font) / FINER

    def legend(self, x: float, y: float, names: Sequence[str]) -> None:
        """Names beside lines of their colours."""
        for index, name in enumerate(names):
            self.line([(x, y), (x + 24, y)], color_number(index), 2)
            self.text((x + 30, y), name)
            x += 54 + self.length(name)

    def array(self) -> np.ndarray:
        """The picture (H, W, 3), uint8."""
        from PIL import Image

        return np.asarray(self._image.resize(self.size, Image.Resampling.BOX))


@dataclass(frozen=True)
class Axis:
    """Values from `low` to `high` as places from `start` to `end`, even in the value or in its logarithm."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def place(self, value: float) -> float:
        """Where a value stands; what is beyond the ends stands at them."""
        scale = math.log if self.logarithmic else float
        low, high = scale(self.low), scale(self.high)
        value = min(max(value, self.low), self.high)
        return self.start + (self.end - self.start) * (scale(value) - low) / ((high - low) or 1.0)


def ticks(low: float, high: float, logarithmic: bool = False) -> list[float]:
    """Round numbers in [low, high], or around it where fewer than two are inside: 1, 2, 5 times powers of ten.

    Powers of ten alone on a logarithmic axis of many decades.
    """
    if logarithmic:
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
        if last - first > DECADES:
            every = [10.0**power for power in range(first, last + 1, -(-(last - first) // MOST))]
        else:
            every = [factor * 10.0**power for power in range(first, last + 1) for factor in (1, 2, 5)]
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
