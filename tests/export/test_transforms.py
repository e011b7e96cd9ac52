"""A scene written as transforms.json: poses by hand from the JSON, projections by pycolmap, the scene read again."""

import json

import numpy as np
import pycolmap
import pytest
import torch
from PIL import Image

from raytrans.data import Frame, Scene, open_scene
from raytrans.export import write_transforms_scene
from raytrans.export.files import write_npy
from raytrans.geometry import Cameras, look_at
from raytrans.geometry.distortion import Distortion

SIZE = (30, 40)
LENSES = {
    "PINHOLE": None,
    "OPENCV": ("opencv", [-0.1, 0.03, 0.002, -0.003, 0.0]),
    "FULL_OPENCV": ("rational", [0.3, -0.12, 0.002, -0.003, 0.02, 0.6, -0.1, 0.05]),
    "OPENCV_FISHEYE": ("fisheye", [0.05, -0.01, 0.003, -0.001]),
}
KEYS = {"OPENCV": "k1 k2 p1 p2", "FULL_OPENCV": "k1 k2 p1 p2 k3 k4 k5 k6", "OPENCV_FISHEYE": "k1 k2 k3 k4"}
NAMES = ["left/a.png", "right/a.png", "right/b c.png"]


@pytest.fixture
def capture(tmp_path):
    """A scene of a lens whose images, depth and masks lie in tmp_path/images."""

    def made(lens="PINHOLE", **more):
        centers = torch.tensor([[4.0, 0.3, 0.2], [3.5, 1.0, -0.4], [-3.0, 2.0, 1.0]], dtype=torch.float64)
        poses = torch.stack([look_at(c, target=[0.0, 0, 0], up=[0.0, 0, 1]) for c in centers])
        intrinsics = torch.tensor([[[35.0 + i, 0, 19], [0, 33.0, 16], [0, 0, 1]] for i in range(3)])
        model = LENSES[lens]
        bend = None if model is None else Distortion(model[0], torch.tensor(model[1], dtype=torch.float64))
        folder, frames = tmp_path / "images", []
        for number, name in enumerate(NAMES):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", SIZE[::-1], (10 * number, 0, 200)).save(folder / name)
            Image.new("L", SIZE[::-1], 255).save(folder / f"{number}-mask.png")
            write_npy(folder / f"{number}.npy", np.full(SIZE, 2.0 + number))
            depth = {"depth": folder / f"{number}.npy", "depth_scale": 0.5 * (number + 1), **more}
            frames.append(Frame(folder / name, mask=folder / f"{number}-mask.png", **depth))
        cameras = Cameras(intrinsics, poses, SIZE, bend, near=[0.5, 0.6, 0.7], far=[5.0, 6.0, 7.0])
        return Scene(cameras, frames, {"test": [1], "train": [0, 2]})

    return made


def projected(frame: dict, model: str, point: np.ndarray) -> np.ndarray:
    """Pixel of a world point by what an entry of `frames` says: x right, y up, z backwards; the lens is pycolmap's."""
    right, up, back, place = np.array(frame["transform_matrix"])[:3].T
    away = point - place
    seen = np.array([away @ right, -(away @ up), -(away @ back)])
    keys = ["fl_x", "fl_y", "cx", "cy", *KEYS.get(model, "").split()]
    values = [frame[key] for key in keys]
    return pycolmap.Camera(model=model, width=frame["w"], height=frame["h"], params=values).img_from_cam(seen)


@pytest.mark.parametrize("lens", LENSES)
def test_the_json_alone_projects_as_the_cameras_do(tmp_path, capture, lens):
    scene = capture(lens)
    write_transforms_scene(tmp_path / "transforms.json", scene)
    meta = json.loads((tmp_path / "transforms.json").read_text())
    assert meta["camera_model"] == lens
    point = np.array([0.2, -0.3, 0.1])
    for camera, frame in zip(scene.cameras, meta["frames"], strict=True):
        expected = camera.project(torch.from_numpy(point))[0].numpy()
        assert np.abs(projected(frame, lens, point) - expected).max() < 1e-9
        turned = {**frame, "transform_matrix": np.array(frame["transform_matrix"]) @ np.diag([1.0, -1, -1, 1])}
        flipped = projected(turned, lens, point)  # the same oracle sees poses of other axes
        assert flipped is None or np.abs(flipped - expected).max() > 1


@pytest.mark.parametrize("lens", LENSES)
def test_is_a_scene_again_wherever_the_json_lies(tmp_path, capture, lens):
    scene = capture(lens)
    (tmp_path / "deep").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "deep", target_is_directory=True)
    (tmp_path / "deep/inner").mkdir()
    starts = {"transforms.json": "images/", "images/new.json": "", "link/inner/a.json": "../../images/"}
    for place, start in starts.items():
        write_transforms_scene(tmp_path / place, scene)
        listed = [frame["file_path"] for frame in json.loads((tmp_path / place).read_text())["frames"]]
        assert listed == [start + name for name in NAMES]
        again = open_scene(tmp_path / place, trusted=[tmp_path])
        assert torch.equal(again.cameras.intrinsics, scene.cameras.intrinsics)
        torch.testing.assert_close(again.cameras.world_from_camera, scene.cameras.world_from_camera, rtol=0, atol=1e-14)
        assert again.cameras.near.tolist() == [0.5, 0.6, 0.7] and again.cameras.far.tolist() == [5, 6, 7]
        assert again.splits == {"test": [1], "train": [0, 2]} and bool(again.mask(2).all())
        assert [again.depth(i)[0, 0].item() for i in range(3)] == [1.0, 3.0, 6.0]
        assert torch.equal(again.image(2), scene.image(2))
        pixels = [one.cameras[1].project(torch.zeros(3).double())[0] for one in (again, scene)]
        torch.testing.assert_close(*pixels, rtol=0, atol=1e-9)


def test_depth_that_the_format_cannot_describe_is_left_out_and_told(tmp_path, capture, caplog):
    write_transforms_scene(tmp_path / "transforms.json", capture(depth_invalid=(0, 65535)))
    assert "3 depth maps are left out" in caplog.text
    assert open_scene(tmp_path).depth(0) is None


def test_cameras_that_are_there_are_kept(tmp_path, capture):
    (tmp_path / "transforms.json").write_text("the user's own")
    with pytest.raises(ValueError, match=r"transforms.json: expected a new file, got one that exists"):
        write_transforms_scene(tmp_path / "transforms.json", capture())
    assert (tmp_path / "transforms.json").read_text() == "the user's own"
    write_transforms_scene(tmp_path / "transforms.json", capture(), replace=True)
    assert len(open_scene(tmp_path)) == 3


def test_soda_can_of_colmap_comes_back(tmp_path, real_data):
    scene = open_scene(real_data("soda_can"))
    write_transforms_scene(tmp_path / "soda.json", scene)
    again = open_scene(tmp_path / "soda.json", trusted=[real_data("soda_can")])
    assert [frame.image.name for frame in again.frames] == [frame.image.name for frame in scene.frames]
    torch.testing.assert_close(again.cameras.world_from_camera, scene.cameras.world_from_camera, rtol=0, atol=1e-12)
    model = pycolmap.Reconstruction(real_data("soda_can") / "sparse/0")
    by_name = {image.name: image for image in model.images.values()}
    frames = json.loads((tmp_path / "soda.json").read_text())["frames"]
    for frame, stated in zip(frames, scene.frames, strict=True):
        center = by_name[stated.image.name].projection_center()
        assert np.abs(np.array(frame["transform_matrix"])[:3, 3] - center).max() < 1e-9
