"""Choice of source views for a camera, from cameras alone."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from raytrans.geometry.cameras import Cameras
from raytrans.shapes import Float

ANGLE = math.radians(20)  # parallax that costs as much as leaving the image by one field of view
INVERSE_DEPTHS = (1.0, 0.5)  # over the depth of the focus; nearer points made worse choices on real photos
NEAREST_FOCUS = 0.25  # of the rig's size
PULL = 1e-3  # of a nearly parallel rig, whose focus is noise, to its own size; in squared sines
TIE = 1e-9
PART = 256  # cameras at a time that are held against all


def focus_depth(cameras: Cameras, camera: Cameras) -> Float[Tensor, ""]:
    """Depth along the axis of `camera` closest to the axes of `cameras`, at least a quarter of the rig's size.

    Least squares over the sources of the distance between their axes and the point c + t d; the rig's size is the
    median distance of their centres from c (0 where all coincide). Parallel axes give the size.
    """
    center, forward = camera.centers, camera.forward
    offset = center - cameras.centers
    across = forward - (cameras.forward @ forward)[:, None] * cameras.forward
    offset_across = offset - (offset * cameras.forward).sum(-1, keepdim=True) * cameras.forward
    size = offset.norm(dim=-1).median()
    weight = across.square().sum()
    pull = PULL * len(cameras)
    depth = (pull * size - (across * offset_across).sum()) / (weight + pull)
    return torch.maximum(depth, NEAREST_FOCUS * size)


def costs(cameras: Cameras, camera: Cameras) -> Float[Tensor, " views"]:
    """Cost of every view as a source for `camera`; a mean over points p_k of the target's axis of

        parallax / 20 degrees + (angle off the source's axis / its half field of view)^2 / 2 + |log distance ratio| / 2

    with p_k at 1 and 2 times the depth of the focus. Points are homogeneous, d + s (c - c_i) at inverse depth s,
    so cameras at one place are compared by their axes. Nothing depends on world frame, scale, or roll.
    """
    depth = focus_depth(cameras, camera)
    inverse = torch.where(depth > 0, 1 / depth, 0.0)  # all centres in one place: every point is at infinity
    total = torch.zeros(len(cameras), dtype=torch.float64)
    half_field = torch.atan(0.5 * (cameras.height * cameras.width).sqrt() / _focal(cameras))
    for factor in INVERSE_DEPTHS:
        to_point = camera.forward + factor * inverse * (camera.centers - cameras.centers)
        parallax = _angle(to_point, camera.forward)
        off_axis = _angle(to_point, cameras.forward)
        ratio = to_point.norm(dim=-1).clamp_min(1e-6).log().abs()
        total += parallax / ANGLE + 0.5 * (off_axis / half_field) ** 2 + 0.5 * ratio
    return total / len(INVERSE_DEPTHS)


def nearest(cameras: Cameras, camera: Cameras, count: int, exclude: Iterable[int] = ()) -> list[int]:
    """Indices of at most `count` source views for one camera, best first, without those in `exclude`.

    The order is that of `costs`: small parallax at the scene's focus, overlap, like distance. Equal costs are ordered
    by what the cameras are, never by index: their distance from all others, then position and axis in the target's
    frame. Raises ValueError where nothing is left to choose from, and for a batch of cameras.
    """
    if not isinstance(camera, Cameras) or camera.shape:
        got = f"a batch {tuple(camera.shape)}" if isinstance(camera, Cameras) else type(camera).__name__
        raise ValueError(f"camera: expected one camera, got {got}")
    excluded = {int(i) for i in exclude}
    left = [i for i in range(len(cameras)) if i not in excluded]
    if not left or count < 1:
        raise ValueError(f"nearest: expected a count of at least 1 and views left, got {count} and {len(left)} left")
    chosen = cameras[left]
    keys = torch.cat([costs(chosen, camera)[:, None], _content(chosen, camera)], -1)
    return [left[i] for i in _ordered(keys)[:count]]


def _focal(cameras: Cameras) -> Tensor:
    return (cameras.intrinsics[..., 0, 0] * cameras.intrinsics[..., 1, 1]).sqrt()


def _angle(a: Tensor, b: Tensor) -> Tensor:
    """Angle between vectors, exact also near 0 and pi; 0 for a zero vector."""
    a, b = torch.broadcast_tensors(a, b)
    return torch.atan2(torch.linalg.cross(a, b).norm(dim=-1), (a * b).sum(-1))


def _content(cameras: Cameras, camera: Cameras) -> Float[Tensor, "views keys"]:
    """Numbers that tell cameras apart without an index or the world frame: lengths over the rig's size."""
    offset = cameras.centers - camera.centers
    size = offset.norm(dim=-1).median()
    unit = torch.where(size > 0, size, 1.0)
    spread = _distances_to_all(cameras.centers)
    axes = camera.world_from_camera[:3, :3]
    ratio = (_focal(cameras) / (cameras.height * cameras.width).sqrt())[:, None]
    return torch.cat([spread[:, None] / (unit * len(cameras)), ratio, offset @ axes / unit, cameras.forward @ axes], -1)


def _distances_to_all(centers: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
    """Sum of the distances from each to all, some rows at a time: all pairs of a long list are gigabytes."""
    centers = centers.detach()
    sums = torch.empty_like(centers[:, 0])  # made first: small pieces between large ones keep the memory of those
    for rows in torch.arange(len(centers)).split(PART):
        sums[rows] = torch.cdist(centers[rows], centers, compute_mode="donot_use_mm_for_euclid_dist").sum(-1)
    return sums


def _ordered(keys: Float[Tensor, "views keys"]) -> list[int]:
    """Lexicographic order of rows in which values closer than a rounding count as equal."""
    rows = keys.tolist()

    def order(members: list[int], column: int) -> list[int]:
        if len(members) < 2 or column == keys.shape[1]:
            return members
        members = sorted(members, key=lambda i: rows[i][column])
        result, group = [], members[:1]
        for i in members[1:]:
            if rows[i][column] - rows[group[-1]][column] > TIE * (1 + abs(rows[i][column])):
                result += order(group, column + 1)
                group = []
            group.append(i)
        return result + order(group, column + 1)

    return order(list(range(len(rows))), 0)
