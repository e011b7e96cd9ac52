"""Camera paths for videos: orbits, spirals and interpolations, and the pose that looks at a point.

Paths are covariant: the path of moved cameras is the moved path, under rotation, translation and scale. Nothing reads a
world axis or an absolute length: up is across the cameras' x axes where they are level, else the mean of their up
vectors; lengths are those of the rig itself.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from raytrans.geometry.cameras import Cameras
from raytrans.geometry.conversions import axis_angle
from raytrans.geometry.coverage import Region, covered_share
from raytrans.geometry.rigid import minimal_rotation, rigid, rotation_from_axis_angle
from raytrans.shapes import Float, Int

Array = Tensor | np.ndarray | Sequence

NEARLY_PARALLEL = 1e-4  # mean squared sine between optical axes below which they do not fix a point
SEEING = 0.75  # share of the cameras that must see the point their axes meet at
ONE_WAY = 0.85  # length of the mean optical axis above which a rig looks one way (0.85: uniform within 45 degrees)
COMPANY = 0.6  # radians between axes of cameras that a spiral takes together where the rig looks all ways
LEVEL = 0.1  # of the squared turn of x axes within a plane: how far out of it they may point and count as level
LEAST_TURN = 1e-3  # mean squared sine between x axes below which they fix no plane
STEEP = 0.3  # cosine between that plane's normal and the mean up vector below which cameras look along the normal
ASLANT = 0.35  # sine off the vertical: steeper lines of sight turn quickly about themselves to stay level
ORBIT_SIZES = (1.0, 0.85, 0.7)  # relative to the largest ellipse within what the cameras cover
ORBIT_SAMPLES = 16  # pictures by which a size is judged
SIZE_WORTH = 0.2  # the share of a picture that the whole size of an orbit is worth
DOLLY = 1 / 3  # of the cameras' extent along the line of sight that a spiral uses: more changes the subject's size
EXACT = "donot_use_mm_for_euclid_dist"  # of torch.cdist, whose other ways lose half of the digits
PART = 64  # cameras at a time that are held against all: all pairs of a long list are gigabytes
KEY_FRAMES = 8  # frames between two cameras that a path goes through
COINCIDENT = 1e-9  # rigs smaller than this part of their distance from the origin are one place, up to rounding


def look_at(center: Array, target: Array, up: Array) -> Float[Tensor, "*batch 4 4"]:
    """world_from_camera at `center`, z axis towards `target`, y axis opposite to `up` as far as z allows.

    Points and direction (..., 3), batches broadcast; z = t - c, x = z x up, y = z x x, normalised. Raises ValueError
    where centre and target coincide or `up` is parallel to the line of sight.
    """
    center, target, up = (_points(v, n) for v, n in ((center, "center"), (target, "target"), (up, "up")))
    z = target - center
    right = torch.linalg.cross(*torch.broadcast_tensors(z, up))
    if not bool((z.norm(dim=-1) > 0).all()):
        raise ValueError("target: expected a point other than center, got the same")
    if not bool((right.norm(dim=-1) > 1e-9 * z.norm(dim=-1) * up.norm(dim=-1)).all()):
        raise ValueError("up: expected a direction off the line from center to target, got one along it")
    return rigid(_axes(z, right), center)


def common_focus(cameras: Cameras) -> Float[Tensor, "3"] | None:
    """The point that most cameras look at and see, or None where there is none.

    It is the p of min_p sum_i |(I - f_i f_i^T)(p - c_i)|^2 over optical axes (c_i, f_i), or the mean centre where most
    see that (cameras that face each other). None where axes are nearly parallel, and where cameras look outward.
    """
    cameras = _batch(cameras)
    centers, forward = cameras.world_from_camera[:, :3, 3], cameras.world_from_camera[:, :3, 2]
    middle = centers.mean(0)
    normal = torch.eye(3, dtype=torch.float64) - forward[:, :, None] * forward[:, None, :]
    total, tangent = normal.mean(0), _tangent(cameras)
    candidates = [middle]
    if float(torch.linalg.eigvalsh(total)[0]) > NEARLY_PARALLEL:
        moment = (normal @ (centers - middle)[:, :, None])[..., 0].mean(0)
        candidates.insert(0, middle + torch.linalg.solve(total, moment))
    for point in candidates:
        offset = point - centers
        ahead = (offset * forward).sum(-1)
        seen = (ahead > 0) & (offset.norm(dim=-1) < ahead * (1 + tangent**2).sqrt())
        if float(seen.double().mean()) >= SEEING:
            return point
    return None


def focus(cameras: Cameras) -> Float[Tensor, "3"]:
    """The point the cameras look at: `common_focus`, else one in front of the mean camera.

    That one lies at twice the rig's radius over the tangent of half the field of view (at least twice the radius):
    there every camera that looks the mean way sees it. Cameras at one place give that place.
    """
    cameras = _batch(cameras)
    point = common_focus(cameras)
    if point is not None:
        return point
    middle = cameras.centers.mean(0)
    radius = (cameras.centers - middle).norm(dim=-1).max()
    return middle + _mean_direction(cameras.forward) * radius * (2 / _tangent(cameras).median()).clamp_min(2.0)


def looks_one_way(cameras: Cameras) -> bool:
    """Whether the optical axes differ by little from their mean."""
    return float(_batch(cameras).forward.mean(0).norm()) >= ONE_WAY


def up_direction(cameras: Cameras) -> Float[Tensor, "3"]:
    """The unit vector up: across the cameras' x axes where they are level, else the mean of their up vectors."""
    return _up(_batch(cameras).world_from_camera)


