"""`applied_transform`, `applied_scale`, `ply_file_path` and the lenses of transforms.json, by nerfstudio's formulas."""

import json
import logging
import struct

import numpy as np
import pycolmap
import pytest
import torch
import trimesh
from PIL import Image

from raytrans.data import open_scene
from raytrans.data.ply import read_ply

# nerfstudio's colmap_to_json: rows 0, 2, 1 of the identity, the last one negated
SWAP = [[1.0, 0, 0, 0], [0, 0, 1.0, 0], [0, -1.0, 0, 0]]
SHARED = {"fl_x": 35.0, "fl_y": 33.0, "cx": 19.0, "cy": 16.0, "w": 40, "h": 30, "camera_model": "OPENCV"}
POINT = np.array([0.3, -0.2, 0.4])
CURVE = {"k1": 0.3, "k2": -0.12, "p1": 0.002, "p2": -0.003, "k3": 0.02, "k4": 0.6, "k5": -0.1, "k6": 0.05}


def reconstruction_pose():
    """camera_from_world of one image of a reconstruction, COLMAP's convention."""
    return pycolmap.Rigid3d(pycolmap.Rotation3d(np.array([0.2, -0.3, 0.1])), np.array([0.3, 0.1, 4.0]))


def stored_pose(transform=SWAP, scale=1.0):
    """transform_matrix as nerfstudio stores it: OpenGL axes, applied_transform from the left, the centre scaled."""
    pose = np.linalg.inv(np.vstack([reconstruction_pose().matrix(), [0, 0, 0, 1]])) @ np.diag([1.0, -1, -1, 1])
    pose = np.vstack([transform, [0, 0, 0, 1]]) @ pose
    pose[:3, :3] /= np.cbrt(np.linalg.det(np.array(transform)[:, :3]))
    pose[:3, 3] *= scale
    return pose.tolist()


def write(folder, frame=None, **meta):
    frame = {"file_path": "images/a.png", "transform_matrix": stored_pose(), **(frame or {})}
    (folder / "images").mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30)).save(folder / "images/a.png")
    (folder / "transforms.json").write_text(json.dumps({**SHARED, **meta, "frames": [frame]}))
    return folder


def expected_pixel(model="PINHOLE", parameters=(35.0, 33.0, 19.0, 16.0), point=POINT):
    camera = pycolmap.Camera(model=model, width=40, height=30, params=list(parameters))
    return camera.img_from_cam(reconstruction_pose() * point)


@pytest.mark.parametrize("scale", [None, 0.25])
def test_results_are_in_the_frame_of_the_reconstruction(tmp_path, scale):
    pose = stored_pose(scale=scale or 1.0)
    extra = {} if scale is None else {"applied_scale": scale}
    frame = {
        "transform_matrix": pose,
        "near": 2.0 * (scale or 1),
        "far": 9.0 * (scale or 1),
        "depth_file_path": "d.png",
    }
    Image.fromarray(np.full((30, 40), 4000, np.uint16)).save(tmp_path / "d.png")
    scene = open_scene(write(tmp_path, frame, applied_transform=SWAP, **extra))
    camera = scene.cameras[0]
    pixel, z = camera.project(torch.from_numpy(POINT))
    assert np.allclose(pixel, expected_pixel()) and np.isclose(z, (reconstruction_pose() * POINT)[2])
    assert camera.near == pytest.approx(2.0) and camera.far == pytest.approx(9.0)
    assert torch.allclose(scene.depth(0), torch.tensor(4.0 / (scale or 1)))
    # the same file without its keys stays in the stored frame
    stored = open_scene(write(tmp_path, {"transform_matrix": pose})).cameras[0]
    assert not np.allclose(stored.project(torch.from_numpy(POINT))[0], expected_pixel())


def test_any_similarity_is_undone(tmp_path):
    turn = pycolmap.Rotation3d(np.array([1.0, -0.5, 2.0])).matrix()
    transform = np.hstack([3.0 * turn, [[5.0], [-7.0], [2.0]]]).tolist()
    frame = {"transform_matrix": stored_pose(transform, 0.5)}
    meta = {"applied_transform": transform, "applied_scale": 0.5, "ply_file_path": "cloud.ply"}
    stored = np.array(transform) @ [*POINT, 1.0]
    (tmp_path / "cloud.ply").write_text(
        "ply\nformat ascii 1.0\nelement vertex 1\nproperty double x\nproperty double y\nproperty double z\nend_header\n"
        + " ".join(map(repr, stored.tolist()))
    )
    scene = open_scene(write(tmp_path, frame, **meta))
    assert np.allclose(scene.cameras[0].project(torch.from_numpy(POINT))[0], expected_pixel())
    points = scene.sparse_points()
    assert np.allclose(points.xyz, [POINT]) and points.rgb.tolist() == [[128] * 3]
    assert scene.sparse_depth(0) is None
    # nerfstudio trains on s c for a centre c and on s applied_scale p for a point p (orientation and centring off)
    trained = {"center": 0.7 * np.array(stored_pose(transform, 0.5))[:3, 3], "point": 0.7 * 0.5 * stored}
    away = np.linalg.norm(trained["point"] - trained["center"]) / (0.7 * 0.5 * 3.0)
    assert np.linalg.norm(points.xyz[0] - scene.cameras[0].centers.numpy()) == pytest.approx(away)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("applied_transform", [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, 0]], "expected an applied_transform of rotation"),
        ("applied_transform", [[1, 0, 0, 0], [0, 2, 0, 0], [0, 0, 1, 0]], "expected an applied_transform of rotation"),
        ("applied_transform", [[0, 0, 0, 0]] * 3, "expected an applied_transform of rotation"),
        ("applied_transform", [[1, 0, 0]], "finite applied_transform"),
        ("applied_transform", "swap", "finite applied_transform"),
        ("applied_transform", [[float("nan"), 0, 0, 0], *SWAP[1:]], "finite applied_transform"),
        ("applied_scale", 0, "positive number applied_scale, got 0"),
        ("applied_scale", "2", "positive number applied_scale, got '2'"),
    ],
)
def test_what_is_no_similarity_is_refused(tmp_path, key, value, words):
    with pytest.raises(ValueError, match=rf"transforms\.json: expected .*{words.removeprefix('expected ')}"):
        open_scene(write(tmp_path, **{key: value}))


