"""The reader of transforms.json: the pixel of a known point by the formats' published formulas, and bad input."""

import copy
import json
import logging
import math

import numpy as np
import pytest
import torch
from PIL import Image

from raytrans.data import open_scene
from raytrans.data.readers.transforms import read_cameras

# first frame of the lego scene of NeRF-synthetic, as published
LEGO_POSE = [
    [-0.9999021887779236, 0.004192245192825794, -0.013345719315111637, -0.05379832163453102],
    [-0.013988681137561798, -0.2996590733528137, 0.95394366979599, 3.845470428466797],
    [-4.656612873077393e-10, 0.9540371894836426, 0.29968830943107605, 1.2080823183059692],
    [0.0, 0.0, 0.0, 1.0],
]
LEGO = {"camera_angle_x": 0.6911112070083618, "frames": [{"file_path": "./r_0", "transform_matrix": LEGO_POSE}]}
# shared intrinsics of the fox of instant-ngp, and a lens of the size of nerfstudio's documented example
FOX_LENS = {"fl_x": 687.76, "fl_y": 687.245, "cx": 277.279, "cy": 482.634, "w": 540, "h": 960}
FOX_CURVE = {"k1": 0.0578421, "k2": -0.0805099, "p1": -0.000980296, "p2": 0.00015575}
POINT = np.array([0.2, -0.1, 0.3])


def write_scene(folder, meta, size=(10, 8), extension=".png", name="transforms.json"):
    """The json and a small image for every frame that has none; size is (width, height)."""
    for frame in meta["frames"]:
        path = folder / (frame["file_path"] + ("" if "." in frame["file_path"].lstrip("./") else extension))
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            Image.new("RGB", size, (51, 102, 153)).save(path)
    (folder / name).write_text(json.dumps(meta))
    return folder


def meta_of(shared, frames=1, **frame):
    """Shared values with frames in the lego camera's place, `frame` added to each."""
    listed = [{"file_path": f"i/{i}.png", "transform_matrix": LEGO_POSE, **frame} for i in range(frames)]
    return copy.deepcopy({**shared, "frames": listed})


def on_image_plane(point=POINT):
    """(x, y) = (X / -Z, -Y / -Z) in OpenGL camera axes: right and down, at distance one."""
    x, y, z, _ = np.linalg.inv(np.array(LEGO_POSE)) @ [*point, 1.0]
    return x / -z, -y / -z


def pixel_of(camera, point=POINT):
    pixel, z = camera.project(torch.from_numpy(point))
    assert z > 0
    return pixel.numpy()


def test_nerf_synthetic_angle_without_size_or_extension(tmp_path):
    scene = open_scene(write_scene(tmp_path, LEGO, size=(200, 100)))
    camera = scene.cameras[0]
    assert (camera.height, camera.width) == (100, 200) and camera.near is None
    focal = 0.5 * 200 / math.tan(0.5 * 0.6911112070083618)
    x, y = on_image_plane()
    np.testing.assert_allclose(pixel_of(camera), [focal * x + 100, focal * y + 50], rtol=1e-6)
    assert scene.image(0).shape == (100, 200, 3) and scene.depth(0) is None and scene.mask(0) is None


def test_both_angles(tmp_path):
    meta = {**LEGO, "camera_angle_x": 0.7, "camera_angle_y": 1.1}
    camera = open_scene(write_scene(tmp_path, meta, size=(200, 100))).cameras[0]
    assert camera.intrinsics[0, 0].item() == pytest.approx(100 / math.tan(0.35))
    assert camera.intrinsics[1, 1].item() == pytest.approx(50 / math.tan(0.55))


def test_degrees(tmp_path):
    meta = {"x_fov": 90.0, "frames": LEGO["frames"]}
    camera = open_scene(write_scene(tmp_path, meta, size=(200, 100))).cameras[0]
    assert camera.intrinsics.diagonal().tolist() == pytest.approx([100, 100, 1])


