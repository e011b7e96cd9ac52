"""Pictures of rigs and epipolar curves, against where geometry puts things."""

import math

import numpy as np
import pytest
import torch

from raytrans import Cameras
from raytrans.geometry import look_at
from raytrans.reports.rig import epipolar_picture, rig_views, upwards


def ring(rolled: bool, count: int = 12) -> Cameras:
    """Cameras on a level circle that look at its middle, upright or lying on their side."""
    turn = torch.tensor([[0.0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], dtype=torch.float64)
    angles = [2 * math.pi * i / count for i in range(count)]
    poses = [look_at([3 * math.cos(a), 3 * math.sin(a), 0.0], target=[0, 0, 0], up=[0, 0, 1]).double() for a in angles]
    poses = torch.stack(poses) @ (turn if rolled else torch.eye(4, dtype=torch.float64))
    k = torch.tensor([[100.0, 0, 50], [0, 100, 40], [0, 0, 1]], dtype=torch.float64)
    return Cameras(k.expand(count, 3, 3), poses, (80, 100))


def extent(picture: np.ndarray) -> tuple[int, int]:
    """Height and width of what is coloured."""
    rows, columns = np.nonzero(np.ptp(picture, axis=-1) > 60)
    return int(np.ptp(rows)), int(np.ptp(columns))


@pytest.mark.parametrize("rolled", [False, True])
def test_a_level_ring_is_a_circle_from_the_top_and_flat_from_the_sides(rolled):
    cameras = ring(rolled)
    assert abs(float(upwards(cameras)[2])) > 0.999
    views = rig_views(cameras, torch.zeros(0, 3, dtype=torch.float64))
    height, width = extent(views["from the top"])
    assert min(height, width) > 400
    for side in ("from the side", "from the other side"):
        height, width = extent(views[side])
        assert width > 400 and height < 120


def test_up_is_that_of_upright_cameras_on_a_tilted_rig():
    cameras = ring(False)
    up = torch.tensor([0.0, 0.6, 0.8], dtype=torch.float64)
    tilt = torch.tensor([[1.0, 0, 0], [0, 0.8, 0.6], [0, -0.6, 0.8]], dtype=torch.float64)
    torch.testing.assert_close(upwards(cameras.moved(tilt, torch.zeros(3).double(), 1.0)), up)


def test_far_points_do_not_shrink_the_picture():
    cloud = 0.5 * torch.randn(2000, 3, dtype=torch.float64)
    stray = torch.tensor([[10.0, 4.0, 0.0], [-9.0, 0.0, 6.0]], dtype=torch.float64)
    near, far = (rig_views(ring(False), points)["from the top"] for points in (cloud, torch.cat([cloud, stray])))
    assert extent(far) == extent(near)


def test_curves_pass_through_matches_of_right_cameras_only():
    cameras = ring(False)[[0, 1]]
    points = torch.tensor([[0.2, 0.5, 0.3], [-0.4, 0.2, -0.5], [0.3, -0.6, 0.2]], dtype=torch.float64)
    pixels = torch.stack([cameras[i].project(points)[0] for i in (0, 1)], 1)
    depth = cameras[0].project(points)[1]
    black = (torch.zeros(80, 100, 3), torch.zeros(80, 100, 3))

    def colored(right: Cameras) -> list[bool]:
        """Whether the curve reaches 9 to 14 pixels from the dot, on both sides, along the line through it."""
        stack = Cameras.stack([cameras[0], right])
        picture = epipolar_picture(black, stack, pixels, depth)[:, 104:]
        ahead = cameras[1].project(cameras[0].centers + 1.12 * (points - cameras[0].centers))[0]
        along = ahead - pixels[:, 1]
        along = along / along.norm(dim=-1, keepdim=True)
        places = torch.stack([pixels[:, 1] + s * along for s in (-11.0, 11.0)], 1).floor().long()
        around = [(x + i, y + j) for x, y in places.reshape(-1, 2).tolist() for i in (-1, 0, 1) for j in (-1, 0, 1)]
        hits = [picture[y, x].max() > 60 if 0 <= y < 80 and 0 <= x < 100 else True for x, y in around]
        return [any(hits[9 * n : 9 * n + 9]) for n in range(len(places) * 2)]

    assert all(colored(cameras[1]))
    wrong = ring(False)[1].moved(torch.eye(3).double(), torch.tensor([0.0, 0.0, 1.2]).double(), 1.0)
    assert not all(colored(wrong))
