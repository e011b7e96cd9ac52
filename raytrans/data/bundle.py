"""Bundle adjustment of pixels whose depth is measured: the poses and the lens that put them onto their matches.

Points are no unknowns: the z-depth z at pixel p of view i puts a point at X = c_i + z R_i d(p), d_z = 1, and its match
q in view j asks for pi_j(X) = q. Sum of s^2 log(1 + |pi_j(X) - q|^2 / s^2), minimised over poses, a factor of the
focal lengths and k1, both shared by all views, by Levenberg-Marquardt with Cauchy weights. s follows the median error
down, so that poses which are far off still converge. Where the cameras as a whole stand cannot be seen.
Source: Triggs et al., Bundle Adjustment - A Modern Synthesis (1999); Henry et al., RGB-D Mapping (2012).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from raytrans.data.lensfit import BOUNDS, STEPS, corrected
from raytrans.geometry.cameras import Cameras
from raytrans.geometry.rigid import rotation_from_axis_angle
from raytrans.shapes import Float, Int

LENS = (2, 3)  # focal length and k1, of `lensfit.NAMES`
STEP = 1e-4  # of a point by which its projection is differentiated, in depths
FLOOR = 0.5  # pixels: least width of the Cauchy weights
ITERATIONS, ENOUGH = 40, 1e-5  # relative decrease of the sum that ends the fit
HOPELESS = 1e8  # damping beyond which no step is small enough
CHUNK = 2**15  # sightings at a time whose derivatives are in memory


@dataclass(frozen=True)
class Sightings:
    """n matches whose pixel in view `first` (n) has a z-depth (n): pixels (n, 2, 2) are (first or second, x y).

    Those of the same two views stand together.
    """

    first: Int[Tensor, " n"]
    second: Int[Tensor, " n"]
    pixels: Float[Tensor, "n 2 2"]
    depth: Float[Tensor, " n"]

    def __len__(self) -> int:
        return len(self.depth)

    def __getitem__(self, rows: slice) -> "Sightings":
        return Sightings(self.first[rows], self.second[rows], self.pixels[rows], self.depth[rows])

    def pairs(self) -> list[int]:
        """How many sightings each two views have, in order."""
        return torch.unique_consecutive(torch.stack([self.first, self.second]), dim=1, return_counts=True)[1].tolist()

    def chunks(self) -> Iterator[tuple[slice, list[int]]]:
        """Rows of whole pairs of views, not many more than 32,768 at a time, and how many each pair has."""
        start, members = 0, []
        for count in self.pairs():
            members.append(count)
            if sum(members) >= CHUNK:
                yield slice(start, start + sum(members)), members
                start, members = start + sum(members), []
        if members:
            yield slice(start, start + sum(members)), members


def posed(cameras: Cameras, poses: Float[Tensor, "*batch 4 4"]) -> Cameras:
    """The lenses of some cameras at other poses, without near and far."""
    size = torch.stack([torch.as_tensor(cameras.height), torch.as_tensor(cameras.width)], -1)
    return Cameras(cameras.intrinsics, poses, size, cameras.distortion)


def errors_of(cameras: Cameras, seen: Sightings) -> Float[Tensor, "n 2"]:
    """Pixels from every match to where the depth of its partner puts it."""
    return cameras[seen.second].project(_points(cameras, seen))[0] - seen.pixels[:, 1]


def median(errors: Float[Tensor, "n 2"]) -> float:
    """Median length, infinite where there are none."""
    return float(errors.norm(dim=-1).nan_to_num(nan=torch.inf).median()) if len(errors) else float("inf")


def cost(errors: Float[Tensor, "n 2"], scale: float) -> float:
    """Sum of s^2 log(1 + |e|^2 / s^2)."""
    return float((scale**2 * torch.log1p(errors.square().sum(-1) / scale**2)).sum())


def adjusted(
    stated: Cameras, seen: Sightings, poses: Float[Tensor, "v 4 4"], lens: Float[Tensor, " 5"], free: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Poses and corrections of the stated lens (`lensfit.NAMES`) that fit best, from given ones; `free` says of what.

    A correction goes no further than `lensfit.BOUNDS`. A step that leads nowhere finite is not taken.
    """
    damping = 1e-3
    for _ in range(ITERATIONS if len(seen) else 0):
        errors = errors_of(posed(corrected(stated, lens), poses), seen)
        scale = max(2 * 1.4826 * median(errors), FLOOR)
        before = cost(errors, scale)
        normal, right = normal_equations(stated, seen, poses, lens, free, errors, scale)
        while damping < HOPELESS:
            damped = normal.clone()
            damped.diagonal().mul_(1 + damping)
            factor, failed = torch.linalg.cholesky_ex(damped)
            step = -torch.cholesky_solve(right[:, None], factor)[:, 0]
            if not failed and bool(torch.isfinite(step).all()):
                trial = moved(poses, lens, step, free)
                after = cost(errors_of(posed(corrected(stated, trial[1]), trial[0]), seen), scale)
                if after < before:
                    break
            damping *= 10
        else:
            break
        (poses, lens), damping = trial, max(damping / 10, 1e-7)
        if before - after < ENOUGH * before:
            break
    return poses, lens


