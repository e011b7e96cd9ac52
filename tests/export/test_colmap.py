"""What is written as a COLMAP text model, read by pycolmap, whose projections are compared with ours."""

import numpy as np
import pycolmap
import pytest
import torch
from PIL import Image

from raytrans.data import Frame, Scene, open_scene
from raytrans.data.points import SparsePoints
from raytrans.export.colmap import write_colmap, write_colmap_scene
from raytrans.geometry import Cameras, look_at
from raytrans.geometry.distortion import Distortion

SIZE = (30, 40)
LENSES = {
    "PINHOLE": None,
    "OPENCV": ("opencv", [-0.1, 0.03, 0.002, -0.003, 0.0]),
    "FULL_OPENCV": ("opencv", [-0.1, 0.03, 0.002, -0.003, 0.02]),
    "FULL_OPENCV rational": ("rational", [0.3, -0.12, 0.002, -0.003, 0.02, 0.6, -0.1, 0.05]),
    "OPENCV_FISHEYE": ("fisheye", [0.05, -0.01, 0.003, -0.001]),
}
NAMES = ["left/a.png", "right/a.png", "right/b.png"]


def rig(lens=None):
    centers = torch.tensor([[4.0, 0.3, 0.2], [3.5, 1.0, -0.4], [-3.0, 2.0, 1.0]], dtype=torch.float64)
    poses = torch.stack([look_at(c, target=[0.0, 0, 0], up=[0.0, 0, 1]) for c in centers])
    intrinsics = torch.tensor([[[35.0 + i, 0, 19], [0, 33.0, 16], [0, 0, 1]] for i in (0, 0, 1)])
    if lens is not None:
        lens = Distortion(lens[0], torch.tensor(lens[1], dtype=torch.float64))
    return Cameras(intrinsics, poses, SIZE, lens)


def cloud(cameras):
    """Points, seen by the first two views, where they project."""
    random = np.random.default_rng(0)
    xyz = random.uniform(-1, 1, (9, 3))
    seen = [(np.arange(9), cameras[i].project(torch.from_numpy(xyz))[0].numpy()) for i in range(2)]
    return SparsePoints(
        xyz, random.integers(0, 256, (9, 3)).astype(np.uint8), [*seen, (np.arange(0), np.zeros((0, 2)))]
    )


@pytest.mark.parametrize("name", LENSES)
def test_pycolmap_projects_as_the_cameras_do(tmp_path, name):
    cameras = rig(LENSES[name])
    points = cloud(cameras)
    write_colmap(tmp_path / "model", cameras, NAMES, points)
    read = pycolmap.Reconstruction(tmp_path / "model")
    assert {camera.model.name for camera in read.cameras.values()} == {name.split()[0]} and len(read.cameras) == 2
    by_name = {image.name: image for image in read.images.values()}
    for camera, image in zip(cameras, NAMES, strict=True):
        for xyz in points.xyz:
            expected = camera.project(torch.from_numpy(xyz))[0].numpy()
            assert np.abs(by_name[image].project_point(xyz) - expected).max() < 1e-9
    assert len(read.points3D) == 9 and read.compute_mean_reprojection_error() < 1e-6
    point = read.points3D[4]
    assert np.allclose(point.xyz, points.xyz[3]) and np.array_equal(point.color, points.rgb[3])
    assert point.track.length() == 2 and point.error == pytest.approx(0, abs=1e-6)
    assert [by_name[n].num_points3D for n in NAMES] == [9, 9, 0]


def test_without_points_and_without_observations(tmp_path):
    cameras = rig()
    write_colmap(tmp_path, cameras, NAMES)
    assert len(pycolmap.Reconstruction(tmp_path).points3D) == 0
    points = cloud(cameras)
    write_colmap(tmp_path, cameras, NAMES, SparsePoints(points.xyz, points.rgb), replace=True)
    read = pycolmap.Reconstruction(tmp_path)
    assert np.allclose([read.points3D[i + 1].xyz for i in range(9)], points.xyz)


