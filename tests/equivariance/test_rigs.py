import math

import numpy as np
import pytest
import torch

import raytrans
from raytrans.equivariance import rigs as changes
from raytrans.geometry.cameras import Cameras


def look(height, width):
    """A camera in the origin with square pixels and its principal point in the middle."""
    return Cameras([[20.0, 0, width / 2], [0, 20.0, height / 2], [0, 0, 1]], np.eye(4), (height, width))


@pytest.fixture
def bent():
    """A camera with everything that a turn must carry along."""
    lens = [-0.2, 0.05, 0.01, -0.02, 0.01]
    intrinsics = [[30.0, 0, 13.2], [0, 26.0, 8.1], [0, 0, 1]]
    pose = np.eye(4)
    pose[:3, :3] = [[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]]
    pose[:3, 3] = [3.0, -2.0, 5.0]
    return Cameras(intrinsics, pose, (17, 24), lens, near=0.5, far=9.0)


def test_awkward_views_are_odd_and_not_square():
    cameras = Cameras.stack([look(16, 24), look(30, 30), look(48, 32), look(9, 9)])
    views = changes.awkward(raytrans.Views([torch.rand(c.height, c.width, 3) for c in cameras], cameras))
    assert all(side % 2 for image in views.images for side in image.shape[:2])
    assert all(camera.height != camera.width and camera.distortion is not None for camera in views.cameras)
    center = torch.stack([views.cameras.width, views.cameras.height], -1) / 2
    assert bool(((views.cameras.intrinsics[:, :2, 2] - center).abs() > 0.4).any(-1).all())
    ratio = views.cameras.intrinsics[:, 0, 0] / views.cameras.intrinsics[:, 1, 1]
    assert torch.allclose(ratio, torch.full_like(ratio, changes.STRETCH))


def test_awkward_views_keep_a_lens_and_pair_rays_with_pixels(bent):
    square = Cameras(bent.intrinsics, bent.world_from_camera, (17, 24), bent.distortion)
    image = torch.rand(17, 24, 3)
    views = changes.awkward(raytrans.Views([image], Cameras.stack([square])))
    assert torch.equal(views.cameras[0].distortion.coefficients, bent.distortion.coefficients)
    height, width = views.image(0).shape[:2]
    assert torch.equal(views.image(0), image[1 : 1 + height, 3 : 3 + width])


@pytest.mark.parametrize("k", [1, 2, 3])
def test_turned_views_show_the_same_rays(bent, k):
    image = torch.rand(17, 24, 3)
    views = changes.quarter_turned(raytrans.Views([image], Cameras.stack([bent])), {0: k})
    assert torch.equal(views.image(0), torch.rot90(image, k, (0, 1)))
    expected = torch.rot90(bent.rays().direction, k, (0, 1))
    assert (views.cameras[0].rays().direction - expected).abs().max() < 1e-12


def test_a_single_pixel_sees_the_ray_it_was_made_for(bent):
    camera = changes.single_pixel(bent, torch.tensor([20.5, 3.5], dtype=torch.float64), 1.1)
    ray, expected = camera.rays(), bent.rays()[3, 20]
    assert ray.shape == (1, 1)
    assert (ray.direction - expected.direction).abs().max() < 1e-12
    turn = expected.frame.mT @ ray.frame[0, 0]
    assert torch.allclose(turn[:2, 0], torch.tensor([math.cos(1.1), math.sin(1.1)], dtype=torch.float64))
    assert camera.near == bent.near and camera.far == bent.far


def test_a_mirrored_camera_sees_mirrored_points_flipped(bent):
    points = bent.centers + (bent.rays().direction + 0.05 * torch.randn(17, 24, 3)) * 3
    pixels, depth = bent.project(points)
    flipped, same = changes.mirrored_camera(bent).project(points * torch.tensor([-1.0, 1.0, 1.0]))
    assert torch.allclose(flipped[..., 0], 24 - pixels[..., 0]) and torch.allclose(flipped[..., 1], pixels[..., 1])
    assert torch.allclose(same, depth)


def test_rolled_views_resample_what_they_see(bent):
    """A smooth function of direction is what any rolled camera sees of it."""

    def seen(camera):
        return 0.5 + 0.4 * torch.sin(3 * camera.rays().direction).float()

    large = bent.resized(170, 240)
    views = raytrans.Views([seen(large)], Cameras.stack([large]))
    rolled = changes.rolled(views, [0.7])
    grey = (rolled.image(0) == changes.GREY).all(-1)
    assert 0.2 < grey.float().mean() < 0.8
    assert (rolled.image(0) - seen(rolled.cameras[0]))[~grey].abs().max() < 1e-3
    unrolled = changes.rolled(views, [0.0])
    keep = (unrolled.image(0) != changes.GREY).any(-1)
    assert (unrolled.image(0) - views.image(0))[keep].abs().max() < 1e-5
