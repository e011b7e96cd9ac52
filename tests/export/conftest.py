"""Exact depth maps of the unit sphere, in closed form, for the tests of clouds and meshes."""

import pytest
import torch

from raytrans.export.fusion import DepthMaps
from raytrans.geometry.cameras import Cameras
from raytrans.geometry.paths import look_at

DISTANCE, SIDE = 4.0, 64


@pytest.fixture(scope="session")
def sphere() -> DepthMaps:
    """26 cameras around the unit sphere: t = -b - sqrt(b^2 - (c.c - 1)) along each ray, z = t (d.f)."""
    axes = torch.cartesian_prod(*3 * [torch.tensor([-1.0, 0.0, 1.0])]).double()
    axes = axes[axes.norm(dim=-1) > 0]
    centers = DISTANCE * axes / axes.norm(dim=-1, keepdim=True)
    intrinsics = [[100.0, 0.0, SIDE / 2], [0.0, 100.0, SIDE / 2], [0.0, 0.0, 1.0]]
    poses = look_at(centers, [0.0, 0.0, 0.0], [0.31, 0.52, 0.73])
    cameras = Cameras.stack([Cameras(intrinsics, pose, size=(SIDE, SIDE)) for pose in poses])
    depth, color = [], []
    for camera in cameras:
        rays = camera.rays()
        b = (rays.direction * camera.centers).sum(-1)
        root = b * b - DISTANCE**2 + 1
        t = torch.where(root > 0, -b - root.clamp_min(0).sqrt(), torch.nan)
        depth.append((t * (rays.direction * camera.forward).sum(-1)).float())
        color.append((0.5 + 0.5 * (camera.centers + t[..., None] * rays.direction)).nan_to_num(0.0).float())
    return DepthMaps(cameras, depth, [torch.ones(SIDE, SIDE)] * len(depth), color)
