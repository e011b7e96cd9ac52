"""Writers against independent readers (PIL, OpenCV, numpy, ffmpeg), atomic in the face of failures."""

import errno
import json
import os
import resource
import signal
import stat
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial.transform import Rotation

from raytrans.data import open_scene
from raytrans.export.files import (
    append_json_line,
    depth_colors,
    read_json_lines,
    replacing,
    write_bytes,
    write_depth_png,
    write_json,
    write_npy,
    write_png,
    write_text,
    write_transforms,
    write_video,
)
from raytrans.geometry.cameras import Cameras
from raytrans.geometry.distortion import Distortion


def test_eight_bits(tmp_path):
    image = np.random.default_rng(0).random((6, 5, 3))
    write_png(tmp_path / "new/folder/a.png", torch.from_numpy(image))
    with Image.open(tmp_path / "new/folder/a.png") as stored:
        assert stored.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(stored), np.round(image * 255))


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 3), (6, 5, 4)])
def test_sixteen_bits(tmp_path, shape):
    image = np.random.default_rng(0).integers(0, 65536, shape, dtype=np.uint16)
    write_png(tmp_path / "a.png", image, bits=16)
    stored = cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED)
    assert stored.dtype == np.uint16
    np.testing.assert_array_equal(stored if len(shape) == 2 else stored[..., [2, 1, 0, 3][: shape[2]]], image)


def test_floats_are_clamped(tmp_path):
    write_png(tmp_path / "a.png", np.array([[-1.0, 0.5, 2.0]]))
    with Image.open(tmp_path / "a.png") as stored:
        assert np.asarray(stored).tolist() == [[0, 128, 255]]


@pytest.mark.parametrize(
    "image, bits, message",
    [
        (np.zeros((2, 2, 2)), 8, r"image: expected \(H, W\).*got shape \(2, 2, 2\)"),
        (np.full((2, 2), np.nan), 8, "got NaN"),
        (np.full((2, 2), 300), 8, "from 0 to 255, got 300"),
        (np.zeros((2, 2)), 12, "bits: expected 8 or 16, got 12"),
    ],
)
def test_bad_images_leave_no_file(tmp_path, image, bits, message):
    with pytest.raises(ValueError, match=message):
        write_png(tmp_path / "a.png", image, bits)
    assert list(tmp_path.iterdir()) == []


def test_depth_png_and_back(tmp_path):
    depth = np.array([[1.0, np.nan, 2.5], [70.0, 0.0004, 65.535]])
    write_depth_png(tmp_path / "d.png", depth, 1e-3)
    stored = cv2.imread(str(tmp_path / "d.png"), cv2.IMREAD_UNCHANGED)
    assert stored.tolist() == [[1000, 0, 2500], [0, 0, 65535]]


def test_arrays_are_float32(tmp_path):
    write_npy(tmp_path / "d.npy", torch.tensor([[1.0, float("nan")]], dtype=torch.float64))
    stored = np.load(tmp_path / "d.npy")
    assert stored.dtype == np.float32
    np.testing.assert_array_equal(stored, [[1.0, np.nan]])


def test_json_of_tensors_and_unknowns(tmp_path):
    value = {"a": torch.tensor([1.0, float("nan")]), "b": np.float32(0.5), "c": Path("x"), 4: [float("inf"), (1, None)]}
    write_json(tmp_path / "a.json", value)
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [1, None], "b": 0.5, "c": "x", "4": [None, [1, None]]}


def test_depth_colours():
    depth = np.array([[1.0, 2.0, 4.0, np.nan, 0.0]])
    colors = depth_colors(depth, near=1.0, far=4.0)
    turbo = cv2.applyColorMap(np.array([[255, 85, 0]], np.uint8), cv2.COLORMAP_TURBO)[0, :, ::-1]
    np.testing.assert_array_equal(colors[0, :3], turbo)
    assert colors[0, 3:].tolist() == [[0, 0, 0], [0, 0, 0]]
    assert depth_colors(np.full((2, 2), np.nan)).sum() == 0
    assert (depth_colors(np.full((2, 2), 3.0)) == depth_colors(np.full((2, 2), 3.0))[0, 0]).all()


