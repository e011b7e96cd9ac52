"""Camera paths of nerfstudio's viewer, typed in as its exporter writes them; poses undone by its published formula."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raytrans.data import open_scene
from raytrans.data.readers.viewer_paths import is_camera_path, read_camera_path

# As nerfstudio's dataparser saves it: x' = s (A x + t), here a quarter turn about x, as for a y-up world.
TRANSFORM = {"transform": [[1.0, 0.0, 0.0, 0.5], [0.0, 0.0, -1.0, -0.25], [0.0, 1.0, 0.0, 2.0]], "scale": 0.2}

# The keys of the viewer's export: fov is vertical in degrees, camera_to_world 16 numbers row by row, OpenGL axes.
PATH = {
    "camera_type": "perspective",
    "render_height": 1080,
    "render_width": 1920,
    "camera_path": [
        {
            "camera_to_world": [0.0, 0.0, 1.0, 0.9, 1.0, 0.0, 0.0, -0.1, 0.0, 1.0, 0.0, 0.3, 0.0, 0.0, 0.0, 1.0],
            "fov": 50,
            "aspect": 1.7777777777777777,
        },
        {
            "camera_to_world": [1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.1, 0.0, 0.0, 1.0, 0.7, 0.0, 0.0, 0.0, 1.0],
            "fov": 90,
            "aspect": 1.7777777777777777,
        },
    ],
    "fps": 24,
    "seconds": 4,
    "smoothness_value": 0.5,
    "is_cycle": False,
    "crop": None,
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "camera_path.json").write_text(json.dumps(PATH))
    (tmp_path / "dataparser_transforms.json").write_text(json.dumps(TRANSFORM))
    return tmp_path


def nerfstudio_pixel(shot: dict, point: np.ndarray) -> np.ndarray:
    """The pixel of a point of the scene, in nerfstudio's own frame: x' = s (A x + t), then an OpenGL camera."""
    matrix = np.array(TRANSFORM["transform"])
    trained = TRANSFORM["scale"] * (matrix[:, :3] @ point + matrix[:, 3])
    pose = np.array(shot["camera_to_world"]).reshape(4, 4)
    x, y, z = pose[:3, :3].T @ (trained - pose[:3, 3])
    focal = 0.5 * PATH["render_height"] / math.tan(0.5 * math.radians(shot["fov"]))
    return np.array([960 + focal * x / -z, 540 - focal * y / -z])


def test_points_of_the_scene_come_to_the_pixels_that_nerfstudio_gives(folder):
    path = read_camera_path(folder / "camera_path.json")
    assert path.fps == 24 and path.cameras.shape == (2,)
    assert (int(path.cameras[0].height), int(path.cameras[0].width)) == (1080, 1920)
    for camera, shot in zip(path.cameras, PATH["camera_path"], strict=True):
        for depth in (1.0, 20.0):
            point = (camera.centers + depth * camera.forward + np.array([0.1, 0.2, -0.15])).numpy()
            pixel, z = camera.project(point)
            assert z > 0
            np.testing.assert_allclose(pixel, nerfstudio_pixel(shot, point), atol=1e-8)
    assert path.cameras[1].intrinsics[1, 1].item() == pytest.approx(540)  # half the height over tan 45 degrees


def test_centres_are_undone_by_hand(folder):
    # c' = (0.9, -0.1, 0.3) -> c' / s - t = (4, -0.25, -0.5), and A^T takes (x, y, z) to (x, z, -y)
    camera = read_camera_path(folder / "camera_path.json").cameras[0]
    np.testing.assert_allclose(camera.centers, [4.0, -0.5, 0.25], atol=1e-12)


def test_the_transforms_may_lie_elsewhere(folder):
    beside = read_camera_path(folder / "camera_path.json").cameras
    elsewhere = folder / "run" / "saved.json"
    elsewhere.parent.mkdir()
    (folder / "dataparser_transforms.json").rename(elsewhere)
    with pytest.raises(ValueError, match="in the frame that nerfstudio trained in.*found no"):
        read_camera_path(folder / "camera_path.json")
    given = read_camera_path(folder / "camera_path.json", elsewhere).cameras
    np.testing.assert_array_equal(given.world_from_camera, beside.world_from_camera)


def test_which_files_are_paths(folder):
    assert is_camera_path(folder / "camera_path.json")
    assert not is_camera_path(folder / "dataparser_transforms.json") and not is_camera_path(folder / "none.json")


@pytest.mark.parametrize(
    ("file", "change", "named"),
    [
        ("camera_path", {"camera_type": "equirectangular"}, "camera_type: expected perspective, got equirectangular"),
        ("camera_path", {"render_height": 0}, "render_height: expected a number above 0"),
        ("camera_path", {"render_width": None}, "render_width: expected a number above 0, got None"),
        ("camera_path", {"camera_path": []}, "camera_path: expected a non-empty list"),
        ("camera_path", {"fps": "fast"}, "fps: expected a number above 0"),
        (
            "camera_path",
            {"camera_path": [{"fov": 50}]},
            r"camera_path\[0\]: camera_to_world: expected 16 finite numbers",
        ),
        ("camera_path", {"camera_path": [{**PATH["camera_path"][0], "fov": 180}]}, "fov: expected degrees below 180"),
        ("dataparser_transforms", {"scale": math.nan}, "scale: expected a number above 0, got nan"),
        ("dataparser_transforms", {"transform": [[1, 0], [0, 1]]}, "transform: expected 12 finite numbers"),
        ("dataparser_transforms", {"transform": (2 * np.eye(3, 4)).tolist()}, "transform: expected a rotation"),
    ],
)
def test_mistakes_name_file_and_field(folder, file, change, named):
    content = {"camera_path": PATH, "dataparser_transforms": TRANSFORM}[file] | change
    (folder / f"{file}.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=named) as caught:
        read_camera_path(folder / "camera_path.json")
    assert f"{file}.json" in str(caught.value)


def test_half_a_file_is_named(folder):
    file: Path = folder / "camera_path.json"
    file.write_text(file.read_text()[:100])
    with pytest.raises(ValueError, match="camera_path.json: not valid JSON"):
        read_camera_path(file)


UNSTATED = [[0.0, 1, 0, 0], [1, 0, 0, 0], [0, 0, -1, 0]]  # nerfstudio's, where colmap/sparse/0 lies beside the file
STATED = [[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0]]


def trained_on(folder: Path, poses: list[np.ndarray], meta: dict, applied: list | None) -> None:
    """The capture, and what nerfstudio saves after training: c' = s (T c), T' = T [A; 0 0 0 1], a path at the c'."""
    turn = np.vstack([TRANSFORM["transform"], [0, 0, 0, 1]])
    frames = [{"file_path": "a.png", "transform_matrix": pose.tolist()} for pose in poses]
    Image.new("RGB", (8, 6)).save(folder / "a.png")
    (folder / "transforms.json").write_text(json.dumps({"fl_x": 5.0, **meta, "frames": frames}))
    saved = turn if applied is None else turn @ np.vstack([applied, [0, 0, 0, 1]])
    content = {"transform": saved[:3].tolist(), "scale": TRANSFORM["scale"]}
    (folder / "dataparser_transforms.json").write_text(json.dumps(content))
    shots = []
    for pose in poses:
        trained = turn @ pose
        trained[:3, 3] *= TRANSFORM["scale"]
        shots.append({"camera_to_world": trained.ravel().tolist(), "fov": 50})
    (folder / "camera_path.json").write_text(json.dumps({**PATH, "camera_path": shots}))