def _tangent(cameras: Cameras) -> Float[Tensor, "n"]:
    """Tangent of half the field of view along the longer side."""
    return 0.5 * torch.maximum(
        cameras.width / cameras.intrinsics[:, 0, 0].abs().clamp_min(1e-9),
        cameras.height / cameras.intrinsics[:, 1, 1].abs().clamp_min(1e-9),
    )


def orbit(cameras: Cameras, frames: int, target: Array | None = None) -> Cameras:
    """A smooth closed path around `target` (default: `focus`), every frame looking at it.

    Cameras that surround the target give a full turn about the up vector, elevation and distance following the
    cameras smoothed over the azimuth. Others give the largest ellipse around the mean viewing direction that lies
    within the convex hull of their directions (azimuth, elevation), so that it never leaves what they cover; a smaller
    one where cameras at the rim look elsewhere, so that pictures there would show what nobody saw. Cameras at one place
    give a closed turn through their own rotations. Raises ValueError for frames < 1 and for a target that is not (3,).
    """
    cameras, frames = _batch(cameras), _count(frames)
    pose = cameras.world_from_camera
    if target is None:
        point = focus(cameras)
    else:
        point = _points(target, "target")
        if point.shape != (3,):
            raise ValueError(f"target: expected shape (3,), got {tuple(point.shape)}")
    offset = pose[:, :3, 3] - point
    if _one_place(pose[:, :3, 3]) and (target is None or float(offset.norm(dim=-1).max()) == 0):
        return _path(cameras, _through(torch.cat([pose, pose[:1]]), frames + 1)[:-1])
    region = Region(offset[offset.norm(dim=-1) > 1e-9 * offset.norm(dim=-1).max()], _up(pose), pose[0, :3, :3])

    def around(count: int, size: float) -> Cameras:
        place = region.loop(torch.arange(count, dtype=torch.float64) * (2 * math.pi / count), size)
        return _path(cameras, _facing(place + point, -place, region.up, pose[0, :3, 0]))

    def worth(size: float) -> float:
        return SIZE_WORTH * size + covered_share(cameras, around(ORBIT_SAMPLES, size), point)

    return around(frames, 1.0 if region.surrounding else max(ORBIT_SIZES, key=worth))


