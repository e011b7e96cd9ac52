"""Periodic colour textures with natural statistics, and their filtered reading.

Textures are drawn in numpy (so that a seed means the same picture everywhere) and read in torch from one table holding
every texture at every resolution.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from raytrans.shapes import Float, Int

SIDE = 256


def fractal_noise(rng: np.random.Generator, exponent: float, side: int = SIDE) -> np.ndarray:
    """Periodic Gaussian noise of amplitude spectrum |f|^-exponent, mean 0, standard deviation 1, (side, side)."""
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None]) * side
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.standard_normal((side, side), dtype=np.float32)) * frequency**-exponent
    noise = np.fft.irfft2(spectrum, s=(side, side))
    return (noise / noise.std()).astype(np.float32)


def random_color(rng: np.random.Generator, value: tuple[float, float] = (0.25, 0.95)) -> np.ndarray:
    """An sRGB colour (3,) of moderate saturation: often warm, less often green or blue, seldom magenta."""
    low, high = ((0.0, 1.2), (1.2, 4.2), (0.0, 6.0))[rng.choice(3, p=[0.45, 0.38, 0.17])]
    hue, saturation = rng.uniform(low, high), rng.beta(1.4, 2.4)
    ramp = np.clip(np.abs((hue + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)
    return (rng.uniform(*value) * (1 - saturation * (1 - ramp))).astype(np.float32)


def palette(rng: np.random.Generator, colors: int) -> np.ndarray:
    """Colours (colors, 3) that share some of their hue, as things in the world do."""
    base = random_color(rng)
    other = np.stack([random_color(rng) for _ in range(colors)])
    kept = rng.uniform(0.1, 0.7)
    return (kept * base + (1 - kept) * other) * rng.uniform(0.7, 1.2, (colors, 1)).astype(np.float32)


def _through(colors: np.ndarray, amount: np.ndarray) -> np.ndarray:
    """Colours read at `amount` in [0, 1] along the palette, linearly interpolated."""
    position = np.clip(amount, 0, 1) * (len(colors) - 1)
    low = np.minimum(position.astype(np.int64), len(colors) - 2)
    share = (position - low)[..., None].astype(np.float32)
    return colors[low] * (1 - share) + colors[low + 1] * share


def _grid() -> tuple[np.ndarray, np.ndarray]:
    """Row and column coordinates in [0, 1)."""
    line = (np.arange(SIDE, dtype=np.float32) + 0.5) / SIDE
    return line[:, None] + 0 * line, line[None] + 0 * line[:, None]


def _warped(rng: np.random.Generator, strength: float) -> tuple[np.ndarray, np.ndarray]:
    v, u = _grid()
    return v + strength * fractal_noise(rng, 2.0), u + strength * fractal_noise(rng, 2.0)


def _noise(rng: np.random.Generator) -> np.ndarray:
    amount = 0.5 + 0.22 * fractal_noise(rng, rng.uniform(0.8, 1.7))
    return _through(palette(rng, int(rng.integers(2, 5))), amount)


def _plain(rng: np.random.Generator) -> np.ndarray:
    return random_color(rng, (0.4, 0.95)) * (1 + 0.03 * fractal_noise(rng, 1.6))[..., None]


def _checker(rng: np.random.Generator) -> np.ndarray:
    v, u = _grid()
    n = 2 * int(rng.integers(2, 7))
    rows, columns = (v * n).astype(np.int64), (u * n).astype(np.int64)
    tone = rng.uniform(0.75, 1.1, (n, n)).astype(np.float32)[rows, columns]
    return palette(rng, 2)[(rows + columns) % 2] * tone[..., None]


def _bricks(rng: np.random.Generator) -> np.ndarray:
    v, u = _warped(rng, 0.002)
    rows, columns = 2 * int(rng.integers(2, 6)), int(rng.integers(2, 6))
    row = np.floor(v * rows).astype(np.int64) % rows
    along = u * columns + 0.5 * (row % 2)
    column = np.floor(along).astype(np.int64) % columns
    tone = rng.uniform(0.7, 1.15, (rows, columns)).astype(np.float32)[row, column]
    joint = (np.abs((v * rows) % 1 - 0.5) > 0.43) | (np.abs(along % 1 - 0.5) > 0.46)
    colors = palette(rng, 2)
    return np.where(joint[..., None], colors[1], colors[0] * tone[..., None])


def _stripes(rng: np.random.Generator) -> np.ndarray:
    v, u = _warped(rng, rng.uniform(0.0, 0.05))
    wave = np.sin(2 * np.pi * (int(rng.integers(0, 5)) * u + int(rng.integers(2, 9)) * v))
    return _through(palette(rng, 3), 0.5 + 0.5 * np.clip(wave * rng.uniform(1, 6), -1, 1))


def _dots(rng: np.random.Generator) -> np.ndarray:
    v, u = _grid()
    n = int(rng.integers(3, 9))
    row, column = (v * n).astype(np.int64), (u * n).astype(np.int64)
    radius = rng.uniform(0.15, 0.42, (n, n)).astype(np.float32)[row, column]
    distance = np.hypot((v * n) % 1 - 0.5, (u * n) % 1 - 0.5)
    inner = palette(rng, n * n).reshape(n, n, 3)[row, column]
    return np.where((distance < radius)[..., None], inner, random_color(rng))


def _cells(rng: np.random.Generator) -> np.ndarray:
    """Voronoi cells on the torus, with darker borders."""
    v, u = (axis[::2, ::2] for axis in _warped(rng, 0.01))
    sites = rng.uniform(0, 1, (int(rng.integers(12, 40)), 2)).astype(np.float32)
    dv = np.abs((v[None] - sites[:, 0, None, None]) % 1)
    du = np.abs((u[None] - sites[:, 1, None, None]) % 1)
    distance = np.hypot(np.minimum(dv, 1 - dv), np.minimum(du, 1 - du))
    two = np.partition(distance, 1, axis=0)[:2]
    border = np.clip((two[1] - two[0]) * 25, 0.4, 1)[..., None]
    return (palette(rng, len(sites))[distance.argmin(0)] * border).repeat(2, 0).repeat(2, 1)


def _leaves(rng: np.random.Generator) -> np.ndarray:
    """Dead leaves: shapes of sizes drawn with density r^-3 that hide each other, which is how photographs look."""
    picture = np.broadcast_to(random_color(rng), (SIDE, SIDE, 3)).copy()
    colors = palette(rng, 12)
    line = np.arange(SIDE, dtype=np.float32)
    shade = 1 + 0.12 * fractal_noise(rng, 1.2)[..., None]
    for _ in range(int(rng.integers(60, 140))):
        radius = np.minimum(6 / np.sqrt(rng.uniform(0.006, 1, 2)), 70)
        center, color = rng.uniform(0, SIDE, 2), colors[rng.integers(len(colors))] * rng.uniform(0.7, 1.2)
        away = [np.abs((line - c + SIDE / 2) % SIDE - SIDE / 2) / r for c, r in zip(center, radius, strict=True)]
        rows, columns = np.flatnonzero(away[0] < 1), np.flatnonzero(away[1] < 1)
        inside = np.ones((len(rows), len(columns)), bool)
        if rng.uniform() < 0.6:
            inside = away[0][rows, None] ** 2 + away[1][None, columns] ** 2 < 1
        block = np.ix_(rows, columns)
        picture[block] = np.where(inside[..., None], color, picture[block])
    return picture * shade


def _text(rng: np.random.Generator) -> np.ndarray:
    """Rows of words made of strokes: ink on paper."""
    ink = np.zeros((SIDE, SIDE), np.float32)
    height = int(rng.integers(10, 26))
    stroke = max(2, height // 7)
    for top in range(height // 4, SIDE - height, int(height * 1.6)):
        left = 6
        while left < SIDE - height:
            width = int(height * rng.uniform(0.4, 0.7))
            if rng.uniform() > 0.18:
                _letter(rng, ink[top : top + height, left : left + width], stroke)
            left += width + stroke
    paper, color = palette(rng, 2)
    return _through(np.stack([np.maximum(paper, 0.55), color * 0.5]), ink)


def _letter(rng: np.random.Generator, box: np.ndarray, stroke: int) -> None:
    """Draw two to four strokes of a letter into `box`."""
    rows, columns = box.shape
    for kind in rng.choice(5, int(rng.integers(2, 5)), replace=False):
        if kind == 0:
            box[:, :stroke] = 1
        elif kind == 1:
            box[:, columns - stroke :] = 1
        else:
            row = int((kind - 2) * (rows - stroke) / 2)
            box[row : row + stroke] = 1


STYLES = {
    "noise": _noise,
    "plain": _plain,
    "checker": _checker,
    "bricks": _bricks,
    "stripes": _stripes,
    "dots": _dots,
    "cells": _cells,
    "leaves": _leaves,
    "text": _text,
}


def draw_texture(rng: np.random.Generator, style: str) -> np.ndarray:
    """One periodic sRGB texture (side, side, 3) in [0.02, 0.98]; none is of perfectly flat colours."""
    picture = STYLES[style](rng)
    if style not in ("plain", "noise"):
        grain = fractal_noise(rng, rng.uniform(0.7, 1.4))
        picture = picture * (1 + rng.uniform(0.04, 0.16) * grain)[..., None]
    return np.clip(picture, 0.02, 0.98).astype(np.float32)


@dataclass(frozen=True)
class Atlas:
    """Every texture at every resolution, in linear light: one table of texels, level after level."""

    texels: Float[Tensor, "texels 3"]
    starts: Int[Tensor, " levels"]
    side: int

    @staticmethod
    def build(pictures: list[np.ndarray]) -> "Atlas":
        """From sRGB pictures (side, side, 3); each level averages 2x2 texels of the one before."""
        level = torch.from_numpy(np.stack(pictures)) ** 2.2
        side, levels = level.shape[1], []
        while level.shape[1] >= 2:
            levels.append(level.reshape(-1, 3))
            level = level.unflatten(1, (-1, 2)).unflatten(3, (-1, 2)).mean((2, 4))
        starts = np.cumsum([0] + [len(level) for level in levels[:-1]])
        return Atlas(torch.cat(levels), torch.from_numpy(starts), side)

    def to(self, device: torch.device | str | None) -> "Atlas":
        """The same on `device`."""
        return Atlas(self.texels.to(device), self.starts.to(device), self.side)

    def read(
        self,
        texture: Int[Tensor, " points"],
        coordinates: Float[Tensor, "2 points"],
        footprint: Float[Tensor, " points"],
    ) -> Float[Tensor, "3 points"]:
        """Colour at `coordinates`, filtered over `footprint` (both in periods): linear in position and level."""
        level = torch.log2((footprint * self.side).clamp(min=1)).clamp(max=len(self.starts) - 1.001)
        lower = level.floor()
        share = level - lower
        wrapped = coordinates - coordinates.floor()
        fine = self._read_level(texture, wrapped, lower.long())
        coarse = self._read_level(texture, wrapped, lower.long() + 1)
        return torch.lerp(fine, coarse, share[:, None]).T

    def _read_level(self, texture: Tensor, wrapped: Tensor, level: Tensor) -> Tensor:
        side = self.side >> level
        position = wrapped * side - 0.5
        corner = position.floor()
        share = (position - corner)[:, :, None]
        low = corner.long()
        # sides are powers of two, so wrapping is a bit mask, also below zero
        column, row = low & (side - 1)
        next_column, next_row = (low + 1) & (side - 1)
        start = self.starts[level] + texture * side * side
        upper = torch.lerp(
            self.texels[start + row * side + column], self.texels[start + row * side + next_column], share[0]
        )
        below = torch.lerp(
            self.texels[start + next_row * side + column], self.texels[start + next_row * side + next_column], share[0]
        )
        return torch.lerp(upper, below, share[1])
