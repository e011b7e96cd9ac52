"""The frame maker: what a browser wants to see, rendered coarse at once and then finer, a band of rows at a time."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F

from raytrans.data.images import resize_nearest
from raytrans.geometry.cameras import Cameras
from raytrans.rendering.compositing import Rendering
from raytrans.rendering.sources import EncodedViews
from raytrans.rendering.synthesis import render
from raytrans.viewer.ladder import Pace, bands, sides
from raytrans.viewer.sources import Choice, Sources
from raytrans.viewer.stage import Eye, Stage
from raytrans.viewer.turns import Next, Rank

REST = 0.3  # seconds without a new wish after which a camera rests


@dataclass(frozen=True)
class Wish:
    """What a browser wants to see: from where, at most how large (long side, pixels), between which z-depths, and from
    which source views; `asked` is when, in seconds of the clock of the worker."""

    eye: Eye
    side: int
    choice: Choice = field(default_factory=Choice)
    near: float | None = None
    far: float | None = None
    asked: float = 0.0


@dataclass(frozen=True)
class Frame:
    """A rendering on its way: maps (H, W), of which the rows above `known` are of this size, the others of a coarser.

    level: 0 for the first picture of a wish; last: nothing finer comes.
    """

    camera: Cameras
    out: Rendering
    sources: tuple[int, ...]
    known: int
    level: int
    last: bool


class FrameMaker:
    """Renders for the browsers of one scene, in the thread of the worker."""

    def __init__(self, sources: Sources, stage: Stage, clock: Callable[[], float] = time.monotonic):
        self.sources, self.stage, self.pace, self.clock = sources, stage, Pace(), clock

    def pieces(self, wish: Wish, show: Callable[[Frame], None]) -> Iterator[Next]:
        """A job that shows ever finer frames of a wish; the first at once, the others when the camera rests."""
        whole = self.stage.camera(wish.eye, wish.side, wish.near, wish.far)
        short, long = sorted((float(whole.height), float(whole.width)))
        before = None
        steps = sides(min(self.pace.first_side(short / long), int(long)), int(long))
        for level, side in enumerate(steps):
            if level:
                yield Next(Rank.FINE, wish.asked + REST)
            camera = self.stage.camera(wish.eye, side, wish.near, wish.far)
            chosen = self.sources.chosen(camera, wish.choice)
            if level == 0 and len(steps) > 1:
                chosen = self.sources.at_hand(chosen)
            encoded = self.sources.placed(chosen)
            size = int(camera.height), int(camera.width)
            split = bands(*size, self.pace.piece()) if level else [(0, size[0])]
            out = None if before is None else resized(before, *size)
            for start, stop in split:
                out = self._with_rows(out, encoded, camera, (start, stop))
                ended = stop == size[0]
                show(Frame(camera, out, chosen, stop, level, ended and level == len(steps) - 1))
                if not ended:
                    yield Next(Rank.FINE)
            before = out

    def _with_rows(
        self, out: Rendering | None, encoded: EncodedViews, camera: Cameras, rows: tuple[int, int]
    ) -> Rendering:
        """A rendering with some of its rows rendered at their size; all of them where there is none yet."""
        part = self.rows(encoded, camera, rows)
        if out is None:
            return part
        out = out.map(torch.clone)  # what was shown before stays as it is
        out.write(rows[0], part)
        return out

    def rows(self, encoded: EncodedViews, camera: Cameras, rows: tuple[int, int]) -> Rendering:
        """Some rows of a camera, (rows, W), on the CPU."""
        start, width = self.clock(), int(camera.width)
        band = camera.cropped(rows[0], 0, rows[1] - rows[0], width)
        out = render(self.sources.model, encoded, band).map(lambda value: value.cpu())
        if not bool(torch.isfinite(out.color).all()):
            raise ValueError("checkpoint: expected finite colours, got NaN or infinity")
        self.pace.measured((rows[1] - rows[0]) * width, self.clock() - start)
        return out

    def whole(self, encoded: EncodedViews, camera: Cameras) -> Iterator[Rendering | None]:
        """A camera rendered a band at a time: None after each but the last, then the whole."""
        parts = []
        height, width = int(camera.height), int(camera.width)
        for rows in bands(height, width, self.pace.piece()):
            parts.append(self.rows(encoded, camera, rows))
            yield Rendering.cat(parts) if rows[1] == height else None


def resized(out: Rendering, height: int, width: int) -> Rendering:
    """A rendering of another size: colours between pixels, everything else of the nearest, as depths have edges."""
    color = F.interpolate(out.color.permute(2, 0, 1)[None], (height, width), mode="bilinear", align_corners=False)
    found = out.map(lambda value: resize_nearest(value, height, width))
    return replace(found, color=color[0].permute(1, 2, 0))
