"""Views of a scene at the size they are worked on, and which of them render which."""

from collections.abc import Sequence
from functools import lru_cache

from torch import Tensor

from raytrans.data.images import bounded_size, resize_nearest
from raytrans.data.parallax import farthest_apart
from raytrans.data.scene import Scene
from raytrans.data.views import Views
from raytrans.geometry.cameras import Cameras

KEPT_IMAGES = 32


def evenly_spaced(count: int, wanted: int | None) -> list[int]:
    """All of 0 ... count - 1, or `wanted` of them, the first and the last among them."""
    wanted = min(wanted or count, count)
    return [round(i * (count - 1) / max(wanted - 1, 1)) for i in range(wanted)]


class Capture:
    """A scene at `max_size` with `count` source views for every rendering, never one that is held out.

    They are the nearest ones; with `spread` the two nearest, and those that lie farthest apart in the whole capture.
    """

    def __init__(self, scene: Scene, count: int, max_size: int, spread: bool = False):
        self.scene, self.count, self.max_size, self.spread = scene, count, max_size, spread
        self.load = lru_cache(KEPT_IMAGES)(self._load)

    def _load(self, index: int) -> Views:
        return self.scene.views([index], self.max_size)

    def camera(self, index: int) -> Cameras:
        """Camera of one view at the working size."""
        return self.fitted(self.scene.cameras[index])

    def fitted(self, camera: Cameras) -> Cameras:
        """Any camera with its long side at most `max_size`."""
        return camera.resized(*bounded_size(int(camera.height), int(camera.width), self.max_size))

    def image(self, index: int) -> Tensor:
        """Image (H, W, 3) of one view at the working size."""
        return self.load(index).image(0)

    def depth(self, index: int) -> Tensor | None:
        """z-depth (H, W) of one view at the working size, the value at each pixel's centre, or None."""
        depth, camera = self.scene.depth(index), self.camera(index)
        return None if depth is None else resize_nearest(depth, camera.height, camera.width)

    def mask(self, index: int) -> Tensor | None:
        """True where a view is to be used (H, W), at the working size, or None."""
        mask, camera = self.scene.mask(index), self.camera(index)
        return None if mask is None else resize_nearest(mask, camera.height, camera.width)

    def sources(self, camera: Cameras, own: int | None = None) -> list[int]:
        """Indices of the training views that render `camera`, in order of index, without the view `own` itself."""
        usable = set(self.scene.split("train")) - {own}
        if not usable:
            of = "" if own is None else f" view {own}"
            held = len(self.scene.split("holdout"))
            counts = f"{len(self.scene)} in all, {held} held out"
            wayout = "; open the folder of the scene, not the file of one split" if held == len(self.scene) else ""
            raise ValueError(f"{self.scene.path}: no view is left to render{of} from ({counts}){wayout}")
        exclude = [i for i in range(len(self.scene)) if i not in usable]
        wanted = len(usable) if self.spread else self.count
        order = self.scene.nearest(camera, wanted, exclude=exclude)
        return sorted(farthest_apart(self.scene.cameras, order, self.count) if self.spread else order)

    def views(self, indices: Sequence[int]) -> Views:
        """Source views at the working size."""
        parts = [self.load(i) for i in indices]
        cameras = Cameras.stack([part.cameras[0] for part in parts])
        return Views([part.image(0) for part in parts], cameras, [part.priors[0] for part in parts])
