"""Recognition by path alone: which format reads where several match, odd paths, and what is no scene."""

import os
import zipfile

import numpy as np
import pytest

from raytrans.data import open_scene
from raytrans.data.readers import READERS

ROW = [*np.concatenate([np.eye(3), np.zeros((3, 1)), [[30], [40], [50.0]]], 1).ravel(), 1.0, 9.0]
PAR = "1\n000.png 50 0 21 0 50 15 0 0 1 1 0 0 0 1 0 0 0 1 0 0 0\n"


def write(folder, picture):
    """One folder that is LLFF's and Middlebury's at once."""
    picture(folder / "images" / "000.png")
    picture(folder / "000.png")
    np.save(folder / "poses_bounds.npy", np.array([ROW]))
    (folder / "x_par.txt").write_text(PAR)
    return folder


def test_the_first_in_the_order_reads_and_a_file_chooses(tmp_path, picture):
    write(tmp_path, picture)
    names = list(READERS)
    assert names.index("poses_bounds.npy (LLFF)") < names.index("*_par.txt (Middlebury)")
    assert open_scene(tmp_path).cameras[0].intrinsics[0, 2] == 20
    assert open_scene(tmp_path / "x_par.txt").cameras[0].intrinsics[0, 2] == 21


def test_spaces_other_letters_and_links(tmp_path, picture):
    folder = write(tmp_path / "Höhle am Fluß 洞" / "scène 1", picture)
    os.symlink(folder, tmp_path / "link", target_is_directory=True)
    assert open_scene(tmp_path / "link").image(0).shape == (30, 40, 3) == open_scene(folder).image(0).shape


def test_the_current_folder(tmp_path, picture, monkeypatch):
    monkeypatch.chdir(write(tmp_path, picture))
    assert len(open_scene(".")) == 1
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(ValueError, match="not a scene that can be read"):
        open_scene(".")


def test_opening_changes_nothing(tmp_path, picture):
    write(tmp_path, picture)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    open_scene(tmp_path).image(0)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_an_archive_is_not_a_scene(tmp_path, picture):
    with zipfile.ZipFile(tmp_path / "scene.zip", "w") as archive:
        archive.write(write(tmp_path / "scene", picture) / "x_par.txt", "x_par.txt")
    with pytest.raises(ValueError, match="scene.zip: not a scene that can be read"):
        open_scene(tmp_path / "scene.zip")


def test_what_was_looked_for_is_listed(tmp_path):
    with pytest.raises(ValueError) as error:
        open_scene(tmp_path)
    assert all(name in str(error.value) for name in READERS)


@pytest.mark.parametrize("name", ["film.mp4", "FILM.MOV"])
def test_of_a_video_the_tool_that_poses_it_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"\0\0\0\x18ftypmp42")
    with pytest.raises(ValueError, match=rf"{name}: not a scene .*: this is a video, `raytrans import-photos` "):
        open_scene(tmp_path / name)
