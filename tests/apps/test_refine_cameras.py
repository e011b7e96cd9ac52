"""tools/refine_cameras.py on a shipped scene whose cameras were made wrong."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial.transform import Rotation

import raytrans
from raytrans.apps import cli, new_folder, refine_cameras
from raytrans.data.refinement import Refinement
from raytrans.data.scene import Scene
from raytrans.geometry.cameras import Cameras

ROOM = Path(raytrans.__file__).parents[1] / "scenes" / "room"
COUNT = 10


def run(*arguments: object) -> int:
    return cli.run(refine_cameras.main, refine_cameras.parser(), [str(argument) for argument in arguments])


def relative(poses: np.ndarray) -> np.ndarray:
    return np.linalg.inv(poses[:-1]) @ poses[1:]


@pytest.fixture(scope="module")
def wrong(tmp_path_factory) -> Path:
    """Ten views of `room`, turned by about a degree, shifted by 2 % of the distance, focal length 5 % too long."""
    folder, rng = tmp_path_factory.mktemp("wrong") / "scene", np.random.default_rng(0)
    shutil.copytree(ROOM, folder)
    values = json.loads((folder / "transforms.json").read_text())
    values["frames"] = values["frames"][:COUNT]
    for frame in values["frames"]:
        pose = np.array(frame["transform_matrix"])
        size = np.linalg.norm(pose[:3, 3])
        pose[:3, :3] = Rotation.from_rotvec(0.02 * rng.normal(size=3)).as_matrix() @ pose[:3, :3]
        pose[:3, 3] += 0.01 * size * rng.normal(size=3)
        frame["transform_matrix"] = pose.tolist()
        for key in ("fl_x", "fl_y"):
            frame[key] *= 1.05
    (folder / "transforms.json").write_text(json.dumps(values))
    return folder


def test_a_scene_is_written_whose_cameras_fit(wrong, tmp_path, capsys):
    before = {file: file.read_bytes() for file in wrong.rglob("*") if file.is_file()}
    assert run(wrong, "--out", tmp_path / "out", "--json", tmp_path / "numbers.json") == 0
    said = capsys.readouterr().out
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    assert numbers["error_after"] < 0.4 < 1 < numbers["error_before"] and numbers["kept"] == []
    assert f"{numbers['error_before']:.2f} -> {numbers['error_after']:.2f} pixels" in said
    assert {file: file.read_bytes() for file in before} == before

    truth, stated, found = (raytrans.open_scene(folder) for folder in (ROOM, wrong, tmp_path / "out"))
    poses = [relative(scene.cameras[:COUNT].world_from_camera.numpy()) for scene in (truth, stated, found)]
    turned = [
        np.degrees((Rotation.from_matrix(one[:, :3, :3]) * Rotation.from_matrix(poses[0][:, :3, :3]).inv()).magnitude())
        for one in poses[1:]
    ]
    assert turned[1].mean() < 0.25 * turned[0].mean()
    focal = [float(scene.cameras[0].intrinsics[0, 0]) for scene in (truth, stated, found)]
    assert abs(focal[2] / focal[0] - 1) < 0.01 < abs(focal[1] / focal[0] - 1)
    assert torch.equal(found.image(3), stated.image(3))
    assert found.frames[3].image.read_bytes() == stated.frames[3].image.read_bytes()
    assert numbers["separate_depth_camera"] is False and numbers["groups"] == [list(range(COUNT))]
    assert found.frames[3].depth.read_bytes() == stated.frames[3].depth.read_bytes()
    known = torch.isfinite(found.depth(3)) & torch.isfinite(truth.depth(3))
    assert (found.depth(3) / truth.depth(3) - 1)[known].abs().median() < 0.01


def test_masks_and_splits_go_along(wrong, tmp_path):
    shutil.copytree(wrong, tmp_path / "scene")
    file = tmp_path / "scene" / "transforms.json"
    values = json.loads(file.read_text())
    for frame in values["frames"]:
        frame["mask_path"] = frame["file_path"]
    values["test_filenames"] = [values["frames"][2]["file_path"]]
    file.write_text(json.dumps(values))
    assert run(tmp_path / "scene", "--out", tmp_path / "out", "--keep-lens") == 0
    given, found = raytrans.open_scene(tmp_path / "scene"), raytrans.open_scene(tmp_path / "out")
    assert found.splits == given.splits and found.splits["test"] == [2]
    assert torch.equal(found.mask(1), given.mask(1))
    assert torch.allclose(found.cameras.intrinsics, given.cameras.intrinsics)
    assert not torch.allclose(found.cameras.world_from_camera, given.cameras.world_from_camera)


def refinement(scene: Scene, separate: bool) -> Refinement:
    """The stated cameras with the focal length of the pictures a tenth shorter."""
    k = scene.cameras.intrinsics.clone()
    k[:, :2, :2] *= 0.9
    size = torch.stack([scene.cameras.height, scene.cameras.width], -1)
    cameras = Cameras(k if separate else scene.cameras.intrinsics, scene.cameras.world_from_camera, size)
    return Refinement(cameras, 1.0, 0.5, separate, [list(range(len(scene)))], [], [], 0.1)


@pytest.mark.parametrize("separate", [False, True])
def test_no_depth_is_lost_beside_a_far_value(separate, tmp_path, wrong):
    """A sky of 1e6 and none given as 65535: the near depths are there to the last digit of the format."""
    scene = raytrans.open_scene(wrong)
    depth = scene.depth(0).clone()
    depth[:5] = 1e6
    np.save(tmp_path / "far.npy", depth.numpy())
    steps = np.round(np.nan_to_num(depth.numpy()) * 1000).clip(0, 9000).astype(np.uint16)
    steps[5:9] = 65535
    Image.fromarray(steps).save(tmp_path / "none.png")
    frames = [
        replace(scene.frames[0], depth=tmp_path / "far.npy", depth_scale=2.0),
        replace(scene.frames[1], depth=tmp_path / "none.png", depth_scale=0.001, depth_invalid=(0.0, 65535.0)),
    ]
    given = Scene(scene.cameras[:2], frames, path=wrong)
    done = refinement(given, separate)
    (tmp_path / "out").mkdir()
    refine_cameras.write_refined(tmp_path / "out", given, done)
    found = raytrans.open_scene(tmp_path / "out")
    for i in range(2):
        expected = done.depth(given, i)
        assert torch.equal(torch.isfinite(found.depth(i)), torch.isfinite(expected))
        assert torch.allclose(found.depth(i), expected, rtol=1e-6, equal_nan=True)
        assert expected.isfinite().double().mean() > 0.5
    assert found.depth(0).nan_to_num(0).max() > 1e6 and torch.isnan(found.depth(1)).any()


@pytest.mark.parametrize("at", ["images", "transforms.json"])
def test_an_interrupt_while_the_parts_move_leaves_no_folder(at, wrong, tmp_path, monkeypatch):
    rename = os.rename

    def interrupted(source, target):
        if Path(target) == tmp_path / "out" / at:
            raise KeyboardInterrupt
        rename(source, target)

    monkeypatch.setattr(new_folder.os, "rename", interrupted)
    assert run(wrong, "--out", tmp_path / "out", "--keep-lens", "--max-size", 64) == 130
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(new_folder.os, "rename", rename)
    assert run(wrong, "--out", tmp_path / "out", "--keep-lens", "--max-size", 64) == 0


@pytest.mark.parametrize("count", [2, COUNT])
def test_cameras_that_are_right_are_written_as_they_are(count, wrong, tmp_path, capsys):
    shutil.copytree(wrong, tmp_path / "scene")
    values = json.loads((ROOM / "transforms.json").read_text())
    values["frames"] = values["frames"][:count]
    (tmp_path / "scene" / "transforms.json").write_text(json.dumps(values))
    assert run(tmp_path / "scene", "--out", tmp_path / "out") == 0
    assert "no other cameras fit clearly better: they stay as stated" in capsys.readouterr().out
    given, found = raytrans.open_scene(tmp_path / "scene"), raytrans.open_scene(tmp_path / "out")
    assert torch.allclose(found.cameras.world_from_camera, given.cameras.world_from_camera, atol=1e-12)
    assert torch.allclose(found.cameras.intrinsics, given.cameras.intrinsics)


def test_depth_that_belongs_to_nothing_is_told(wrong, tmp_path, capsys):
    shutil.copytree(wrong, tmp_path / "scene")
    depths = sorted((tmp_path / "scene" / "depth").glob("*.png"))[:COUNT]
    contents = [file.read_bytes() for file in depths]
    for file, content in zip(depths, contents[5:] + contents[:5], strict=True):
        file.write_bytes(content)
    assert run(tmp_path / "scene", "--out", tmp_path / "out", "--keep-lens") == 0
    assert "do not fit the pictures either" in capsys.readouterr().out


def test_depth_in_another_unit_than_the_poses_is_told(wrong, tmp_path, capsys):
    shutil.copytree(wrong, tmp_path / "scene")
    file = tmp_path / "scene" / "transforms.json"
    values = json.loads(file.read_text())
    values["depth_unit_scale_factor"] *= 100
    for frame in values["frames"]:
        frame.pop("depth_unit_scale_factor", None)
    file.write_text(json.dumps(values))
    assert run(tmp_path / "scene", "--out", tmp_path / "out", "--keep-lens") == 0
    said = capsys.readouterr()
    assert "times as far apart as stated: is the unit of the depth that of the poses?" in said.out + said.err


def test_a_view_that_does_not_fit_the_others_is_told(wrong, tmp_path):
    scene = raytrans.open_scene(wrong)
    values = {"doubtful": [3], "after": 0.5, "kept": []}
    done = replace(refinement(scene, False), **values)
    assert refine_cameras.doubts(scene, done, 1.0) == [
        "views that do not fit the others, whose poses or depth are wrong: [3]"
    ]
    assert refine_cameras.numbers(scene, done)["doubtful"] == [3]
    assert refine_cameras.doubts(scene, replace(done, doubtful=[]), 1.0) == []


def test_a_run_that_breaks_off_leaves_no_folder(wrong, tmp_path, monkeypatch, capsys):
    copied = shutil.copyfile
    calls = []

    def full(source, target):
        calls.append(target)
        if len(calls) == 3:
            raise OSError(28, "No space left on device", str(target))
        copied(source, target)

    monkeypatch.setattr(refine_cameras.shutil, "copyfile", full)
    assert run(wrong, "--out", tmp_path / "out", "--keep-lens") != 0
    assert "No space left on device" in capsys.readouterr().err and len(calls) == 3
    assert not (tmp_path / "out").exists()


def test_mistakes_are_one_line_and_leave_nothing(wrong, tmp_path, capsys):
    shutil.copytree(wrong, tmp_path / "flat")
    file = tmp_path / "flat" / "transforms.json"
    values = json.loads(file.read_text())
    for frame in values["frames"]:
        frame.pop("depth_file_path")
    file.write_text(json.dumps(values))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    shutil.copytree(wrong, tmp_path / "two")
    values = json.loads((wrong / "transforms.json").read_text())
    values["frames"] = values["frames"][:1]
    (tmp_path / "two" / "transforms.json").write_text(json.dumps(values))
    for words, text in (
        ([tmp_path / "flat", "--out", tmp_path / "out"], "expected depth maps beside the pictures, got none"),
        ([wrong, "--out", tmp_path / "full"], "--out: expected a new or empty folder"),
        ([wrong, "--out", wrong], "holds a file of the scene"),
        ([tmp_path / "two", "--out", tmp_path / "out"], "expected 2 to 1000 views, got 1"),
        ([tmp_path / "nowhere", "--out", tmp_path / "out"], "nowhere"),
    ):
        assert run(*words) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1 and lines[0].startswith("refine_cameras: error: ") and text in lines[0], lines
    assert not (tmp_path / "out").exists() and (tmp_path / "full" / "mine.txt").read_text() == "mine"
