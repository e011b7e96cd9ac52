"""Choice of source views that are far enough apart to see depth, from cameras alone."""

from collections.abc import Iterable

import torch
from torch import Tensor

from raytrans.data.selection import TIE, nearest
from raytrans.geometry.cameras import Cameras
from raytrans.geometry.paths import common_focus
from raytrans.shapes import Float

PIXELS = 6.0  # parallax of what the cameras look at below which depth is hardly seen
LEAST, MOST = 1 / 30, 1 / 10  # bounds of the same in radians, however fine or coarse the pixels are
KEPT = 2  # nearest views that stay: they show the colours best
WIDER = 3  # times the count: of so many nearest views it is asked what they look at
GROWTH = 1.25  # of the number of views that the choice is made from, until they lie far enough apart
EXPLAINED = 0.5  # of the mean square between axes and middle: 0.42 at most in captures of a place, chance leaves 0.6


def nearest_with_parallax(cameras: Cameras, camera: Cameras, count: int, exclude: Iterable[int] = ()) -> list[int]:
    """`nearest`, or views farther apart where those lie too close together for depth to be seen.

    Let b be the median distance between the chosen centres and z the depth that the nearest 3 count views look at: the
    harmonic middle of near and far where `camera` has them, else where the axes meet. As long as the parallax b / z is
    below 6 pixels (at least 1/30, at most 1/10), the choice is made from 1.25 times as many of the nearest views: the
    first two, then always the one farthest from those chosen. Axes that meet nowhere say nothing of z: there the
    nearest are taken. Independent of world frame, scale and order, as `nearest` is, not of the size of the pictures.
    """
    exclude = list(exclude)
    order = nearest(cameras, camera, len(cameras), exclude)
    chosen, around = order[:count], order[: WIDER * count]
    if len(order) <= count or count < 2:
        return chosen
    depth = looked_at(cameras[around], camera)
    if depth is None:
        return chosen
    focal = float((camera.intrinsics[0, 0] * camera.intrinsics[1, 1]).sqrt())
    needed, pool = depth * min(max(PIXELS / focal, LEAST), MOST), float(count)
    while spacing(cameras[chosen]) < needed and pool < len(order):
        pool *= GROWTH
        chosen = farthest_apart(cameras, order[: round(pool)], count)
    return chosen


def looked_at(cameras: Cameras, camera: Cameras) -> float | None:
    """z-depth in `camera` of what some cameras look at, None where neither near and far nor their axes say.

    Axes say it where most see the point they meet at, and come nearer to it than to the middle of the centres: the
    mean square of their distance is less than half as large. Those of a shaken camera meet somewhere by chance.
    """
    if camera.near is not None and camera.far is not None and bool(torch.isfinite(camera.far)):
        return float(2 / (1 / camera.near + 1 / camera.far))
    point = common_focus(cameras)
    if point is None or _missed(cameras, point) > EXPLAINED * _missed(cameras, cameras.centers.mean(0)):
        return None
    depth = float((point - camera.centers) @ camera.forward)
    return depth if depth > 0 else None


def _missed(cameras: Cameras, point: Float[Tensor, "3"]) -> float:
    """Mean square of the distances between a point and the optical axes."""
    return float(torch.linalg.cross(point - cameras.centers, cameras.forward).square().sum(-1).mean())


def spacing(cameras: Cameras) -> float:
    """Median distance between the centres of two different cameras."""
    return float(torch.pdist(cameras.centers - cameras.centers.mean(0)).median())


def farthest_apart(cameras: Cameras, pool: list[int], count: int) -> list[int]:
    """`count` of the views in `pool`: the first two, then always the one farthest from those chosen so far.

    Equal distances go to the one that comes first in the pool.
    """
    centers = cameras.centers[pool] - cameras.centers[pool].mean(0)
    nearest_chosen = centers.new_full((len(pool),), torch.inf)
    chosen = []
    while len(chosen) < min(count, len(pool)):
        farthest = nearest_chosen >= (1 - TIE) * nearest_chosen.max()
        k = len(chosen) if len(chosen) < KEPT else int(farthest.nonzero()[0])
        chosen.append(k)
        to_k = torch.cdist(centers, centers[k : k + 1], compute_mode="donot_use_mm_for_euclid_dist")[:, 0]
        nearest_chosen = torch.minimum(nearest_chosen, to_k)
        nearest_chosen[k] = -1.0  # views at one place are no reason to take one twice
    return [pool[k] for k in chosen]
