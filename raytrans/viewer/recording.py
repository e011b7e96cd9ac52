"""Paths of a camera: those through a rig, one through the browser's own places, and the video along either."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from raytrans.export.files import depth_colors, depth_range, write_transforms, write_video
from raytrans.geometry.cameras import Cameras
from raytrans.geometry.paths import PATHS, interpolated
from raytrans.viewer.frames import FrameMaker
from raytrans.viewer.pictures import picture, shown_depth
from raytrans.viewer.sources import Choice
from raytrans.viewer.stage import Eye, Stage
from raytrans.viewer.turns import Next, Rank

RECORDED = "recorded"
MOST_FRAMES = 1000
MOST_PIXELS = 100_000_000  # of a film, which is kept whole until it is encoded: 400 MB of depth


@dataclass(frozen=True)
class Film:
    """What a video shows: `cameras` along a path, of which it keeps the shape, `side` pixels long, in a mode."""

    cameras: Cameras
    side: int
    mode: str
    choice: Choice
    fps: float = 24.0
    near: float | None = None
    far: float | None = None

    def camera(self, index: int) -> Cameras:
        """One of the cameras at the size of the video."""
        camera = self.cameras[index]
        size = int(camera.height), int(camera.width)
        bounded = Cameras(camera.intrinsics, camera.world_from_camera, size, None, self.near, self.far)
        return bounded.resized(*(max(1, round(length * self.side / max(size))) for length in size))


def path_of(name: str, rig: Cameras, keys: Sequence[Eye], stage: Stage, frames: int) -> Cameras:
    """World cameras along a path by its name: one of `PATHS` through the rig, or through the recorded places.

    ValueError for another name, fewer than two recorded places, and numbers of frames outside of 1 to 1000.
    """
    if not 1 <= frames <= MOST_FRAMES:
        raise ValueError(f"frames: expected a number from 1 to {MOST_FRAMES}, got {frames}")
    if name in PATHS:
        return PATHS[name](rig, frames)
    if name != RECORDED:
        raise ValueError(f"path: expected one of {', '.join((*PATHS, RECORDED))}, got {name!r}")
    if len(keys) < 2:
        raise ValueError(f"path: expected at least two recorded places, got {len(keys)}")
    cameras = [stage.camera(key, max(key.height, key.width)) for key in keys]
    return interpolated(Cameras.stack(cameras), frames)


def film_pieces(
    maker: FrameMaker, film: Film, tell: Callable[[float], None], finished: Callable[[bytes], None]
) -> Iterator[Next]:
    """A job that renders a film and hands over the content of its MP4; tell(share) after every frame.

    Depth has one scale for all frames. Goes on between finer pictures of other browsers. Raises ValueError for more
    than `MOST_PIXELS` in all frames.
    """
    first, frames = film.camera(0), []
    if (pixels := len(film.cameras) * int(first.height) * int(first.width)) > MOST_PIXELS:
        raise ValueError(
            f"video: expected at most {MOST_PIXELS:,} pixels in all frames, got {pixels:,}: fewer, or smaller"
        )
    for index in range(len(film.cameras)):
        camera = film.camera(index)
        encoded = maker.sources.placed(maker.sources.chosen(camera, film.choice))
        for out in maker.whole(encoded, camera):
            if out is None:
                yield Next(Rank.FINE)
        frames.append(shown_depth(out) if film.mode == "depth" else picture(out, film.mode))
        tell((index + 1) / len(film.cameras))
        yield Next(Rank.FINE)
    if film.mode == "depth":
        scale = depth_range(depth[::4, ::4] for depth in frames)  # it works on copies in float64
        frames = [depth_colors(depth, *scale) for depth in frames]
    finished(video_bytes(frames, film.fps))


def video_bytes(frames: Sequence[np.ndarray], fps: float) -> bytes:
    """Frames (H, W, 3) as the content of an MP4 file."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "video.mp4"
        write_video(file, frames, fps)
        return file.read_bytes()


def cameras_json(cameras: Cameras) -> bytes:
    """Cameras as the content of a `transforms.json`, which `render --views` takes."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "transforms.json"
        write_transforms(file, cameras, [f"color/{i:04d}.png" for i in range(len(cameras))])
        return file.read_bytes()
