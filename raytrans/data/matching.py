"""Matched features between neighbouring views of a scene, found from the pictures alone."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from raytrans.data.images import bounded_size
from raytrans.data.scene import Scene
from raytrans.geometry.cameras import Cameras
from raytrans.shapes import Float

FEATURES, RATIO = 3000, 0.75
RANSAC_PIXELS = 2.0
LEAST, MOST = 20, 300  # matches of a pair: fewer say nothing, more say the same again
EXPLAINED = 0.35  # least share of tentative matches that the fundamental matrix must explain, or it explains chance


@dataclass(frozen=True)
class Matches:
    """Matched pixels of pairs of views, and the cameras at the size of the pictures that they were found in.

    views (pairs, 2); pair (n,) is the row of `views` that a match belongs to; pixels (n, 2, 2) are (view, x y).
    """

    cameras: Cameras
    views: list[tuple[int, int]]
    pair: Tensor
    pixels: Float[Tensor, "n 2 2"]
    tried: list[tuple[int, int]]

    def sides(self) -> tuple[Tensor, Tensor]:
        """Indices of the first and of the second view of every match."""
        views = torch.tensor(self.views, dtype=torch.int64).reshape(-1, 2)[self.pair]
        return views[:, 0], views[:, 1]

    def thinned(self, most: int) -> "Matches":
        """At most `most` matches of each pair, evenly over them."""
        counts = torch.bincount(self.pair, minlength=len(self.views))
        place = torch.arange(len(self.pair)) - (counts.cumsum(0) - counts)[self.pair]
        count = counts[self.pair]
        kept = (place * most // count) != ((place - 1) * most // count)
        kept |= count <= most
        return Matches(self.cameras, self.views, self.pair[kept], self.pixels[kept], self.tried)


def choose_pairs(scene: Scene, views: int = 12) -> list[tuple[int, int]]:
    """Pairs that should show the same: some views, evenly over the scene, with those after them and near them.

    Neighbours by order of the files are there because those by stated poses may be wrong.
    """
    count = len(scene)
    anchors = (
        sorted({round(i * (count - 1) / max(1, views - 1)) for i in range(views)}) if count > views else range(count)
    )
    pairs = set()
    for i in anchors:
        partners = {i + 1, i + 2, *scene.nearest(scene.cameras[i], 2, exclude=[i])} & set(range(count))
        pairs |= {(min(i, j), max(i, j)) for j in partners}
    return sorted(pairs)


def match_views(
    scene: Scene,
    pairs: list[tuple[int, int]],
    max_size: int = 640,
    tell: Callable[[str, int, int], None] = lambda what, done, count: None,
) -> Matches:
    """SIFT features of both views, ratio test both ways, RANSAC by a fundamental matrix that knows no pose.

    Pixels are those of pictures whose long side is at most `max_size`. Pairs with too few matches are left out.
    `tell("matching pairs", done, count)` is called after every pair.
    """
    sizes = [bounded_size(int(camera.height), int(camera.width), max_size) for camera in scene.cameras]
    cameras = Cameras.stack([c.resized(*size) for c, size in zip(scene.cameras, sizes, strict=True)])
    found = lru_cache(len(scene))(lambda index: features(scene.views([index], max_size).image(0)))
    views, numbers, pixels = [], [], []
    for done, (i, j) in enumerate(pairs):
        tell("matching pairs", done, len(pairs))
        matched = match_features(found(i), found(j), max(sizes[i] + sizes[j]))
        if len(matched) >= LEAST:
            numbers.append(torch.full((len(matched),), len(views)))
            views.append((i, j))
            pixels.append(torch.from_numpy(matched))
    nothing = torch.zeros(0, 2, 2, dtype=torch.float64)
    return Matches(
        cameras,
        views,
        torch.cat([torch.zeros(0, dtype=torch.int64), *numbers]),
        torch.cat([nothing, *pixels]),
        list(pairs),
    )


def features(image: Float[Tensor, "height width 3"]) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (n, 2), the centre of the first at (0.5, 0.5), and root-SIFT descriptors (n, 128)."""
    import cv2

    grey = cv2.cvtColor((image.numpy() * 255).round().astype(np.uint8), cv2.COLOR_RGB2GRAY)
    sift = cv2.SIFT_create(nfeatures=FEATURES, contrastThreshold=0.02, enable_precise_upscale=True)
    keypoints, descriptors = sift.detectAndCompute(grey, None)
    if not keypoints:
        return np.zeros((0, 2)), np.zeros((0, 128), np.float32)
    descriptors = np.sqrt(descriptors / np.maximum(descriptors.sum(1, keepdims=True), 1e-9))
    return np.array([keypoint.pt for keypoint in keypoints], np.float64) + 0.5, descriptors


def match_features(a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray], size: int) -> np.ndarray:
    """Pixels (n, 2, 2) of mutual best matches that one fundamental matrix explains, at most 300, evenly over them."""
    import cv2

    none = np.zeros((0, 2, 2))
    if min(len(a[0]), len(b[0])) < LEAST:
        return none
    likeness = a[1] @ b[1].T  # of vectors of unit length: larger is nearer
    first, second = _best(likeness), _best(likeness.T)
    chosen = np.array([(i, j) for i, j in enumerate(first) if j >= 0 and second[j] == i]).reshape(-1, 2)
    if len(chosen) < LEAST:
        return none
    pixels = np.stack([a[0][chosen[:, 0]], b[0][chosen[:, 1]]], 1)
    pixels = pixels[np.unique(pixels.reshape(-1, 4), axis=0, return_index=True)[1]]
    if len(pixels) < LEAST:
        return none
    cv2.setRNGSeed(0)
    threshold = RANSAC_PIXELS * max(size, 320) / 640
    try:
        _, inside = cv2.findFundamentalMat(pixels[:, 0], pixels[:, 1], cv2.USAC_DEFAULT, threshold, 0.999, 2000)
    except cv2.error:  # USAC asserts that it found a model
        return none
    if inside is None:
        return none
    inside = inside.ravel().astype(bool)
    if inside.mean() < EXPLAINED:
        return none
    pixels = pixels[inside]
    return pixels if len(pixels) <= MOST else pixels[np.linspace(0, len(pixels) - 1, MOST).astype(int)]


def _best(likeness: np.ndarray) -> np.ndarray:
    """Column of the largest entry of each row where it passes the ratio test on distances, else -1."""
    top = np.argpartition(-likeness, 1, axis=1)[:, :2]
    values = np.take_along_axis(likeness, top, 1)
    order = np.argsort(-values, axis=1)
    top, values = np.take_along_axis(top, order, 1), np.take_along_axis(values, order, 1)
    distance = np.sqrt(np.maximum(2 - 2 * values, 0))
    return np.where(distance[:, 0] < RATIO * distance[:, 1], top[:, 0], -1)
