"""The stage moves with the world, and the browser's camera is the world's camera of the same picture."""

import math

import numpy as np
import pytest
import torch

from raytrans.geometry.cameras import Cameras
from raytrans.geometry.paths import look_at
from raytrans.geometry.rigid import Similarity
from raytrans.viewer.server import frustum_size
from raytrans.viewer.stage import Eye, Stage, field_of_view, middle_camera

MOTION = Similarity.random(generator=torch.Generator().manual_seed(5), extent=1e5, octaves=9.0)


def rig(up=(0.0, 0.0, 1.0)) -> Cameras:
    """Twelve level cameras on a half circle of radius 4, which look at (1, 2, 3)."""
    middle = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    angle = torch.linspace(0, math.pi, 12, dtype=torch.float64)
    place = middle + 4 * torch.stack([angle.cos(), angle.sin(), 0.3 + 0 * angle], -1)
    return Cameras([[30.0, 0, 16], [0, 30.0, 12], [0, 0, 1]], look_at(place, middle, up), (24, 32))


def eye(camera: Cameras, width: int = 320, height: int = 240, fov: float = 0.9) -> Eye:
    return Eye.of(camera, width, height, fov)


def test_up_is_up_and_lengths_are_of_order_one():
    cameras = rig()
    stage = Stage.of(cameras)
    placed = stage.placed(cameras)
    assert float(placed.world_from_camera[:, 2, 0].abs().max()) < 1e-9  # x axes are level
    assert bool((placed.world_from_camera[:, 2, 1] < -0.9).all())  # y axes point down
    assert float(placed.centers.mean(0).norm()) < 1e-9
    focus = stage.from_world.apply(torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))
    assert (placed.centers - focus).norm(dim=-1).median() == pytest.approx(1.0, abs=1e-9)
    assert placed[middle_camera(cameras)].forward[1] > 0.9


def test_the_middle_of_very_many_cameras_and_how_large_they_are_drawn():
    """5,000 in a row, 0.01 apart: that of the median place, and 0.3 of the distance to a neighbour."""
    poses = torch.eye(4, dtype=torch.float64).repeat(5000, 1, 1)
    order = torch.randperm(5000, generator=torch.Generator().manual_seed(0))
    poses[:, 0, 3] = 0.01 * order.double()
    cameras = Cameras([[30.0, 0, 16], [0, 30.0, 12], [0, 0, 1]], poses, (24, 32))
    assert int(order[middle_camera(cameras)]) in (2499, 2500)
    assert frustum_size(cameras) == pytest.approx(0.003, rel=1e-6)


def test_the_stage_moves_with_the_world():
    cameras = rig()
    moved = cameras.moved(MOTION.rotation, MOTION.translation, MOTION.scale)
    here, there = Stage.of(cameras).placed(cameras), Stage.of(moved).placed(moved)
    # 1e5 away a float64 keeps 1e-11 of a length of one
    torch.testing.assert_close(here.world_from_camera, there.world_from_camera, rtol=0, atol=1e-6)


@pytest.mark.parametrize("side", [48, 33, 1000])
def test_a_point_has_one_place_in_the_browser_and_in_the_rendering(side):
    """The browser's own formula: turned by the quaternion, divided by depth and by the tangent of half the view."""
    cameras = rig().moved(MOTION.rotation, MOTION.translation, MOTION.scale)
    stage = Stage.of(cameras)
    looks = eye(stage.placed(cameras)[3], 317, 211, 0.8)
    camera = stage.camera(looks, side)
    points = torch.randn(40, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 0.2
    w, x, y, z = looks.wxyz
    turn = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    local = (points.numpy() - np.array(looks.position)) @ turn
    tangent = math.tan(0.5 * looks.fov)
    share = np.stack([local[:, 0] / (tangent * 317 / 211), local[:, 1] / tangent], -1) / local[:, 2:]
    pixels, depth = camera.project(stage.from_world.inverse().apply(points))
    size = torch.tensor([float(camera.width), float(camera.height)], dtype=torch.float64)
    np.testing.assert_allclose((2 * pixels / size - 1).numpy(), share, atol=1e-5)
    np.testing.assert_allclose((stage.scale * depth).numpy(), local[:, 2], atol=1e-6)
    assert max(camera.width, camera.height) == min(side, 317)  # a canvas is not enlarged


def test_bounds_are_in_the_lengths_of_the_world():
    stage = Stage.of(rig())
    camera = stage.camera(eye(stage.placed(rig())[0]), 32, near=0.5, far=7.0)
    assert (float(camera.near), float(camera.far)) == pytest.approx((0.5, 7.0))
    with pytest.raises(ValueError, match="near < far"):
        stage.camera(eye(stage.placed(rig())[0]), 32, near=3.0, far=2.0)


def test_a_photograph_seen_from_its_camera_fills_the_window():
    cameras = rig()
    stage = Stage.of(cameras)
    own = stage.placed(cameras)[5]
    camera = stage.camera(eye(own, 32, 24, field_of_view(own)), 32)
    torch.testing.assert_close(camera.intrinsics, cameras[5].intrinsics)
    torch.testing.assert_close(camera.world_from_camera, cameras[5].world_from_camera, rtol=0, atol=1e-9)


@pytest.mark.parametrize("count", [1, 2])
def test_few_cameras_have_a_stage(count):
    placed = Stage.of(rig()[list(range(count))]).placed(rig()[list(range(count))])
    assert bool(torch.isfinite(placed.world_from_camera).all())


def test_cameras_that_look_straight_down_have_a_stage():
    pose = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0])).double().repeat(3, 1, 1)
    pose[:, 0, 3] = torch.arange(3)
    stage = Stage.of(Cameras([[30.0, 0, 16], [0, 30.0, 12], [0, 0, 1]], pose, (24, 32)))
    turn = stage.from_world.rotation
    torch.testing.assert_close(turn @ turn.mT, torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    "change",
    [
        {"wxyz": (0.0, 0.0, 0.0, 0.0)},
        {"wxyz": (1.0, 0.0, 0.0)},
        {"position": (0.0, math.nan, 0.0)},
        {"fov": 0.0},
        {"fov": math.pi},
        {"fov": math.inf},
        {"width": 0},
        {"height": -3},
        {"width": 10**9},
    ],
)
def test_nonsense_of_a_browser_is_refused(change):
    good = {"wxyz": (1.0, 0.0, 0.0, 0.0), "position": (0.0, 0.0, 0.0), "fov": 1.0, "width": 30, "height": 20}
    assert Eye(**good)
    with pytest.raises(ValueError, match="eye: expected"):
        Eye(**{**good, **change})
