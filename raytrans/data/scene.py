"""A posed capture on disk: cameras now, pixels when asked for."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from raytrans.data.images import (
    WHITE,
    bounded_size,
    read_depth,
    read_image,
    read_mask,
    resample_nearest,
    resize_area,
    resize_nearest,
)
from raytrans.data.points import SparsePoints
from raytrans.data.priors import DepthPrior
from raytrans.data.selection import nearest
from raytrans.data.views import Views
from raytrans.geometry.cameras import Cameras
from raytrans.shapes import Bool, Float

HOLDOUT_STEP = 8
SPLITS = ("train", "test", "holdout")


@dataclass(frozen=True)
class Frame:
    """Where the pixels of one view lie; what every reader hands to `Scene`.

    `upright` says whether the EXIF orientation belongs to the camera's pixels; depth is `depth_scale` times the stored
    value, in units of the poses, none where that is one of `depth_invalid`. `depth_grid` (2, 3) takes pixels of the
    image to those of a depth map that has a camera of its own; without it the map is the image scaled.
    """

    image: Path
    upright: bool = True
    background: tuple[float, float, float] = WHITE
    depth: Path | None = None
    depth_scale: float = 1.0
    mask: Path | None = None
    depth_invalid: tuple[float, ...] = ()
    depth_grid: tuple[tuple[float, ...], ...] | None = None


class Scene:
    """Cameras (N,) and the files they belong to; images are decoded when asked for.

    `splits` maps "train", "val", "test" to indices where the files name them. `points` reads the sparse points of the
    reconstruction when they are first asked for. `format` names the reader, None without one. `priors` maps views to
    what is known of their depth, which `views` hands on. Raises ValueError for an empty scene.
    """

    def __init__(
        self,
        cameras: Cameras,
        frames: Sequence[Frame],
        splits: Mapping[str, Sequence[int]] | None = None,
        path: Path | None = None,
        points: Callable[[], SparsePoints] | None = None,
    ):
        if len(frames) == 0 or len(cameras) != len(frames):
            raise ValueError(f"frames: expected one or more, one per camera ({len(cameras)}), got {len(frames)}")
        self.cameras = cameras
        self.frames = list(frames)
        self.splits = {name: sorted(set(indices)) for name, indices in (splits or {}).items() if len(indices) > 0}
        self.path = path
        self.format: str | None = None
        self.priors: dict[int, DepthPrior] = {}
        self._read_points, self._points = points, None

    def __len__(self) -> int:
        return len(self.frames)

    def __repr__(self) -> str:
        extras = [kind for kind in ("depth", "mask") if any(getattr(frame, kind) for frame in self.frames)]
        return f"Scene({len(self)} views{''.join(f', {kind}' for kind in extras)}, path={str(self.path)!r})"

    def _position(self, index: int) -> int:
        position = int(index)
        if not -len(self) <= position < len(self):
            raise ValueError(f"index: expected a view from 0 to {len(self) - 1}, got {position}")
        return position % len(self)

    def _size(self, index: int) -> tuple[int, int]:
        camera = self.cameras[index]
        return int(camera.height), int(camera.width)

    def image(self, index: int) -> Float[Tensor, "height width 3"]:
        """Image in [0, 1], float32. Raises ValueError naming a file that is missing, cut or of another size."""
        index = self._position(index)
        frame, expected = self.frames[index], self._size(index)
        image = read_image(frame.image, frame.background, frame.upright)
        if tuple(image.shape[:2]) != expected:
            raise ValueError(f"{frame.image}: expected height and width {expected}, got {tuple(image.shape[:2])}")
        return image

    def depth(self, index: int) -> Float[Tensor, "height width"] | None:
        """z-depth in the units of the poses, float32, NaN where unknown; None where the scene has none."""
        index = self._position(index)
        frame = self.frames[index]
        if frame.depth is None:
            return None
        depth = read_depth(frame.depth, frame.depth_scale, frame.depth_invalid)
        if frame.depth_grid is not None:
            return resample_nearest(depth, frame.depth_grid, *self._size(index))
        return _fitted(depth, self._size(index), frame.depth)

    def mask(self, index: int) -> Bool[Tensor, "height width"] | None:
        """True where the view is to be used; None where the scene has no mask."""
        index = self._position(index)
        frame = self.frames[index]
        if frame.mask is None:
            return None
        return _fitted(read_mask(frame.mask, frame.upright), self._size(index), frame.mask)

    def sparse_points(self) -> SparsePoints | None:
        """Sparse points in the frame of the poses, read when first asked for; None where the scene has none."""
        if self._points is None and self._read_points is not None:
            self._points = self._read_points()
        return self._points

    def sparse_depth(self, index: int) -> tuple[Float[Tensor, "points 2"], Float[Tensor, "points"]] | None:
        """Pixels (K, 2) where a view saw sparse points, as observed, and their z-depths (K,), both float64.

        Points behind the camera are left out. None where the scene has no points or its files name no observations.
        """
        index = self._position(index)
        points = self.sparse_points()
        if points is None or points.observations is None:
            return None
        which, pixels = points.observations[index]
        camera = self.cameras[index]
        depth = (torch.from_numpy(points.xyz[which]) - camera.centers) @ camera.forward
        return torch.from_numpy(pixels)[depth > 0], depth[depth > 0]

    def sparse_range(self, index: int) -> tuple[float, float] | None:
        """z-depths that 1 % and 99 % of the sparse points a view saw do not exceed; None where it saw none."""
        seen = self.sparse_depth(index)
        if seen is None or not len(seen[1]):
            return None
        low, high = torch.quantile(seen[1], torch.tensor([0.01, 0.99], dtype=torch.float64)).tolist()
        return low, high

    def split(self, name: str) -> list[int]:
        """Indices of "train", "test" or "holdout".

        "test" is what the files name so (empty where they name none). "holdout" is that, else their validation
        split, else views 0, 8, 16, ... (none of a scene of one view). "train" is the training split of the files where
        they name one, else all that is not held out.
        """
        if name not in SPLITS:
            raise ValueError(f"split: expected one of {', '.join(SPLITS)}, got {name!r}")
        test = self.splits.get("test", [])
        if name == "test":
            return list(test)
        every = range(0, len(self), HOLDOUT_STEP) if len(self) > 1 else ()
        holdout = list(test or self.splits.get("val") or every)
        if name == "holdout":
            return holdout
        return [i for i in self.splits.get("train", range(len(self))) if i not in set(holdout)]

    def views(self, indices: Iterable[int], max_size: int | None = None) -> Views:
        """Images and cameras of some views; `max_size` bounds the long side (area-averaged, never enlarged)."""
        indices = [self._position(i) for i in indices]
        if not indices:
            raise ValueError("indices: expected at least one view, got none")
        images, cameras = [], []
        for index in indices:
            camera = self.cameras[index]
            height, width = bounded_size(*self._size(index), max_size)
            images.append(resize_area(self.image(index), height, width))
            cameras.append(camera.resized(height, width))
        return Views(images, Cameras.stack(cameras), [self.priors.get(i) for i in indices])

    def nearest(self, camera: Cameras, count: int, exclude: Iterable[int] = ()) -> list[int]:
        """Indices of good source views for a camera, best first, from cameras alone; see `raytrans.data.nearest`."""
        return nearest(self.cameras, camera, count, [self._position(i) for i in exclude])


def _fitted(values: Tensor, size: tuple[int, int], path: Path) -> Tensor:
    """A depth map or mask brought to its camera's size by the nearest value."""
    height, width = values.shape
    if (height, width) == size:
        return values
    if not same_aspect((height, width), size):
        raise ValueError(f"{path}: expected height and width {size} or the same aspect, got {(height, width)}")
    return resize_nearest(values, *size)


def same_aspect(size: tuple[int, int], stated: tuple[int, int]) -> bool:
    """Whether one (height, width) is the other scaled, up to the rounding to whole pixels."""
    small, large = sorted((size, stated), key=lambda s: s[0] * s[1])
    ratio = max(small) / max(large)
    return all(abs(a - ratio * b) <= 1 for a, b in zip(small, large, strict=True))
