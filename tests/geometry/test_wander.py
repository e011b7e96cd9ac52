"""Paths through the views and about one of them."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from raytrans.geometry import Cameras, Similarity, focus, interpolate, look_at, wander
from raytrans.geometry.paths import _chain, _distances


def arc(order=range(12)) -> Cameras:
    """Cameras along an arc that look at the origin, listed in any order."""
    angle = torch.tensor([0.12 * i for i in order]).double()
    centers = torch.stack([5 * angle.cos(), 5 * angle.sin(), 1 + 0.1 * angle], -1)
    pose = look_at(centers, [0.0, 0.0, 0.0], [0.0, 0.0, 1.0])
    return Cameras(torch.tensor([[60.0, 0, 32], [0, 60, 24], [0, 0, 1]]).expand(12, 3, 3), pose, size=(48, 64))


SHUFFLED = [7, 2, 11, 0, 5, 9, 1, 10, 4, 8, 3, 6]


def test_interpolate_follows_the_arc_in_whatever_order_it_is_listed():
    path, other = interpolate(arc(), 45), interpolate(arc(SHUFFLED), 45)
    torch.testing.assert_close(path.world_from_camera, other.world_from_camera, rtol=0, atol=1e-9)
    azimuth = torch.atan2(path.centers[:, 1], path.centers[:, 0])
    steps = azimuth.diff()
    assert (steps > 0).all() or (steps < 0).all()
    assert steps.abs().sum().item() == pytest.approx(0.12 * 11)
    assert steps.abs().max() < 2 * steps.abs().median()  # no jumps
    ends = {tuple(path.centers[i].numpy().round(9)) for i in (0, -1)}
    assert ends == {tuple(arc().centers[i].numpy().round(9)) for i in (0, -1)}


def test_interpolate_goes_through_views_eight_frames_apart():
    path, views = interpolate(arc(), 33), arc()  # five of the twelve
    for frame in range(0, 33, 8):
        apart = (views.world_from_camera - path.world_from_camera[frame]).abs().amax((1, 2))
        assert apart.min() < 1e-9


def test_wander_starts_at_the_most_central_view_and_keeps_its_subject():
    views, path = arc(), wander(arc(), 40)
    total = [sum(float((a - b).norm()) for b in views.centers) for a in views.centers]
    start = views[int(np.argmin(total))]
    torch.testing.assert_close(path.world_from_camera[0], start.world_from_camera, rtol=0, atol=1e-9)
    subject = start.centers + ((focus(views) - start.centers) @ start.forward) * start.forward
    pixels, z = path.project(subject)
    torch.testing.assert_close(pixels, torch.tensor([[32.0, 24.0]]).double().expand(40, 2), rtol=0, atol=1e-9)
    assert (z > 0).all()
    neighbours = [min(float((a - b).norm()) for b in views.centers if (a - b).norm() > 0) for a in views.centers]
    local = (path.centers - start.centers) @ start.world_from_camera[:3, :3]
    t = torch.arange(40) * (2 * math.pi / 40)
    radius = float(torch.tensor(neighbours).median())
    expected = torch.stack([radius * t.sin(), 0.5 * radius * (2 * t).sin(), 0 * t], -1)
    torch.testing.assert_close(local, expected.double(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("path", [interpolate, wander])
def test_paths_move_with_the_world(path):
    motion = Similarity.random(generator=torch.Generator().manual_seed(2), extent=30.0)
    moved = arc().moved(motion.rotation, motion.translation, motion.scale)
    expected = path(arc(), 10).moved(motion.rotation, motion.translation, motion.scale)
    torch.testing.assert_close(path(moved, 10).world_from_camera, expected.world_from_camera, rtol=0, atol=1e-8)


@pytest.mark.parametrize("path", [interpolate, wander])
def test_one_camera_or_one_place_gives_finite_paths(path):
    assert path(arc()[0], 3).world_from_camera.isfinite().all()
    pose = arc().world_from_camera.clone()
    pose[:, :3, 3] = 2.0
    assert path(Cameras(arc().intrinsics, pose, size=(48, 64)), 5).world_from_camera.isfinite().all()
    with pytest.raises(ValueError, match="frames: expected at least 1, got 0"):
        path(arc(), 0)


def walk(count: int) -> Cameras:
    """Cameras anywhere that look at the origin, more than are held against all at a time."""
    centers = torch.from_numpy(np.random.default_rng(4).normal(size=(count, 3)))
    pose = look_at(centers, [0.0, 0.0, 0.0], [0.0, 0.0, 1.0])
    return Cameras(torch.tensor([[60.0, 0, 32], [0, 60, 24], [0, 0, 1]]).expand(count, 3, 3), pose, size=(48, 64))


def test_distances_of_many_are_those_of_the_whole_table():
    centers = walk(150).centers
    table = cdist(centers, centers)
    sums, neighbours = _distances(centers)
    np.testing.assert_allclose(sums, table.sum(-1), rtol=1e-12)
    np.testing.assert_allclose(neighbours, (table + np.diag([np.inf] * 150)).min(-1), rtol=1e-12)


def test_the_chain_of_many_is_a_loop_over_the_whole_table():
    cameras = walk(150)
    centers, forward = cameras.centers.numpy(), cameras.forward.numpy()
    size = np.linalg.norm(centers - centers.mean(0), axis=-1).max()
    table = cdist(centers, centers) / size + np.arccos((forward @ forward.T).clip(-1, 1))
    chain = [int(table.sum(-1).argmax())]
    while len(chain) < 150:
        chain.append(min(set(range(150)) - set(chain), key=table[chain[-1]].__getitem__))
    assert _chain(cameras) == chain