def spiral(cameras: Cameras, frames: int) -> Cameras:
    """Two turns about the mean camera looking at the `focus` p, closed:

    c(t) = c + R [r_x cos t, -r_y sin t, -r_z sin(t/2)], t in [0, 4 pi), z axis towards p, that of R towards p from c.

    r_x and r_y are the 0.9 quantile of the cameras' distances from the mean along its axes, r_z a third of that. Where
    the cameras look all ways, only the largest group within 0.6 radians of one of them counts. Raises ValueError for
    frames < 1.
    Source: render_path_spiral of "Local Light Field Fusion", Mildenhall et al. 2019.
    """
    cameras, frames = _batch(cameras), _count(frames)
    if not looks_one_way(cameras):
        forward, near = cameras.forward, math.cos(COMPANY)
        company = torch.zeros(len(cameras), dtype=torch.long)
        for rows in torch.arange(len(cameras)).split(PART):
            company[rows] = (forward[rows] @ forward.mT > near).sum(-1)
        cameras = cameras[forward @ forward[_first_of_most(company)] > near]
    pose = cameras.world_from_camera
    centers, up, spare = pose[:, :3, 3], _up(pose), pose[0, :3, 0]
    middle = centers.mean(0)
    if _one_place(centers):  # without extent of the rig no distance shows in the path
        return _path(cameras, _facing(middle.expand(frames, 3), _mean_direction(pose[:, :3, 2])[None], up, spare))
    ahead = focus(cameras) - middle
    t = torch.arange(frames, dtype=torch.float64) * (4 * math.pi / frames)
    offset = _spiral_offsets(centers - middle, ahead, up, spare, t)
    if not _upright(ahead - offset, ahead, up):
        # near the point straight above, a level horizon turns around; that of the mean up vector does not
        up = _mean_direction(-pose[:, :3, 1])
        offset = _spiral_offsets(centers - middle, ahead, up, spare, t)
    return _path(cameras, _facing(middle + offset, ahead - offset, up, spare))


def _spiral_offsets(places: Tensor, ahead: Tensor, up: Tensor, spare: Tensor, t: Tensor) -> Float[Tensor, "frames 3"]:
    mean = _facing(torch.zeros_like(ahead)[None], ahead[None], up, spare)[0, :3, :3]
    radius = (places @ mean).abs().quantile(0.9, dim=0) * torch.tensor([1, 1, DOLLY], dtype=torch.float64)
    return (radius * torch.stack([t.cos(), -t.sin(), -(0.5 * t).sin()], -1)) @ mean.mT


def _upright(lines: Float[Tensor, "frames 3"], ahead: Tensor, up: Tensor) -> bool:
    """Whether every line of sight keeps `ASLANT` of its length level, towards the side of `ahead`."""
    level = ahead - (ahead @ up) * up
    return bool((lines @ level > ASLANT * lines.norm(dim=-1) * level.norm()).all())


def interpolated(cameras: Cameras, frames: int) -> Cameras:
    """An open path from the first to the last camera through every pose, equal time between neighbours.

    Rotations by slerp R_i exp(u log(R_i^T R_{i+1})), centres by uniform Catmull-Rom splines. Frames fall on the given
    poses where frames - 1 is a multiple of len(cameras) - 1. Raises ValueError for frames < 1.
    """
    cameras, frames = _batch(cameras), _count(frames)
    return _path(cameras, _through(cameras.world_from_camera, frames))


def interpolate(cameras: Cameras, frames: int) -> Cameras:
    """`interpolated` through some of the cameras in a short order, for rigs that are listed in any.

    The order is a chain from each camera to the nearest that is left, by centres over the rig's size plus radians
    between axes, beginning with the one farthest from all. Of it every so many cameras are taken that eight frames lie
    between two. Raises ValueError for frames < 1.
    """
    cameras, frames = _batch(cameras), _count(frames)
    chain = _chain(cameras)
    count = min(len(chain), max(2, round(frames / KEY_FRAMES) + 1))
    keys = [chain[round(i * (len(chain) - 1) / max(count - 1, 1))] for i in range(count)]
    return interpolated(cameras[keys], frames)


