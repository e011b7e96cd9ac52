"""Coloured point clouds with normals: from depth maps, merged over a grid, written as binary PLY."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from raytrans.export.files import write_bytes
from raytrans.geometry.cameras import Cameras
from raytrans.geometry.rigid import Similarity
from raytrans.shapes import Float, Int

NORMAL_WINDOW = 7  # pixels; smaller ones follow the noise of a rendered depth
NORMAL_JUMP = 0.05  # relative difference of distances beyond which neighbours lie on another surface
LEAST_POINTS = 6
PLY_VERTEX = [("x", "f8"), ("y", "f8"), ("z", "f8"), ("nx", "f4"), ("ny", "f4"), ("nz", "f4")]
PLY_COLOR = [("red", "u1"), ("green", "u1"), ("blue", "u1"), ("confidence", "f4")]
PLY_TYPES = {"f8": "double", "f4": "float", "u1": "uchar"}


@dataclass(frozen=True)
class Cloud:
    """Points (P, 3) float64, unit normals (P, 3), colours (P, 3) in [0, 1] and the confidence (P) summed over views."""

    points: Float[Tensor, "p 3"]
    normals: Float[Tensor, "p 3"]
    colors: Float[Tensor, "p 3"]
    weight: Float[Tensor, " p"]

    def __len__(self) -> int:
        return len(self.points)

    def moved(self, motion: Similarity) -> "Cloud":
        """The cloud in a world moved by x -> s R x + t."""
        turned = self.normals @ motion.rotation.mT.to(self.normals)
        return Cloud(motion.apply(self.points), turned, self.colors, self.weight)

    @staticmethod
    def cat(clouds: "list[Cloud]") -> "Cloud":
        """All points of some clouds."""
        names = ("points", "normals", "colors", "weight")
        return Cloud(*(torch.cat([getattr(cloud, name) for cloud in clouds]) for name in names))


def point_map(camera: Cameras, depth: Float[Tensor, "h w"]) -> Float[Tensor, "h w 3"]:
    """The world points c + d z / (d . f) of a z-depth map, float64; NaN where it is unknown."""
    rays = camera.rays()
    cosine = (rays.direction * camera.forward).sum(-1)
    return camera.centers + rays.direction * (depth.double() / cosine)[..., None]


def normal_map(points: Float[Tensor, "h w 3"], center: Float[Tensor, "3"]) -> Float[Tensor, "h w 3"]:
    """Unit normals towards the camera at `center`: of the plane that fits the known points in a window best.

    The eigenvector of the smallest eigenvalue of their covariance. Points count whose distance from the camera differs
    from that of the middle by less than 5 %; where there are fewer than 6, the direction to the camera; NaN where the
    point itself is unknown.
    """
    back = center - points
    distance = back.norm(dim=-1, keepdim=True)
    towards = back / distance
    count, covariance = _window_moments(points, back)
    enough = (count >= LEAST_POINTS)[..., None]
    covariance = torch.where(enough[..., None], covariance, torch.eye(3).to(covariance))
    normal = torch.where(enough, torch.linalg.eigh(covariance).eigenvectors[..., 0], towards)
    return torch.where((normal * towards).sum(-1, keepdim=True) < 0, -normal, normal)


def _window_moments(
    points: Float[Tensor, "h w 3"], back: Float[Tensor, "h w 3"]
) -> tuple[Float[Tensor, "h w"], Float[Tensor, "h w 3 3"]]:
    """Number and covariance of the points in a window about each pixel that lie less than 5 % before or behind it.

    back: from each point to the camera, whose length is the unit.
    """
    distance = back.norm(dim=-1, keepdim=True)
    height, width, _ = points.shape
    reach = NORMAL_WINDOW // 2
    padded = F.pad(points.permute(2, 0, 1), 4 * [reach], value=torch.nan).permute(1, 2, 0)
    count, first = points.new_zeros(height, width), torch.zeros_like(points)
    second = points.new_zeros(height, width, 3, 3)
    for row in range(NORMAL_WINDOW):
        for column in range(NORMAL_WINDOW):
            offset = (padded[row : row + height, column : column + width] - points) / distance
            near = (offset * back / distance).sum(-1).abs() < NORMAL_JUMP  # NaN is not
            offset = torch.where(near[..., None], offset, 0.0)
            count, first = count + near, first + offset
            second = second + offset[..., :, None] * offset[..., None, :]
    mean = first / count.clamp_min(1)[..., None]
    covariance = second / count.clamp_min(1)[..., None, None] - mean[..., :, None] * mean[..., None, :]
    return count, covariance


def cloud_of(
    camera: Cameras, depth: Float[Tensor, "h w"], color: Float[Tensor, "h w 3"], weight: Float[Tensor, "h w"]
) -> Cloud:
    """The points of one depth map, in the order of its pixels, with `normal_map`."""
    points = point_map(camera, depth)
    known = points.isfinite().all(-1)
    normals = normal_map(points, camera.centers)
    return Cloud(points[known], normals[known].float(), color[known].float(), weight[known].float())


def merged(cloud: Cloud, voxel: float) -> Cloud:
    """One point for each cube of side `voxel`: means over its points, weighted by their confidence, which adds up."""
    if not voxel > 0:
        raise ValueError(f"voxel: expected a positive length, got {voxel}")
    cell = torch.floor(cloud.points / voxel).long()
    _, index = torch.unique(cell, dim=0, return_inverse=True)
    weight = _summed(cloud.weight.double(), index)

    def mean(values: Tensor) -> Tensor:
        return _summed(values.double() * cloud.weight.double()[:, None], index) / weight[:, None]

    normals = F.normalize(mean(cloud.normals), dim=-1)
    return Cloud(mean(cloud.points), normals.float(), mean(cloud.colors).float(), weight.float())


def _summed(values: Tensor, index: Int[Tensor, " p"]) -> Tensor:
    count = int(index.max()) + 1 if len(index) else 0
    return values.new_zeros((count, *values.shape[1:])).index_add_(0, index, values)


def write_ply(path: str | Path, cloud: Cloud, faces: Int[Tensor, "f 3"] | None = None) -> None:
    """Write points, and faces if there are any, as little-endian PLY: double positions, so that far worlds keep digits.

    Raises ValueError where nothing is known, for an empty file would only be found out later.
    """
    if not len(cloud):
        raise ValueError(f"{path}: expected at least one point, got none")
    rows = np.empty(len(cloud), dtype=[(name, f"<{kind}") for name, kind in PLY_VERTEX + PLY_COLOR])
    columns = {"xyz": cloud.points, "normals": cloud.normals, "colors": (cloud.colors.clamp(0, 1) * 255).round()}
    names = [("x", "y", "z"), ("nx", "ny", "nz"), ("red", "green", "blue")]
    for triple, values in zip(names, columns.values(), strict=True):
        for k, name in enumerate(triple):
            rows[name] = values[:, k].numpy()
    rows["confidence"] = cloud.weight.numpy()
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(cloud)}"]
    header += [f"property {PLY_TYPES[kind]} {name}" for name, kind in PLY_VERTEX + PLY_COLOR]
    content = rows.tobytes()
    if faces is not None:
        header += [f"element face {len(faces)}", "property list uchar int vertex_indices"]
        listed = np.empty(len(faces), dtype=[("count", "u1"), ("corner", "<i4", 3)])
        listed["count"], listed["corner"] = 3, faces.numpy()
        content += listed.tobytes()
    write_bytes(path, ("\n".join([*header, "end_header"]) + "\n").encode() + content)
