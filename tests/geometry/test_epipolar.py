"""Epipolar distances and triangulated depths beside the fundamental matrix, sampled curves and known points."""

import numpy as np
import pytest
import torch

from raytrans import Cameras
from raytrans.geometry import look_at
from raytrans.geometry.distortion import Distortion
from raytrans.geometry.epipolar import epipolar_distance, meeting, sights, signed_distance

LENSES = {
    "pinhole": None,
    "opencv": Distortion("opencv", torch.tensor([-0.2, 0.05, 0.003, -0.002])),
    "fisheye": Distortion("fisheye", torch.tensor([0.05, -0.01, 0.002, 0.0])),
}


def pair(lens: str) -> Cameras:
    up = [0.0, 0.0, 1.0]
    poses = [look_at(torch.tensor(c), target=[0.0, 0.0, 0.0], up=up) for c in ([3.0, 0.5, 1.0], [2.5, 1.5, 0.8])]
    intrinsics = [[[300.0, 0, 210], [0, 310, 150]], [[280.0, 0, 190], [0, 280, 160]]]
    k = torch.tensor([[*rows, [0.0, 0.0, 1.0]] for rows in intrinsics])
    return Cameras(k, torch.stack(poses), (300, 400), LENSES[lens])


def seen(lens: str, noise: float) -> tuple[Cameras, torch.Tensor, torch.Tensor]:
    """Two cameras, 50 points, and their pixels (50, 2, 2) with some noise."""
    cameras = pair(lens)
    points = torch.rand(50, 3, dtype=torch.float64) - 0.5
    pixels = torch.stack([camera.project(points)[0] for camera in cameras], 1)
    return cameras, points, pixels + noise * torch.randn(pixels.shape, dtype=torch.float64)


def both(cameras: Cameras, pixels: torch.Tensor) -> tuple:
    first, second = ([i] * len(pixels) for i in (0, 1))
    chosen = cameras[first], cameras[second]
    poses = [one.world_from_camera for one in chosen]
    return *(sights(one, pixels[:, i]) for i, one in enumerate(chosen)), *poses


def fundamental(cameras: Cameras) -> np.ndarray:
    """F = K_b^-T [t]x R K_a^-1 with x_b = R x_a + t."""
    b_from_a = np.linalg.inv(cameras.world_from_camera[1].numpy()) @ cameras.world_from_camera[0].numpy()
    t = b_from_a[:3, 3]
    cross = np.array([[0, -t[2], t[1]], [t[2], 0, -t[0]], [-t[1], t[0], 0]])
    ka, kb = cameras.intrinsics.numpy()
    return np.linalg.inv(kb).T @ cross @ b_from_a[:3, :3] @ np.linalg.inv(ka)


def test_a_pinhole_gives_the_distances_to_the_lines_of_opencv():
    import cv2

    cameras, _, pixels = seen("pinhole", 5.0)
    f, expected = fundamental(cameras), 0.0
    for side, other in ((0, 1), (1, 0)):
        lines = cv2.computeCorrespondEpilines(pixels[:, other].numpy(), other + 1, f).reshape(-1, 3)
        points = np.concatenate([pixels[:, side].numpy(), np.ones((len(pixels), 1))], 1)
        expected = expected + 0.5 * np.abs((points * lines).sum(1))  # OpenCV's lines have normals of unit length
    found = epipolar_distance(*both(cameras, pixels)).numpy()
    assert expected.mean() > 1
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_signed_distance_is_sampsons():
    cameras, _, pixels = seen("pinhole", 5.0)
    f = fundamental(cameras)
    a, b = (np.concatenate([pixels[:, i].numpy(), np.ones((len(pixels), 1))], 1) for i in (0, 1))
    below = np.sqrt(((a @ f.T)[:, :2] ** 2).sum(1) + ((b @ f)[:, :2] ** 2).sum(1))
    expected = np.einsum("ni,ij,nj->n", b, f, a) / below
    found = signed_distance(*both(cameras, pixels)).numpy()
    np.testing.assert_allclose(found * np.sign(found[0] * expected[0]), expected, rtol=1e-5)


@pytest.mark.parametrize("lens", LENSES)
def test_every_lens_gives_the_distance_to_sampled_curves(lens):
    cameras, points, pixels = seen(lens, 0.5)
    expected = torch.zeros(len(pixels), dtype=torch.float64)
    for side, other in ((0, 1), (1, 0)):
        rays = cameras[other].pixel_rays(pixels[:, other])
        reach = (points - cameras[other].centers).norm(dim=-1)[:, None] * torch.linspace(0.7, 1.4, 4001).double()
        curve, _ = cameras[side].project(cameras[other].centers + rays.direction[:, None] * reach[..., None])
        expected += 0.5 * (curve - pixels[:, side, None]).norm(dim=-1).min(-1).values
    found = epipolar_distance(*both(cameras, pixels))
    assert float(expected.mean()) > 0.2
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0.01)


@pytest.mark.parametrize("lens", LENSES)
def test_right_matches_lie_on_their_curves_and_meet_at_their_points(lens):
    cameras, points, pixels = seen(lens, 0.0)
    sides = both(cameras, pixels)
    assert float(epipolar_distance(*sides).max()) < 1e-6
    first, second, angle = meeting(*sides)
    for found, camera, one in ((first, cameras[0], sides[0]), (second, cameras[1], sides[1])):
        reach = (points - camera.centers).norm(dim=-1) / one.direction.norm(dim=-1)
        torch.testing.assert_close(found, reach, rtol=1e-6, atol=0)
    to_points = [torch.nn.functional.normalize(points - c, dim=-1) for c in cameras.centers]
    torch.testing.assert_close(angle, (to_points[0] * to_points[1]).sum(-1).acos(), rtol=1e-6, atol=1e-9)


def test_cameras_on_the_wrong_side_see_matches_behind_them():
    cameras, _, pixels = seen("pinhole", 0.0)
    a, b, pose_a, pose_b = both(cameras, pixels)
    swapped_a, swapped_b = pose_a.clone(), pose_b.clone()
    swapped_a[:, :3, 3], swapped_b[:, :3, 3] = -pose_a[:, :3, 3], -pose_b[:, :3, 3]
    assert float(epipolar_distance(a, b, swapped_a, swapped_b).max()) < 1e-6  # the distance alone cannot tell
    first, second, _ = meeting(a, b, swapped_a, swapped_b)
    assert bool((first < 0).all()) and bool((second < 0).all())


def test_without_a_baseline_there_is_no_distance():
    cameras, _, pixels = seen("pinhole", 0.0)
    a, b, pose_a, _ = both(cameras, pixels)
    assert bool(epipolar_distance(a, b, pose_a, pose_a).isnan().all())
