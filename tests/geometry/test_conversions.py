"""Conversions against the documented formulas written out, pycolmap and scipy."""

import numpy as np
import pycolmap
import pytest
import torch
from scipy.spatial.transform import Rotation

from raytrans.geometry.conversions import (
    axis_angle,
    from_colmap,
    from_opengl,
    from_pytorch3d,
    quaternion,
    to_colmap,
    to_opengl,
    to_pytorch3d,
)

BATCHES = [(), (7, 9)]


def random_poses(batch, seed=0):
    generator = np.random.default_rng(seed)
    count = int(np.prod(batch))
    pose = np.tile(np.eye(4), (count, 1, 1))
    pose[:, :3, :3] = Rotation.random(count, random_state=seed).as_matrix()
    pose[:, :3, 3] = generator.normal(size=(count, 3))
    return pose.reshape(*batch, 4, 4)


def random_intrinsics(batch, seed=1):
    generator = np.random.default_rng(seed)
    k = np.zeros((*batch, 3, 3))
    k[..., 0, 0], k[..., 1, 1] = generator.uniform(50, 90, batch), generator.uniform(50, 90, batch)
    k[..., 0, 2], k[..., 1, 2], k[..., 2, 2] = generator.uniform(40, 60, batch), generator.uniform(25, 40, batch), 1
    return k


@pytest.mark.parametrize("batch", BATCHES)
def test_opengl_axes_point_up_and_back(batch):
    pose = random_poses(batch)
    gl = to_opengl(pose)
    right, down, forward = (pose[..., :3, i] for i in range(3))
    np.testing.assert_array_equal(gl[..., :3, 0], right)
    np.testing.assert_array_equal(gl[..., :3, 1], -down)
    np.testing.assert_array_equal(gl[..., :3, 2], -forward)
    np.testing.assert_array_equal(gl[..., 3], pose[..., 3])
    np.testing.assert_array_equal(from_opengl(gl), pose)
    assert to_opengl(pose[..., :3, :]).shape == (*batch, 3, 4)


def test_opengl_identity_looks_down_minus_z():
    # Blender's camera at rest looks along -z of the world with y up
    pose = from_opengl(np.eye(4))
    assert pose[:3, 2].tolist() == [0, 0, -1]
    assert (-pose[:3, 1]).tolist() == [0, 1, 0]


@pytest.mark.parametrize("batch", BATCHES)
def test_colmap_against_scipy(batch):
    pose = random_poses(batch)
    qvec, tvec = to_colmap(pose)
    inverse = np.linalg.inv(pose)
    wxyz = Rotation.from_matrix(inverse[..., :3, :3].reshape(-1, 3, 3)).as_quat(canonical=True, scalar_first=True)
    np.testing.assert_allclose(qvec.reshape(-1, 4), wxyz, atol=1e-14)
    np.testing.assert_allclose(tvec, inverse[..., :3, 3], atol=1e-14)
    np.testing.assert_allclose(from_colmap(qvec, tvec), pose, atol=1e-14)
    np.testing.assert_allclose(from_colmap(-3 * qvec, tvec), pose, atol=1e-14)


def test_colmap_projects_like_pycolmap():
    pose, k = random_poses(()), random_intrinsics(())
    qvec, tvec = (v.numpy() for v in to_colmap(pose))
    camera_from_world = pycolmap.Rigid3d(pycolmap.Rotation3d(qvec[[1, 2, 3, 0]]), tvec)
    camera = pycolmap.Camera(
        model="PINHOLE", width=100, height=64, params=[k[0, 0], k[1, 1], k[0, 2], k[1, 2]], camera_id=1
    )
    points = pose[:3, 3] + (np.random.default_rng(2).normal(size=(20, 3)) + [0, 0, 6]) @ pose[:3, :3].T
    expected = camera.img_from_cam(np.stack([camera_from_world * p for p in points]))
    local = (points - pose[:3, 3]) @ pose[:3, :3]
    np.testing.assert_allclose(local[:, :2] / local[:, 2:] * [k[0, 0], k[1, 1]] + k[:2, 2], expected, atol=1e-9)
    np.testing.assert_allclose(from_colmap(qvec, tvec)[:3], camera_from_world.inverse().matrix(), atol=1e-14)


def test_quaternions_of_half_turns_and_small_turns():
    rotvec = np.concatenate([np.pi * np.eye(3), 1e-9 * np.eye(3), (np.pi - 1e-8) * np.eye(3), np.zeros((1, 3))])
    rotation = Rotation.from_rotvec(rotvec)
    found = quaternion(torch.tensor(rotation.as_matrix()))
    np.testing.assert_allclose(found.norm(dim=-1), 1, atol=1e-15)
    again = Rotation.from_quat(found.numpy(), scalar_first=True)
    assert (again * rotation.inv()).magnitude().max() < 1e-14


def pytorch3d_screen(points, arguments):
    """transform_points_screen of PerspectiveCameras from its notes: view, projection, then NDC to screen."""
    rotation, translation = np.asarray(arguments["R"]), np.asarray(arguments["T"])
    focal, principal = np.asarray(arguments["focal_length"]), np.asarray(arguments["principal_point"])
    height, width = np.asarray(arguments["image_size"])
    s = min(width, height)
    if not arguments["in_ndc"]:
        focal = focal * 2.0 / s
        principal = np.array([-(principal[0] - width / 2.0) * 2.0 / s, -(principal[1] - height / 2.0) * 2.0 / s])
    view = points @ rotation + translation
    ndc = focal * view[:, :2] / view[:, 2:] + principal
    return np.stack([width / 2.0 - ndc[:, 0] * s / 2.0, height / 2.0 - ndc[:, 1] * s / 2.0], -1)


