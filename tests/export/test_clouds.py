"""Point clouds of exact depth maps, their files re-read with trimesh."""

import math

import numpy as np
import pytest
import torch
import trimesh

from raytrans.export.clouds import Cloud, cloud_of, merged, normal_map, point_map, write_ply
from raytrans.export.fusion import fused
from raytrans.geometry.cameras import Cameras
from raytrans.geometry.rigid import Similarity


def slanted_plane(height=20, width=24):
    """A camera with a lens, and its depth of the plane n . x = 1."""
    camera = Cameras(
        [[30.0, 0, 12], [0, 28, 10], [0, 0, 1]], np.eye(4), size=(height, width), distortion=[-0.1, 0.02, 0, 0]
    )
    normal = torch.tensor([0.05, -0.1, 0.25], dtype=torch.float64)
    direction = camera.rays().direction
    return camera, direction[..., 2] / (direction @ normal), normal


def test_points_of_a_plane_lie_on_it_and_their_normals_are_its():
    camera, depth, normal = slanted_plane()
    points = point_map(camera, depth)
    torch.testing.assert_close(points @ normal, torch.ones_like(depth))
    pixels, z = camera.project(points)
    torch.testing.assert_close(z, depth)
    torch.testing.assert_close(pixels[3, 5], torch.tensor([5.5, 3.5], dtype=torch.float64), rtol=0, atol=1e-7)
    normals = normal_map(points, camera.centers)
    expected = -normal / normal.norm()  # towards the camera, which is on the side n . x < 1
    # windows at the border are cut and their means lean to one side, still within the plane
    torch.testing.assert_close(normals[1:-1, 1:-1], expected.expand(18, 22, 3), rtol=0, atol=1e-6)


def test_normals_of_a_noisy_step_are_those_of_its_two_sides():
    camera = Cameras([[60.0, 0, 24], [0, 60, 20], [0, 0, 1]], np.eye(4), size=(40, 48))
    generator = torch.Generator().manual_seed(2)
    depth = torch.full((40, 48), 2.0, dtype=torch.float64)
    depth[:, 24:] = 3.0
    noisy = depth * (1 + 0.002 * torch.randn(40, 48, generator=generator, dtype=torch.float64))
    towards = -normal_map(point_map(camera, noisy), camera.centers)[..., 2]
    assert towards.min() > 0.94  # within 20 degrees, next to the step too; the noise of one pixel alone tilts by 15
    slope = (noisy[:, 1:] - noisy[:, :-1]) / (noisy[:, 1:] / 60)  # the control: of neighbours alone
    assert (1 / (1 + slope**2).sqrt())[:, 23].max() < 0.1


def test_unknown_depth_has_no_point_and_hurts_no_other():
    camera, depth, _ = slanted_plane()
    depth = depth.clone()
    depth[5, 5] = math.nan
    cloud = cloud_of(camera, depth, torch.rand(20, 24, 3), torch.ones(20, 24))
    assert len(cloud) == 20 * 24 - 1
    assert bool(cloud.points.isfinite().all()) and bool(cloud.normals.isfinite().all())


def test_merging_is_the_weighted_mean_of_a_loop_over_cells():
    generator = torch.Generator().manual_seed(0)
    points = 2 * torch.rand(200, 3, generator=generator, dtype=torch.float64) - 1
    normals = torch.nn.functional.normalize(torch.randn(200, 3, generator=generator), dim=-1)
    cloud = Cloud(points, normals, torch.rand(200, 3, generator=generator), torch.rand(200, generator=generator) + 0.1)
    cells = {}
    for k in range(200):
        cells.setdefault(tuple(math.floor(x / 0.5) for x in points[k].tolist()), []).append(k)
    found = merged(cloud, 0.5)
    assert len(found) == len(cells)
    for chosen in cells.values():
        weight = cloud.weight[chosen].double()
        mean = (weight[:, None] * points[chosen]).sum(0) / weight.sum()
        row = int((found.points - mean).norm(dim=-1).argmin())
        torch.testing.assert_close(found.points[row], mean)
        assert found.weight[row].item() == pytest.approx(weight.sum().item(), rel=1e-5)
        color = (weight[:, None] * cloud.colors[chosen]).sum(0) / weight.sum()
        torch.testing.assert_close(found.colors[row].double(), color, rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="voxel: expected a positive length, got 0"):
        merged(cloud, 0.0)


def test_the_cloud_of_a_sphere_is_the_sphere(sphere):
    cloud = fused(sphere, 0.05)
    radius = cloud.points.norm(dim=-1)
    assert 0.99 < radius.min() and radius.max() < 1.005  # means of curved patches lie a little inside
    outward = (cloud.normals * cloud.points).sum(-1) / radius
    assert outward.median() > 0.99 and outward.min() > 0  # at the rim a single map gives poor normals
    torch.testing.assert_close(cloud.colors.double(), 0.5 + 0.5 * cloud.points, rtol=0, atol=1e-5)
    assert 0.7 < len(cloud) / (4 * math.pi / 0.05**2) < 2  # a cube holds a patch of about its own face


@pytest.mark.parametrize("offset", [0.0, 1e7])
def test_a_ply_is_what_trimesh_reads(tmp_path, sphere, offset):
    cloud = fused(sphere, 0.1)
    motion = Similarity(torch.eye(3, dtype=torch.float64), torch.full((3,), offset, dtype=torch.float64))
    write_ply(tmp_path / "scene.ply", cloud.moved(motion))
    read = trimesh.load(tmp_path / "scene.ply", process=False)
    np.testing.assert_allclose(read.vertices, cloud.points.numpy() + offset, rtol=0, atol=1e-8)
    np.testing.assert_array_equal(read.colors[:, :3], (cloud.colors * 255).round().byte().numpy())
    fields = read.metadata["_ply_raw"]["vertex"]["data"]
    np.testing.assert_array_equal(np.stack([fields[n] for n in ("nx", "ny", "nz")], -1), cloud.normals.numpy())
    np.testing.assert_array_equal(fields["confidence"], cloud.weight.numpy())


def test_a_moved_cloud_turns_its_normals():
    motion = Similarity.random(generator=torch.Generator().manual_seed(1))
    camera, depth, _ = slanted_plane()
    color, weight = torch.zeros(20, 24, 3), torch.ones(20, 24)
    moved_camera = camera.moved(motion.rotation, motion.translation, motion.scale)
    direct = cloud_of(moved_camera, depth * motion.scale, color, weight)
    moved = cloud_of(camera, depth, color, weight).moved(motion)
    torch.testing.assert_close(direct.points, moved.points, rtol=0, atol=1e-9)
    torch.testing.assert_close(direct.normals, moved.normals, rtol=0, atol=1e-5)


def test_nothing_is_not_written(tmp_path):
    empty = Cloud(torch.zeros(0, 3).double(), torch.zeros(0, 3), torch.zeros(0, 3), torch.zeros(0))
    with pytest.raises(ValueError, match="scene.ply: expected at least one point, got none"):
        write_ply(tmp_path / "scene.ply", empty)
    assert list(tmp_path.iterdir()) == []
