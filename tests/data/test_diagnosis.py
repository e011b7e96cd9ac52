"""Mistakes put into the matrices of a camera file, by formulas of the test, are named; right cameras are left alone."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from raytrans import Cameras
from raytrans.data.conventions import CONVENTIONS
from raytrans.data.diagnosis import diagnose, usable
from raytrans.data.lensfit import fit_lens
from raytrans.data.matching import Matches
from raytrans.data.scoring import Finding, Score, scored
from raytrans.geometry import look_at
from raytrans.geometry.distortion import Distortion

TRANSFORMS = CONVENTIONS["transforms"]
FLIP = np.diag([1.0, -1.0, -1.0, 1.0])
LENS = torch.tensor([0.06, -0.08, 0.001, 0.0005, 0.0], dtype=torch.float64)
HEIGHT, WIDTH = 640, 480


def rig(count: int = 7) -> Cameras:
    """Hand-held cameras around a place that is not the origin, with roll, one lens and a principal point off centre."""
    generator = torch.Generator().manual_seed(3)
    poses = []
    for i in range(count):
        angle = 1.6 * i / count
        center = torch.tensor([4 * math.cos(angle), 4 * math.sin(angle), 1.2]) + 0.3 * torch.randn(
            3, generator=generator
        )
        target = 0.4 * torch.randn(3, generator=generator)
        pose = look_at(center + 1.0, target=target + 1.0, up=[0.1, 0.2, 1.0])
        poses.append(pose.double())
    k = torch.tensor([[560.0, 0, 228.5], [0, 560.0, 331.0], [0, 0, 1]], dtype=torch.float64)
    return Cameras(
        k.expand(count, 3, 3), torch.stack(poses), (HEIGHT, WIDTH), Distortion("opencv", LENS.expand(count, 5))
    )


def matched(cameras: Cameras, noise: float = 0.3, each: int = 70) -> Matches:
    """Pixels of random points in neighbouring views, with noise and 5 % wrong matches."""
    generator = torch.Generator().manual_seed(4)
    views = [(i, j) for i in range(len(cameras)) for j in (i + 1, i + 2) if j < len(cameras)]
    pixels, numbers = [], []
    for number, (i, j) in enumerate(views):
        points = 1.0 + torch.randn(4 * each, 3, generator=generator, dtype=torch.float64)
        seen = torch.stack([cameras[k].project(points)[0] for k in (i, j)], 1)
        inside = ((seen > 0) & (seen < torch.tensor([WIDTH, HEIGHT]))).all(-1).all(-1)
        seen = seen[inside][:each]
        seen = seen + noise * torch.randn(seen.shape, generator=generator, dtype=torch.float64)
        seen[::20, 1] += 30
        pixels.append(seen)
        numbers.append(torch.full((len(seen),), number))
    return Matches(cameras, views, torch.cat(numbers), torch.cat(pixels), views)


@pytest.fixture(scope="module")
def right() -> Matches:
    return matched(rig())


def stored(cameras: Cameras, opengl: bool) -> np.ndarray:
    """What a file of the format holds: world_from_camera with OpenGL axes, or camera_from_world with OpenCV's."""
    poses = cameras.world_from_camera.numpy()
    return poses @ FLIP if opengl else np.linalg.inv(poses)


def read(cameras: Cameras, matrices: np.ndarray, opengl: bool) -> Cameras:
    """Cameras as a reader of the format takes them from the matrices."""
    poses = matrices @ FLIP if opengl else np.linalg.inv(matrices)
    size = torch.stack([cameras.height, cameras.width], -1)
    return Cameras(cameras.intrinsics, poses, size, cameras.distortion)


def half_turn(matrices: np.ndarray) -> np.ndarray:
    return matrices * np.array([-1.0, -1, 1, 1])


ANY_FORMAT = ("inverse_pose", "transposed_rotation", "translation", "translation_sign")
POSES = {
    "camera_axes": lambda m: m @ FLIP,
    "inverse_pose_and_axes": lambda m: np.linalg.inv(m @ FLIP),
    "roll": half_turn,
    "camera_axes_order": lambda m: m @ np.array([[0.0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]]),
}


def some_slow(names, slow: set[str]) -> list:
    """Names as parameters, those of `slow` run with `-m slow`: each takes seconds, and others go the same way."""
    assert slow <= set(names)
    return [pytest.param(name, marks=pytest.mark.slow) if name in slow else name for name in names]


