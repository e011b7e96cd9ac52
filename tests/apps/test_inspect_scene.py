"""tools/inspect_scene.py: exit status, page and numbers."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import raytrans
from raytrans.apps import cli, inspect_scene

BLOCKS = Path(raytrans.__file__).parents[1] / "scenes" / "blocks"


def run(*arguments: object) -> int:
    return cli.run(inspect_scene.main, inspect_scene.parser(), [str(argument) for argument in arguments])


def test_a_right_scene_has_status_0_and_a_page_that_needs_no_other_file(tmp_path, capsys):
    before = {file: file.stat().st_mtime_ns for file in BLOCKS.rglob("*")}
    assert run(BLOCKS, "--out", tmp_path / "out", "--views", 4, "--json", tmp_path / "numbers.json") == 0
    page = (tmp_path / "out" / "inspection.html").read_text()
    assert "The poses fit the pictures" in page and "from the top" in page and "Epipolar lines" in page
    assert page.count("<img") == page.count('src="data:image/png;base64,') >= 16 + 3 + 3
    assert "http" not in page.replace("http-equiv", "")
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    assert numbers == json.loads((tmp_path / "out" / "inspection.json").read_text())
    assert numbers["usable"] is True and numbers["median"] < 0.3 and numbers["findings"] == []
    said = capsys.readouterr().out
    assert "fit the pictures" in said
    i, j = numbers["pairs"][0]["views"]
    names = [Path(one["file_path"]).name for one in json.loads((BLOCKS / "transforms.json").read_text())["frames"]]
    assert f"worst pairs: views {i} ({names[i]}) and {j} ({names[j]}), " in said
    assert f"views {i} ({names[i]}) and {j} ({names[j]}): " in page
    assert {file: file.stat().st_mtime_ns for file in BLOCKS.rglob("*")} == before


def test_unusable_poses_have_status_1_and_say_what_to_change(tmp_path, capsys):
    shutil.copytree(BLOCKS, tmp_path / "scene")
    path = tmp_path / "scene" / "transforms.json"
    values = json.loads(path.read_text())
    for frame in values["frames"]:
        frame["transform_matrix"] = np.linalg.inv(frame["transform_matrix"]).tolist()
    path.write_text(json.dumps(values))
    assert run(tmp_path / "scene", "--out", tmp_path / "out") == 1
    assert "invert each 4 x 4 matrix" in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "inspection.json").read_text())["findings"][0]["key"] == "inverse_pose"


@pytest.mark.parametrize("arguments", [["nowhere", "--out", "out"], ["--out", "out"], [str(BLOCKS)]])
def test_mistakes_of_the_call_are_one_line_and_status_2(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("inspect_scene: error: ") and error.count("\n") == 1


def test_a_file_of_the_scene_is_not_written_over(tmp_path, capsys):
    shutil.copytree(BLOCKS, tmp_path / "scene")
    path = tmp_path / "scene" / "transforms.json"
    before = path.read_bytes()
    assert run(tmp_path / "scene", "--out", tmp_path / "out", "--json", path) == 2
    assert path.read_bytes() == before


@pytest.mark.parametrize("inside", [".", "images", "..", "other"])
def test_a_folder_that_holds_a_capture_is_refused(tmp_path, capsys, inside):
    for name in ("scene", "scene/other"):
        shutil.copytree(BLOCKS, tmp_path / name)
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
    assert run(tmp_path / "scene", "--out", tmp_path / "scene" / inside) == 2
    error = capsys.readouterr().err
    assert "--out" in error and "choose another folder" in error and error.count("\n") == 1
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")} == before
