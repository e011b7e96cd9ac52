"""Baselines on a textured wall whose colours and depth are known in closed form."""

import numpy as np
import pytest
import torch

from raytrans.data import Views
from raytrans.geometry.cameras import Cameras
from raytrans.training.baselines import mean_of_sources, nearest_view, plane_sweep
from raytrans.training.metrics import psnr

DEPTH, FOCAL, SIZE = 5.0, 60.0, (40, 48)


def wall(x, y):
    """Colours of the wall z = 5: smooth, unlike at every place."""
    return np.stack(
        [0.5 + 0.4 * np.sin(7 * x + 3 * y), 0.5 + 0.4 * np.sin(9 * y - x), 0.5 + 0.4 * np.cos(5 * x * y)], -1
    )


def cameras_at(centers, size=SIZE, **bounds):
    poses = np.tile(np.eye(4), (len(centers), 1, 1))
    poses[:, :3, 3] = centers
    intrinsics = np.array([[FOCAL, 0, size[1] / 2], [0, FOCAL, size[0] / 2], [0, 0, 1]])
    return Cameras(np.tile(intrinsics, (len(centers), 1, 1)), poses, size=size, **bounds)


def picture(camera):
    """What a camera facing the wall sees: x = cx + z (u - u0) / f."""
    v, u = np.meshgrid(np.arange(camera.height) + 0.5, np.arange(camera.width) + 0.5, indexing="ij")
    center = camera.centers.numpy()
    z = DEPTH - center[2]
    return wall(center[0] + z * (u - camera.width / 2) / FOCAL, center[1] + z * (v - camera.height / 2) / FOCAL)


def setting(**bounds):
    cameras = cameras_at([[-0.8, 0, 0], [0.7, 0.3, 0], [0.1, -0.6, 0], [0, 0.7, 0.3]])
    target = cameras_at([[0.0, 0.1, 0.1]], **bounds)[0]
    return Views([picture(camera) for camera in cameras], cameras), target


@pytest.mark.parametrize("bounds", [{}, {"near": 2.0}])
def test_the_sweep_finds_the_wall(bounds):
    views, target = setting(**bounds)
    color, depth = plane_sweep(views, target)
    inside = (slice(6, -6), slice(6, -6))
    truth = DEPTH - 0.1
    assert depth.shape == SIZE and color.shape == (*SIZE, 3)
    assert (depth[inside] - truth).abs().median() < 0.03 * truth
    assert ((depth[inside] - truth).abs() < 0.1 * truth).float().mean() > 0.95
    expected = torch.from_numpy(picture(target)).float()
    assert psnr(color[inside], expected[inside]) > 30
    assert psnr(mean_of_sources(views, target)[inside], expected[inside]) < 20


def test_the_sweep_does_not_depend_on_world_scale_or_order():
    views, target = setting()
    color, depth = plane_sweep(views, target, planes=24)
    rotation = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))[0]
    rotation = rotation * rotation.det()
    shift = torch.tensor([3.0, -2.0, 5.0], dtype=torch.float64)
    moved, moved_depth = plane_sweep(views.moved(rotation, shift, 10.0), target.moved(rotation, shift, 10.0), planes=24)
    same = (moved_depth - 10 * depth).abs() < 1e-3 * depth
    assert same.float().mean() > 0.99 and (moved - color)[same].abs().max() < 1e-4
    reordered = plane_sweep(views[[2, 0, 3, 1]], target, planes=24)[0]
    assert ((reordered - color).abs().amax(-1) < 1e-5).float().mean() > 0.99


def test_pixels_that_no_two_sources_see_are_unknown():
    views, target = setting()
    color, depth = plane_sweep(views[[0]], target, planes=4)
    assert depth.isnan().all()
    assert torch.equal(color, mean_of_sources(views[[0]], target))


def test_nearest_view_is_the_nearest_image_itself():
    views, _ = setting()
    target = cameras_at([[0.72, 0.3, 0.0]])[0]
    assert torch.equal(nearest_view(views, target), views.image(1))


def test_mean_of_sources_of_mixed_sizes():
    sizes, values = [(20, 24), (24, 20)], (0.2, 0.6)
    cameras = Cameras.stack([cameras_at([[0.0, 0, 0]], size)[0] for size in sizes])
    views = Views([np.full((*size, 3), value) for size, value in zip(sizes, values, strict=True)], cameras)
    mean = mean_of_sources(views, cameras_at([[0.0, 0, 0]], (10, 30))[0])
    assert mean.shape == (10, 30, 3)
    torch.testing.assert_close(mean, torch.full((10, 30, 3), 0.4))


def test_the_sweep_of_cameras_at_one_place_is_finite():
    cameras = cameras_at([[0.0, 0, 0]] * 3)
    views = Views([picture(camera) for camera in cameras], cameras)
    color, depth = plane_sweep(views, cameras[0], planes=8)
    assert torch.isfinite(color).all()
    assert psnr(color, torch.from_numpy(picture(cameras[0])).float()) > 60
