"""Cameras of an RGB-D capture, refined by bundle adjustment of matched features with their measured depth.

Points are no unknowns: the z-depth z at pixel p of view i puts a point at X = c_i + z R_i d(p), d_z = 1, and its match
q in view j asks for pi_j(X) = q. Sum of s^2 log(1 + |pi_j(X) - q|^2 / s^2) over all matches and both directions,
minimised over the poses and, one for all views, focal length and k1, by Levenberg-Marquardt with Cauchy weights. s
follows the median error down, so that poses which are far off still converge. Depth gives the scale. Where the cameras
as a whole stand cannot be seen: they are put back onto the stated ones, by the mean rotation and the mean centre.
Source: Triggs et al., Bundle Adjustment - A Modern Synthesis (1999); Henry et al., RGB-D Mapping (2012).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from raytrans.data.lensfit import STEPS as LENS_STEPS
from raytrans.data.lensfit import corrected
from raytrans.data.matching import LEAST, Matches
from raytrans.data.scene import Scene
from raytrans.geometry.cameras import Cameras
from raytrans.geometry.rigid import rotation_from_axis_angle
from raytrans.shapes import Float

GAPS = (1, 2, 3, 5, 8, 13, 21, 34)  # in the order of the files, as a video has it
NEAREST = 6
FREE = (2, 3)  # focal length and k1, of `lensfit.NAMES`
STEP = 1e-4  # of a point by which its projection is differentiated, in depths
FLOOR = 0.5  # pixels: least width of the Cauchy weights
ITERATIONS, ENOUGH = 40, 1e-5  # relative decrease of the sum that ends a round
LOOKUPS = 20  # rounds at most
CLEARLY = 0.95  # times the error: what a fit with a depth camera of its own has to reach to be taken
MOST_VIEWS = 1000
MEASURED = 0.5  # least share of views that must have been moved


@dataclass(frozen=True)
class Sightings:
    """n matches whose pixel in view `first` has a z-depth (n): pixels (n, 2, 2) are (first or second, x y)."""

    first: Tensor
    second: Tensor
    pixels: Float[Tensor, "n 2 2"]
    depth: Float[Tensor, " n"]


@dataclass(frozen=True)
class Refinement:
    """Cameras (N,) at full size, and what the fit says.

    before, after: median reprojection error in pixels of the matched pictures. separate: whether the depth maps fit
    better as those of a camera of their own, with the stated lens, than as pixels of the pictures. kept: views that too
    few matches see, which stay as stated. moved: median distance of the others from the stated centres, in units of
    the poses.
    """

    cameras: Cameras
    before: float
    after: float
    separate: bool
    kept: list[int]
    moved: float

    def depth(self, scene: Scene, index: int) -> Float[Tensor, "height width"] | None:
        """z-depth of a view of the scene at the pixels of its refined camera, NaN where unknown; None without depth."""
        values, camera = scene.depth(index), self.cameras[index]
        if values is None or not self.separate:
            return values
        rows, columns = (torch.arange(int(n), dtype=torch.float64) + 0.5 for n in (camera.height, camera.width))
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        return _read(values, torch.stack([x, y], -1), camera, scene.cameras[index]).float()


DepthOf = Callable[[int], Tensor | None]


def pairs_to_match(scene: Scene) -> list[tuple[int, int]]:
    """Pairs that may show the same: every view with its 6 nearest and those 1, 2, 3, 5, ... 34 files later.

    Raises ValueError for a scene of one view, or of more than 1000.
    """
    _check_count(scene)
    count = len(scene)
    partners = {(i, i + gap) for gap in GAPS for i in range(count - gap)}
    for i in range(count):
        partners |= {(min(i, j), max(i, j)) for j in scene.nearest(scene.cameras[i], NEAREST, exclude=[i])}
    return sorted(partners)


def refine_cameras(
    scene: Scene,
    matches: Matches,
    keep_lens: bool = False,
    tell: Callable[[str, int, int], None] = lambda what, done, count: None,
) -> Refinement:
    """Cameras of a scene with depth maps that fit matched features best; `keep_lens` leaves all but the poses.

    tell("fitting cameras", done, count) is called before each fit.

    Both readings of the depth maps are tried; a camera of their own has to fit 5 % better. See `Refinement`. Raises
    ValueError for a scene of one view or of more than 1000, and where fewer than half of the views share 20 matches of
    known depth with others.
    """
    _check_count(scene)
    free = () if keep_lens else FREE
    tell("fitting cameras", 0, 1 if keep_lens else 2)
    best = _fitted(matches, scene.depth, False, free)
    if not keep_lens:
        tell("fitting cameras", 1, 2)
        other = _fitted(matches, scene.depth, True, free)
        best = other if other.after < CLEARLY * best.after else best
    counts = torch.bincount(torch.cat([best.seen.first, best.seen.second]), minlength=len(scene))
    kept = [i for i, count in enumerate(counts.tolist()) if count < LEAST]
    if len(scene) - len(kept) < max(2, MEASURED * len(scene)):
        raise ValueError(
            f"{scene.path}: expected at least half of the views to share {LEAST} matches of known depth with others, "
            f"got {len(scene) - len(kept)} of {len(scene)}"
        )
    stated = matches.cameras
    poses = put_back(best.cameras.world_from_camera, stated.world_from_camera, kept)
    moved = (poses[:, :3, 3] - stated.centers).norm(dim=-1)
    used = [i for i in range(len(scene)) if i not in kept]
    return Refinement(
        _at_full_size(scene.cameras, best.cameras, poses),
        best.before,
        best.after,
        best.separate,
        kept,
        float(moved[used].median()),
    )


def _check_count(scene: Scene) -> None:
    if not 2 <= len(scene) <= MOST_VIEWS:
        raise ValueError(f"{scene.path}: expected 2 to {MOST_VIEWS} views, got {len(scene)}")


def put_back(
    poses: Float[Tensor, "n 4 4"], stated: Float[Tensor, "n 4 4"], kept: Sequence[int] = ()
) -> Float[Tensor, "n 4 4"]:
    """Poses, moved together onto the stated ones by the mean rotation and the mean centre; those `kept` are as stated.

    The mean rotation is the one nearest to the sum of R_stated R^T, the chordal L2 mean (Hartley et al., Rotation
    Averaging, 2013).
    """
    used = [i for i in range(len(poses)) if i not in set(kept)]
    left, _, right = torch.linalg.svd((stated[used, :3, :3] @ poses[used, :3, :3].transpose(-1, -2)).sum(0))
    turn = left @ torch.diag(torch.tensor([1.0, 1.0, float(torch.linalg.det(left @ right))], dtype=left.dtype)) @ right
    out = stated.clone()
    out[used, :3, :3] = turn @ poses[used, :3, :3]
    middle, target = poses[used, :3, 3].mean(0), stated[used, :3, 3].mean(0)
    out[used, :3, 3] = (poses[used, :3, 3] - middle) @ turn.T + target
    return out


@dataclass(frozen=True)
class _Fit:
    cameras: Cameras
    seen: Sightings
    before: float
    after: float
    separate: bool


def _fitted(matches: Matches, depth_of: DepthOf, separate: bool, free: Sequence[int]) -> _Fit:
    """The best round: where depth is read moves with the lens, so rounds go on while depth read anew fits better."""
    stated, lens = matches.cameras, torch.zeros(5, dtype=torch.float64)
    poses, before, least = stated.world_from_camera, None, float("inf")
    for _ in range(LOOKUPS if separate else 2):
        cameras = _posed(corrected(stated, lens), poses)
        seen = sightings(matches, depth_of, cameras if separate else stated)
        errors = _errors(cameras, seen)
        before = _median(errors) if before is None else before
        mean = _total(errors, FLOOR) / max(1, len(errors))
        if mean >= least:
            break
        least, best = mean, _Fit(cameras, seen, before, _median(errors), separate)
        poses, lens = _solved(stated, seen, poses, lens, free)
    return best


def sightings(matches: Matches, depth_of: DepthOf, cameras: Cameras) -> Sightings:
    """Matches with the depth that one of both views has there, each view in turn the first.

    cameras: those of the pictures; the depth maps (H, W), NaN where unknown, belong to the cameras of `matches`, at the
    same places.
    """
    first, second, pixels, depth = [], [], [], []
    for own, other in ((0, 1), (1, 0)):
        sides = matches.sides()
        for view in sides[own].unique().tolist():
            values = depth_of(view)
            if values is None:
                continue
            rows = (sides[own] == view).nonzero()[:, 0]
            at = matches.pixels[rows, own]
            z = _read(values, at, cameras[view], matches.cameras[view])
            known = torch.isfinite(z) & (z > 0)
            first.append(sides[own][rows][known])
            second.append(sides[other][rows][known])
            pixels.append(matches.pixels[rows][known][:, [own, other]])
            depth.append(z[known])
    if not first:
        nothing = torch.zeros(0, dtype=torch.int64)
        return Sightings(
            nothing, nothing, torch.zeros(0, 2, 2, dtype=torch.float64), torch.zeros(0, dtype=torch.float64)
        )
    return Sightings(torch.cat(first), torch.cat(second), torch.cat(pixels), torch.cat(depth))


def carried(camera: Cameras, pixels: Float[Tensor, "*n 2"], other: Cameras) -> Float[Tensor, "*n 2"]:
    """Pixels of one camera as those of another lens at the same place that look the same way."""
    here = _posed(camera, torch.eye(4, dtype=torch.float64))
    return _posed(other, torch.eye(4, dtype=torch.float64)).project(here.pixel_rays(pixels).direction)[0]


def _read(values: Tensor, pixels: Float[Tensor, "*n 2"], camera: Cameras, of_map: Cameras) -> Float[Tensor, "*n"]:
    size = torch.tensor(
        [values.shape[1] / int(of_map.width), values.shape[0] / int(of_map.height)], dtype=torch.float64
    )
    x, y = (carried(camera, pixels, of_map) * size).floor().long().unbind(-1)
    inside = (x >= 0) & (y >= 0) & (x < values.shape[1]) & (y < values.shape[0])
    found = values[y.clamp(0, values.shape[0] - 1), x.clamp(0, values.shape[1] - 1)].double()
    return torch.where(inside, found, torch.nan)


def _posed(cameras: Cameras, poses: Tensor) -> Cameras:
    size = torch.stack([torch.as_tensor(cameras.height), torch.as_tensor(cameras.width)], -1)
    return Cameras(cameras.intrinsics, poses, size, cameras.distortion)


def _points(cameras: Cameras, seen: Sightings) -> Float[Tensor, "n 3"]:
    own = cameras[seen.first]
    rays = own.pixel_rays(seen.pixels[:, 0])
    return own.centers + rays.direction * (seen.depth / (rays.direction * own.forward).sum(-1))[:, None]


def _errors(cameras: Cameras, seen: Sightings) -> Float[Tensor, "n 2"]:
    return cameras[seen.second].project(_points(cameras, seen))[0] - seen.pixels[:, 1]


def _median(errors: Tensor) -> float:
    return float(errors.norm(dim=-1).median()) if len(errors) else float("inf")


def _total(errors: Tensor, scale: float) -> float:
    return float((scale**2 * torch.log1p(errors.square().sum(-1) / scale**2)).sum())


def _solved(
    stated: Cameras, seen: Sightings, poses: Tensor, lens: Tensor, free: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Poses and corrections of the lens at the end of one round."""
    damping = 1e-3
    for _ in range(ITERATIONS if len(seen.depth) else 0):
        cameras = _posed(corrected(stated, lens), poses)
        errors = _errors(cameras, seen)
        scale = max(2 * 1.4826 * _median(errors), FLOOR)
        before = _total(errors, scale)
        normal, right = _normal_equations(stated, seen, poses, lens, free, errors, scale)
        while damping < 1e8:
            step = -torch.linalg.solve(normal + damping * normal.diagonal().diag_embed(), right)
            trial = _moved(poses, lens, step, free)
            after = _total(_errors(_posed(corrected(stated, trial[1]), trial[0]), seen), scale)
            if after < before:
                break
            damping *= 10
        else:
            break
        (poses, lens), damping = trial, max(damping / 10, 1e-7)
        if before - after < ENOUGH * before:
            break
    return poses, lens


