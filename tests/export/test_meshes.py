"""Meshes of exact depth maps: a sphere in closed form, a flat wall, files re-read with trimesh."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import trimesh

from raytrans.export.fusion import DepthMaps, fused
from raytrans.export.meshes import fused_mesh, pieces, write_mesh
from raytrans.export.volume import Grid, Volume
from raytrans.geometry.cameras import Cameras
from raytrans.geometry.rigid import Similarity

VOXEL = 0.06


@pytest.fixture(scope="module")
def mesh(sphere):
    return fused_mesh(sphere, fused(sphere, VOXEL).points, VOXEL)


def as_trimesh(mesh):
    return trimesh.Trimesh(mesh.vertices.points.numpy(), mesh.faces.numpy(), process=False)


def test_a_sphere_is_closed_and_of_its_size_and_faces_outward(mesh):
    radius = mesh.vertices.points.norm(dim=-1)
    assert (radius - 1).abs().median() < 0.15 * VOXEL and (radius - 1).abs().max() < VOXEL
    body = as_trimesh(mesh)
    assert body.is_watertight
    assert body.volume == pytest.approx(4 / 3 * math.pi, rel=0.03)  # of one sign with faces that turn outward
    outward = (mesh.vertices.normals * mesh.vertices.points).sum(-1) / radius
    assert outward.median() > 0.97
    expected = 0.5 + 0.5 * mesh.vertices.points
    assert (mesh.vertices.colors - expected).abs().median() < 0.02


def test_a_wall_in_closed_form():
    camera = Cameras([[40.0, 0, 20], [0, 40, 16], [0, 0, 1]], np.eye(4), size=(32, 40))
    depth, color = torch.full((32, 40), 2.03), torch.full((32, 40, 3), 0.25)
    maps = DepthMaps(Cameras.stack([camera]), [depth], [torch.ones(32, 40)], [color])
    points = camera.rays().point(torch.tensor(1.0)).reshape(-1, 3) * 0 + torch.tensor([0.0, 0, 2.03])
    corners = torch.tensor([[-0.6, -0.4, 2.03], [0.6, 0.4, 2.03]], dtype=torch.float64)
    line = corners[0] + torch.linspace(0, 1, 50, dtype=torch.float64)[:, None] * (corners[1] - corners[0])
    mesh = fused_mesh(maps, torch.cat([points, line]), 0.05)
    torch.testing.assert_close(
        mesh.vertices.points[:, 2], torch.full((len(mesh.vertices),), 2.03).double(), rtol=0, atol=1e-5
    )
    assert (mesh.vertices.normals[:, 2] < -0.99).all()  # towards the camera
    torch.testing.assert_close(mesh.vertices.colors, torch.full((len(mesh.vertices), 3), 0.25))


def test_distances_are_those_of_a_loop_over_voxels(sphere):
    grid = Grid(torch.tensor([-1.1, -0.2, -0.2]).double(), 0.1, (6, 5, 4))
    volume = Volume(grid, torch.ones(grid.shape, dtype=torch.bool), 0.3)
    weights = [torch.rand(64, 64) for _ in range(3)]
    for i in range(3):
        volume.integrate(sphere.cameras[i], sphere.depth[i], sphere.color[i], weights[i])
    found, known = volume.dense()
    for cell in np.ndindex(*grid.shape):
        point = grid.origin.numpy() + 0.1 * np.array(cell)
        total = weight = 0.0
        for i in range(3):
            pose, k = (getattr(sphere.cameras[i], n).numpy() for n in ("world_from_camera", "intrinsics"))
            local = pose[:3, :3].T @ (point - pose[:3, 3])
            u, v = (k @ local / local[2])[:2]
            d = float(sphere.depth[i][int(v), int(u)])
            if math.isfinite(d) and d - local[2] > -0.3:
                w = float(weights[i][int(v), int(u)])
                total, weight = total + w * min(1, (d - local[2]) / 0.3), weight + w
        assert bool(known[cell]) == (weight > 0)
        assert found[cell].item() == pytest.approx(total / weight if weight else 1.0, abs=1e-5)


@pytest.mark.parametrize("ending", ["ply", "glb"])
def test_files_are_what_trimesh_reads(tmp_path, mesh, ending):
    away = Similarity(torch.eye(3, dtype=torch.float64), torch.tensor([1e5, -2e5, 3.0], dtype=torch.float64), 10.0)
    write_mesh(tmp_path / f"mesh.{ending}", mesh.moved(away))
    read = trimesh.load(tmp_path / f"mesh.{ending}", process=False)
    read = read.to_geometry() if isinstance(read, trimesh.Scene) else read
    np.testing.assert_allclose(read.vertices, away.apply(mesh.vertices.points).numpy(), rtol=0, atol=1e-5)
    np.testing.assert_array_equal(read.faces, mesh.faces.numpy())
    np.testing.assert_array_equal(read.visual.vertex_colors[:, :3], (mesh.vertices.colors * 255).round().byte().numpy())


def test_the_grid_stays_within_its_bound(sphere):
    points = fused(sphere, VOXEL).points
    grid = Grid.around(points, 0.001, 0.01, most=50_000)
    assert math.prod(grid.shape) <= 50_000 and grid.voxel > 0.001
    reach = grid.origin + grid.voxel * (torch.tensor(grid.shape) - 1)
    assert (grid.origin <= points.amin(0) - 0.01 + 1e-9).all() and (reach >= points.amax(0) + 0.01).all()
    near = Grid.around(points, VOXEL, 0.2).near(points, 0.2)
    assert 0.1 < near.double().mean() < 1  # the middle of the ball is left out or thin


def test_small_pieces_are_dropped():
    faces = np.array([[0, 1, 2], [2, 3, 1], [4, 5, 6], [9, 8, 7], [7, 4, 8]])
    assert pieces(faces, 11).tolist() == [0, 0, 0, 0, 4, 4, 4, 4, 4, 4, 10]


def test_maps_without_a_surface_are_refused(sphere):
    unknown = replace(sphere, depth=[depth * math.nan for depth in sphere.depth])
    with pytest.raises(ValueError, match="mesh: the depth maps have no surface in common"):
        fused_mesh(unknown, fused(sphere, VOXEL).points, VOXEL)
    with pytest.raises(ValueError, match="mesh: the depth maps have no surface in common"):
        fused_mesh(sphere, torch.zeros(0, 3, dtype=torch.float64), VOXEL)  # what a box leaves of a few points


def test_other_endings_are_refused(tmp_path, mesh):
    with pytest.raises(ValueError, match="mesh.obj: expected a file .ply or .glb"):
        write_mesh(tmp_path / "mesh.obj", mesh)
