"""Where listed files are found: each image of a capture has a colour of its own, which tells the one that was read."""

import json
import logging

import numpy as np
import pytest
from PIL import Image

from raytrans.data import open_scene

POSE = np.eye(4).tolist()
GONE = "/nowhere/of/this/name"


def draw(path, red):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (10, 8), (red, 0, 0)).save(path)
    return path


def scene_of(folder, *names, frame=None, **shared):
    """The capture of a json that lists these names; `frame` goes into every frame."""
    frames = [{"file_path": str(name), "transform_matrix": POSE, **(frame or {})} for name in names]
    folder.mkdir(exist_ok=True)
    (folder / "transforms.json").write_text(json.dumps({"fl_x": 5.0, **shared, "frames": frames}))
    return open_scene(folder)


def reds(scene):
    return [round(255 * float(scene.image(i)[0, 0, 0])) for i in range(len(scene))]


@pytest.fixture
def folder(tmp_path):
    """A capture folder with an image in `images/`; around it, images one and two levels up."""
    folder = tmp_path / "captures" / "scene"
    draw(folder / "images/a.png", 10)
    draw(tmp_path / "captures/up.png", 20)
    draw(tmp_path / "photos/a.png", 30)
    return folder


@pytest.mark.parametrize(
    ("name", "red"),
    [
        ("images/a.png", 10),
        ("images\\a.png", 10),
        ("./images/../images/a", 10),
        ("{folder}/images/a.png", 10),
    ],
)
def test_files_are_read_where_they_are_listed(folder, caplog, name, red):
    assert reds(scene_of(folder, name.format(folder=folder))) == [red]
    assert not caplog.records


@pytest.mark.parametrize(
    ("name", "red"),
    [
        ("../up.png", 20),
        ("../../photos/b.png", 30),
        ("..\\..\\photos\\b", 30),
        ("{folder}/../../photos/b.png", 30),
    ],
)
def test_files_outside_are_opened_where_they_are_trusted_alone(folder, caplog, monkeypatch, name, red):
    around = folder.parents[1]
    (around / "photos/a.png").rename(around / "photos/b.png")
    with pytest.raises(
        ValueError,
        match=r"exists below its folder; .*, outside of the scene: `trusted` or .*, as in RAYTRANS_TRUSTED=/",
    ):
        scene_of(folder, name.format(folder=folder))
    with pytest.raises(ValueError, match="none of the 1 listed images exists"):
        open_scene(folder, trusted=[around / "elsewhere", f"{around}/photo"])
    assert reds(open_scene(folder, trusted=[around / "photos", str(around / "captures")])) == [red]
    monkeypatch.setenv("RAYTRANS_TRUSTED", f"{around}/photos:{around}/captures")
    assert reds(open_scene(folder)) == [red] and not caplog.records
    with pytest.raises(ValueError, match="none of the 1 listed images exists"):
        open_scene(folder, trusted=[])


def test_a_name_that_leads_out_is_taken_for_moved_though_it_is_there(folder, caplog):
    with caplog.at_level(logging.WARNING):
        scene = scene_of(folder, "../../photos/a.png", "../up.png", frame={"depth_file_path": "../up.png"})
    assert reds(scene) == [10] and scene.depth(0) is None
    assert "1 images are not where they are listed" in caplog.text
    assert caplog.text.count("outside of the scene: `trusted` or RAYTRANS_TRUSTED") == 2
    with caplog.at_level(logging.WARNING):
        trusted = open_scene(folder, trusted=[folder.parents[1]])
    assert reds(trusted) == [30, 20]


def test_names_that_no_file_has_and_long_ways_are_refused_at_once(folder):
    for name in ("a\0.png", "x" * 256 + ".png", "x/" * 3000):
        with pytest.raises(ValueError, match="is no file name"):
            scene_of(folder, name)


@pytest.mark.parametrize(
    "name",
    [
        GONE + "/scene/images/a.png",
        GONE + "/scene/images/a",
        GONE + "/photos/a.png",
        "C:\\captures\\scene\\images\\a.png",
        "D:/photos/a.png",
        "\\\\server\\share\\images\\a.png",
        "../../../../../../../../../gone/images/a.png",
    ],
)
def test_files_of_another_machine_are_found_below_the_folder(folder, caplog, name):
    with caplog.at_level(logging.WARNING):
        assert reds(scene_of(folder, name)) == [10]
    assert "1 images are not where they are listed" in caplog.text and "images/a.png)" in caplog.text


def test_the_longest_tail_wins(folder):
    for red, place in enumerate(["a.png", "left/a.png", "images/right/a.png", "images/images/a.png"], 40):
        draw(folder / place, red)
    names = [f"{GONE}/{place}/a.png" for place in ("left", "right", "images", "other")]
    assert reds(scene_of(folder, *names)) == [41, 42, 10, 40]


def test_what_is_below_the_folder_is_looked_for_nowhere_else(folder, caplog):
    with caplog.at_level(logging.WARNING):
        scene = scene_of(folder, "images/a.png", "left/a.png", folder / "right/a.png", GONE + "/b.png")
    assert len(scene) == 1
    assert "3 of 4 listed images do not exist and are left out (first: left/a.png)" in caplog.text


def test_no_image_gets_the_pose_of_another(folder, caplog):
    draw(folder / "images/b.png", 11)
    names = [f"{GONE}/{place}.png" for place in ("left/a", "right/a", "left/b")]
    with caplog.at_level(logging.WARNING):
        assert reds(scene_of(folder, *names)) == [11]
        assert reds(scene_of(folder, "images/a.png", names[0])) == [10]
    assert f"not told apart by their names below its folder (first: {names[0]})" in caplog.text


def test_moved_depth_maps_are_not_taken_for_images(folder):
    values = np.full((8, 10), 2000, dtype=np.uint16)
    one = scene_of(folder, "images/a.png", frame={"depth_file_path": GONE + "/depth/a.png"})
    assert one.depth(0) is None
    (folder / "depth").mkdir()
    Image.fromarray(values).save(folder / "depth/a.png")
    two = scene_of(folder, "images/a.png", frame={"depth_file_path": GONE + "/depth/a.png"})
    np.testing.assert_allclose(two.depth(0), 2.0)


def test_separators_of_splits_do_not_matter(folder):
    draw(folder / "images/b.png", 11)
    scene = scene_of(folder, "images\\a.png", "images/b.png", test_filenames=["images/a.png"])
    assert scene.split("test") == [0]


def test_no_file_anywhere_says_where_the_first_was_looked_for(folder):
    with pytest.raises(ValueError, match=f"exists below its folder; looked for {GONE}/b.png first"):
        scene_of(folder, GONE + "/b.png")
