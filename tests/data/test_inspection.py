"""Matches, near and far and depth files of a shipped scene, whose depth is exact, and mistakes put into its file."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import raytrans
from raytrans.data.depthcheck import carried
from raytrans.data.inspection import inspect_scene
from raytrans.data.matching import choose_pairs, features, match_features
from raytrans.export.files import write_png

SCENES = Path(raytrans.__file__).parents[1] / "scenes"


def edited(folder: Path, change) -> Path:
    """A copy of scenes/blocks whose transforms.json went through `change`."""
    shutil.copytree(SCENES / "blocks", folder)
    path = folder / "transforms.json"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))
    return folder


@pytest.fixture(scope="module")
def blocks() -> raytrans.data.Scene:
    return raytrans.open_scene(SCENES / "blocks")


@pytest.fixture(scope="module")
def inspected(blocks):
    return inspect_scene(blocks)


def test_matches_are_pictures_of_one_point_by_exact_depth(blocks, inspected):
    matches, errors = inspected.matches, []
    for (i, j), number in zip(matches.views, range(len(matches.views)), strict=True):
        pixels, depth = matches.pixels[matches.pair == number], blocks.depth(i)
        column, row = pixels[:, 0].long().unbind(-1)
        rays = blocks.cameras[i].pixel_rays(pixels[:, 0])
        reach = depth[row, column].double() / (rays.direction @ blocks.cameras[i].forward)
        expected, _ = blocks.cameras[j].project(blocks.cameras[i].centers + reach[:, None] * rays.direction)
        errors.append((expected - pixels[:, 1]).norm(dim=-1))
    errors = torch.cat(errors)
    errors = errors[torch.isfinite(errors)]
    assert len(errors) > 200 and float(errors.median()) < 0.5
    assert float((errors < 2).double().mean()) > 0.9


def test_a_shift_of_the_picture_is_found_to_a_tenth_of_a_pixel():
    import cv2

    picture = torch.rand(12, 16, 3).numpy()
    picture = torch.from_numpy(cv2.resize(picture, (320, 240), interpolation=cv2.INTER_CUBIC)).clamp(0, 1)
    shifted = torch.roll(picture, (3, 7), (0, 1))
    matched = match_features(features(picture), features(shifted), 320)
    assert len(matched) >= 20
    np.testing.assert_allclose(np.median(matched[:, 1] - matched[:, 0], 0), [7, 3], atol=0.1)


def test_pictures_of_nothing_and_of_noise_have_no_matches():
    blank, noise = torch.full((100, 120, 3), 0.5), torch.rand(2, 100, 120, 3)
    assert len(match_features(features(blank), features(blank), 120)) == 0
    assert len(match_features(features(noise[0]), features(noise[1]), 120)) == 0


def test_pairs_are_few_and_different(blocks):
    pairs = choose_pairs(blocks, views=4)
    assert len(set(pairs)) == len(pairs) <= 16 and all(0 <= i < j < len(blocks) for i, j in pairs)
    assert (0, 1) in pairs and {i for pair in choose_pairs(blocks) for i in pair} == set(range(len(blocks)))


def test_a_right_scene_passes(inspected):
    assert inspected.usable and inspected.findings == [] and inspected.remarks == []
    assert inspected.score.median < 0.25 and "fit the pictures" in inspected.verdict
    assert len(inspected.pairs()) >= 8
    assert abs(inspected.depth["factor"] - 1) < 0.01 and inspected.depth["cross_view_error"] < 0.01


def test_bounds_of_matches_are_those_of_the_depth_maps(blocks, inspected):
    depth = torch.cat([blocks.depth(i).flatten() for i in range(len(blocks))])
    depth = depth[torch.isfinite(depth)]
    assert float(depth.min()) * 0.95 < inspected.bounds["nearest"] < inspected.bounds["farthest"]
    assert inspected.bounds["farthest"] < float(depth.max()) * 1.05


def exchange_axes(values: dict) -> None:
    for frame in values["frames"]:
        frame["transform_matrix"] = (np.array(frame["transform_matrix"]) @ np.diag([1.0, -1, -1, 1])).tolist()


def test_wrong_axes_in_a_file_are_named(tmp_path):
    done = inspect_scene(raytrans.open_scene(edited(tmp_path / "scene", exchange_axes)))
    assert not done.usable and done.findings[0].key == "camera_axes"
    assert "negate the second and third column" in done.verdict and "OpenCV camera axes" in done.verdict


def scale_depth(values: dict) -> None:
    values["depth_unit_scale_factor"] *= 1000


def bound(name: str, value: float):
    return lambda values: [frame.update({name: value}) for frame in values["frames"]]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (scale_depth, "the depth files are 999|the depth files are 100"),
        (lambda values: [bound("near", 4.0)(values), bound("far", 1e4)(values)], "near is wrong"),
        (lambda values: [bound("near", 0.01)(values), bound("far", 4.0)(values)], "far is wrong"),
    ],
)
def test_wrong_bounds_and_units_of_depth_are_remarked(tmp_path, change, words):
    done = inspect_scene(raytrans.open_scene(edited(tmp_path / "scene", change)), views=5)
    assert done.usable and len(done.remarks) == 1
    assert any(part in done.remarks[0] for part in words.split("|")), done.remarks


def test_distance_along_the_ray_is_told_from_depth(tmp_path, blocks):
    def write(values: dict) -> None:
        for i, frame in enumerate(values["frames"]):
            camera = blocks.cameras[i]
            slant = 1 / (camera.rays().direction @ camera.forward)
            np.save(tmp_path / f"{i}.npy", (blocks.depth(i) * slant).numpy())
            frame["depth_file_path"] = str(tmp_path / f"{i}.npy")
        values["depth_unit_scale_factor"] = 1.0

    done = inspect_scene(raytrans.open_scene(edited(tmp_path / "scene", write), trusted=[tmp_path]), views=5)
    assert len(done.remarks) == 1 and "distance along the ray" in done.remarks[0]


def test_depth_of_a_plane_carried_to_another_view():
    """A plane z = 5 seen by two cameras that look along z: the depth is 5 in both, or 4 in a wrong one."""
    pose = torch.eye(4).repeat(2, 1, 1)
    pose[1, 0, 3] = 0.5
    cameras = raytrans.Cameras([[40.0, 0, 20], [0, 40, 15], [0, 0, 1]], pose, (30, 40))
    plane = torch.full((30, 40), 5.0)
    assert float(carried(plane, plane, cameras[0], cameras[1]).max()) < 1e-9
    torch.testing.assert_close(carried(plane, plane - 1, cameras[0], cameras[1]).mean().item(), 0.2)


def test_blank_pictures_cannot_be_judged(tmp_path):
    folder = edited(tmp_path / "scene", lambda values: None)
    for file in (folder / "images").iterdir():
        write_png(file, np.full((128, 128, 3), 0.5))
    done = inspect_scene(raytrans.open_scene(folder), views=3)
    assert not done.usable and done.verdict.startswith("cannot tell") and done.pairs() == []


def test_one_view_is_refused(tmp_path):
    scene = raytrans.open_scene(edited(tmp_path / "scene", lambda values: values.update(frames=values["frames"][:1])))
    with pytest.raises(ValueError, match="at least 2 views"):
        inspect_scene(scene)


@pytest.mark.parametrize("factor", [0.5, 1.0])
def test_half_the_focal_length_is_unusable_where_views_stand_so_close_that_it_fits(real_data, tmp_path, factor):
    source = real_data("figurine")
    values = json.loads((source / "transforms.json").read_text())
    for frame in values["frames"]:
        frame.update(
            file_path=str(source / frame["file_path"]), fl_x=factor * frame["fl_x"], fl_y=factor * frame["fl_y"]
        )
    (tmp_path / "transforms.json").write_text(json.dumps(values))
    done = inspect_scene(raytrans.open_scene(tmp_path, trusted=[source]), views=4)
    assert done.score.median < 2 and done.usable == (factor == 1.0)
    assert done.usable or "multiply the focal lengths fx and fy by 2" in done.verdict


REAL = ["fox", "lego", "milk", "soda_can", "temple_sparse_ring", "mary_rose", "alexander", "scodive", "gum", "fruit"]
REAL += ["rooftop", "figurine", "kitchen_rgbd"]


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_real_captures_pass(real_data, name):
    done = inspect_scene(raytrans.open_scene(real_data(name)))
    assert done.usable and done.findings == [], done.verdict
    assert done.score.median < (0.7 if name == "kitchen_rgbd" else 0.6) and done.remarks == []
