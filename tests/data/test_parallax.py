"""Sources far enough apart to see depth: hand-made rigs whose parallax is known, invariances, real captures."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist
from scipy.spatial.transform import Rotation

import raytrans
from raytrans.data import nearest
from raytrans.data.parallax import farthest_apart, looked_at, nearest_with_parallax
from raytrans.geometry.cameras import Cameras

FOCAL, SIDE = 100.0, 100


def rig(centers, rotations, focal=FOCAL, **bounds) -> Cameras:
    """Square pictures from `centers`, with the camera axes in the columns of `rotations`."""
    poses = np.tile(np.eye(4), (len(centers), 1, 1))
    poses[:, :3, 3], poses[:, :3, :3] = centers, rotations
    k = np.array([[focal, 0, SIDE / 2], [0, focal, SIDE / 2], [0, 0, 1]])
    return Cameras(np.tile(k, (len(poses), 1, 1)), poses, size=(SIDE, SIDE), **bounds)


def arc(count, step, radius=4.0, **more) -> Cameras:
    """Cameras every `step` degrees on a circle about the origin, looking at it."""
    turn = Rotation.from_euler("y", step * np.arange(count)[:, None], degrees=True).as_matrix()
    return rig(-radius * turn[:, :, 2], turn, **more)


def shaken(count=40, seed=0, tilt=4.0, **more) -> Cameras:
    """A camera carried along by hand, 0.01 from one frame to the next, whose axis sways by `tilt` degrees."""
    rng = np.random.default_rng(seed)
    centers = 0.003 * rng.normal(size=(count, 3)) + 0.01 * np.arange(count)[:, None] * [1.0, 0.0, 0.0]
    sway = np.cumsum(rng.normal(size=(count, 2)), 0)
    return rig(centers, Rotation.from_euler("xy", tilt * sway / np.abs(sway).max(), degrees=True).as_matrix(), **more)


def spacing(cameras, chosen) -> float:
    return float(np.median(pdist(cameras.centers[chosen].numpy())))


def test_views_far_enough_apart_are_the_nearest():
    cameras = arc(24, 15)
    for i in (0, 7):
        assert nearest_with_parallax(cameras, cameras[i], 6, [i]) == nearest(cameras, cameras[i], 6, [i])


@pytest.mark.parametrize(("focal", "angle"), [(100.0, 6 / 100), (400.0, 1 / 30), (40.0, 1 / 10)])
def test_a_dense_orbit_reaches_the_written_parallax_and_not_much_more(focal, angle):
    cameras = arc(360, 0.2, focal=focal)
    plain, wide = nearest(cameras, cameras[180], 8, [180]), nearest_with_parallax(cameras, cameras[180], 8, [180])
    assert spacing(cameras, plain) < 0.012 * 4  # 0.2 degrees from one to the next: they see no depth
    assert angle * 4 <= spacing(cameras, wide) < 1.4 * angle * 4
    assert wide[:2] == plain[:2] and len(set(wide)) == 8 and 180 not in wide


def test_larger_pictures_need_less():
    cameras, fine = arc(360, 0.2), arc(360, 0.2).resized(180, 180)
    coarse, wide = (spacing(c, nearest_with_parallax(c, c[90], 8, [90])) for c in (cameras, fine))
    assert wide < 0.8 * coarse


def test_where_axes_meet_nowhere_the_nearest_are_taken():
    cameras = shaken()
    assert nearest_with_parallax(cameras, cameras[20], 6, [20]) == nearest(cameras, cameras[20], 6, [20])


def test_axes_that_meet_by_chance_are_no_depth():
    depths = [looked_at(c[:24], c[30]) for c in (shaken(seed=seed, tilt=tilt) for tilt in (2, 20) for seed in range(6))]
    assert depths == [None] * 12
    aimed = arc(30, 1.0)
    assert looked_at(aimed[:24], aimed[27]) == pytest.approx(4.0)
    jitter = Rotation.from_euler("xy", np.random.default_rng(0).normal(size=(30, 2)), degrees=True).as_matrix()
    poses = aimed.world_from_camera[:, :3, :3].numpy() @ jitter  # a degree off, as people aim
    assert looked_at(rig(aimed.centers.numpy(), poses)[:24], aimed[27]) == pytest.approx(4.0, rel=0.2)


def test_near_and_far_say_how_far_apart():
    harmonic = 2 / (1 / 0.1 + 1 / 0.3)
    assert looked_at(arc(9, 15), arc(9, 15, near=0.1, far=0.3)[4]) == pytest.approx(harmonic)
    # the same rig before a place 0.1 to 0.3 away, where the nearest show enough parallax, and 1 to 3 away
    close, away = (shaken(near=near, far=3 * near) for near in (0.1, 1.0))
    plain = nearest(close, close[20], 6, [20])
    assert spacing(close, plain) > 0.06 * harmonic and nearest_with_parallax(close, close[20], 6, [20]) == plain
    wide = nearest_with_parallax(away, away[20], 6, [20])
    assert spacing(away, wide) > 0.06 * 10 * harmonic > 2 * spacing(away, plain)


RIGS = {"orbit": lambda: arc(200, 0.3), "shaken": shaken, "even": lambda: arc(24, 15)}


@pytest.mark.parametrize("name", RIGS)
def test_world_frame_scale_and_order_change_nothing(name):
    cameras = RIGS[name]()
    chosen = nearest_with_parallax(cameras, cameras[11], 6, [11])
    rotation = torch.from_numpy(Rotation.random(random_state=2).as_matrix())
    for scale in (1e-3, 1.0, 300.0):
        moved = cameras.moved(rotation, scale * torch.tensor([30.0, -200.0, 10.0], dtype=torch.float64), scale)
        assert nearest_with_parallax(moved, moved[11], 6, [11]) == chosen
    order = np.random.default_rng(3).permutation(len(cameras)).tolist()
    found = nearest_with_parallax(cameras[order], cameras[11], 6, [order.index(11)])
    assert [order[i] for i in found] == chosen


def test_farthest_apart_is_a_loop_over_distances():
    cameras = rig(np.random.default_rng(5).normal(size=(15, 3)), np.tile(np.eye(3), (15, 1, 1)))
    pool = [3, 8, 1, 0, 14, 7, 5, 9, 2]
    expected = pool[:2]
    while len(expected) < 6:
        best, most = None, -1.0
        for i in pool:
            least = min(math.dist(cameras.centers[i].tolist(), cameras.centers[j].tolist()) for j in expected)
            if i not in expected and least > most:
                best, most = i, least
        expected.append(best)
    assert farthest_apart(cameras, pool, 6) == expected


def test_few_views_and_views_at_one_place():
    cameras = shaken(5)
    assert sorted(nearest_with_parallax(cameras, cameras[0], 8, [0])) == [1, 2, 3, 4]
    assert nearest_with_parallax(cameras, cameras[0], 1, [0]) == nearest(cameras, cameras[0], 1, [0])
    together = rig(np.zeros((30, 3)), np.tile(np.eye(3), (30, 1, 1)))
    assert len(set(nearest_with_parallax(together, together[4], 8, [4]))) == 8
    with pytest.raises(ValueError, match="0 left"):
        nearest_with_parallax(cameras, cameras[0], 2, range(5))


@pytest.mark.parametrize("name", ["fox", "gum", "scodive", "milk", "figurine"])
def test_real_captures_with_parallax_keep_their_sources(real_data, name):
    cameras = small(raytrans.open_scene(real_data(name)).cameras)
    for i in range(0, len(cameras), 5):
        assert nearest_with_parallax(cameras, cameras[i], 8, [i]) == nearest(cameras, cameras[i], 8, [i])


def small(cameras: Cameras) -> Cameras:
    """Pictures of 200 pixels along the long side."""
    factor = 200 / max(cameras[0].height, cameras[0].width)
    return Cameras.stack([c.resized(round(factor * c.height), round(factor * c.width)) for c in cameras])