@pytest.mark.parametrize("place", ["shared", "per frame"])
def test_opencv_lens(tmp_path, place):
    values = FOX_LENS | FOX_CURVE
    meta = meta_of(values) if place == "shared" else meta_of({}, **values)
    camera = open_scene(write_scene(tmp_path, meta, size=(540, 960))).cameras[0]
    x, y = on_image_plane()
    k1, k2, p1, p2 = FOX_CURVE.values()
    r2 = x * x + y * y
    radial = 1 + k1 * r2 + k2 * r2**2
    x_d = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
    y_d = y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y
    np.testing.assert_allclose(pixel_of(camera), [687.76 * x_d + 277.279, 687.245 * y_d + 482.634], atol=1e-4)


def test_fisheye_lens(tmp_path):
    lens = {"camera_model": "OPENCV_FISHEYE", "fl_x": 1072.0, "fl_y": 1068.0, "cx": 1504.0, "cy": 1000.0, "w": 3008}
    curve = {"h": 2000, "k1": 0.0312, "k2": 0.0051, "k3": 0.0006, "k4": -0.0001}
    camera = open_scene(write_scene(tmp_path, meta_of(lens | curve), size=(3008, 2000))).cameras[0]
    x, y = on_image_plane()
    r = math.hypot(x, y)
    theta = math.atan(r)
    bent = theta * (1 + 0.0312 * theta**2 + 0.0051 * theta**4 + 0.0006 * theta**6 - 0.0001 * theta**8)
    expected = [1072 * x * bent / r + 1504, 1068 * y * bent / r + 1000]
    np.testing.assert_allclose(pixel_of(camera), expected, atol=1e-4)


def test_a_fisheye_without_coefficients_is_equidistant(tmp_path):
    meta = meta_of({"camera_model": "OPENCV_FISHEYE", "fl_x": 50.0})
    camera = open_scene(write_scene(tmp_path, meta, size=(40, 30))).cameras[0]
    x, y = on_image_plane()
    bend = math.atan(math.hypot(x, y)) / math.hypot(x, y)
    np.testing.assert_allclose(pixel_of(camera), [50 * x * bend + 20, 50 * y * bend + 15], atol=1e-5)


@pytest.mark.parametrize("curve, model", [({"k1": 0.01}, "fisheye"), ({}, None)])
def test_the_fisheye_flag_of_instant_ngp_needs_coefficients(tmp_path, curve, model):
    camera = open_scene(write_scene(tmp_path, meta_of({"is_fisheye": True, "fl_x": 50.0} | curve))).cameras[0]
    assert getattr(camera.distortion, "model", None) == model


def test_lens_models_do_not_mix(tmp_path):
    meta = meta_of({"fl_x": 50.0}, frames=2)
    meta["frames"][1]["camera_model"] = "OPENCV_FISHEYE"
    with pytest.raises(ValueError, match="camera_model: expected one lens model per scene"):
        open_scene(write_scene(tmp_path, meta))


def test_one_focal_length_and_no_centre(tmp_path):
    camera = open_scene(write_scene(tmp_path, meta_of({"fl_x": 50.0}), size=(40, 30))).cameras[0]
    assert camera.intrinsics.tolist() == [[50, 0, 20], [0, 50, 15], [0, 0, 1]]


def test_a_frame_wins_over_shared_values_and_sizes_mix(tmp_path):
    meta = meta_of({"fl_x": 50.0, "cx": 20.0, "cy": 15.0}, frames=2)
    meta["frames"][1] |= {"fl_x": 60.0, "fl_y": 61.0, "cx": 14.0, "cy": 21.0}
    write_scene(tmp_path, {"frames": meta["frames"][:1]}, size=(40, 30))
    scene = open_scene(write_scene(tmp_path, meta, size=(30, 40)))
    assert [(c.height, c.width) for c in scene.cameras] == [(30, 40), (40, 30)]
    assert scene.cameras[1].intrinsics.tolist() == [[60, 0, 14], [0, 61, 21], [0, 0, 1]]
    assert [v.shape[:2] for v in scene.views([0, 1]).images] == [(30, 40), (40, 30)]


def test_images_smaller_than_stated_scale_the_intrinsics_by_the_exact_ratio(tmp_path):
    camera = open_scene(write_scene(tmp_path, meta_of(FOX_LENS), size=(113, 200))).cameras[0]
    rx, ry = 113 / 540, 200 / 960
    expected = [[687.76 * rx, 0, 277.279 * rx], [0, 687.245 * ry, 482.634 * ry], [0, 0, 1]]
    np.testing.assert_allclose(camera.intrinsics.numpy(), expected)