@pytest.mark.parametrize(
    ("model", "names"),
    [
        ("SIMPLE_PINHOLE", ""),
        ("PINHOLE", ""),
        ("SIMPLE_RADIAL", "k1"),
        ("RADIAL", "k1 k2"),
        ("OPENCV", "k1 k2 p1 p2"),
        ("FULL_OPENCV", "k1 k2 p1 p2 k3 k4 k5 k6"),
        ("OPENCV_FISHEYE", "k1 k2 k3 k4"),
        ("SIMPLE_FISHEYE", ""),
        ("FISHEYE", ""),
        ("SIMPLE_RADIAL_FISHEYE", "k1"),
        ("RADIAL_FISHEYE", "k1 k2"),
    ],
)
def test_every_camera_model_projects_as_pycolmap_does(tmp_path, model, names):
    values = {name: 0.3 * CURVE[name] for name in names.split()}
    single = "SIMPLE" in model or "RADIAL" in model
    focal = {"fl_x": 35.0, "fl_y": 35.0 if single else 33.0}
    meta = {**focal, "camera_model": model, "applied_transform": SWAP, **values}
    camera = open_scene(write(tmp_path, **meta)).cameras[0]
    parameters = [*([35.0] if single else [35.0, 33.0]), 19.0, 16.0, *values.values()]
    for point in np.random.default_rng(0).uniform(-1, 1, (20, 3)):
        pixel = camera.project(torch.from_numpy(point))[0]
        assert np.allclose(pixel, expected_pixel(model, parameters, point), atol=1e-9)


@pytest.mark.parametrize(
    ("meta", "words"), [({"camera_model": "FOV"}, "got FOV"), ({"equirectangular": True}, "got equirectangular")]
)
def test_other_lenses_are_named(tmp_path, meta, words):
    with pytest.raises(ValueError, match=f"expected a camera_model of .*, SIMPLE_RADIAL_FISHEYE, .*; {words}$"):
        open_scene(write(tmp_path, **meta))


def cloud():
    random = np.random.default_rng(0)
    return random.normal(size=(7, 3)), random.integers(0, 256, (7, 3)).astype(np.uint8)


@pytest.mark.parametrize("encoding", ["ascii", "binary"])
def test_ply_of_another_program(tmp_path, encoding):
    xyz, rgb = cloud()
    path = tmp_path / "cloud.ply"
    path.write_bytes(trimesh.PointCloud(xyz, colors=rgb).export(file_type="ply", encoding=encoding))
    points = read_ply(path)
    assert np.allclose(points.xyz, xyz, atol=1e-6) and np.array_equal(points.rgb, rgb)


@pytest.mark.parametrize(("kind", "order"), [("binary_little_endian", "<"), ("binary_big_endian", ">")])
def test_ply_with_more_properties_and_elements(tmp_path, kind, order):
    xyz, rgb = cloud()
    names = "".join(f"property double {n}\n" for n in "xyz") + "property float nx\n"
    names += "".join(f"property uchar {n}\n" for n in ("red", "green", "blue"))
    head = f"ply\nformat {kind} 1.0\ncomment made\nelement vertex 7\n{names}element face 1\n"
    head += "property list uchar int vertex_indices\nend_header\n"
    body = b"".join(struct.pack(f"{order}dddfBBB", *p, 0.5, *c) for p, c in zip(xyz, rgb, strict=True))
    (tmp_path / "cloud.ply").write_bytes(head.encode() + body + struct.pack(f"{order}B3i", 3, 0, 1, 2))
    points = read_ply(tmp_path / "cloud.ply")
    assert np.array_equal(points.xyz, xyz) and np.array_equal(points.rgb, rgb)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c[:-3], "cut short: expected 7 vertices"),
        (lambda c: c[:60], "expected a PLY file"),
        (lambda c: b"solid" + c, "expected a PLY file, .* got b'solid"),
        (lambda c: b"", "expected a PLY file"),
        (lambda c: c.replace(b"binary_little_endian", b"binary_middle_endian"), "expected a format of ascii"),
        (lambda c: c.replace(b"element vertex", b"element things"), "expected vertex as first element"),
        (lambda c: c.replace(b"float z", b"float w"), "expected vertices with x, y, z"),
        (lambda c: c.replace(b"vertex 7", b"vertex 9999999"), "cut short: expected 9999999"),
    ],
)
def test_broken_ply_names_its_file(tmp_path, change, words):
    path = tmp_path / "cloud.ply"
    content = trimesh.PointCloud(*cloud()).export(file_type="ply", encoding="binary")
    read_ply(write_bytes(path, content))
    with pytest.raises(ValueError, match=rf"cloud\.ply: {words}"):
        read_ply(write_bytes(path, change(content)))


def write_bytes(path, content):
    path.write_bytes(content)
    return path


def test_a_missing_ply_is_left_out_with_a_warning(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        scene = open_scene(write(tmp_path, ply_file_path="gone.ply"))
    assert scene.sparse_points() is None and "gone.ply does not exist" in caplog.text