def moved(
    poses: Float[Tensor, "v 4 4"], lens: Float[Tensor, " 5"], step: Tensor, free: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Poses and lens after a step (6 v + free): turn and shift of every camera, then what is free of the lens."""
    turn, shift = step[: 6 * len(poses)].reshape(-1, 6).split(3, -1)
    poses, lens, free = poses.clone(), lens.clone(), list(free)
    poses[:, :3, :3] = rotation_from_axis_angle(turn) @ poses[:, :3, :3]
    poses[:, :3, 3] += shift
    lens[free] = (lens[free] + step[6 * len(poses) :]).clamp(-BOUNDS[free], BOUNDS[free])
    return poses, lens


def normal_equations(
    stated: Cameras, seen: Sightings, poses: Tensor, lens: Tensor, free: Sequence[int], errors: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """J^T W J and J^T W e over turn and shift of every camera, about its own centre in world axes, then the lens."""
    size = 6 * len(poses) + len(free)
    normal, right = torch.zeros(size, size, dtype=torch.float64), torch.zeros(size, dtype=torch.float64)
    last = torch.arange(6 * len(poses), size)
    for rows, members in seen.chunks():
        part, error = seen[rows], errors[rows]
        slopes = _slopes(stated, part, poses, lens, free)
        weight = 1 / (1 + error.square().sum(-1) / scale**2)
        weighted = slopes * weight[:, None, None]
        for own, other, j, wj, e in zip(
            *(column.split(members) for column in (part.first, part.second, slopes, weighted, error)), strict=True
        ):
            columns = torch.cat([6 * int(view[0]) + torch.arange(6) for view in (own, other)] + [last])
            normal[columns[:, None], columns] += j.flatten(0, 1).T @ wj.flatten(0, 1)
            right[columns] += wj.flatten(0, 1).T @ e.flatten()
    # a view that no match sees stays where it is
    normal.diagonal()[normal.diagonal() == 0] = 1
    return normal, right


def _slopes(
    stated: Cameras, seen: Sightings, poses: Tensor, lens: Tensor, free: Sequence[int]
) -> Float[Tensor, "n 2 columns"]:
    """Derivatives of the errors by turn and shift of the first view, of the second, and by the lens.

    A point moves by shift_i + turn_i x (X - c_i) with its first camera, and against the second one likewise.
    """
    cameras = posed(corrected(stated, lens), poses)
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
    by_lens = []
    for k in free:
        step = torch.zeros(5, dtype=torch.float64).index_fill(0, torch.tensor(k), float(STEPS[k]))
        ahead, behind = (errors_of(posed(corrected(stated, lens + d), poses), seen) for d in (step, -step))
        by_lens.append(((ahead - behind) / (2 * STEPS[k]))[..., None])
    return torch.cat([turns[0], by_point, -turns[1], -by_point, *by_lens], -1)


def _points(cameras: Cameras, seen: Sightings) -> Float[Tensor, "n 3"]:
    own = cameras[seen.first]
    direction = own.pixel_rays(seen.pixels[:, 0]).direction
    return own.centers + direction * (seen.depth / (direction * own.forward).sum(-1))[:, None]