@pytest.mark.parametrize("lens", LENSES)
def test_a_written_scene_is_read_again(tmp_path, lens):
    cameras = rig(LENSES[lens])
    for name in NAMES:
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30)).save(tmp_path / "images" / name)
    points = cloud(cameras)
    scene = Scene(cameras, [Frame(tmp_path / "images" / name) for name in NAMES], points=lambda: points)
    assert write_colmap_scene(tmp_path / "sparse/0", scene) == tmp_path / "images"
    again = open_scene(tmp_path)
    assert torch.allclose(again.cameras.world_from_camera, cameras.world_from_camera, atol=1e-12)
    assert torch.equal(again.cameras.intrinsics, cameras.intrinsics)
    pixels = cameras[0].project(torch.from_numpy(points.xyz))[0]
    assert torch.allclose(again.cameras[0].project(torch.from_numpy(points.xyz))[0], pixels, atol=1e-9)
    assert np.allclose(again.sparse_points().observations[1][1], points.observations[1][1])


@pytest.mark.parametrize("there", ["cameras.txt", "images.txt", "points3D.txt", "cameras.bin", "rigs.bin", "rigs.txt"])
def test_a_model_that_is_there_is_kept(tmp_path, there):
    scene = Scene(rig(), [Frame(tmp_path / "images" / name) for name in NAMES])
    model = tmp_path / "model"
    model.mkdir()
    (model / there).write_text("the user's own")
    for write in (lambda: write_colmap_scene(model, scene), lambda: write_colmap(model, scene.cameras, NAMES)):
        with pytest.raises(ValueError, match=f"{there}: expected a"):
            write()
    assert [file.name for file in model.iterdir()] == [there] and (model / there).read_text() == "the user's own"


def test_only_a_text_model_is_replaced_when_asked(tmp_path):
    scene = Scene(rig(), [Frame(tmp_path / "images" / name) for name in NAMES])
    for _ in range(2):
        write_colmap_scene(tmp_path / "model", scene, replace=True)
    assert pycolmap.Reconstruction(tmp_path / "model").num_images() == 3
    pycolmap.Reconstruction(tmp_path / "model").write_binary(tmp_path / "model")
    with pytest.raises(ValueError, match="cameras.bin: expected a folder without another model"):
        write_colmap_scene(tmp_path / "model", scene, replace=True)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["a.png", "b.png"], "expected 3 different names, got 2 of 2"),
        (["a.png", "a.png", "b.png"], "expected 3 different names, got 2 of 3"),
        (["a.png", "b c.png", "d.png"], "names without spaces, .* got 'b c.png'"),
        (["a.png", "b\n.png", "d.png"], "names without spaces"),
    ],
)
def test_names_that_the_format_cannot_hold(tmp_path, names, words):
    with pytest.raises(ValueError, match=f"images: {words}|images: expected {words}"):
        write_colmap(tmp_path / "model", rig(), names)
    assert not (tmp_path / "model").exists()


def test_skewed_pixels_are_refused(tmp_path):
    intrinsics = [[35.0, 1.0, 19], [0, 33.0, 16], [0, 0, 1]]
    cameras = Cameras([intrinsics], torch.eye(4)[None], SIZE)
    with pytest.raises(ValueError, match="cameras: the format holds no skew, got 1.0"):
        write_colmap(tmp_path, cameras, ["a.png"])


def test_soda_can_survives_the_way_to_text_and_back(tmp_path, real_data):
    scene = open_scene(real_data("soda_can"))
    write_colmap_scene(tmp_path / "model", scene)
    read = pycolmap.Reconstruction(tmp_path / "model")
    stated = pycolmap.Reconstruction(real_data("soda_can") / "sparse/0")
    assert read.num_images() == 71 and read.compute_num_observations() == stated.compute_num_observations()
    assert read.compute_mean_reprojection_error() == pytest.approx(stated.compute_mean_reprojection_error(), abs=1e-6)