# which suspect undoes which mistake is tested for all of them, and every format, in test_suspects.py
SELDOM = {"transposed_rotation", "translation_sign", "roll", "camera_axes_order"}


@pytest.mark.parametrize("key", some_slow([*POSES, *ANY_FORMAT], SELDOM))
def test_a_mistake_of_the_poses_is_named(right, any_format, key):
    cameras = read(right.cameras, (POSES | any_format)[key](stored(right.cameras, True)), True)
    stated, findings = diagnose(replace(right, cameras=cameras), TRANSFORMS)
    assert stated.median > 2 or stated.front < 0.7
    assert [finding.key for finding in findings] == [key], findings
    assert findings[0].score.median < 0.4 and findings[0].score.front > 0.95
    torch.testing.assert_close(findings[0].cameras.world_from_camera, right.cameras.world_from_camera)


def test_colmaps_matrices_taken_for_their_inverse_are_named(right):
    cameras = read(right.cameras, np.linalg.inv(stored(right.cameras, False)), False)
    _, findings = diagnose(replace(right, cameras=cameras), CONVENTIONS["colmap"])
    assert [finding.key for finding in findings] == ["inverse_pose"]
    assert "world_from_camera where the format has camera_from_world" in findings[0].wrong


def with_lens(cameras: Cameras, change=lambda k: k, lens="same") -> Cameras:
    k = cameras.intrinsics.clone()
    change(k)
    size = torch.stack([cameras.height, cameras.width], -1)
    return Cameras(k, cameras.world_from_camera, size, cameras.distortion if lens == "same" else lens)


def times(value: float, rows: int = 2, columns: int = 3):
    return lambda k: k[:, :rows, :columns].mul_(value)


def shift(value: float):
    return lambda k: k[:, :2, 2].add_(value)


def swap(k: torch.Tensor) -> None:
    k[:, :2, 2] = k[:, [1, 0], 2]


CHANGES = {
    "intrinsics_size of half": (times(0.5), "same", "by 2"),
    "intrinsics_size of twice": (times(2.0), "same", "by 0.5"),
    "focal_size of half": (times(0.5, 2, 2), "same", "by 2"),
    "focal_size of twice": (times(2.0, 2, 2), "same", "by 0.5"),
    "focal": (times(1.3, 2, 2), "same", "by 0.76"),
    "focal slightly": (times(1.03, 2, 2), "same", "by 0.97"),
    "focal_side": (times(WIDTH / HEIGHT, 2, 2), "same", f"by {HEIGHT / WIDTH:.4g}"),
    "swapped_sides": (swap, "same", "swap cx and cy"),
    "half_pixel more": (shift(0.5), "same", "-0.5"),
    "half_pixel less": (shift(-0.5), "same", "+0.5"),
    "distortion missing": (shift(0.0), None, "k1 = 0.0"),
}


# of both factors and of both mistakes one stays
TWINS = {"intrinsics_size of twice", "focal_size of half"}


@pytest.mark.parametrize("case", some_slow(CHANGES, TWINS))
def test_a_mistake_of_the_lens_is_named(right, case):
    change, lens, words = CHANGES[case]
    cameras = with_lens(right.cameras, change, lens)
    _, findings = diagnose(replace(right, cameras=cameras), TRANSFORMS)
    assert [finding.key for finding in findings] == case.split()[:1], findings
    assert words in findings[0].change and findings[0].score.median < 0.4


@pytest.mark.parametrize(("factor", "fine"), [(1.03, True), (1.06, False), (1 / 1.06, False), (2.0, False)])
def test_a_focal_length_far_off_is_unusable_even_where_pixels_fit(right, factor, fine):
    stated = Score(1.0, 1.0)
    mended = Finding("focal", "wrong", "change", Score(0.3, 1.0), with_lens(right.cameras, times(factor, 2, 2)))
    assert usable(stated, [], right.cameras) and not usable(Score(2.1, 1.0), [], right.cameras)
    assert usable(stated, [mended], right.cameras) == fine


PAIRS = {
    "camera_axes, focal": ("camera_axes", times(1.03, 2, 2)),
    "camera_axes, focal_size": ("camera_axes", times(0.5, 2, 2)),
    "inverse_pose_and_axes, focal": ("inverse_pose_and_axes", times(1.3, 2, 2)),
}


