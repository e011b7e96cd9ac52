"""Depth and confidence of the source views themselves, each rendered from the others."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from raytrans.data.parallax import nearest_with_parallax
from raytrans.data.views import Views
from raytrans.geometry.cameras import Cameras
from raytrans.rendering.compositing import Rendering
from raytrans.rendering.renderer import Renderer
from raytrans.rendering.synthesis import encode, render
from raytrans.shapes import Float

TRUSTED_SPREAD = 0.1  # spread over distance at which confidence is half of the opacity


@dataclass(frozen=True)
class DepthEstimate:
    """z-depth (N, H, W) in the user's units, NaN where unknown, and confidence (N, H, W) in [0, 1].

    Lists of (H, W) where sizes differ.
    """

    depth: Tensor | list[Tensor]
    confidence: Tensor | list[Tensor]


def confidence(out: Rendering) -> Float[Tensor, "*batch"]:
    """How far a rendered depth is to be trusted: opacity / (1 + (spread / (0.1 distance))^2), 0 where it is unknown.

    Without units; 1 for an opaque surface at a sure distance, half of that where the spread is a tenth of the distance.
    """
    trust = out.opacity / (1 + (out.spread / (TRUSTED_SPREAD * out.distance)) ** 2)
    return torch.where(out.distance.isfinite(), trust, 0.0).clamp(0, 1)


def estimate_depth(
    model: Renderer,
    views: Views,
    indices: Sequence[int] | None = None,
    sources: int = 8,
    precision: str = "float32",
) -> DepthEstimate:
    """Depth and `confidence` of views, each rendered from `sources` others, never from itself.

    The nearest others, or farther ones where those lie too close for depth: `raytrans.data.parallax`.

    indices: the views to estimate, by default all, in that order; all views serve as sources. Without gradients. Raises
    ValueError for fewer than two views, an index that does not exist, and fewer than one source. From one source
    nothing is known of depth.
    """
    if not isinstance(views, Views):
        raise ValueError(f"views: expected Views, got {type(views).__name__}")
    indices = list(range(len(views)) if indices is None else indices)
    if not indices or not all(-len(views) <= i < len(views) for i in indices):
        raise ValueError(f"indices: expected one or more from 0 to {len(views) - 1}, got {indices}")
    indices = [i % len(views) for i in indices]
    found = [
        out for _, out in rendered_from_others(model, views.cameras, indices, views.__getitem__, sources, precision)
    ]
    return DepthEstimate(_stacked([out.depth for out in found]), _stacked([confidence(out) for out in found]))


def rendered_from_others(
    model: Renderer,
    cameras: Cameras,
    indices: Sequence[int],
    load: Callable[[list[int]], Views],
    sources: int = 8,
    precision: str = "float32",
    tell: Callable[[int], None] | None = None,
) -> Iterator[tuple[list[int], Rendering]]:
    """Render views one after the other from others near them, far enough for depth: (the sources, the rendering).

    load(chosen) gives the views that are needed, when they are, so that large scenes need not be in memory. tell: as
    in `render`.
    """
    if len(cameras) < 2:
        raise ValueError(f"views: expected at least two, each rendered from the others, got {len(cameras)}")
    if sources < 1:
        raise ValueError(f"sources: expected at least 1, got {sources}")
    encoded, before = None, None
    for i in indices:
        chosen = sorted(nearest_with_parallax(cameras, cameras[i], sources, exclude=[i]))
        if chosen != before:
            encoded, before = None, chosen  # the old one goes before the new one is made
            encoded = encode(model, load(chosen))
        yield chosen, render(model, encoded, cameras[i], precision, tell=tell)


def _stacked(maps: list[Tensor]) -> Tensor | list[Tensor]:
    return torch.stack(maps) if len({tuple(one.shape) for one in maps}) == 1 else maps
