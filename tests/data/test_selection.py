"""Selection of sources: invariances, hand-made rigs whose best views are evident, ties."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from scipy.spatial.transform import Rotation

from raytrans.data import nearest
from raytrans.data.selection import _distances_to_all, costs, focus_depth
from raytrans.geometry.cameras import Cameras


def looking(centers, targets, focal=100.0, size=(100, 100), roll=None):
    """Cameras at `centers` that look at `targets`, built by hand."""
    poses = []
    for i, (center, target) in enumerate(zip(np.atleast_2d(centers), np.atleast_2d(targets), strict=True)):
        forward = (target - center) / np.linalg.norm(target - center)
        helper = np.array([0.0, 1.0, 0.1]) if abs(forward[1]) < 0.9 else np.array([1.0, 0.1, 0.0])
        right = np.cross(helper, forward) / np.linalg.norm(np.cross(helper, forward))
        pose = np.eye(4)
        pose[:3, :3] = np.stack([right, np.cross(forward, right), forward], 1)
        if roll is not None:
            pose[:3, :3] = pose[:3, :3] @ Rotation.from_euler("z", roll[i]).as_matrix()
        pose[:3, 3] = center
        poses.append(pose)
    intrinsics = np.array([[focal, 0, size[1] / 2], [0, focal, size[0] / 2], [0, 0, 1.0]])
    return Cameras(np.tile(intrinsics, (len(poses), 1, 1)), np.stack(poses), size=size)


def ring(count, radius=4.0):
    angles = np.arange(count) * 2 * np.pi / count
    centers = radius * np.stack([np.cos(angles), np.zeros(count), np.sin(angles)], -1)
    return looking(centers, np.zeros((count, 3)))


def random_rig(seed, count=20):
    rng = np.random.default_rng(seed)
    return looking(rng.normal(size=(count, 3)) * 3, rng.normal(size=(count, 3)) * 0.5)


def test_focus_of_a_ring_is_its_middle():
    cameras = ring(12)
    assert focus_depth(cameras[1:], cameras[0]).item() == pytest.approx(4.0, rel=1e-2)


def test_focus_of_parallel_cameras_is_finite_and_of_the_size_of_the_rig():
    centers = np.array([[i, j, 0.0] for i in range(3) for j in range(3)])
    cameras = looking(centers, centers + [0, 0, 1])
    assert 0.5 < focus_depth(cameras, cameras[4]).item() < 4


def test_neighbours_on_a_ring_come_first():
    cameras = ring(24)
    order = nearest(cameras, cameras[5], 6, exclude=[5])
    assert set(order[:2]) == {4, 6} and set(order[2:4]) == {3, 7} and set(order[4:]) == {2, 8}


def test_a_near_camera_that_looks_away_loses_to_one_that_sees_the_same():
    cameras = looking([[0.1, 0, -4], [0.8, 0, -4], [0, 0, -4]], [[0.1, 0, -9], [0, 0, 0], [0, 0, 0]])
    assert nearest(cameras, cameras[2], 2, exclude=[2]) == [1, 0]


def test_a_camera_on_the_other_side_comes_last():
    cameras = looking([[0, 0, 4], [2, 0, -4], [-3, 0, -4], [0, 0, -4]], np.zeros((4, 3)))
    assert nearest(cameras, cameras[3], 3, exclude=[3]) == [1, 2, 0]


def test_at_the_same_angle_the_distance_decides():
    cameras = looking([[0, 0, -40], [0, 0, -5], [0.0, 0, -4]], np.zeros((3, 3)))
    assert nearest(cameras, cameras[2], 2, exclude=[2]) == [1, 0]


def test_cost_is_the_written_formula():
    cameras = looking([[1.0, 0.5, -4], [0.0, 0, -4]], [[0.2, 0, 0], [0, 0, 0]])
    source, target = cameras[[0]], cameras[1]
    depth, expected = focus_depth(source, target).item(), 0.0
    c, d = target.centers.numpy(), target.forward.numpy()
    for k in (1.0, 2.0):
        point = c + k * depth * d
        to_point = point - source.centers[0].numpy()
        length = np.linalg.norm(to_point)
        parallax = math.acos(to_point @ d / length)
        off = math.acos(to_point @ source.forward[0].numpy() / length)
        expected += parallax / math.radians(20) + 0.5 * (off / math.atan(0.5)) ** 2
        expected += 0.5 * abs(math.log(length / (k * depth)))
    assert costs(source, target)[0].item() == pytest.approx(expected / 2, rel=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_world_frame_and_scale_change_nothing(seed):
    cameras = random_rig(seed)
    rng = np.random.default_rng(seed)
    rotation = torch.from_numpy(Rotation.random(random_state=seed).as_matrix())
    scale = float(10 ** rng.uniform(-3, 3))
    moved = cameras.moved(rotation, torch.from_numpy(scale * 100 * rng.normal(size=3)), scale)
    torch.testing.assert_close(costs(moved[1:], moved[0]), costs(cameras[1:], cameras[0]), rtol=1e-9, atol=1e-9)
    assert nearest(moved, moved[0], 8, [0]) == nearest(cameras, cameras[0], 8, [0])


def test_roll_changes_nothing():
    rng = np.random.default_rng(0)
    centers, targets = rng.normal(size=(12, 3)) * 3, rng.normal(size=(12, 3)) * 0.5
    plain = looking(centers, targets)
    rolled = looking(centers, targets, roll=rng.uniform(-3, 3, 12))
    torch.testing.assert_close(costs(rolled, rolled[0]), costs(plain, plain[0]))
    assert nearest(rolled, rolled[0], 6, [0]) == nearest(plain, plain[0], 6, [0])


@pytest.mark.parametrize("symmetric", [False, True])
def test_the_order_of_the_views_changes_nothing_even_in_ties(symmetric):
    cameras = ring(12) if symmetric else random_rig(3, 12)
    target = cameras[0]
    expected = [cameras[i].centers.tolist() for i in nearest(cameras, target, 5, exclude=[0])]
    for seed in range(4):
        order = np.random.default_rng(seed).permutation(12).tolist()
        shuffled = cameras[order]
        chosen = nearest(shuffled, target, 5, exclude=[order.index(0)])
        assert [shuffled[i].centers.tolist() for i in chosen] == expected


def test_ties_survive_a_moved_world():
    cameras = ring(12)
    rotation = torch.from_numpy(Rotation.random(random_state=1).as_matrix())
    moved = cameras.moved(rotation, torch.tensor([3.0, -20.0, 1.0], dtype=torch.float64), 0.01)
    assert nearest(moved, moved[0], 7, [0]) == nearest(cameras, cameras[0], 7, [0])


def test_cameras_at_one_place_are_told_apart_by_their_axes():
    targets = [[math.sin(a), 0, math.cos(a)] for a in (0.0, 0.2, -0.5, 1.0)]
    cameras = looking(np.zeros((4, 3)), np.array(targets))
    assert torch.isfinite(costs(cameras, cameras[0])).all()
    assert nearest(cameras, cameras[0], 3, exclude=[0]) == [1, 2, 3]


def test_a_target_at_a_source_prefers_that_source():
    cameras = random_rig(7)
    assert nearest(cameras, cameras[4], 1) == [4]
    assert costs(cameras, cameras[4])[4].item() == pytest.approx(0, abs=1e-6)


def test_counts_and_exclusions():
    cameras = ring(5)
    assert len(nearest(cameras, cameras[0], 8)) == 5
    assert sorted(nearest(cameras, cameras[0], 8, exclude=[0, 3])) == [1, 2, 4]
    with pytest.raises(ValueError, match="nearest: expected a count of at least 1 and views left"):
        nearest(cameras, cameras[0], 0)
    with pytest.raises(ValueError, match="0 left"):
        nearest(cameras, cameras[0], 2, exclude=range(5))


@pytest.mark.parametrize("count", [1, 7, 256, 600])
def test_sums_of_distances_are_those_of_the_whole_table(count):
    centers = random_rig(3, count).centers
    whole = torch.cdist(centers, centers, compute_mode="donot_use_mm_for_euclid_dist").sum(-1)
    torch.testing.assert_close(_distances_to_all(centers), whole, rtol=1e-12, atol=0)
    np.testing.assert_allclose(_distances_to_all(centers), cdist(centers, centers).sum(-1), rtol=1e-12)