@pytest.mark.parametrize("size", [(48, 64), (49, 65)])
def test_video_has_the_frames(tmp_path, size):
    levels = [40, 120, 200]
    frames = [np.full((*size, 3), level, np.uint8) for level in levels]
    write_video(tmp_path / "v.mp4", iter(frames), fps=10)
    video = cv2.VideoCapture(str(tmp_path / "v.mp4"))
    assert video.get(cv2.CAP_PROP_FPS) == pytest.approx(10)
    for level in levels:
        found, frame = video.read()
        assert found and frame.shape == (size[0] + size[0] % 2, size[1] + size[1] % 2, 3)
        assert abs(frame.mean() - level) < 4
    assert not video.read()[0]
    assert [path.name for path in tmp_path.iterdir()] == ["v.mp4"]


def test_video_that_fails_leaves_the_old_one(tmp_path):
    (tmp_path / "v.mp4").write_bytes(b"old")
    with pytest.raises(ValueError, match="frames: expected all of shape"):
        write_video(tmp_path / "v.mp4", [np.zeros((16, 16, 3)), np.zeros((8, 16, 3))])
    with pytest.raises(ValueError, match="frames: expected at least one"):
        write_video(tmp_path / "v.mp4", [])
    assert (tmp_path / "v.mp4").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["v.mp4"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    write_text(tmp_path / "a.txt", "old")
    for error in (KeyboardInterrupt, RuntimeError):
        with pytest.raises(error), replacing(tmp_path / "a.txt") as temporary:
            temporary.write_text("half")
            raise error
    assert (tmp_path / "a.txt").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_full_disk_is_named(tmp_path, monkeypatch):
    write_text(tmp_path / "a.txt", "old")
    monkeypatch.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
    with pytest.raises(OSError, match="a.txt: could not be written .No space left") as error:
        write_text(tmp_path / "a.txt", "new")
    assert error.value.errno == errno.ENOSPC
    assert (tmp_path / "a.txt").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"file/a.txt: could not be written"):
        write_bytes(tmp_path / "file" / "a.txt", b"")


@pytest.mark.skipif(sys.platform == "win32", reason="no file modes")
def test_files_are_as_readable_as_any_other(tmp_path):
    write_text(tmp_path / "a.txt", "x")
    (tmp_path / "b.txt").write_text("x")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a.txt", "b.txt")]
    assert modes[0] == modes[1]


def rig(count, distortion=None, **bounds):
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, :3, :3] = Rotation.random(count, random_state=0).as_matrix()
    poses[:, :3, 3] = np.random.default_rng(0).normal(size=(count, 3))
    intrinsics = np.array([[[20.0 + i, 0, 8.5], [0, 21.0, 6.25], [0, 0, 1]] for i in range(count)])
    sizes = np.array([(12, 16), (14, 10), (12, 16)])[:count]
    return Cameras(intrinsics, poses, size=sizes, distortion=distortion, **bounds)


LENSES = {
    "none": None,
    "opencv": Distortion("opencv", torch.tensor([[0.1, -0.02, 0.003, 0.001, 0.004]] * 3, dtype=torch.float64)),
    "rational": Distortion(
        "rational", torch.tensor([[0.1, -0.02, 0.003, 0.001, 0.004, 0.3, 0.1, 0.05]] * 3, dtype=torch.float64)
    ),
    "fisheye": Distortion("fisheye", torch.tensor([[0.1, -0.02, 0.003, 0.001]] * 3, dtype=torch.float64)),
}


@pytest.mark.parametrize("lens", LENSES)
def test_written_cameras_are_a_scene_again(tmp_path, lens):
    cameras = rig(3, LENSES[lens], near=np.array([0.5, 0.6, 0.7]), far=np.array([5.0, 6.0, 7.0]))
    names = [f"color/{i}.png" for i in range(3)]
    for name, camera in zip(names, cameras, strict=True):
        write_png(tmp_path / name, np.zeros((camera.height, camera.width, 3)))
    depth = np.full((12, 16), 2.5)
    depth[0, 0] = np.nan
    write_npy(tmp_path / "depth/0.npy", depth)
    write_transforms(tmp_path / "transforms.json", cameras, names, ["depth/0.npy", None, None])
    scene = open_scene(tmp_path)
    torch.testing.assert_close(scene.cameras.intrinsics, cameras.intrinsics, rtol=0, atol=0)
    torch.testing.assert_close(scene.cameras.world_from_camera, cameras.world_from_camera, rtol=0, atol=1e-14)
    assert [c.height for c in scene.cameras] == [12, 14, 12]
    assert scene.cameras.near.tolist() == [0.5, 0.6, 0.7] and scene.cameras.far.tolist() == [5, 6, 7]
    if LENSES[lens] is not None:
        assert scene.cameras.distortion.model == lens
        torch.testing.assert_close(scene.cameras.distortion.coefficients, LENSES[lens].coefficients)
    np.testing.assert_array_equal(scene.depth(0).numpy(), depth.astype(np.float32))
    assert scene.depth(1) is None