@pytest.mark.parametrize("in_ndc", [False, True])
@pytest.mark.parametrize("size", [(64, 64), (64, 100), (100, 64)])
def test_pytorch3d_projects_to_the_same_pixels(size, in_ndc):
    pose, k = random_poses(()), random_intrinsics(())
    points = pose[:3, 3] + (np.random.default_rng(3).normal(size=(20, 3)) + [0, 0, 6]) @ pose[:3, :3].T
    local = (points - pose[:3, 3]) @ pose[:3, :3]
    expected = local @ k.T
    arguments = to_pytorch3d(k, pose, size, in_ndc=in_ndc)
    np.testing.assert_allclose(pytorch3d_screen(points, arguments), expected[:, :2] / expected[:, 2:], atol=1e-10)


@pytest.mark.parametrize("size", [(64, 64), (64, 100), (100, 64)])
def test_pytorch3d_corner_and_axes(size):
    # the top left corner of the image is at (+1, +1) times the aspect ratio, the pixel below right of it inside
    height, width = size
    k = np.array([[50.0, 0, 0.5 * width], [0, 50.0, 0.5 * height], [0, 0, 1]])
    arguments = to_pytorch3d(k, np.eye(4), size)
    corner = np.linalg.inv(k) @ [0.0, 0.0, 1.0]
    view = corner @ arguments["R"].numpy() + arguments["T"].numpy()
    assert view[0] > 0 and view[1] > 0 and view[2] > 0
    ndc = arguments["focal_length"].numpy() * view[:2] / view[2] + arguments["principal_point"].numpy()
    np.testing.assert_allclose(ndc, np.array([width, height]) / min(size), atol=1e-12)


def test_pytorch3d_documented_example():
    # the pair of equal cameras in PyTorch3D's notes on cameras, image_size (128, 256)
    size, pose = (128, 256), np.eye(4)
    k = np.array([[76.8, 0, 115.2], [0, 76.8, 32.0], [0, 0, 1]])
    ndc, screen = to_pytorch3d(k, pose, size, in_ndc=True), to_pytorch3d(k, pose, size, in_ndc=False)
    np.testing.assert_allclose(ndc["focal_length"], [1.2, 1.2], atol=1e-12)
    np.testing.assert_allclose(ndc["principal_point"], [0.2, 0.5], atol=1e-12)
    np.testing.assert_array_equal(screen["focal_length"], [76.8, 76.8])
    np.testing.assert_array_equal(screen["principal_point"], [115.2, 32.0])
    found, _ = from_pytorch3d(ndc["R"], ndc["T"], [1.2], [0.2, 0.5], size)
    np.testing.assert_allclose(found, k, atol=1e-12)


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("in_ndc", [False, True])
def test_pytorch3d_round_trip(batch, in_ndc):
    pose, k = random_poses(batch), random_intrinsics(batch)
    size = np.random.default_rng(5).integers(30, 200, (*batch, 2))
    arguments = to_pytorch3d(k, pose, size, in_ndc=in_ndc)
    assert arguments["image_size"].shape == (*batch, 2)
    again, world_from_camera = from_pytorch3d(**arguments)
    np.testing.assert_allclose(again, k, atol=1e-12)
    np.testing.assert_allclose(world_from_camera, pose, atol=1e-13)


def test_differentiable():
    # PyTorch3D's optimised cameras come back with their gradient: the centre is -T R^T in rows
    t = torch.tensor([0.3, -0.2, 4.0], dtype=torch.float64, requires_grad=True)
    _, pose = from_pytorch3d(np.eye(3) * [1, 1, 1], t, [1.0, 1.0], [0.0, 0.0], (32, 48))
    pose[:3, 3].sum().backward()
    assert t.grad.tolist() == [-1, -1, -1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: to_opengl(np.eye(3)), r"world_from_camera: expected shape \(..., 4, 4\) or \(..., 3, 4\)"),
        (lambda: from_colmap(np.zeros(4), np.zeros(3)), "qvec: .*length 0"),
        (lambda: from_colmap(np.ones(3), np.zeros(3)), r"qvec: expected shape \(..., 4\), got \(3,\)"),
        (lambda: to_colmap(np.diag([1.0, 1, -1, 1])), "world_from_camera.*left-handed"),
        (lambda: to_pytorch3d([[50, 1, 30], [0, 50, 20], [0, 0, 1]], np.eye(4), (40, 60)), "intrinsics: .*skew"),
        (lambda: from_pytorch3d(2 * np.eye(3), np.zeros(3), [1.0], [0.0, 0.0], (4, 4)), "R: expected a rotation"),
        (lambda: from_pytorch3d(np.eye(3), np.zeros(3), [1.0], [0.0], (4, 4)), "principal_point: expected shape"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("size", [0.0, 1e-9, 1e-4, 1.0, 3.1])
def test_axis_angle_is_scipys(size):
    axis = torch.randn(7, 3, dtype=torch.float64)
    rotvec = size * axis / axis.norm(dim=-1, keepdim=True)
    matrix = torch.from_numpy(Rotation.from_rotvec(rotvec.numpy()).as_matrix())
    torch.testing.assert_close(axis_angle(matrix), rotvec, rtol=0, atol=1e-12 if size < 3 else 1e-9)