def test_images_of_another_aspect_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"frame 0 \(i/0.png\): expected height and width \(960, 540\) or the same"):
        open_scene(write_scene(tmp_path, meta_of(FOX_LENS), size=(100, 100)))


def turned_jpeg(folder, size=(40, 30)):
    """A JPEG stored 40x30 that EXIF shows as 30x40 (width x height)."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", size).save(folder / "a.jpg", exif=exif)


@pytest.mark.parametrize(
    "stated, expected", [({}, (40, 30)), ({"w": 30, "h": 40}, (40, 30)), ({"w": 40, "h": 30}, (30, 40))]
)
def test_exif_orientation_follows_the_stated_size(tmp_path, stated, expected):
    turned_jpeg(tmp_path)
    meta = {"fl_x": 50.0, **stated, "frames": [{"file_path": "a.jpg", "transform_matrix": LEGO_POSE}]}
    scene = open_scene(write_scene(tmp_path, meta))
    assert (scene.cameras[0].height, scene.cameras[0].width) == expected
    assert scene.image(0).shape[:2] == expected
    assert scene.cameras[0].intrinsics[0, 2] == expected[1] / 2


def test_split_files(tmp_path):
    for name, count in (("train", 3), ("test", 2), ("val", 1)):
        frames = [{"file_path": f"./{name}/r_{i}", "transform_matrix": LEGO_POSE} for i in range(count)]
        write_scene(tmp_path, {**LEGO, "frames": frames}, name=f"transforms_{name}.json")
    scene = open_scene(tmp_path)
    assert len(scene) == 6
    assert (scene.split("train"), scene.split("test"), scene.split("holdout")) == ([0, 1, 2], [4, 5], [4, 5])
    one = open_scene(tmp_path / "transforms_train.json")
    assert (len(one), one.split("test"), one.split("holdout")) == (3, [], [0])


def test_split_lists(tmp_path):
    meta = meta_of(FOX_LENS, frames=4)
    meta |= {"train_filenames": ["i/0.png", "./i/2.png"], "test_filenames": ["i/1.png"], "val_filenames": ["i/3.png"]}
    scene = open_scene(write_scene(tmp_path, meta, size=(54, 96)))
    assert (scene.split("train"), scene.split("test"), scene.split("holdout")) == ([0, 2], [1], [1])


def test_missing_images_are_left_out_with_a_warning(tmp_path, caplog):
    write_scene(tmp_path, meta_of(FOX_LENS, frames=3), size=(54, 96))
    (tmp_path / "i/1.png").unlink()
    with caplog.at_level(logging.WARNING):
        scene = open_scene(tmp_path)
    assert len(scene) == 2 and [frame.image.name for frame in scene.frames] == ["0.png", "2.png"]
    assert "1 of 3 listed images do not exist" in caplog.text and "i/1.png" in caplog.text


def test_no_image_at_all_is_an_error(tmp_path):
    (tmp_path / "transforms.json").write_text(json.dumps(meta_of(FOX_LENS, frames=3)))
    with pytest.raises(ValueError, match="none of the 3 listed images exists; looked for .*i/0.png"):
        open_scene(tmp_path)


def test_depth_and_mask(tmp_path):
    meta = meta_of({"fl_x": 5.0}, frames=3)
    for i, extra in enumerate(
        [{"depth_file_path": "d.png", "mask_path": "m.png"}, {"depth_file_path": "d.npy"}, {"depth_path": "d"}]
    ):
        meta["frames"][i] |= extra
    values = np.arange(80, dtype=np.uint16).reshape(8, 10) * 500
    Image.fromarray(values).save(tmp_path / "d.png")
    np.save(tmp_path / "d.npy", values.astype(np.float32))
    Image.fromarray((values > 10000).astype(np.uint8) * 255).save(tmp_path / "m.png")
    meta |= {"integer_depth_scale": 0.25}
    meta["frames"][1]["depth_unit_scale_factor"] = 1.0
    scene = open_scene(write_scene(tmp_path, meta))
    expected = np.where(values > 0, values, np.nan).astype(np.float32)
    for i, scale in enumerate([0.001, 1.0, 0.25]):
        np.testing.assert_allclose(scene.depth(i).numpy(), expected * scale, rtol=1e-6)
    assert torch.equal(scene.mask(0), torch.from_numpy(values > 10000)) and scene.mask(1) is None


def test_a_smaller_depth_map_is_read_at_the_size_of_its_camera(tmp_path):
    np.save(tmp_path / "d.npy", np.arange(1.0, 21.0).reshape(4, 5))
    meta = meta_of({"fl_x": 5.0, "depth_unit_scale_factor": 1.0}, depth_file_path="d.npy")
    depth = open_scene(write_scene(tmp_path, meta)).depth(0)
    np.testing.assert_array_equal(depth.numpy(), np.kron(np.arange(1.0, 21.0).reshape(4, 5), np.ones((2, 2))))


def test_missing_depth_file_means_no_depth(tmp_path, caplog):
    scene = open_scene(write_scene(tmp_path, meta_of({"fl_x": 5.0}, depth_file_path="gone.png")))
    assert scene.depth(0) is None and "gone.png does not exist" in caplog.text


def test_transparent_pixels_show_the_background_that_the_file_names(tmp_path):
    Image.new("RGBA", (10, 8), (255, 0, 0, 0)).save(tmp_path / "r_0.png")
    assert open_scene(write_scene(tmp_path, LEGO)).image(0)[0, 0].tolist() == [1, 1, 1]
    assert open_scene(write_scene(tmp_path, {**LEGO, "background": "black"})).image(0)[0, 0].tolist() == [0, 0, 0]
    grey = open_scene(write_scene(tmp_path, {**LEGO, "background": [0.5, 0.5, 0.25]})).image(0)
    assert grey[0, 0].tolist() == [0.5, 0.5, 0.25]


def test_near_and_far(tmp_path, caplog):
    meta = meta_of({"fl_x": 5.0, "near": 0.5}, frames=2)
    meta["frames"][1] |= {"near": 0.75, "far": 9.0}
    scene = open_scene(write_scene(tmp_path, meta))
    assert scene.cameras.near.tolist() == [0.5, 0.75] and scene.cameras.far is None
    assert "far is stated by 1 of 2 frames only" in caplog.text


def test_opencv_axes_of_the_pose(tmp_path):
    world_from_camera = open_scene(write_scene(tmp_path, LEGO)).cameras[0].world_from_camera.numpy()
    pose = np.array(LEGO_POSE)
    np.testing.assert_allclose(world_from_camera[:3, 0], pose[:3, 0], atol=1e-6)  # right stays right
    np.testing.assert_allclose(world_from_camera[:3, 1], -pose[:3, 1], atol=1e-6)  # up becomes down
    np.testing.assert_allclose(world_from_camera[:3, 2], -pose[:3, 2], atol=1e-6)  # backwards becomes forward
    np.testing.assert_array_equal(world_from_camera[:3, 3], pose[:3, 3])


def test_rows_of_three_are_accepted(tmp_path):
    meta = {**LEGO, "frames": [{"file_path": "./r_0", "transform_matrix": LEGO_POSE[:3]}]}
    assert torch.equal(
        open_scene(write_scene(tmp_path, meta)).cameras.world_from_camera,
        open_scene(write_scene(tmp_path, LEGO)).cameras.world_from_camera,
    )


def scaled(factor):
    return [[factor * v for v in row[:3]] + row[3:] for row in LEGO_POSE[:3]] + [LEGO_POSE[3]]


BAD = {
    "scaled rotation": ({"transform_matrix": scaled(1.01)}, r"i/0.png"),
    "left-handed": ({"transform_matrix": [[-r[0], *r[1:]] for r in LEGO_POSE]}, r"i/0.png"),
    "NaN pose": ({"transform_matrix": [[math.nan] * 4] * 4}, r"i/0.png.*finite transform_matrix.*NaN"),
    "short pose": ({"transform_matrix": [[1, 0, 0]] * 3}, r"i/0.png.*transform_matrix \(4, 4\), got shape \(3, 3\)"),
    "ragged pose": ({"transform_matrix": [[1, 0], [0]]}, r"i/0.png.*transform_matrix"),
    "no pose": ({"transform_matrix": None}, r"i/0.png.*transform_matrix"),
    "projective pose": ({"transform_matrix": LEGO_POSE[:3] + [[0, 0, 1, 1]]}, r"i/0.png.*last row"),
    "zero focal length": ({"fl_x": 0}, r"i/0.png.*positive focal length fl_x, got 0"),
    "NaN focal length": ({"fl_x": math.nan}, r"i/0.png.*finite number fl_x, got nan"),
    "focal length in words": ({"fl_x": "50"}, r"i/0.png.*finite number fl_x, got '50'"),
    "no focal length": ({"fl_x": None}, r"i/0.png.*expected fl_x, camera_angle_x or x_fov"),
    "impossible angle": ({"fl_x": None, "camera_angle_x": 3.2}, r"i/0.png.*between 0 and pi, got 3.2"),
    "half a pixel": ({"w": 10.5}, r"i/0.png.*whole positive w, got 10.5"),
    "panorama": ({"camera_model": "EQUIRECTANGULAR"}, r"i/0.png.*camera_model.*got EQUIRECTANGULAR"),
    "foreign coefficient": ({"k4": 0.1}, r"i/0.png.*has no coefficient k4, got 0.1"),
    "no file": ({"file_path": None}, r"expected a string file_path"),
    "background": ({"background": "plaid"}, r"i/0.png.*background.*'plaid'"),
    "depth scale": ({"depth_file_path": "d.png", "depth_unit_scale_factor": 0}, r"i/0.png.*positive depth scale"),
    "near behind far": ({"near": 2.0, "far": 1.0}, r"near"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_frames_are_named(tmp_path, case):
    change, message = BAD[case]
    write_scene(tmp_path, meta_of({"fl_x": 5.0}))
    (tmp_path / "transforms.json").write_text(json.dumps(meta_of({"fl_x": 5.0}, **change)))
    with pytest.raises(ValueError, match=message) as error:
        open_scene(tmp_path)
    assert "\n" not in str(error.value)


def test_a_rotation_off_by_rounding_is_projected(tmp_path):
    meta = {**LEGO, "frames": [{"file_path": "./r_0", "transform_matrix": np.round(LEGO_POSE, 4).tolist()}]}
    rotation = open_scene(write_scene(tmp_path, meta)).cameras[0].world_from_camera[:3, :3].numpy()
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)


@pytest.mark.parametrize(
    "text, message",
    [
        ("{", "not valid JSON"),
        ("[]", "list `frames`"),
        ('{"frames": []}', "list `frames`"),
        ('{"frames": [1]}', "list"),
    ],
)
def test_bad_files_are_named(tmp_path, text, message):
    (tmp_path / "transforms.json").write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        open_scene(tmp_path)
    assert "transforms.json" in str(error.value)


def test_unknown_places_say_what_was_looked_for(tmp_path):
    with pytest.raises(ValueError, match="looked for transforms.json or transforms_train/val/test.json"):
        open_scene(tmp_path)
    with pytest.raises(ValueError, match="nowhere: no such file or folder"):
        open_scene(tmp_path / "nowhere")


def test_cameras_alone_need_no_images(tmp_path):
    path = tmp_path / "path.json"
    path.write_text(json.dumps(meta_of(FOX_LENS | FOX_CURVE, frames=3)))
    cameras = read_cameras(path)
    assert len(cameras) == 3 and (cameras[1].height, cameras[1].width) == (960, 540)
    path.write_text(json.dumps(meta_of({"fl_x": 5.0})))
    with pytest.raises(ValueError, match="expected w and h"):
        read_cameras(path)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("a.jpg", "there are images but no camera poses: `raytrans import-photos` poses them; looked for trans"),
        ("images/a.png", "there are images but no camera poses: `raytrans import-photos` poses them; looked for trans"),
        ("sparse/0/points3D.bin", "not a scene that can be read: there is a folder sparse, but no COLMAP model"),
        ("notes.txt", "not a scene that can be read; looked for trans"),
    ],
)
def test_a_folder_without_poses_says_what_to_do(tmp_path, name, advice):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(ValueError, match=f"^{tmp_path}: {advice}"):
        open_scene(tmp_path)
