"""An RGB-D capture from inside a sphere, whose cameras and surface are known exactly."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from raytrans.data.matching import Matches
from raytrans.data.scene import Frame, Scene
from raytrans.geometry.cameras import Cameras

SIZE = (120, 160)
COUNT = 8
RADIUS, MIDDLE = 3.0, np.array([1.3, -0.8, 0.6])  # depth from 1.6 to 4.6: one about the cameras would not tell focal


def intrinsics(focal: float) -> np.ndarray:
    return np.array([[focal, 0, SIZE[1] / 2], [0, focal, SIZE[0] / 2], [0, 0, 1]])


def true_poses() -> np.ndarray:
    poses = np.tile(np.eye(4), (COUNT, 1, 1))
    for i, pose in enumerate(poses):
        pose[:3, :3] = Rotation.from_euler(
            "xyz", [6 * math.sin(i), 5 * i - 18, 3 * math.cos(i)], degrees=True
        ).as_matrix()
        pose[:3, 3] = 0.3 * np.array([math.cos(2 * i), math.sin(3 * i), 0.1 * i - 0.5])
    return poses


def inside_sphere(origin: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Where rays from inside meet the sphere, which is no plane and has no edge: the closed form of the oracle."""
    origin = origin - MIDDLE
    b, c = direction @ origin, origin @ origin - RADIUS**2
    a = (direction**2).sum(-1)
    return (-b + np.sqrt(b**2 - a * c)) / a


def depth_map(pose: np.ndarray, k: np.ndarray, size: tuple[int, int] = SIZE) -> torch.Tensor:
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    local = np.stack([x, y, np.ones_like(x)], -1).reshape(-1, 3) @ np.linalg.inv(k).T
    return torch.from_numpy(inside_sphere(pose[:3, 3], local @ pose[:3, :3].T).reshape(size))


def seen_at(pose: np.ndarray, k: np.ndarray, points: np.ndarray) -> np.ndarray:
    local = (points - pose[:3, 3]) @ pose[:3, :3]
    return (local @ k.T)[:, :2] / local[:, 2:]


class Known(Scene):
    """A scene whose depth maps and masks are in memory."""

    def __init__(self, cameras: Cameras, maps: list[torch.Tensor | None], tmp_path, masks=None):
        super().__init__(cameras, [Frame(tmp_path / f"{i}.png") for i in range(len(maps))], path=tmp_path)
        self.maps, self.masks = maps, masks or {}

    def mask(self, index: int) -> torch.Tensor | None:
        return self.masks.get(index)

    def depth(self, index: int) -> torch.Tensor | None:
        return self.maps[index]


@dataclass
class Case:
    scene: Known
    matches: Matches
    poses: np.ndarray
    focal: float


def case(
    tmp_path, separate: bool, wrong: float = 0.0, noise: float = 1.0, stated_focal: float = 162.0, seed: int = 0
) -> Case:
    """A capture of the sphere whose stated poses are off by degrees and centimetres, and focal length by 8 %.

    separate: the depth camera has the stated focal length, else that of the pictures. wrong: share of false matches.
    """
    rng = np.random.default_rng(seed)
    true = 150.0
    poses, k = true_poses(), intrinsics(true)
    pixels, views, pair = [], [], []
    for i in range(COUNT):
        for j in range(i + 1, min(COUNT, i + 4)):
            p = rng.uniform(2, [SIZE[1] - 2, SIZE[0] - 2], (150, 2))
            local = np.concatenate([p, np.ones((150, 1))], 1) @ np.linalg.inv(k).T @ poses[i, :3, :3].T
            q = seen_at(poses[j], k, poses[i, :3, 3] + local * inside_sphere(poses[i, :3, 3], local)[:, None])
            inside = ((q > 0) & (q < [SIZE[1], SIZE[0]])).all(-1)
            p, q = p[inside], q[inside]
            false = rng.random(len(q)) < wrong
            q[false] = rng.uniform(0, [SIZE[1], SIZE[0]], (false.sum(), 2))
            pair += [len(views)] * len(p)
            views.append((i, j))
            pixels.append(np.stack([p, q], 1))
    stated = poses.copy()
    stated[:, :3, :3] = (
        Rotation.from_rotvec(noise * np.radians(2) * rng.normal(size=(COUNT, 3))).as_matrix() @ poses[:, :3, :3]
    )
    stated[:, :3, 3] += noise * 0.03 * rng.normal(size=(COUNT, 3))
    cameras = Cameras(intrinsics(stated_focal), stated, SIZE, near=0.5, far=9.0)
    maps = [depth_map(pose, intrinsics(stated_focal if separate else true)) for pose in poses]
    matches = Matches(cameras, views, torch.tensor(pair), torch.from_numpy(np.concatenate(pixels)), views)
    return Case(Known(cameras, maps, tmp_path), matches, poses, true)
