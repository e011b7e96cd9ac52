"""The tasks of the study: what is equivariant, what is not, and what the samples are."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import optimize

from raytrans.geometry.rigid import random_rotation
from raytrans.systems.raydepth import ARMS, NativeRayDepth
from raytrans.systems.scaling import falling, rays
from raytrans.systems.scaling.falling import FACES, AlgebraFalls, PlainFalls, falling_task, falls
from raytrans.systems.scaling.grid import FRESH, Cell
from raytrans.systems.scaling.rays import draw_ellipsoids, ellipsoid_depth, ray_task
from raytrans.systems.scaling.training import train_cell


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def scenes():
    return falls(32, 0).to(torch.float64)


def moved(scenes, seed=1):
    rotation, translation = (
        random_rotation(len(scenes), generator=generator(seed)),
        torch.randn(len(scenes), 3).double(),
    )
    return scenes.moved(rotation, translation), rotation


def test_what_is_to_be_found_turns_with_the_scene(scenes):
    there, rotation = moved(scenes)
    assert torch.allclose(there.surprise(), scenes.surprise() @ rotation.mT[:, None], atol=1e-12)
    assert torch.equal(there.kinds(), scenes.kinds())


def test_the_algebra_arm_is_equivariant_and_the_plain_one_is_not(scenes):
    there, rotation = moved(scenes)
    for model, exact in ((AlgebraFalls(2).double(), True), (PlainFalls(8).double(), False)):
        expected = model(scenes) @ rotation.mT[:, None]
        error = (model(there) - expected).abs().max() / expected.abs().max()
        assert (error < 1e-9) if exact else (error > 0.1)


def test_free_bodies_hold_no_surprise():
    """Far apart and without turning, they fall freely."""
    begin = falling.draw_bodies(16, generator())
    begin = replace(begin, position=100 * begin.position, spin=0 * begin.spin)
    later = falling.simulate(begin, falling.SECONDS, 8).corners()
    velocities = begin.corner_velocities()
    scenes = falling.Falls(begin.corners(), velocities, begin.gravity, begin.ground, begin.mass.log(), later)
    assert scenes.surprise().abs().max() < 1e-12
    assert falls(32, 0).surprise().square().mean().sqrt() > 0.2


def test_faces_are_flat_squares_of_corners_that_share_a_side(scenes):
    assert sorted(FACES.ravel().tolist()) == sorted(list(range(8)) * 3)
    corners = scenes.faces(scenes.corners)
    assert corners.shape == (32, 18, 4, 3)
    middle = corners.mean(-2, keepdim=True)
    assert (torch.linalg.matrix_rank(corners - middle, rtol=1e-6) == 2).all()


def test_augmentation_draws_frames_like_those_of_the_data(scenes):
    there = scenes.anywhere(generator(3))
    before, after = (s.corners.flatten(1, 2) for s in (scenes, there))
    assert torch.allclose(torch.cdist(before, before), torch.cdist(after, after), atol=1e-9)
    assert (scenes.gravity - there.gravity).abs().max() > 1
    many = falls(512, 5).anywhere(generator(4))
    assert many.corners.mean((1, 2)).std(0).tolist() == pytest.approx([falling.SPREAD] * 3, rel=0.15)
    assert (many.gravity.mean(0).norm() / falling.GRAVITY) < 0.15


def test_depth_of_an_ellipsoid_is_a_root_on_the_ray():
    rng = np.random.default_rng(0)
    centre, axes = (
        rng.standard_normal(3),
        np.linalg.qr(rng.standard_normal((3, 3)))[0] / np.array([[0.5], [0.8], [1.1]]),
    )
    origin = centre + 4 * axes[0] / np.linalg.norm(axes[0])
    direction = centre + 0.1 * rng.standard_normal(3) - origin
    direction /= np.linalg.norm(direction)
    root = optimize.brentq(lambda t: np.linalg.norm(axes @ (origin + t * direction - centre)) - 1, 0, 4)
    tensors = [torch.tensor(v) for v in (origin, direction, centre, axes)]
    assert ellipsoid_depth(*tensors).item() == pytest.approx(root, abs=1e-9)
    assert ellipsoid_depth(tensors[0], -tensors[1].roll(1), *tensors[2:]).isnan()


def test_measured_points_and_truths_lie_on_one_ellipsoid():
    """A quadric has ten numbers up to a factor: the smallest singular value of its 32 equations vanishes."""
    drawn = draw_ellipsoids(5, generator())
    assert drawn.truth.isfinite().all() and (drawn.depth > 0).all()
    for i in range(5):
        points = torch.cat([drawn.points[i], drawn.targets[i].point(drawn.truth[i])])
        points = (points - points.mean(0)) / points.std()
        x, y, z = points.T
        one = torch.ones_like(x)
        rows = torch.stack([x * x, y * y, z * z, x * y, y * z, z * x, x, y, z, one], -1)
        values = torch.linalg.svdvals(rows)
        assert values[-1] < 1e-9 * values[0] < values[-2]


def test_the_equivariant_ray_arm_knows_no_frame_and_the_world_arm_does():
    drawn = draw_ellipsoids(3, generator())
    there = drawn.turned(generator(1))
    for arm in ARMS:
        torch.manual_seed(0)
        model = NativeRayDepth(arm, 4, rays.LAYERS).double()
        change = (model(there) - model(drawn)).abs().max()
        assert (change < 1e-9) if arm in ("equivariant", "canonical") else (change > 1e-4), arm


@pytest.mark.parametrize(("arm", "size", "steps"), [("augmented", 16, 24), ("algebra", 2, 32)])
def test_bodies_are_learnt(arm, size, steps, monkeypatch):
    """A few steps take the loss below that of free fall, which is 1."""
    monkeypatch.setattr(falling, "HELD_OUT", 64)
    got = train_cell(falling_task(512), Cell(arm, size, FRESH, 0), (2, steps))
    assert got["losses"][1] < 0.98 and got["losses"][1] < got["losses"][0]
    assert got["flops"] > 6 * got["parameters"]


def test_augmented_batches_are_the_same_scenes_turned():
    task = ray_task(64)
    plain, turned = (next(task.batches(arm, 16, 0)) for arm in ("world", "augmented"))
    assert torch.allclose(plain.truth, turned.truth)
    assert (plain.targets.direction - turned.targets.direction).abs().max() > 0.1
    again = next(task.batches("world", 16, 0))
    assert torch.equal(plain.truth, again.truth)


@pytest.mark.parametrize(
    ("call", "words"),
    [(lambda: draw_ellipsoids(0, generator()), "count: expected at least 1"), (lambda: PlainFalls(6), "multiple of 4")],
)
def test_bad_numbers_are_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
