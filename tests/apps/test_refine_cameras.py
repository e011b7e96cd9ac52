"""tools/refine_cameras.py on a shipped scene whose cameras were made wrong."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

import raytrans
from raytrans.apps import cli, refine_cameras

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
    if numbers["separate_depth_camera"] is False:
        assert torch.allclose(found.depth(3), stated.depth(3), rtol=1e-4, equal_nan=True)
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


def test_depth_that_belongs_to_nothing_is_told(wrong, tmp_path, capsys):
    shutil.copytree(wrong, tmp_path / "scene")
    depths = sorted((tmp_path / "scene" / "depth").glob("*.png"))[:COUNT]
    contents = [file.read_bytes() for file in depths]
    for file, content in zip(depths, contents[5:] + contents[:5], strict=True):
        file.write_bytes(content)
    assert run(tmp_path / "scene", "--out", tmp_path / "out", "--keep-lens") == 0
    assert "do not fit the pictures either" in capsys.readouterr().out


def test_a_run_that_breaks_off_leaves_no_folder(wrong, tmp_path, monkeypatch, capsys):
    written = refine_cameras.write_depth_png
    calls = []

    def full(path, *rest):
        calls.append(path)
        if len(calls) == 3:
            raise OSError(28, "No space left on device", str(path))
        written(path, *rest)

    monkeypatch.setattr(refine_cameras, "write_depth_png", full)
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
