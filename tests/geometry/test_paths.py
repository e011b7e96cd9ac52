"""Camera paths: covariance under similarities, closedness, coverage, scipy's slerp, rigs of every awkward kind."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial import ConvexHull
from scipy.spatial.transform import Rotation, Slerp
from scipy.special import iv

import raytrans
from raytrans.geometry.cameras import Cameras
from raytrans.geometry.paths import common_focus, focus, interpolated, look_at, looks_one_way, orbit, spiral
from raytrans.geometry.rigid import random_rotation

INTRINSICS = torch.tensor([[60.0, 0, 32], [0, 60.0, 24], [0, 0, 1]], dtype=torch.float64)
PATHS = {"orbit": orbit, "spiral": spiral, "interpolated": interpolated}
UP = (0.0, 0.0, 1.0)


def cameras_at(centers, target=(0.0, 0.0, 0.0), up=UP) -> Cameras:
    pose = look_at(np.atleast_2d(centers), target, up)
    return Cameras(INTRINSICS.expand(len(pose), 3, 3), pose, size=(48, 64), near=0.5, far=9.0)


def on_sphere(azimuth, elevation, radius=3.0):
    azimuth, elevation = np.broadcast_arrays(azimuth, elevation)
    flat = np.stack([np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)], -1)
    return np.asarray(radius)[..., None] * flat


def parallel(centers) -> Cameras:
    centers = np.atleast_2d(centers)
    return cameras_at(centers, centers + [0.0, 1.0, 0.0])


def rigs() -> dict[str, Cameras]:
    random = np.random.default_rng(0)
    circle = 2 * np.pi * np.arange(8) / 8
    line = np.linspace(-1, 1, 5)[:, None]
    here = np.array([[3.0, 1.0, 1.0]])
    outward = on_sphere(circle[::2] + 0.1, 0.0, 1.0)
    return {
        "ring": cameras_at(on_sphere(circle, 0.3)),
        "rings": cameras_at(on_sphere(*(v.ravel() for v in np.meshgrid(circle, [0.2, 0.5, 0.6])))),
        "hemisphere": cameras_at(on_sphere(random.uniform(0, 6.28, 40), random.uniform(0, 1.2, 40))),
        "sphere, rolled": cameras_at(random.normal(size=(30, 3)), up=random.normal(size=(30, 3))),
        "arc": cameras_at(on_sphere(np.linspace(-1, 1, 9), 0.3)),
        "front": cameras_at(random.normal(size=(12, 3)) * 0.4 + [4.0, 0, 1]),
        "plane, parallel": parallel(np.stack([*random.uniform(-1, 1, (2, 10)), np.zeros(10)], -1)[:, [0, 2, 1]]),
        "nadir": cameras_at(np.concatenate([random.normal(size=(10, 2)), np.full((10, 1), 3.0)], -1), up=(0.0, 1, 0)),
        "one": cameras_at(here),
        "two": cameras_at([[3.0, 0, 1], [2.5, 1.5, 1]]),
        "one place": cameras_at(here.repeat(5, 0), random.normal(size=(5, 3))),
        "one pose": cameras_at(here.repeat(3, 0)),
        "collinear, parallel": parallel(line * [1.0, 0, 0]),
        "collinear, inward": cameras_at(line * [1.0, 0, 0] + [0.0, -3, 0]),
        "along the axis": parallel(line * [0.0, 1.0, 0]),
        "straight above": cameras_at(np.array([[0.0, 0, 3], [0, 0, 3.5], [0, 0, 4]]), up=(0.0, 1, 0)),
        "outward": cameras_at(outward, 2 * outward),
        "facing each other": cameras_at([[3.0, 0, 0], [-3.0, 0, 0]]),
    }


RIGS = rigs()


def angle(a, b):
    return torch.atan2(torch.linalg.cross(*torch.broadcast_tensors(a, b)).norm(dim=-1), (a * b).sum(-1))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", RIGS)
def test_paths_of_moved_cameras_are_moved_paths(name, path):
    cameras, generator = RIGS[name], torch.Generator().manual_seed(1)
    here = PATHS[path](cameras, 11)
    for scale in (1e-3, 1.0, 700.0):
        rotation = random_rotation(generator=generator)
        translation = 3 * scale * torch.randn(3, generator=generator, dtype=torch.float64)
        there = PATHS[path](cameras.moved(rotation, translation, scale), 11)
        expected = here.moved(rotation, translation, scale)
        error = (there.world_from_camera - expected.world_from_camera).abs()
        assert float(error[:, :3, :3].max()) < 1e-9
        assert float(error[:, :3, 3].max()) < 1e-9 * scale


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", RIGS)
@pytest.mark.parametrize("frames", [1, 2, 30])
def test_paths_are_valid_pinhole_cameras(name, path, frames):
    result = PATHS[path](RIGS[name], frames)
    assert len(result) == frames
    pose = result.world_from_camera
    rotation = pose[:, :3, :3]
    assert bool(torch.isfinite(pose).all())
    assert float((rotation.mT @ rotation - torch.eye(3)).abs().max()) < 1e-12
    assert float((torch.linalg.det(rotation) - 1).abs().max()) < 1e-12
    assert result.near is None and result.far is None and result.distortion is None
    assert result.height.tolist() == [48] * frames and result.width.tolist() == [64] * frames
    assert torch.equal(result.intrinsics, INTRINSICS.expand(frames, 3, 3))


@pytest.mark.parametrize("path", ["orbit", "spiral"])
@pytest.mark.parametrize("name", [n for n in RIGS if n not in {"one place"}])
def test_orbit_and_spiral_close_smoothly(name, path):
    cameras = RIGS[name]
    center = PATHS[path](cameras, 400).world_from_camera[:, :3, 3]
    step = (center.roll(-1, 0) - center).norm(dim=-1)
    length = step.sum()
    # the last step, back to the first frame, is like the others: no jump anywhere
    assert float(step.max()) <= 0.02 * float(length) + 1e-12
    turn = center.roll(-1, 0) - 2 * center + center.roll(1, 0)
    assert float(turn.norm(dim=-1).max()) <= 2e-3 * float(length) + 1e-12


@given(
    center=st.tuples(*[st.floats(-5, 5)] * 3),
    target=st.tuples(*[st.floats(-5, 5)] * 3),
    up=st.tuples(*[st.floats(-5, 5)] * 3),
)
def test_look_at_sees_target_in_the_middle_and_up_above_it(center, target, up):
    center, target, up = (np.array(v) for v in (center, target, up))
    if np.linalg.norm(np.cross(target - center, up)) < 1e-3:
        return
    camera = Cameras(INTRINSICS, look_at(center, target, up), size=(48, 64))
    pixel, depth = camera.project(torch.tensor(target))
    assert float((pixel - torch.tensor([32.0, 24.0])).abs().max()) < 1e-8
    assert float(depth) == pytest.approx(np.linalg.norm(target - center))
    above, _ = camera.project(torch.tensor(target + 1e-4 * up))
    assert float(above[1]) < 24 and float(above[0]) == pytest.approx(32, abs=1e-6)


def test_look_at_broadcasts():
    assert look_at(np.ones((7, 9, 3)), (0.0, 0, 0), UP).shape == (7, 9, 4, 4)
    assert look_at((1.0, 1, 1), np.zeros((5, 3)), UP).shape == (5, 4, 4)
    rotation = look_at(np.zeros(3), (0.0, 0, 2), (0.0, -1, 0))[:3, :3]
    assert torch.equal(rotation, torch.eye(3, dtype=torch.float64))


def test_focus_minimises_the_distance_to_the_axes():
    random = np.random.default_rng(3)
    targets = 0.2 * random.normal(size=(9, 3))
    cameras = cameras_at(on_sphere(np.linspace(-1, 1, 9), 0.3), targets)
    found = focus(cameras)

    def total(point):
        offset = point - cameras.centers
        return float((offset - (offset * cameras.forward).sum(-1, keepdim=True) * cameras.forward).square().sum())

    for direction in np.eye(3):
        for sign in (-1e-3, 1e-3):
            assert total(found + sign * torch.tensor(direction)) > total(found)


@pytest.mark.parametrize("name", [n for n in RIGS if n not in {"one", "one place", "one pose", "outward"}])
def test_focus_lies_in_front_of_the_cameras(name):
    cameras = RIGS[name]
    pixel, depth = cameras.project(focus(cameras))
    assert bool((depth > 0).all())
    inside = (pixel - torch.tensor([32.0, 24.0])).norm(dim=-1) < 40
    assert float(inside.double().mean()) >= 0.75


def test_focus_of_one_place_is_that_place():
    assert torch.allclose(focus(RIGS["one place"]), torch.tensor([3.0, 1.0, 1.0], dtype=torch.float64), atol=1e-12)
    assert torch.equal(focus(RIGS["one"][0]), focus(RIGS["one"]))


@pytest.mark.parametrize("name", ["ring", "hemisphere", "sphere, rolled", "arc", "front", "facing each other"])
def test_a_common_focus_is_found_where_there_is_one(name):
    # all of these cameras look at the origin
    torch.testing.assert_close(common_focus(RIGS[name]), torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["outward", "plane, parallel", "one"])
def test_cameras_that_look_apart_have_no_common_focus(name):
    assert common_focus(RIGS[name]) is None
    assert looks_one_way(RIGS[name]) == (name != "outward")


@pytest.mark.parametrize("name", ["ring", "rings"])
def test_orbit_turns_once_around_what_is_surrounded(name):
    path = orbit(RIGS[name], 36)
    azimuth = torch.atan2(path.centers[:, 1], path.centers[:, 0]).numpy()
    np.testing.assert_allclose(np.diff(np.unwrap(azimuth)), 2 * math.pi / 36, atol=1e-9)
    assert float(angle(path.forward, -path.centers).max()) < 1e-9
    np.testing.assert_allclose(path.centers.norm(dim=-1), 3, atol=1e-9)
    elevation = torch.asin(path.centers[:, 2] / 3)
    lowest, highest = torch.asin(RIGS[name].centers[:, 2] / 3).aminmax()
    assert float(elevation.min()) >= float(lowest) - 1e-9 and float(elevation.max()) <= float(highest) + 1e-9


def test_orbit_follows_elevation_and_distance_smoothly():
    azimuth = 2 * np.pi * np.arange(40) / 40
    wave = 0.2 * np.cos(2 * azimuth)
    path = orbit(cameras_at(on_sphere(azimuth, 0.4 + wave, 3 * np.exp(wave))), 40)
    distance = path.centers.norm(dim=-1)
    found = torch.atan2(path.centers[:, 1], path.centers[:, 0])
    # a von Mises kernel of concentration 4 damps the second harmonic by I2(4) / I0(4)
    wave = 0.2 * iv(2, 4) / iv(0, 4) * (2 * found).cos()
    np.testing.assert_allclose(torch.asin(path.centers[:, 2] / distance), 0.4 + wave, atol=1e-6)
    np.testing.assert_allclose(distance, 3 * wave.exp(), rtol=1e-6)


def test_orbit_of_a_partial_rig_stays_inside_the_hull_and_fills_it():
    azimuth, elevation = (v.ravel() for v in np.meshgrid(np.linspace(-0.7, 0.7, 8), np.linspace(0.1, 0.5, 6)))
    cameras = cameras_at(on_sphere(azimuth, elevation))
    path = orbit(cameras, 64)
    ahead, side, up = torch.eye(3, dtype=torch.float64)

    def angles(points):
        flat = torch.atan2(points @ side, points @ ahead)
        return torch.stack([flat, torch.asin(points @ up / points.norm(dim=-1))], -1).numpy()

    hull = ConvexHull(angles(cameras.centers)).equations
    outside = (angles(path.centers) @ hull[:, :2].T + hull[:, 2]).max(-1)
    assert -1e-2 < outside.max() < 1e-9
    assert np.ptp(angles(path.centers), axis=0) == pytest.approx([1.4, 0.4], rel=0.1)
    assert float(angle(path.forward, -path.centers).max()) < 1e-9


def test_orbit_leaves_a_rim_whose_cameras_look_elsewhere():
    azimuth, elevation = (v.ravel() for v in np.meshgrid(np.linspace(-0.7, 0.7, 8), np.linspace(-0.5, 0.5, 8)))
    places = on_sphere(azimuth, elevation)
    # the further up or down, the further they look past the middle
    aside = np.sign(elevation) * np.maximum(np.abs(elevation) - 0.1, 0)
    toward, aside = cameras_at(places), cameras_at(places, 6 * aside[:, None] * np.array([0.0, 0, 1]))

    def height(path):
        return float(torch.asin(path.centers[:, 2] / path.centers.norm(dim=-1)).abs().max())

    target = torch.zeros(3, dtype=torch.float64)
    wide, narrow = orbit(toward, 64, target), orbit(aside, 64, target)
    assert height(narrow) < 0.9 * height(wide)


def test_orbit_around_a_given_target_looks_at_it():
    target = torch.tensor([0.5, 0.2, -0.1], dtype=torch.float64)
    for name in ("arc", "ring", "one", "one place"):
        path = orbit(RIGS[name], 12, target=target)
        assert float(angle(path.forward, target - path.centers).max()) < 1e-9
    np.testing.assert_allclose(orbit(RIGS["one"], 4, target=target).centers, [[3.0, 1, 1]] * 4, atol=1e-12)


@pytest.mark.parametrize("path", ["orbit", "spiral"])
@pytest.mark.parametrize("width", [0.1, 0.8, math.pi])
def test_the_horizon_stays_level_where_that_of_the_cameras_is(path, width):
    random = np.random.default_rng(5)
    # looking down from one side: the mean up vector leans
    cameras = cameras_at(on_sphere(random.uniform(-width, width, 30), random.uniform(0.3, 0.9, 30)))
    pose = PATHS[path](cameras, 20).world_from_camera
    assert float(pose[:, 2, 0].abs().max()) < 1e-9
    assert float(pose[:, 2, 1].max()) < 0


def test_the_horizon_of_cameras_held_by_hand_is_nearly_level():
    random, generator = np.random.default_rng(5), torch.Generator().manual_seed(5)
    cameras = cameras_at(on_sphere(random.uniform(-0.8, 0.8, 60), random.uniform(0.3, 0.9, 60)))
    roll = math.radians(4) * torch.randn(60, generator=generator, dtype=torch.float64)
    pose = orbit(cameras.rolled(roll), 20).world_from_camera
    assert math.degrees(float(pose[:, 2, 0].abs().max())) < 2


@pytest.mark.parametrize("elevation", [0.3, 0.7, 0.9, 1.1, 1.3])
def test_a_spiral_never_turns_its_pictures_around(elevation):
    random = np.random.default_rng(5)
    # a cap of directions, which reaches beyond the point straight above
    middle, side = on_sphere(0.0, elevation, 1.0), on_sphere(0.0, elevation - np.pi / 2, 1.0)
    spread = random.uniform(-0.55, 0.55, (2, 40, 1))
    places = middle + spread[0] * side + spread[1] * np.array([0.0, 1.0, 0.0])
    right = spiral(cameras_at(3 * places / np.linalg.norm(places, axis=-1, keepdims=True)), 120).world_from_camera
    right = right[:, :3, 0]
    assert math.degrees(float(angle(right, right.roll(-1, 0)).max())) < 9


def test_a_path_of_cameras_that_look_straight_down_keeps_their_up():
    path = orbit(RIGS["nadir"], 20).world_from_camera
    assert float(-path[:, 1, 1].max()) > 0.5


@pytest.mark.parametrize("path", PATHS)
def test_up_of_the_path_is_up_of_the_cameras(path):
    upward = -PATHS[path](RIGS["arc"], 20).world_from_camera[:, :3, 1]
    assert float(upward[:, 2].min()) > 0.5
    # held sideways, all of them: the path is held sideways too, whatever the world calls up
    sideways = PATHS[path](RIGS["arc"].rolled(math.pi / 2), 20).world_from_camera[:, :3, 1]
    assert float(sideways[:, 2].abs().max()) < 0.5


def test_spiral_circles_the_mean_camera_and_looks_at_the_focus():
    cameras = RIGS["front"]
    path = spiral(cameras, 80)
    middle = cameras.centers.mean(0)
    spread = (cameras.centers - middle).norm(dim=-1).max()
    assert float((path.centers - middle).norm(dim=-1).max()) <= 1.5 * float(spread)
    assert float(angle(path.forward, focus(cameras) - path.centers).max()) < 1e-9
    axis = cameras.forward.mean(0)
    extent = ((cameras.centers - middle) @ axis).abs()
    assert float(((path.centers - middle) @ axis).abs().max()) < 0.6 * float(extent.max())
    # two turns: the direction to the side comes back after half the frames
    side = path.centers - middle
    ahead = side @ cameras.forward.mean(0)
    assert float(ahead[:40].mean() * ahead[40:].mean()) < 0


def test_spiral_of_a_rig_that_looks_all_ways_keeps_to_some_of_its_cameras():
    path = spiral(RIGS["hemisphere"], 40)
    nearest = angle(path.forward[:, None], RIGS["hemisphere"].forward).amin(-1)
    assert float(nearest.max()) < 0.6


@pytest.mark.parametrize("name", ["hemisphere", "sphere, rolled", "two"])
def test_interpolated_passes_through_the_poses_by_slerp_and_catmull_rom(name):
    cameras = RIGS[name]
    last = len(cameras) - 1
    path = interpolated(cameras, 4 * last + 1)
    np.testing.assert_allclose(path.world_from_camera[::4], cameras.world_from_camera, atol=1e-12)
    slerp = Slerp(np.arange(last + 1), Rotation.from_matrix(cameras.world_from_camera[:, :3, :3].numpy()))
    expected = slerp(np.linspace(0, last, 4 * last + 1)).as_matrix()
    np.testing.assert_allclose(path.world_from_camera[:, :3, :3], expected, atol=1e-9)
    centers = cameras.centers
    for i in range(1, last - 1):
        middle = (-centers[i - 1] + 9 * centers[i] + 9 * centers[i + 1] - centers[i + 2]) / 16
        np.testing.assert_allclose(path.centers[4 * i + 2], middle, atol=1e-12)


def test_interpolated_line_and_half_turn():
    cameras = RIGS["collinear, parallel"]
    np.testing.assert_allclose(
        interpolated(cameras[[0, 4]], 5).world_from_camera, cameras.world_from_camera, atol=1e-12
    )
    pair = Cameras.stack([cameras[0], cameras[0].rolled(math.pi)])
    assert torch.allclose(interpolated(pair, 5)[4].world_from_camera, pair[1].world_from_camera, atol=1e-12)
    assert torch.allclose(interpolated(pair, 5).forward, cameras[:1].forward, atol=1e-12)


def test_mixed_sizes_take_the_commonest_and_its_median_intrinsics():
    wide = cameras_at(on_sphere(np.linspace(-0.5, 0.5, 3), 0.2))
    focal = torch.tensor([50.0, 70.0, 55.0])
    parts = []
    for camera, f in zip(wide, focal, strict=True):
        k = camera.intrinsics.clone()
        k[0, 0] = k[1, 1] = f
        parts.append(Cameras(k, camera.world_from_camera, size=(48, 64)))
    tall = Cameras(INTRINSICS, wide[1].world_from_camera, size=(64, 48))
    path = orbit(Cameras.stack([tall, *parts]), 3)
    assert (path.height.tolist(), path.width.tolist()) == ([48] * 3, [64] * 3)
    assert path.intrinsics[0].tolist() == [[55, 0, 32], [0, 55, 24], [0, 0, 1]]


@pytest.mark.parametrize("name", ["fox", "gum", "mary_rose", "scodive"])
def test_orbits_of_real_captures_stay_with_their_cameras(real_data, name):
    cameras = raytrans.open_scene(real_data(name)).cameras
    target = focus(cameras)
    path = orbit(cameras, 48)
    _, depth = cameras.project(target)
    assert bool((depth > 0).all())
    distance, given_distance = (path.centers - target).norm(dim=-1), (cameras.centers - target).norm(dim=-1)
    assert float(distance.min()) >= float(given_distance.min()) and float(distance.max()) <= float(given_distance.max())
    nearest = angle((path.centers - target)[:, None], cameras.centers - target).amin(-1)
    assert math.degrees(float(nearest.median())) < 12 and math.degrees(float(nearest.max())) < 50


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: look_at((0.0, 0, 1), (0.0, 0, 1), UP), "target: expected a point other than center"),
        (lambda: look_at((0.0, 0, 1), (0.0, 0, 3), UP), "up: expected a direction off the line"),
        (lambda: look_at((0.0, 1), (0.0, 0, 3), UP), r"center: .* got shape \(2,\)"),
        (lambda: look_at((0.0, math.nan, 1), (0.0, 0, 3), UP), "center: expected finite"),
        (lambda: orbit(RIGS["arc"], 0), "frames: expected at least 1, got 0"),
        (lambda: orbit(RIGS["arc"], 3, target=np.zeros((2, 3))), r"target: expected shape \(3,\), got \(2, 3\)"),
        (lambda: spiral(RIGS["arc"][:0], 3), r"cameras: expected one camera or a batch \(N,\), got batch \(0,\)"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
