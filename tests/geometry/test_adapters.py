"""Cameras as objects of kornia and PyTorch3D: they project points where ours do."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from raytrans.geometry import (
    Cameras,
    from_kornia,
    from_pytorch3d,
    from_pytorch3d_cameras,
    random_rotation,
    to_kornia,
    to_pytorch3d,
    to_pytorch3d_cameras,
)
from raytrans.geometry.rigid import rigid


@pytest.fixture
def cameras() -> Cameras:
    """Four cameras of two sizes at random poses."""
    generator = torch.Generator().manual_seed(0)
    pose = rigid(random_rotation(4, generator=generator), 5 * torch.randn(4, 3, generator=generator).double())
    k = torch.tensor([[50.0, 0, 31], [0, 60, 19], [0, 0, 1]]).double().repeat(4, 1, 1)
    k[:, 0, 0] += torch.arange(4)
    return Cameras(k, pose, size=torch.tensor([[40, 60], [40, 60], [64, 30], [40, 40]]))


def points_before(cameras: Cameras) -> torch.Tensor:
    """Twenty world points in front of each camera (N, 20, 3)."""
    local = torch.from_numpy(np.random.default_rng(1).normal(size=(len(cameras), 20, 3)) + [0, 0, 6])
    return cameras.centers[:, None] + local @ cameras.world_from_camera[:, :3, :3].mT


def same(first: Cameras, second: Cameras, tolerance: float) -> None:
    for name in ("intrinsics", "world_from_camera", "height", "width"):
        torch.testing.assert_close(getattr(first, name), getattr(second, name), rtol=tolerance, atol=tolerance)


def test_kornia_projects_half_a_pixel_before_ours(cameras):
    points = points_before(cameras)
    pixels, z = cameras.project(points)
    found = to_kornia(cameras)
    # kornia's first pixel has its centre at (0, 0), ours at (0.5, 0.5)
    torch.testing.assert_close(found.project(points) + 0.5, pixels, rtol=0, atol=1e-6)
    torch.testing.assert_close(found.unproject(pixels - 0.5, z[..., None]), points, rtol=0, atol=1e-6)
    assert found.height.tolist() == [40, 40, 64, 40] and found.width.tolist() == [60, 60, 30, 40]


def test_kornia_and_back(cameras):
    same(from_kornia(to_kornia(cameras)), cameras, 1e-12)
    one = from_kornia(to_kornia(cameras[2]))
    assert one.shape == (1,)
    same(one[0], cameras[2], 1e-12)


def test_a_kornia_camera_of_its_own_projects_alike():
    from kornia.geometry.camera import PinholeCamera

    intrinsics, extrinsics = torch.eye(4).double()[None], torch.eye(4).double()[None]
    intrinsics[0, :3, :3] = torch.tensor([[500.0, 0, 319.5], [0, 500.0, 239.5], [0, 0, 1]])
    extrinsics[0, :3, 3] = torch.tensor([0.1, -0.2, 2.0])
    height, width = torch.tensor([480.0]), torch.tensor([640.0])
    theirs = PinholeCamera(intrinsics, extrinsics, height, width)
    ours = from_kornia(theirs)
    point = torch.tensor([[0.3, 0.4, 1.0]]).double()
    torch.testing.assert_close(ours[0].project(point)[0], theirs.project(point[None])[0] + 0.5, rtol=0, atol=1e-6)
    # a camera that looks through the middle of its image does so in both conventions
    assert ours[0].intrinsics[:2, 2].tolist() == [320.0, 240.0]


def stand_in(cameras: Cameras, in_ndc: bool) -> SimpleNamespace:
    """The attributes that PyTorch3D documents of PerspectiveCameras."""
    size = torch.stack([cameras.height, cameras.width], -1)
    arguments = to_pytorch3d(cameras.intrinsics, cameras.world_from_camera, size, in_ndc)
    values = {name: value.float() for name, value in arguments.items() if name != "in_ndc"}
    return SimpleNamespace(**values, in_ndc=lambda: in_ndc)


@pytest.mark.parametrize("in_ndc", [False, True])
def test_attributes_of_pytorch3d_cameras_are_read(cameras, in_ndc):
    found = from_pytorch3d_cameras(stand_in(cameras, in_ndc))
    same(found, cameras, 1e-5)
    points = points_before(cameras)
    torch.testing.assert_close(found.project(points)[0], cameras.project(points)[0], rtol=0, atol=1e-3)


def test_one_focal_length_for_all_and_a_size_given_apart(cameras):
    theirs = SimpleNamespace(
        R=torch.eye(3).expand(3, 3, 3), T=torch.tensor([[0.0, 0, 3], [0, 0, 4], [1, 0, 5]]),
        focal_length=torch.tensor([[1.5]]), principal_point=torch.zeros(1, 2), image_size=None, in_ndc=lambda: True,
    )  # fmt: skip
    with pytest.raises(ValueError, match="image_size: expected"):
        from_pytorch3d_cameras(theirs)
    found = from_pytorch3d_cameras(theirs, image_size=(100, 200))
    assert found.shape == (3,) and found.intrinsics[2].tolist() == [[75, 0, 100], [0, 75, 50], [0, 0, 1]]
    # X_camera = X_world R + T, x left and y up: the world's origin is at T
    pixels, z = found.project(torch.zeros(3))
    assert z.tolist() == [3, 4, 5] and pixels[2].tolist() == pytest.approx([100 - 75 / 5, 50])


def test_pytorch3d_itself(cameras):
    pytest.importorskip("pytorch3d", reason="PyTorch3D is not installed")
    points = points_before(cameras)
    for in_ndc in (False, True):
        theirs = to_pytorch3d_cameras(cameras, in_ndc)
        found = theirs.transform_points_screen(points.float())[..., :2]
        torch.testing.assert_close(found.double(), cameras.project(points)[0], rtol=0, atol=1e-2)
        same(from_pytorch3d_cameras(theirs), cameras, 1e-4)


def test_the_arguments_reach_pytorch3d(cameras, monkeypatch):
    import sys
    from types import ModuleType

    renderer = ModuleType("pytorch3d.renderer")
    renderer.PerspectiveCameras = lambda **arguments: arguments
    monkeypatch.setitem(sys.modules, "pytorch3d", ModuleType("pytorch3d"))
    monkeypatch.setitem(sys.modules, "pytorch3d.renderer", renderer)
    arguments = to_pytorch3d_cameras(cameras, in_ndc=False)
    assert arguments.pop("device") == "cpu" and arguments["R"].dtype == torch.float32
    intrinsics, pose = from_pytorch3d(**arguments)
    torch.testing.assert_close(intrinsics, cameras.intrinsics, rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(pose, cameras.world_from_camera, rtol=1e-6, atol=1e-5)


def test_without_pytorch3d_this_is_said(cameras, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pytorch3d", None)
    monkeypatch.setitem(sys.modules, "pytorch3d.renderer", None)
    with pytest.raises(ValueError, match="PyTorch3D is not installed"):
        to_pytorch3d_cameras(cameras)


def test_lenses_are_refused(cameras):
    bent = Cameras(cameras.intrinsics, cameras.world_from_camera, size=(40, 60), distortion=[0.1, 0, 0, 0])
    with pytest.raises(
        ValueError, match="cameras: expected no lens, which kornia's PinholeCamera does not know, got opencv"
    ):
        to_kornia(bent)
    with pytest.raises(ValueError, match="batch"):
        to_kornia(cameras._replaced(**{n: v[None] for n, v in vars(cameras).items() if v is not None}))
