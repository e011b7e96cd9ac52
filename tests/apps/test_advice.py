"""Warnings: given where something is wrong, and not given where nothing is."""

import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from raytrans.apps import advice, cli, evaluate, render, verify
from raytrans.data.generate import generated_scene
from raytrans.data.readers import open_scene
from raytrans.equivariance import models
from raytrans.export.files import write_png, write_transforms
from raytrans.geometry.cameras import Cameras
from raytrans.geometry.paths import look_at

COUNT = 9
ROOT = Path(render.__file__).parents[2]


def written(folder: Path, cameras: Cameras, images) -> Path:
    names = [f"images/{i}.png" for i in range(len(cameras))]
    for name, image in zip(names, images, strict=True):
        write_png(folder / name, image)
    write_transforms(folder / "transforms.json", cameras, names)
    return folder


def outward(count: int) -> Cameras:
    """Cameras on a ring that look away from it."""
    angle = 2 * np.pi * np.arange(count) / count
    place = np.stack([np.cos(angle), np.sin(angle), np.zeros(count)], -1)
    pose = look_at(place, 2 * place, (0.0, 0, 1))
    return Cameras([[12.0, 0, 6], [0, 12.0, 5], [0, 0, 1]], pose, size=(10, 12))


@pytest.fixture(scope="module")
def drawn():
    return generated_scene(7, "easy", (10, 12), COUNT)


def run(app, *arguments: object) -> int:
    return cli.run(app.main, app.parser(), [str(argument) for argument in arguments])


def warnings(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("warning: ")]


def test_a_sound_scene_is_not_warned_about(tmp_path, capsys):
    # the released weights on a scene that is meant to work
    arguments = (ROOT / "scenes/blocks", "--out", tmp_path / "out", "--max-size", 24, "--sources", 6)
    assert run(render, *arguments) == 0
    assert warnings(capsys.readouterr().out) == []
    assert run(render, *arguments, "--views", "orbit", "--frames", 2) == 0
    assert warnings(capsys.readouterr().out) == []


def test_an_orbit_of_cameras_that_look_outward_is_warned_about(weights, tmp_path, capsys):
    scene = written(tmp_path / "scene", outward(COUNT), [np.random.rand(10, 12, 3)] * COUNT)
    arguments = (scene, "--out", tmp_path / "out", "--checkpoint", weights, "--frames", 2)
    assert run(render, *arguments, "--views", "orbit") == 0
    assert "do not look at a common place" in capsys.readouterr().out
    assert run(render, *arguments, "--views", "spiral") == 0
    assert "common place" not in capsys.readouterr().out


def test_cameras_at_one_place_are_warned_about_and_not_verified(weights, drawn, tmp_path, capsys):
    pose = drawn.cameras.world_from_camera.clone()
    pose[:, :3, 3] = torch.tensor([1.0, 2.0, 3.0])
    cameras = Cameras(drawn.cameras.intrinsics, pose, size=(10, 12))
    scene = written(tmp_path / "scene", cameras, drawn.images)
    assert run(render, scene, "--out", tmp_path / "out", "--checkpoint", weights) == 0
    assert "share one place" in capsys.readouterr().out
    assert run(verify, scene, "--checkpoint", weights) == 2
    assert "no baseline" in capsys.readouterr().err


def test_one_source_is_not_enough_to_verify_everything(weights, drawn, tmp_path, capsys, monkeypatch):
    for table in ("_CONTRACTS", "_REPORTED"):  # the warning does not hang on what is measured
        monkeypatch.setattr(models, table, {})
    scene = written(tmp_path / "scene", drawn.cameras, drawn.images)
    run(verify, scene, "--checkpoint", weights, "--sources", 1, "--max-size", 12)
    assert warnings(capsys.readouterr().out)[0].startswith("warning: one source view")
    run(verify, scene, "--checkpoint", weights, "--sources", 2, "--max-size", 12)
    assert warnings(capsys.readouterr().out) == []


