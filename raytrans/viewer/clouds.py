"""The points of a scene: depth of every source view, estimated from the others, in the stage of the browser."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from raytrans.export.clouds import point_map
from raytrans.export.fusion import Agreement, DepthMaps, consistent, without_rim
from raytrans.geometry.cameras import Cameras
from raytrans.rendering.depth import confidence
from raytrans.shapes import Float
from raytrans.viewer.frames import FrameMaker
from raytrans.viewer.turns import Next, Rank

CONFIDENCE = 0.5  # from which a pixel is a point
SIDE = 96  # pixels of the long side of a depth map


@dataclass(frozen=True)
class Points:
    """Positions (P, 3) float32 in the stage and colours (P, 3) uint8."""

    positions: np.ndarray
    colors: np.ndarray

    def __len__(self) -> int:
        return len(self.positions)


def points_of(camera: Cameras, depth: Float[Tensor, "h w"], color: Float[Tensor, "h w 3"]) -> Points:
    """The known pixels of a depth map, in the frame of its camera's poses."""
    positions = point_map(camera, depth)
    known = positions.isfinite().all(-1)
    levels = (color.clamp(0, 1) * 255).round().byte()
    return Points(positions[known].float().numpy(), levels[known].numpy())


def cloud_pieces(
    maker: FrameMaker, views: Sequence[int], count: int, show: Callable[[int, Points], None]
) -> Iterator[Next]:
    """A job that shows the points of one view after the other, and at the end only what other views confirm.

    Each depth map is rendered from `count` other views and keeps what has a confidence of 0.5. show(view, points) may
    be called twice for a view.
    """
    stage, found = maker.stage, []
    for index in views:
        small = maker.sources.load([index]).resized(SIDE)
        encoded = maker.sources.placed(maker.sources.around(index, count), keep=False)
        yield Next(Rank.IDLE)
        for out in maker.whole(encoded, small.cameras[0]):
            if out is None:
                yield Next(Rank.IDLE)
        trust = without_rim(confidence(out), out.opacity)
        depth = torch.where(trust >= CONFIDENCE, stage.scale * out.depth.double(), torch.nan)
        found.append((stage.placed(small.cameras[0]), depth, trust, small.image(0)))
        show(index, points_of(found[-1][0], depth, small.image(0)))
        yield Next(Rank.IDLE)
    if len(found) <= Agreement.views:
        return
    cameras, depths, trusts, images = zip(*found, strict=True)
    maps = consistent(DepthMaps(Cameras.stack(cameras), list(depths), list(trusts), list(images)))
    for k, index in enumerate(views):
        show(index, points_of(cameras[k], maps.depth[k], images[k]))