@pytest.mark.parametrize(
    ("meta", "model", "applied"),
    [
        ({}, True, UNSTATED),
        ({}, False, None),
        ({"applied_transform": STATED}, True, STATED),
        ({"applied_transform": STATED}, False, STATED),
    ],
)
def test_a_path_along_the_views_lies_in_the_frame_of_the_scene(tmp_path, meta, model, applied):
    if model:
        (tmp_path / "colmap/sparse/0").mkdir(parents=True)
    turned = np.array([[0.0, -1, 0, 2.0], [1, 0, 0, -0.5], [0, 0, 1, 0.25], [0, 0, 0, 1]])
    moved = np.array([[1.0, 0, 0, 0.3], [0, 0, -1, 1.5], [0, 1, 0, -4.0], [0, 0, 0, 1]])
    trained_on(tmp_path, [turned, moved], meta, applied)
    scene, path = open_scene(tmp_path), read_camera_path(tmp_path / "camera_path.json")
    np.testing.assert_allclose(path.cameras.centers, scene.cameras.centers, atol=1e-9)
    np.testing.assert_allclose(path.cameras.world_from_camera, scene.cameras.world_from_camera, atol=1e-9)
    # and, as A is orthogonal, the reconstruction's centres are A^T of the stored ones
    back = np.eye(3) if applied is None else np.array(applied)[:, :3].T
    np.testing.assert_allclose(scene.cameras.centers, [back @ turned[:3, 3], back @ moved[:3, 3]], atol=1e-9)