def _chain(cameras: Cameras) -> list[int]:
    """Indices of all cameras, each followed by the nearest of those that are left."""
    sums = torch.zeros(len(cameras), dtype=torch.float64)
    for rows in torch.arange(len(cameras)).split(PART):
        sums[rows] = _differences(cameras, rows).detach().sum(-1)
    chain, left = [int(sums.argmax())], torch.ones(len(cameras), dtype=torch.bool)
    while True:
        left[chain[-1]] = False
        if not left.any():
            return chain
        apart = _differences(cameras, torch.tensor(chain[-1:]))[0].masked_fill(~left, torch.inf)
        chain.append(int((apart == apart.min()).nonzero()[0]))


def _differences(cameras: Cameras, rows: Tensor) -> Float[Tensor, "rows n"]:
    """How much some cameras differ from all: distance over the rig's size (0 at one place), plus radians of axes."""
    centers, forward = cameras.centers, cameras.forward
    apart = torch.cdist(centers[rows], centers, compute_mode=EXACT)
    size = (centers - centers.mean(0)).norm(dim=-1).max()
    angle = (forward[rows, None] * forward).sum(-1).clamp(-1, 1).acos()
    return (torch.zeros_like(apart) if _one_place(centers) else apart / size) + angle


def wander(cameras: Cameras, frames: int) -> Cameras:
    """A small closed figure of eight about the most central camera, which keeps what it looks at in the middle:

    c(t) = c + R [r sin t, r/2 sin 2t, 0], t in [0, 2 pi), turned as little as leads to p = c + d f.

    r is the median distance between neighbours, d the depth of `focus` (at least the rig's size). The first pose is
    that of the camera itself. Raises ValueError for frames < 1.
    """
    cameras, frames = _batch(cameras), _count(frames)
    centers = cameras.centers
    sums, neighbours = _distances(centers)
    middle = int(sums.argmin())
    pose = cameras.world_from_camera[middle]
    if _one_place(centers):
        return _path(cameras, pose.expand(frames, 4, 4))
    radius = neighbours.median()
    size = (centers - centers.mean(0)).norm(dim=-1).max()
    depth = torch.maximum((focus(cameras) - pose[:3, 3]) @ pose[:3, 2], size)
    t = torch.arange(frames, dtype=torch.float64) * (2 * math.pi / frames)
    offset = radius * torch.stack([t.sin(), 0.5 * (2 * t).sin(), torch.zeros_like(t)], -1) @ pose[:3, :3].mT
    line = depth * pose[:3, 2] - offset
    turn = minimal_rotation(pose[:3, 2].expand(frames, 3), line / line.norm(dim=-1, keepdim=True))
    return _path(cameras, rigid(turn @ pose[:3, :3], pose[:3, 3] + offset))


