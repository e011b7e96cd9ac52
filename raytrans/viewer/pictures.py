"""A rendering as a picture: its colours, depth, opacity or spread."""

import io

import numpy as np
import torch
from torch import Tensor

from raytrans.export.files import depth_colors, depth_png_bytes, depth_range, palette_colors
from raytrans.rendering.compositing import Rendering

MODES = ("colour", "depth", "opacity", "spread")
SOLID = 0.5  # opacity from which depth is shown
WIDEST_SPREAD = 0.25  # spread over distance at the upper end of its scale
DEPTH_STEPS = 65535


def picture(out: Rendering, mode: str, scale: tuple[float | None, float | None] = (None, None)) -> np.ndarray:
    """Colours (H, W, 3) uint8 of a mode; `scale` are the nearest and the farthest depth shown, default those there.

    Depth: near red, far blue, black where less than half of a ray meets a surface. Opacity: black to white. Spread:
    over the distance, 0 dark to 0.25 bright, black where unknown. ValueError for another mode.
    """
    if mode == "colour":
        return _levels(out.color)
    if mode == "depth":
        return depth_colors(shown_depth(out), *scale)
    if mode == "opacity":
        return _levels(out.opacity[..., None].expand(*out.opacity.shape, 3))
    if mode == "spread":
        share = (out.spread / (WIDEST_SPREAD * out.distance)).numpy()
        colors = palette_colors(np.nan_to_num(share), "VIRIDIS")
        return np.where(np.isfinite(share)[..., None], colors, np.uint8(0))
    raise ValueError(f"mode: expected one of {', '.join(MODES)}, got {mode!r}")


def shown_depth(out: Rendering) -> np.ndarray:
    """z-depth (H, W), NaN where less than half of a ray meets a surface."""
    return torch.where(out.opacity < SOLID, torch.nan, out.depth).numpy()


def scale_of(out: Rendering) -> tuple[float | None, float | None]:
    """The nearest and the farthest depth of a picture, without what lies out; None where nothing is known."""
    return depth_range([shown_depth(out)])


def _levels(values: Tensor) -> np.ndarray:
    return (values.nan_to_num().clamp(0, 1) * 255).round().byte().numpy()


def depth_npy(depth: Tensor) -> bytes:
    """z-depth (H, W) as the content of a .npy file: float32, NaN where unknown."""
    stream = io.BytesIO()
    np.save(stream, depth.numpy().astype(np.float32))
    return stream.getvalue()


def depth_png(depth: Tensor) -> tuple[bytes, float]:
    """z-depth as the content of a 16-bit PNG, 0 where unknown, and its scale: units of a step, the farthest is 65535.

    ValueError where nothing is known.
    """
    farthest = float(np.nan_to_num(depth.numpy()).max(initial=0))
    if not farthest > 0:
        raise ValueError("depth: expected a picture that shows a surface, got none")
    scale = farthest / DEPTH_STEPS
    return depth_png_bytes(depth, scale), scale