@pytest.mark.parametrize("keys", some_slow(PAIRS, {*PAIRS} - {"camera_axes, focal"}))
def test_a_mistake_of_the_poses_and_one_of_the_lens_are_both_named(right, keys):
    pose, lens = PAIRS[keys]
    cameras = read(with_lens(right.cameras, lens), POSES[pose](stored(right.cameras, True)), True)
    _, findings = diagnose(replace(right, cameras=cameras), TRANSFORMS)
    assert ", ".join(finding.key for finding in findings) == keys, findings
    assert findings[1].score.median < 0.4
    torch.testing.assert_close(findings[1].cameras.intrinsics, right.cameras.intrinsics, rtol=3e-3, atol=0.1)


def test_half_a_pixel_is_not_named_beside_wrong_poses(right):
    cameras = read(with_lens(right.cameras, shift(0.5)), np.linalg.inv(stored(right.cameras, True)), True)
    _, findings = diagnose(replace(right, cameras=cameras), TRANSFORMS)
    assert [finding.key for finding in findings] == ["inverse_pose"]


def test_distortion_of_images_that_have_none_is_named():
    plain = matched(with_lens(rig(), lens=None))
    lens = Distortion("opencv", LENS.expand(len(plain.cameras), 5))
    _, findings = diagnose(replace(plain, cameras=with_lens(plain.cameras, lens=lens)), TRANSFORMS)
    assert [finding.key for finding in findings] == ["undistorted"]


def test_right_cameras_have_no_mistake(right):
    stated, findings = diagnose(right, TRANSFORMS)
    assert findings == [] and 0.1 < stated.median < 0.4 and stated.front > 0.95


def test_false_matches_do_not_put_places_behind_cameras_that_stand_together():
    cameras = rig()
    poses = cameras.world_from_camera.clone()
    poses[:, :3, 3] = poses[:1, :3, 3] + 0.004 * (poses[:, :3, 3] - poses[:1, :3, 3])
    poses[:, :3, :3] = poses[:1, :3, :3]
    size = torch.stack([cameras.height, cameras.width], -1)
    close = matched(Cameras(cameras.intrinsics, poses, size, cameras.distortion), each=200)
    along = close.pixels.clone()
    along[::20, 1] = along[::20, 0] - 40  # false, and far apart
    stated, findings = diagnose(replace(close, pixels=along), TRANSFORMS)
    assert math.isnan(stated.front) and stated.possible() and stated.median < 1
    assert findings == []


def test_what_no_mistake_explains_is_left_unexplained(right):
    poses = right.cameras.world_from_camera[torch.randperm(len(right.cameras))]
    size = torch.stack([right.cameras.height, right.cameras.width], -1)
    shuffled = Cameras(right.cameras.intrinsics, poses, size, right.cameras.distortion)
    stated, findings = diagnose(replace(right, cameras=shuffled), TRANSFORMS)
    assert stated.median > 2 and findings == []


def test_the_answer_is_the_same_in_another_world_frame_and_scale(right):
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))[0]
    turn = turn * torch.det(turn)
    moved = right.cameras.moved(turn, torch.tensor([50.0, -20, 3]), 1000.0)
    a, b = scored(right, right.cameras), scored(right, moved)
    assert math.isclose(a.median, b.median, rel_tol=1e-6) and a.front == b.front


def test_fitted_corrections_are_those_put_in(right):
    cameras = with_lens(right.cameras, lambda k: (times(0.98, 2, 2)(k), k[:, 0, 2].add_(1.5), k[:, 1, 2].sub_(2.0)))
    fit = fit_lens(replace(right, cameras=cameras), cameras, ("x", "y", "focal"))
    expected = torch.tensor([-1.5, 2.0, math.log(1 / 0.98), 0, 0], dtype=torch.float64)
    assert bool(((fit.values - expected).abs() <= 5 * fit.errors + 1e-9).all()), (fit.values, fit.errors)
    assert bool((fit.errors[:3] > 0).all()) and float(fit.errors[:2].max()) < 0.3


def test_thinning_keeps_some_of_every_pair(right):
    few = right.thinned(7)
    assert torch.bincount(few.pair).tolist() == [7] * len(right.views)
    assert len(right.thinned(10**6).pair) == len(right.pair)