def test_a_camera_far_from_everything_is_warned_about(drawn, tmp_path, capsys):
    scene = written(tmp_path / "scene", drawn.cameras, drawn.images)
    meta = json.loads((scene / "transforms.json").read_text())
    for frame in meta["frames"][:2]:
        for row in frame["transform_matrix"][:3]:
            row[3] += 1e6
    (tmp_path / "far.json").write_text(json.dumps(meta))
    assert run(render, scene, "--out", tmp_path / "out", "--views", tmp_path / "far.json") == 0
    [line] = warnings(capsys.readouterr().out)
    assert "hardly anything of 2 of 9 pictures (number 0, 1)" in line


def test_wrong_axes_are_warned_about(tmp_path, capsys):
    scene = tmp_path / "scene"
    shutil.copytree(ROOT / "scenes/blocks", scene)
    meta = json.loads((scene / "transforms.json").read_text())
    for frame in meta["frames"]:
        frame["transform_matrix"] = (np.array(frame["transform_matrix"]) @ np.diag([1, -1, -1, 1])).tolist()
    (scene / "transforms.json").write_text(json.dumps(meta))
    assert run(render, scene, "--out", tmp_path / "out", "--max-size", 24) == 0
    assert any("no better than the nearest photograph" in line for line in warnings(capsys.readouterr().out))


def test_a_photograph_given_twice_is_warned_about(weights, drawn, tmp_path, capsys):
    # view 1 is view 0 again, up to a little noise
    twice = [0, 0, *range(2, COUNT)]
    images = [drawn.images[i].numpy() for i in twice]
    images[1] = np.clip(images[1] + 0.01 * np.random.randn(*images[1].shape), 0, 1)
    scene = written(tmp_path / "scene", drawn.cameras[twice], images)
    assert run(render, scene, "--out", tmp_path / "out", "--checkpoint", weights) == 0
    assert any("view 0: nearly the same picture" in line for line in warnings(capsys.readouterr().out))
    assert run(evaluate, scene, "--checkpoint", weights) == 0
    assert warnings(capsys.readouterr().out) == [
        f"warning: {scene}: view 0: nearly the same picture is among the sources, so the numbers say little"
    ]


def test_quality_is_compared_where_it_is_known():
    assert advice.on_quality(None, None) == advice.on_quality(20.1, 20.0) == advice.on_quality(36.0, 50.0) == []
    assert len(advice.on_quality(19.9, 20.0)) == 1


def test_log_lines_that_warn_say_so(tmp_path):
    scene = written(tmp_path / "scene", outward(2), [np.zeros((10, 12, 3))] * 2)
    (scene / "images/1.png").unlink()
    command = [sys.executable, ROOT / "tools/render.py", scene, "--out", tmp_path / "out", "--views", "all"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stderr.splitlines()[0].startswith(f"warning: {scene / 'transforms.json'}: 1 of 2 listed images do not")
    record = logging.LogRecord("raytrans", logging.INFO, "", 0, "told", None, None)
    assert cli._named_warning(record) and record.prefix == ""


def test_the_file_of_one_split_is_named_with_a_way_out(weights, drawn, tmp_path, capsys):
    scene = written(tmp_path / "scene", drawn.cameras, drawn.images)
    (scene / "transforms.json").rename(scene / "transforms_test.json")
    arguments = (scene / "transforms_test.json", "--out", tmp_path / "out", "--checkpoint", weights)
    assert run(render, *arguments, "--views", "orbit") == 2
    told = capsys.readouterr()
    assert "open the folder of the scene" in told.err and told.out == ""


@pytest.mark.parametrize(("name", "warned"), [("rooftop", True), ("fox", False), ("scodive", False), ("lego", False)])
def test_real_captures_that_cannot_be_orbited(real_data, name, warned):
    assert bool(advice.on_orbit(open_scene(real_data(name)).cameras)) == warned
