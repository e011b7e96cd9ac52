"""Every format put through the same mistakes: a scene that opens, or one ValueError naming the file, nothing else."""

import json
import shutil
import zipfile

import numpy as np
import pytest

from raytrans.data import open_scene
from tests.data.readers.captures import (
    EVERY,
    POSE,
    colmap,
    idr,
    llff,
    middlebury,
    mvsnet,
    realestate,
    rgbd,
    scannet,
    transforms,
    tum,
)

PICTURES = (".png", ".jpg")


@pytest.mark.parametrize("write", [llff, idr, middlebury, mvsnet, rgbd, scannet, tum, realestate])
@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_damage_is_a_value_error_at_worst(tmp_path, picture, write, damage):
    path = write(tmp_path, picture)
    assert len(open_scene(tmp_path)) == 1
    content, random, refused = path.read_bytes(), np.random.default_rng(0), 0
    for place in random.permutation(len(content))[:60].tolist():
        changed = bytes([int(random.integers(256))]) + content[place + 1 :] if damage == "changed" else b""
        path.write_bytes(content[:place] + changed)
        try:
            open_scene(tmp_path)
        except ValueError as error:
            refused += 1
            assert str(tmp_path) in str(error) and "\n" not in str(error)[:200]
    assert refused > 0


def files(folder, pictures):
    return [path for path in folder.rglob("*") if path.is_file() and (path.suffix in PICTURES) == pictures]


@pytest.mark.parametrize("write", EVERY)
def test_odd_names_and_links_open_and_nothing_is_changed(tmp_path, picture, write):
    folder, links = tmp_path / "süße scene 山", tmp_path / "links"
    write(folder, picture)
    before = {
        path: (path.stat().st_mtime_ns, path.read_bytes()) for pictures in (0, 1) for path in files(folder, pictures)
    }
    for path in before:
        (links / path.relative_to(folder)).parent.mkdir(parents=True, exist_ok=True)
        (links / path.relative_to(folder)).symlink_to(path)
    (tmp_path / "link").symlink_to(folder)
    for place in (folder, links, tmp_path / "link"):
        scene = open_scene(place)
        assert len(scene) == 1 and scene.image(0).shape == (30, 40, 3)
    after = {
        path: (path.stat().st_mtime_ns, path.read_bytes()) for pictures in (0, 1) for path in files(folder, pictures)
    }
    assert after == before


@pytest.mark.parametrize("write", EVERY)
@pytest.mark.parametrize("gone", [True, False])
def test_cameras_without_images_and_images_without_cameras_are_named(tmp_path, picture, write, gone):
    write(tmp_path, picture)
    for path in files(tmp_path, pictures=gone):
        path.unlink()
    with pytest.raises(ValueError, match=str(tmp_path)):
        open_scene(tmp_path)


@pytest.mark.parametrize("write", EVERY)
def test_empty_images_are_named(tmp_path, picture, write):
    write(tmp_path, picture)
    [image] = files(tmp_path, pictures=True)
    image.write_bytes(b"")
    with pytest.raises(ValueError, match=f"{image}: an empty file"):
        open_scene(tmp_path).image(0)


@pytest.mark.parametrize("write", EVERY)
def test_an_archive_of_a_scene_is_not_a_scene(tmp_path, picture, write):
    write(tmp_path / "scene", picture)
    archive = shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path / "scene")
    assert zipfile.is_zipfile(archive)
    with pytest.raises(ValueError, match="packed.zip"):
        open_scene(archive)


def scaled_pose(write, path, factor):
    """Multiplies the rotation in the file of cameras; NaN spoils it. IDR's projections have no scale of their own."""
    one, by = "1 0 0 0\n0 1 0 0\n0 0 1 0\n", f"{factor} 0 0 0\n0 {factor} 0 0\n0 0 {factor} 0\n"
    if write is llff:
        rows = np.load(path)
        rows[:, [0, 1, 2, 5, 6, 7, 10, 11, 12]] *= factor
        np.save(path, rows)
    elif write is transforms:
        values = json.loads(path.read_text())
        values["frames"][0]["transform_matrix"] = np.diag([factor, factor, factor, 1.0]).tolist()
        path.write_text(json.dumps(values))
    elif write is scannet:
        (path.parent.parent / "pose" / "0.txt").write_text(POSE.replace(one, by))
    elif write in (middlebury, realestate):
        tail = "1 0 0 0 1 0 0 0 1 0 0 0" if write is middlebury else "1 0 0 0 0 1 0 0 0 0 1 0"
        assert tail in path.read_text()
        path.write_text(path.read_text().replace(tail, tail.replace("1", str(factor))))
    elif write in (tum, colmap):
        old, new = ("0 0 0 1\n", f"0 0 0 {factor}\n") if write is tum else ("1 1 0 0 0", f"1 {factor} 0 0 0")
        path.write_text(path.read_text().replace(old, new))
    else:
        assert one in path.read_text()
        path.write_text(path.read_text().replace(one, by))


@pytest.mark.parametrize("write", [write for write in EVERY if write is not idr])
@pytest.mark.parametrize("factor", [2.0, float("nan")])
def test_scale_and_nan_in_a_rotation_are_named(tmp_path, picture, write, factor):
    path = write(tmp_path, picture)
    scaled_pose(write, path, factor)
    with pytest.raises(ValueError, match=r"rotation|quaternion|finite") as caught:
        open_scene(tmp_path)
    assert str(tmp_path) in str(caught.value)
