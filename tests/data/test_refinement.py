"""Bundle adjustment of RGB-D captures against cameras and a surface that are known exactly."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial.transform import Rotation

from raytrans.data import bundle, refinement
from raytrans.data.matching import Matches
from raytrans.data.refinement import connected, pairs_to_match, put_back, refine_cameras, relensed, sightings
from raytrans.geometry.cameras import Cameras
from tests.data.sphere_capture import COUNT, SIZE, Known, case, depth_map, intrinsics, true_poses


def relative_errors(found: Cameras, poses: np.ndarray) -> tuple[float, float]:
    """Largest error of relative poses of neighbours, in degrees and units: no alignment is needed to compare them."""
    a, b = found.world_from_camera.numpy(), poses
    steps = [np.linalg.inv(p[:-1]) @ p[1:] for p in (a, b)]
    turns = Rotation.from_matrix(steps[0][:, :3, :3]) * Rotation.from_matrix(steps[1][:, :3, :3]).inv()
    shift = np.linalg.norm(steps[0][:, :3, 3] - steps[1][:, :3, 3], axis=-1)
    return float(np.degrees(turns.magnitude()).max()), float(shift.max())


@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("wrong", [0.0, 0.2])
def test_true_cameras_are_found_from_wrong_ones(separate, wrong, tmp_path):
    one = case(tmp_path, separate, wrong)
    assert relative_errors(one.scene.cameras, one.poses) > (1, 0.02)
    done = refine_cameras(one.scene, one.matches)
    assert done.separate is separate and done.kept == []
    degrees, units = relative_errors(done.cameras, one.poses)
    assert degrees < 0.05 and units < 0.003
    assert abs(float(done.cameras[0].intrinsics[0, 0]) / one.focal - 1) < 2e-3
    assert done.after < 0.1 < 1 < done.before
    assert torch.equal(done.cameras.near, one.scene.cameras.near) and torch.equal(
        done.cameras.far, one.scene.cameras.far
    )
    depth = done.depth(one.scene, 2)
    known = torch.isfinite(depth)
    error = (depth.double() / depth_map(one.poses[2], intrinsics(one.focal)) - 1).abs()[known]
    assert known.double().mean() > (0.85 if separate else 0.999) and error.max() < 0.01


def test_with_the_lens_kept_only_poses_change(tmp_path):
    one = case(tmp_path, False)
    right = Cameras(intrinsics(one.focal), one.scene.cameras.world_from_camera, SIZE)
    matches = replace(one.matches, cameras=right)
    done = refine_cameras(Known(right, one.scene.maps, tmp_path), matches, keep_lens=True)
    assert torch.equal(done.cameras.intrinsics, right.intrinsics) and done.separate is False
    assert max(relative_errors(done.cameras, one.poses)) < 0.05


def test_the_whole_stays_where_it_is_stated(tmp_path):
    one = case(tmp_path, False)
    done = refine_cameras(one.scene, one.matches, keep_lens=True)
    stated = one.scene.cameras
    assert torch.allclose(done.cameras.centers.mean(0), stated.centers.mean(0), atol=1e-9)
    left = (stated.world_from_camera[:, :3, :3] @ done.cameras.world_from_camera[:, :3, :3].transpose(-1, -2)).sum(0)
    assert torch.allclose(left, left.T, atol=1e-9)  # no turn of the whole brings it nearer to what is stated
    moved = (done.cameras.centers - stated.centers).norm(dim=-1).median()
    assert abs(done.moved - float(moved)) < 1e-12 and done.moved > 0.005


def test_world_frame_and_unit_do_not_matter(tmp_path):
    one = case(tmp_path, False, wrong=0.1)
    turn, shift, unit = (
        torch.from_numpy(Rotation.random(random_state=5).as_matrix()),
        torch.tensor([3.0, -2, 7]),
        1000.0,
    )
    moved = one.scene.cameras.moved(turn, unit * shift, unit)
    scene = Known(moved, [unit * depth for depth in one.scene.maps], tmp_path)
    here = refine_cameras(one.scene, one.matches, keep_lens=True).cameras.moved(turn, unit * shift, unit)
    there = refine_cameras(scene, replace(one.matches, cameras=moved), keep_lens=True).cameras
    assert torch.allclose(there.world_from_camera[:, :3, :3], here.world_from_camera[:, :3, :3], atol=1e-6)
    assert torch.allclose(there.centers, here.centers, atol=1e-6 * unit)


def test_cameras_that_are_right_stay_as_they_are(tmp_path):
    one = case(tmp_path, False, wrong=0.1, noise=0.0, stated_focal=150.0)
    done = refine_cameras(one.scene, one.matches)
    assert done.cameras is one.scene.cameras and done.moved == 0 and done.after == done.before < 0.2


@pytest.mark.parametrize("seed", [0, 1, 3])
def test_few_and_noisy_matches_do_not_move_cameras_that_are_right(seed, tmp_path):
    """120 parameters fit 240 matches better than the truth does: those they were not fitted to tell."""
    one = case(tmp_path, False, noise=0.0, stated_focal=150.0, seed=seed)
    few = one.matches.thinned(20)
    noise = 0.5 * torch.randn(few.pixels.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    done = refine_cameras(one.scene, replace(few, pixels=few.pixels + noise))
    assert done.cameras is one.scene.cameras and done.doubtful == []


def test_a_view_that_is_turned_round_is_doubtful(tmp_path):
    one = case(tmp_path, False)
    poses = one.scene.cameras.world_from_camera.clone()
    poses[3, :3, :3] = poses[3, :3, :3] @ torch.diag(torch.tensor([-1.0, 1.0, -1.0], dtype=torch.float64))
    wrong = Cameras(one.scene.cameras.intrinsics, poses, SIZE)
    done = refine_cameras(Known(wrong, one.scene.maps, tmp_path), replace(one.matches, cameras=wrong), keep_lens=True)
    assert done.doubtful == [3] and done.kept == [] and done.after < 1


@pytest.mark.parametrize("separate", [False, True])
def test_matches_of_smaller_pictures_of_another_shape_do_as_well(separate, tmp_path):
    one = case(tmp_path, separate)
    full = Cameras.stack([camera.resized(240, 400) for camera in one.scene.cameras])
    scale = np.diag([400 / SIZE[1], 240 / SIZE[0], 1])
    of_maps = scale @ intrinsics(162.0 if separate else one.focal)
    maps = [depth_map(pose, of_maps, (240, 400)) for pose in one.poses]
    done = refine_cameras(Known(full, maps, tmp_path), one.matches)
    assert done.separate is separate and (int(done.cameras.height[0]), int(done.cameras.width[0])) == (240, 400)
    assert np.allclose(done.cameras[0].intrinsics, scale @ intrinsics(one.focal), rtol=2e-3)
    degrees, units = relative_errors(done.cameras, one.poses)
    assert degrees < 0.05 and units < 0.003
    depth = done.depth(Known(full, maps, tmp_path), 2)
    truth = depth_map(one.poses[2], scale @ intrinsics(one.focal), (240, 400))
    assert (depth.double() / truth - 1).abs()[torch.isfinite(depth)].max() < 0.01


def without(matches: Matches, dropped) -> Matches:
    """Matches without those of pairs of which `dropped` is true."""
    pairs = torch.tensor([k for k, pair in enumerate(matches.views) if dropped(*pair)])
    left = ~torch.isin(matches.pair, pairs)
    return replace(matches, pair=matches.pair[left], pixels=matches.pixels[left])


def test_a_view_without_matches_is_kept_and_told(tmp_path):
    one = case(tmp_path, False)
    done = refine_cameras(one.scene, without(one.matches, lambda i, j: COUNT - 1 in (i, j)))
    assert done.kept == [COUNT - 1] and done.groups == [list(range(COUNT - 1))]
    assert torch.equal(done.cameras[COUNT - 1].world_from_camera, one.scene.cameras[COUNT - 1].world_from_camera)
    assert max(relative_errors(done.cameras[:-1], one.poses[:-1])) < 0.05


def test_ten_matches_tie_a_view_and_nine_do_not(tmp_path):
    one = case(tmp_path, False)
    last = torch.tensor([one.matches.views[k] == (COUNT - 2, COUNT - 1) for k in one.matches.pair.tolist()])
    other = torch.tensor([COUNT - 1 in one.matches.views[k] for k in one.matches.pair.tolist()]) & ~last
    for count in (9, 10):
        left = ~other & (~last | (last.cumsum(0) <= count))
        matches = replace(one.matches, pair=one.matches.pair[left], pixels=one.matches.pixels[left])
        assert refine_cameras(one.scene, matches, keep_lens=True).kept == ([COUNT - 1] if count == 9 else [])


def test_connected_groups_are_those_of_scipy():
    rng = np.random.default_rng(0)
    for edges in (0, 1, 10, 25, 60):
        first, second = rng.integers(0, 40, (2, edges))
        found = connected(40, torch.from_numpy(first), torch.from_numpy(second))
        labels = connected_components(coo_array((np.ones(edges), (first, second)), shape=(40, 40)), False)[1]
        groups = [np.flatnonzero(labels == label).tolist() for label in np.unique(labels)]
        assert found == sorted(group for group in groups if len(group) > 1)


def test_groups_without_common_matches_stay_where_they_are_stated(tmp_path):
    one = case(tmp_path, False)
    done = refine_cameras(one.scene, without(one.matches, lambda i, j: (i < 3) != (j < 3)))
    groups = [[0, 1, 2], [3, 4, 5, 6, 7]]
    assert done.groups == groups and done.kept == []
    for group in groups:
        stated, found = one.scene.cameras[group], done.cameras[group]
        assert max(relative_errors(found, one.poses[group])) < 0.05 < max(relative_errors(stated, one.poses[group]))
        assert torch.allclose(found.centers.mean(0), stated.centers.mean(0), atol=1e-9)


def test_masked_matches_do_not_count(tmp_path):
    one = case(tmp_path, False)
    mask = torch.ones(SIZE, dtype=torch.bool)
    mask[: SIZE[0] // 2] = False
    masked = (one.matches.pixels[..., 1] < SIZE[0] / 2).any(-1)
    pixels = torch.where(masked[:, None, None], one.matches.pixels.flip(-2), one.matches.pixels)
    scene = Known(one.scene.cameras, one.scene.maps, tmp_path, dict.fromkeys(range(COUNT), mask))
    done = refine_cameras(scene, replace(one.matches, pixels=pixels))
    assert max(relative_errors(done.cameras, one.poses)) < 0.1 and done.after < 0.1
    scene.masks = {3: ~torch.ones(SIZE, dtype=torch.bool)}
    assert refine_cameras(scene, one.matches, keep_lens=True).kept == [3]


def test_poses_that_say_nothing_are_no_mistake_of_the_lens(tmp_path):
    one = case(tmp_path, False)
    same = Cameras(one.scene.cameras.intrinsics, torch.eye(4).expand(COUNT, 4, 4), SIZE)
    matches = replace(one.matches, cameras=same)
    done = refine_cameras(Known(same, one.scene.maps, tmp_path), matches)
    assert torch.isfinite(done.cameras.world_from_camera).all() and done.after <= done.before
    lens = torch.zeros(5, dtype=torch.float64)
    wild = bundle.moved(same.world_from_camera, lens, torch.full((6 * COUNT + 2,), 1e3).double(), bundle.LENS)
    assert wild[1].tolist() == pytest.approx([0, 0, 0.7, 0.5, 0]) and torch.isfinite(wild[0]).all()


def test_an_even_part_of_very_many_matches_is_used(tmp_path, monkeypatch):
    one = case(tmp_path, False)
    monkeypatch.setattr(refinement, "MOST_MATCHES", 40 * len(one.matches.views))
    used = []
    monkeypatch.setattr(refinement, "adjusted", lambda *a: used.append(len(a[1])) or bundle.adjusted(*a))
    done = refine_cameras(one.scene, one.matches, keep_lens=True)
    assert 0.9 < max(used) / (2 * 40 * len(one.matches.views)) <= 1 < len(one.matches.pair) / max(used) * 2
    assert done.after < done.before


def test_half_of_the_views_without_depth_are_refined_by_the_others(tmp_path):
    one = case(tmp_path, False)
    maps = [depth if i % 2 else None for i, depth in enumerate(one.scene.maps)]
    done = refine_cameras(Known(one.scene.cameras, maps, tmp_path), one.matches)
    assert done.kept == [] and max(relative_errors(done.cameras, one.poses)) < 0.05


def test_too_little_to_go_by_is_an_error(tmp_path):
    one = case(tmp_path, False)
    none = replace(one.matches, pair=one.matches.pair[:0], pixels=one.matches.pixels[:0])
    with pytest.raises(ValueError, match=r"expected at least half of the views to share 10 matches .*, got 0 of 8"):
        refine_cameras(one.scene, none)
    with pytest.raises(ValueError, match="got 2 of 8"):
        refine_cameras(one.scene, without(one.matches, lambda i, j: (i, j) != (2, 3)))
    blind = Known(one.scene.cameras, [torch.full_like(depth, torch.nan) for depth in one.scene.maps], tmp_path)
    with pytest.raises(ValueError, match="got 0 of 8"):
        refine_cameras(blind, one.matches)
    with pytest.raises(ValueError, match="matches: expected those of 7 views, got those of 8"):
        refine_cameras(Known(one.scene.cameras[:-1], one.scene.maps[:-1], tmp_path), one.matches)
    many = one.scene.cameras[torch.arange(1001) % COUNT]
    with pytest.raises(ValueError, match="expected 2 to 1000 views, got 1001"):
        refine_cameras(Known(many, [None] * 1001, tmp_path), one.matches)


def test_sightings_are_those_of_a_loop(tmp_path):
    one = case(tmp_path, False)
    maps = [depth if i != 2 else None for i, depth in enumerate(one.scene.maps)]
    maps[1][:40] = torch.nan
    seen = sightings(one.matches, lambda i: maps[i], one.matches.cameras)
    found = list(zip(seen.first.tolist(), seen.second.tolist(), seen.pixels.tolist(), seen.depth.tolist(), strict=True))
    expected = []
    for pair, pixels in zip(one.matches.pair.tolist(), one.matches.pixels.tolist(), strict=True):
        for own, other in ((0, 1), (1, 0)):
            view, (x, y) = one.matches.views[pair][own], pixels[own]
            z = math.nan if maps[view] is None else float(maps[view][int(y), int(x)])
            if not math.isnan(z):
                expected.append((view, one.matches.views[pair][other], [pixels[own], pixels[other]], z))
    assert sorted(found) == sorted(expected) and len(found) > 1000
    assert sum(seen.pairs()) == len(seen) and len(seen.pairs()) == len({(i, j) for i, j, *_ in found})


def test_put_back_undoes_a_motion_of_the_whole():
    rng = np.random.default_rng(3)
    stated = torch.from_numpy(true_poses())
    motion = np.eye(4)
    motion[:3, :3], motion[:3, 3] = Rotation.random(random_state=3).as_matrix(), rng.normal(size=3)
    everything = [list(range(COUNT))]
    assert torch.allclose(put_back(torch.from_numpy(motion) @ stated, stated, everything), stated, atol=1e-12)
    mixed = stated.clone()
    mixed[[1, 4]] = torch.from_numpy(motion @ motion) @ stated[[1, 4]]
    groups = [[0, 2, 3], [5, 6, 7]]
    mixed[groups[1]] = torch.from_numpy(motion) @ stated[groups[1]]
    assert torch.allclose(put_back(mixed, stated, groups), stated, atol=1e-12)
    assert torch.equal(put_back(mixed, stated, groups)[[1, 4]], stated[[1, 4]])


def test_put_back_never_mirrors():
    """Three half turns about the axes of a camera: the orthogonal matrix nearest to their sum is a reflection."""
    stated = torch.eye(4, dtype=torch.float64).repeat(3, 1, 1)
    poses = stated.clone()
    poses[:, :3, :3] = torch.from_numpy(Rotation.from_rotvec(math.pi * np.eye(3)).as_matrix())
    assert torch.linalg.det(poses[:, :3, :3].sum(0)) < 0
    out = put_back(poses, stated, [[0, 1, 2]])
    assert torch.allclose(torch.linalg.det(out[:, :3, :3]), torch.ones(3, dtype=torch.float64))


def test_put_back_leaves_the_mean_rotation_and_centre_of_noisy_poses():
    rng = np.random.default_rng(4)
    stated, poses = true_poses(), true_poses()
    noise = Rotation.from_rotvec(0.05 * rng.normal(size=(COUNT, 3)))
    poses[:, :3, :3], poses[:, :3, 3] = noise.as_matrix() @ poses[:, :3, :3], rng.normal(size=(COUNT, 3))
    out = put_back(*map(torch.from_numpy, (poses, stated)), [list(range(COUNT))]).numpy()
    turn = out[0, :3, :3] @ poses[0, :3, :3].T  # one for all, and the one that scipy finds
    best = Rotation.align_vectors(
        (stated[:, :3, :3]).transpose(0, 2, 1).reshape(-1, 3), poses[:, :3, :3].transpose(0, 2, 1).reshape(-1, 3)
    )[0].as_matrix()
    assert np.allclose(turn, best, atol=1e-9)
    assert np.allclose(out[:, :3, :3], turn @ poses[:, :3, :3])
    assert np.allclose(out[:, :3, 3].mean(0), stated[:, :3, 3].mean(0))
    shape = poses[:, :3, 3] - poses[:, :3, 3].mean(0)
    assert np.allclose(out[:, :3, 3] - out[:, :3, 3].mean(0), shape @ turn.T)


def test_pixels_are_carried_between_lenses_by_their_direction():
    bent = Cameras(intrinsics(150), np.eye(4), SIZE, distortion=[0.1, 0.0, 0.0, 0.0])
    plain = Cameras(intrinsics(130), Rotation.random(random_state=1).as_matrix() @ np.eye(3, 4), SIZE)
    pixels = torch.tensor([[20.0, 30.0], [80.0, 60.0], [150.0, 110.0]], dtype=torch.float64)
    x = (relensed(plain, pixels, bent) - torch.tensor([80.0, 60.0])) / 150
    u = (pixels - torch.tensor([80.0, 60.0])) / 130
    assert torch.allclose(x, u * (1 + 0.1 * u.square().sum(-1, keepdim=True)), atol=1e-9)


def test_every_view_has_partners_in_the_order_of_the_files_and_near_it(tmp_path):
    one = case(tmp_path, False)
    pairs = pairs_to_match(one.scene)
    assert pairs == sorted(set(pairs)) and all(i < j for i, j in pairs)
    assert {(i, i + gap) for gap in (1, 2, 3, 5) for i in range(COUNT - gap)} <= set(pairs)
    for i in range(COUNT):
        near = one.scene.nearest(one.scene.cameras[i], 6, exclude=[i])
        assert {(min(i, j), max(i, j)) for j in near} <= set(pairs)
