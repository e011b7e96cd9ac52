"""The ellipse inscribed in a hull against brute force, and the arcs that cameras cover."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial import ConvexHull

from raytrans.geometry.cameras import Cameras
from raytrans.geometry.coverage import Region, covered_share, inscribed_ellipse
from raytrans.geometry.paths import look_at


@pytest.mark.parametrize("seed", range(5))
def test_ellipse_lies_in_the_convex_hull_and_touches_it(seed):
    random = np.random.default_rng(seed)
    points = random.normal(size=(15, 2)) @ random.normal(size=(2, 2))
    t = np.linspace(0, 2 * math.pi, 721)
    curve = points.mean(0) + np.stack([np.cos(t), np.sin(t)], -1) @ inscribed_ellipse(torch.tensor(points)).numpy().T
    # scipy's facets: normal . x + offset <= 0 inside
    equations = ConvexHull(points).equations
    outside = (curve @ equations[:, :2].T + equations[:, 2]).max(-1)
    size = np.linalg.norm(points - points.mean(0), axis=-1).max()
    assert -1e-3 * size < outside.max() < 1e-9 * size


def test_ellipse_of_a_line_is_a_segment_and_of_a_point_is_nothing():
    line = torch.tensor([[-1.0, -2], [0, 0], [0.2, 0.4], [1, 2]], dtype=torch.float64)
    ellipse = inscribed_ellipse(line)
    # from the mean 0.05 (1, 2), the nearer end is (1, 2)
    expected = 0.95 * math.sqrt(5) * np.outer([1, 2], [1, 2]) / 5
    np.testing.assert_allclose(ellipse, expected, atol=1e-12)
    assert not inscribed_ellipse(line[:1]).any()


@pytest.mark.parametrize(("arc", "surrounding"), [(math.pi, False), (1.4 * math.pi, False), (1.9 * math.pi, True)])
def test_arcs_are_measured_from_their_middle(arc, surrounding):
    azimuth = 2.5 + torch.linspace(-0.5, 0.5, 12, dtype=torch.float64) * arc
    offset = torch.stack([azimuth.cos(), azimuth.sin(), torch.full_like(azimuth, 0.5)], -1)
    up = torch.tensor([0.0, 0, 1], dtype=torch.float64)
    region = Region(offset, up, torch.eye(3, dtype=torch.float64))
    assert region.surrounding == surrounding
    np.testing.assert_allclose(region.elevation, math.atan(0.5), atol=1e-12)
    if not surrounding:
        np.testing.assert_allclose(region.azimuth, azimuth - 2.5, atol=1e-9)


def test_directions_near_the_pole_turn_about_a_level_axis():
    random = np.random.default_rng(0)
    offset = torch.tensor(np.concatenate([0.1 * random.normal(size=(9, 2)) + [0.3, 0], np.full((9, 1), 2.0)], -1))
    up = torch.tensor([0.0, 0, 1], dtype=torch.float64)
    region = Region(offset, up, torch.eye(3, dtype=torch.float64))
    mean = region.direction.mean(0)
    assert abs(float(region.up @ mean)) < 1e-12
    assert float(region.elevation.abs().max()) < 0.5 and float(region.azimuth.abs().max()) < 0.5


def test_the_covered_share_is_that_of_a_loop_over_places_and_cameras():
    random = np.random.default_rng(1)
    lens = np.array([[60.0, 0, 33], [0, 62.0, 20], [0, 0, 1]])
    centers, aims = random.normal(size=(9, 3)) * 0.5 + [0, 0, -4], random.normal(size=(9, 3)) * 1.6
    cameras = Cameras(np.tile(lens, (9, 1, 1)), look_at(centers, aims, (0.0, -1, 0)), size=(44, 64))
    poses = look_at(np.array([[0.3, 0, -4], [-1.0, 0.5, -3.5], [0.2, -1, -4]]), np.full(3, 0.1), (0.0, -1, 0))
    shares = []
    for pose in poses.numpy():
        depth = (pose[:3, 2] * (0.1 - pose[:3, 3])).sum()
        covered = 0
        for x in 64 * (np.arange(5) + 0.5) / 5:
            for y in 44 * (np.arange(5) + 0.5) / 5:
                place = pose[:3, :3] @ (np.linalg.inv(lens) @ [x, y, 1.0] * depth) + pose[:3, 3]
                count = 0
                for world_from_camera in cameras.world_from_camera.numpy():
                    local = np.linalg.inv(world_from_camera) @ [*place, 1.0]
                    u, v, w = lens @ local[:3]
                    a, b = place - world_from_camera[:3, 3], place - pose[:3, 3]
                    parallax = np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
                    count += w > 0 and 0 < u / w < 64 and 0 < v / w < 44 and parallax < 0.44
                covered += count >= 3
        shares.append(covered / 25)
    path = Cameras(np.tile(lens, (3, 1, 1)), poses, size=(44, 64))
    point = torch.full((3,), 0.1, dtype=torch.float64)
    assert covered_share(cameras, path, point) == pytest.approx(min(shares), abs=1e-12)
    assert 0 < min(shares) < max(shares) < 1
