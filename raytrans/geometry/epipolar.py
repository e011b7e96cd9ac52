"""Two views of one point: how far, in pixels, a match lies from the epipolar curve, and where its rays meet.

With x_b = R x_a + t between camera axes, rays d_a, d_b to the same point satisfy e = d_b . (t x R d_a) = 0. To first
order a pixel has to move by |e| / |de/dpixel| to reach that; for a pinhole it is the distance to the epipolar line,
exactly. The lens enters through the rays and their derivatives alone, so all lenses work.
Source: Hartley and Zisserman, Multiple View Geometry, sections 9.2 and 11.4.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from raytrans.geometry.cameras import Cameras
from raytrans.shapes import Float

STEP = 0.5  # pixels, for central differences


@dataclass(frozen=True)
class Sights:
    """Directions of n pixels in camera axes and their derivatives by the pixel; z = 1, or unit length for a fisheye."""

    direction: Float[Tensor, "n 3"]
    jacobian: Float[Tensor, "n 3 2"]

    def __getitem__(self, index) -> "Sights":
        return Sights(self.direction[index], self.jacobian[index])


def sights(cameras: Cameras, pixels: Float[Tensor, "n 2"]) -> Sights:
    """Directions through one pixel of each of n cameras; their poses do not matter."""
    lens, rotation = cameras.distortion, cameras.world_from_camera[:, :3, :3]

    def directions(at: Tensor) -> Tensor:
        direction = torch.einsum("nji,nkj->nki", rotation, cameras.pixel_rays(at).direction)
        return direction if lens is not None and lens.model == "fisheye" else direction / direction[..., 2:]

    x, y = torch.tensor([STEP, 0.0], dtype=torch.float64), torch.tensor([0.0, STEP], dtype=torch.float64)
    right, left, down, up, middle = directions(
        torch.stack([pixels + x, pixels - x, pixels + y, pixels - y, pixels], 1)
    ).unbind(1)
    return Sights(middle, torch.stack([right - left, down - up], -1) / (2 * STEP))


def relative(pose_a: Float[Tensor, "n 4 4"], pose_b: Float[Tensor, "n 4 4"]) -> tuple[Tensor, Tensor]:
    """R (n, 3, 3) and t (n, 3) with x_b = R x_a + t, from world_from_camera."""
    back = pose_b[:, :3, :3].transpose(-1, -2)
    return back @ pose_a[:, :3, :3], torch.einsum("nij,nj->ni", back, pose_a[:, :3, 3] - pose_b[:, :3, 3])


def _constraint(a: Sights, b: Sights, pose_a: Tensor, pose_b: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """e = d_b . (t x R d_a) (n), its gradients by both pixels (n, 2), and where there is a baseline."""
    rotation, shift = relative(pose_a, pose_b)
    normal_b = torch.linalg.cross(shift, torch.einsum("nij,nj->ni", rotation, a.direction))
    normal_a = torch.einsum("nji,nj->ni", rotation, torch.linalg.cross(b.direction, shift))
    slope_a = torch.einsum("ni,nik->nk", normal_a, a.jacobian)
    slope_b = torch.einsum("ni,nik->nk", normal_b, b.jacobian)
    return (normal_b * b.direction).sum(-1), slope_a, slope_b, shift.norm(dim=-1) > 0


def epipolar_distance(
    a: Sights, b: Sights, pose_a: Float[Tensor, "n 4 4"], pose_b: Float[Tensor, "n 4 4"]
) -> Float[Tensor, " n"]:
    """Symmetric epipolar distance in pixels: the mean of the distances in both images; NaN without a baseline.

    |e| (1 / |e_a| + 1 / |e_b|) / 2, e_a and e_b being the gradients of e by the pixels of a and b.
    """
    error, slope_a, slope_b, apart = _constraint(a, b, pose_a, pose_b)
    distance = 0.5 * (error / slope_a.norm(dim=-1)).abs() + 0.5 * (error / slope_b.norm(dim=-1)).abs()
    return torch.where(apart, distance, torch.nan)


def signed_distance(
    a: Sights, b: Sights, pose_a: Float[Tensor, "n 4 4"], pose_b: Float[Tensor, "n 4 4"]
) -> Float[Tensor, " n"]:
    """Sampson distance e / sqrt(|e_a|^2 + |e_b|^2) in pixels, with its sign; NaN without a baseline."""
    error, slope_a, slope_b, apart = _constraint(a, b, pose_a, pose_b)
    return torch.where(apart, error / torch.cat([slope_a, slope_b], -1).norm(dim=-1), torch.nan)


def meeting(
    a: Sights, b: Sights, pose_a: Float[Tensor, "n 4 4"], pose_b: Float[Tensor, "n 4 4"]
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"], Float[Tensor, " n"]]:
    """How far along their directions two rays come nearest to each other, and the angle between them in radians.

    Where directions have z = 1 the first two are z-depths; negative ones lie behind the camera. They minimise
    |s_a R d_a + t - s_b d_b|, and mean nothing where the angle is near 0.
    """
    rotation, shift = relative(pose_a, pose_b)
    u, v = torch.einsum("nij,nj->ni", rotation, a.direction), b.direction
    uu, vv, uv = (u * u).sum(-1), (v * v).sum(-1), (u * v).sum(-1)
    ut, vt = (u * shift).sum(-1), (v * shift).sum(-1)
    determinant = uu * vv - uv * uv
    angle = torch.atan2(torch.linalg.cross(u, v).norm(dim=-1), uv)
    return (uv * vt - vv * ut) / determinant, (uu * vt - uv * ut) / determinant, angle