def _distances(centers: Float[Tensor, "n 3"]) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Sum of the distances from each to all, and the distance to its neighbour."""
    centers = centers.detach()
    sums, neighbours = torch.empty_like(centers[:, 0]), torch.empty_like(centers[:, 0])
    for rows in torch.arange(len(centers)).split(PART):
        apart = torch.cdist(centers[rows], centers, compute_mode=EXACT)
        sums[rows] = apart.sum(-1)
        neighbours[rows] = apart.scatter_(1, rows[:, None], torch.inf).amin(-1)
    return sums, neighbours


def _through(pose: Float[Tensor, "n 4 4"], frames: int) -> Float[Tensor, "frames 4 4"]:
    last = len(pose) - 1
    if last == 0:
        return pose.expand(frames, 4, 4)
    at = torch.linspace(0, last, frames, dtype=torch.float64)
    i = at.floor().long().clamp_max(last - 1)
    u = (at - i)[:, None]
    rotation, centers = pose[:, :3, :3], pose[:, :3, 3]
    log = axis_angle(rotation[i].mT @ rotation[i + 1])
    turned = rotation[i] @ rotation_from_axis_angle(u * log)
    # beyond the ends the spline goes on straight, so that two poses give a line
    ends = (2 * centers[:1] - centers[1:2], 2 * centers[-1:] - centers[-2:-1])
    knots = torch.cat([ends[0], centers, ends[1]])
    a, b, c, d = (knots[i + k] for k in range(4))
    place = b + 0.5 * u * (c - a + u * (2 * a - 5 * b + 4 * c - d + u * (3 * (b - c) + d - a)))
    return rigid(turned, place)


def _facing(center: Tensor, forward: Tensor, up: Tensor, spare: Tensor) -> Float[Tensor, "n 4 4"]:
    """Poses along `forward`; where `up` is along it, the x axis is the part of `spare` across it."""
    forward = forward / forward.norm(dim=-1, keepdim=True)
    right = torch.linalg.cross(forward, up.expand_as(forward))
    across = spare - (spare * forward).sum(-1, keepdim=True) * forward
    right = torch.where(right.norm(dim=-1, keepdim=True) > 1e-6, right, across)
    return rigid(_axes(forward, right), center)


def _axes(z: Tensor, right: Tensor) -> Float[Tensor, "*batch 3 3"]:
    z, x = torch.broadcast_tensors(z / z.norm(dim=-1, keepdim=True), right / right.norm(dim=-1, keepdim=True))
    return torch.stack([x, torch.linalg.cross(z, x), z], -1)


def _up(pose: Float[Tensor, "n 4 4"]) -> Float[Tensor, "3"]:
    """The direction across all x axes, e of the least eigenvalue of sum x x^T, on the side of the mean up vector.

    The mean up vector itself leans with cameras that look down on one side only. It is taken where the x axes are not
    level, do not turn, or all cameras look along e.
    """
    mean, right = _mean_direction(-pose[:, :3, 1]), pose[:, :3, 0]
    values, vectors = torch.linalg.eigh(right.mT @ right / len(right))
    along = vectors[:, 0] @ mean
    level = float(values[0]) < LEVEL * float(values[1]) and float(values[1]) > LEAST_TURN
    return vectors[:, 0] * along.sign() if level and float(along.abs()) > STEEP else mean


def _mean_direction(directions: Float[Tensor, "n 3"]) -> Float[Tensor, "3"]:
    """Normalised mean, or the first direction where they cancel."""
    mean = directions.mean(0)
    return mean / mean.norm() if float(mean.norm()) > 1e-6 else directions[0]


def _one_place(centers: Float[Tensor, "n 3"]) -> bool:
    """True where the centres differ by nothing but the rounding of their coordinates."""
    return float((centers - centers.mean(0)).abs().max()) <= COINCIDENT * float(centers.abs().max())


def _path(cameras: Cameras, pose: Float[Tensor, "frames 4 4"]) -> Cameras:
    """Pinhole cameras at the poses, of the size that most cameras have and the median intrinsics of those."""
    size = torch.stack([cameras.height, cameras.width], -1)
    _, kind, counts = torch.unique(size, dim=0, return_inverse=True, return_counts=True)
    alike = kind == kind[_first_of_most(counts[kind])]
    height, width = size[alike][0].tolist()
    intrinsics = cameras.intrinsics[alike].median(0).values
    return Cameras(intrinsics.expand(len(pose), 3, 3), pose, size=(height, width))


def _first_of_most(counts: Int[Tensor, "n"]) -> int:
    """Index of the largest count, the first of several."""
    return int((counts == counts.max()).nonzero()[0])


def _batch(cameras: Cameras) -> Cameras:
    batch = cameras.intrinsics.shape[:-2]
    if len(batch) > 1 or 0 in batch:
        raise ValueError(f"cameras: expected one camera or a batch (N,), got batch {tuple(batch)}")
    return cameras if batch else Cameras.stack([cameras])


def _count(frames: int) -> int:
    if frames < 1:
        raise ValueError(f"frames: expected at least 1, got {frames}")
    return frames


def _points(value: Array, name: str) -> Tensor:
    value = torch.as_tensor(value).double()
    if value.ndim == 0 or value.shape[-1] != 3 or not bool(torch.isfinite(value).all()):
        raise ValueError(f"{name}: expected finite numbers of shape (..., 3), got shape {tuple(value.shape)}")
    return value


PATHS = {"orbit": orbit, "spiral": spiral, "interpolate": interpolate, "wander": wander}  # through a rig, by name