def test_written_axes_are_opengl(tmp_path):
    cameras = rig(2)
    write_transforms(tmp_path / "t.json", cameras, ["a.png", "b.png"])
    meta = json.loads((tmp_path / "t.json").read_text())
    pose, ours = np.array(meta["frames"][1]["transform_matrix"]), cameras[1].world_from_camera.numpy()
    np.testing.assert_array_equal(pose[:3, 0], ours[:3, 0])
    np.testing.assert_array_equal(pose[:3, 1:3], -ours[:3, 1:3])
    np.testing.assert_array_equal(pose[:3, 3], ours[:3, 3])
    assert meta["frames"][1]["fl_x"] == 21 and meta["frames"][1]["w"] == 10 and meta["camera_model"] == "PINHOLE"
    with pytest.raises(ValueError, match="images, depths: expected 2 names, got 1"):
        write_transforms(tmp_path / "u.json", cameras, ["a.png"])


def test_cameras_that_are_there_are_kept(tmp_path):
    (tmp_path / "transforms.json").write_text("the user's own")
    with pytest.raises(ValueError, match=r"transforms.json: expected a new file, got one that exists; replace=True"):
        write_transforms(tmp_path / "transforms.json", rig(2), ["a.png", "b.png"])
    assert (tmp_path / "transforms.json").read_text() == "the user's own"
    (tmp_path / "link.json").symlink_to(tmp_path / "nothing.json")
    with pytest.raises(ValueError, match=r"link.json: expected a new file"):
        write_transforms(tmp_path / "link.json", rig(2), ["a.png", "b.png"])
    write_transforms(tmp_path / "transforms.json", rig(2), ["a.png", "b.png"], replace=True)
    assert len(json.loads((tmp_path / "transforms.json").read_text())["frames"]) == 2


def test_lines_of_json_are_read_back_but_for_one_that_was_cut(tmp_path):
    file = tmp_path / "new" / "log.jsonl"
    for value in ({"step": 1, "loss": 0.5}, {"step": 2, "loss": float("nan")}):
        append_json_line(file, value)
    assert [json.loads(line) for line in file.read_text().splitlines()] == read_json_lines(file)
    assert read_json_lines(file) == [{"step": 1, "loss": 0.5}, {"step": 2, "loss": None}]
    with open(file, "a") as stream:
        stream.write('{"step": 3, "lo')
    assert len(read_json_lines(file)) == 2


@pytest.mark.parametrize("line", ["no json", "3", ""])
def test_a_line_that_is_no_object_is_named(tmp_path, line):
    (tmp_path / "log.jsonl").write_text('{"step": 1}\n' + line + "\n")
    with pytest.raises(ValueError, match=r"log\.jsonl: line 2: expected"):
        read_json_lines(tmp_path / "log.jsonl")
    with pytest.raises(ValueError, match="no such file"):
        read_json_lines(tmp_path / "other.jsonl")


def test_a_line_that_has_no_room_names_the_file(tmp_path):
    """As on a full disk: the second line goes beyond the largest file that the process may write."""
    file = tmp_path / "log.jsonl"
    append_json_line(file, {"step": 1})
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    for room in (file.stat().st_size, file.stat().st_size + 4):
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
        try:
            with pytest.raises(OSError) as told:
                append_json_line(file, {"step": 2})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert told.value.filename == str(file)
    signal.signal(signal.SIGXFSZ, handler)
    assert read_json_lines(file) == [{"step": 1}]
