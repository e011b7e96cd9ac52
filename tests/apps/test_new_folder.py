"""Folders that hold all or nothing, beside other runs and interrupts."""

import os

import pytest

from raytrans.apps import new_folder
from raytrans.apps.new_folder import check_new, move_in, working_folder


def filled(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def test_all_parts_or_none_are_moved(tmp_path, monkeypatch):
    out, rename = tmp_path / "out", os.rename

    def interrupted(source, target):
        if target == out / "sparse":
            raise KeyboardInterrupt
        rename(source, target)

    for moves in (interrupted, rename):
        monkeypatch.setattr(new_folder.os, "rename", moves)
        check_new(out)
        try:
            with working_folder(out) as work:
                filled(work, "images/0.png", "models/0/cameras.bin")
                move_in({work / "images": out / "images", work / "models": out / "sparse"})
        except KeyboardInterrupt:
            assert moves is interrupted and not out.exists()
    assert sorted(path.name for path in out.iterdir()) == ["images", "sparse"]
    assert (out / "sparse" / "0" / "cameras.bin").read_text() == "models/0/cameras.bin"


def test_what_another_run_has_moved_in_stays(tmp_path):
    out, work = tmp_path / "out", tmp_path / "work"
    filled(out, "images/0.png", "transforms.json")
    filled(work, "images/1.png", "depth/1.png")
    with pytest.raises(OSError, match="not empty"):
        move_in({work / "images": out / "images", work / "depth": out / "transforms.json"})
    assert (out / "transforms.json").read_text() == "transforms.json" and (out / "images" / "0.png").exists()
    assert (work / "images" / "1.png").exists() and (work / "depth" / "1.png").exists()


def test_a_folder_that_was_filled_meanwhile_is_refused(tmp_path):
    out = tmp_path / "out"
    check_new(out)
    filled(out, "transforms.json")
    with pytest.raises(ValueError, match="expected a new or empty folder"), working_folder(out):
        raise AssertionError
    assert [path.name for path in out.iterdir()] == ["transforms.json"]