def _moved(poses: Tensor, lens: Tensor, step: Tensor, free: Sequence[int]) -> tuple[Tensor, Tensor]:
    turn, shift = step[: 6 * len(poses)].reshape(-1, 6).split(3, -1)
    poses, lens = poses.clone(), lens.clone()
    poses[:, :3, :3] = rotation_from_axis_angle(turn) @ poses[:, :3, :3]
    poses[:, :3, 3] += shift
    lens[list(free)] += step[6 * len(poses) :]
    return poses, lens


def _normal_equations(
    stated: Cameras, seen: Sightings, poses: Tensor, lens: Tensor, free: Sequence[int], errors: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """J^T W J and J^T W e over turn and shift of every camera, about its own centre in world axes, then the lens.

    A point moves by shift_i + turn_i x (X - c_i) with its first camera, and against the second one likewise.
    """
    cameras = _posed(corrected(stated, lens), poses)
    own, other = cameras[seen.first], cameras[seen.second]
    points = _points(cameras, seen)
    by_point = torch.stack(
        [
            (other.project(points + axis)[0] - other.project(points - axis)[0]) / (2 * STEP * seen.depth[:, None])
            for axis in STEP * seen.depth[:, None] * torch.eye(3, dtype=torch.float64)[:, None]
        ],
        -1,
    )
    # J_P (turn x r) = (r x J_P) . turn, row by row
    turns = [torch.linalg.cross((points - c.centers)[:, None].expand_as(by_point), by_point) for c in (own, other)]
    by_lens = [
        (
            _errors(_posed(corrected(stated, lens + d), poses), seen)
            - _errors(_posed(corrected(stated, lens - d), poses), seen)
        )
        / (2 * LENS_STEPS[k])
        for k in free
        for d in [torch.zeros(5, dtype=torch.float64).index_fill(0, torch.tensor(k), float(LENS_STEPS[k]))]
    ]
    rows = torch.cat([turns[0], by_point, -turns[1], -by_point, *(column[..., None] for column in by_lens)], -1)
    weight = 1 / (1 + errors.square().sum(-1) / scale**2)
    size = 6 * len(poses) + len(free)
    normal, right = torch.zeros(size, size, dtype=torch.float64), torch.zeros(size, dtype=torch.float64)
    last = torch.arange(6 * len(poses), size)
    pair = seen.first * len(poses) + seen.second
    for one in pair.unique().tolist():
        mine = pair == one
        columns = torch.cat([6 * (one // len(poses)) + torch.arange(6), 6 * (one % len(poses)) + torch.arange(6), last])
        block = rows[mine].flatten(0, 1)
        weighted = block * weight[mine].repeat_interleave(2)[:, None]
        normal[columns[:, None], columns] += block.T @ weighted
        right[columns] += weighted.T @ errors[mine].flatten()
    # a view that no match sees stays where it is
    normal.diagonal()[normal.diagonal() == 0] = 1
    return normal, right


def _at_full_size(stated: Cameras, fitted: Cameras, poses: Tensor) -> Cameras:
    out = [small.resized(int(one.height), int(one.width)) for one, small in zip(stated, fitted, strict=True)]
    lenses = Cameras.stack(out)
    size = torch.stack([stated.height, stated.width], -1)
    return Cameras(lenses.intrinsics, poses, size, lenses.distortion, stated.near, stated.far)
