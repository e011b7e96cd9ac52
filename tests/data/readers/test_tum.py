"""TUM RGB-D: first lines of freiburg1_xyz, published intrinsics; OpenCV and scipy project and rotate; bad input."""

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from raytrans.data import open_scene

COLORS = "# color images\n# timestamp filename\n1305031102.175304 rgb/1305031102.175304.png\n"
DEPTHS = "# depth maps\n1305031102.160407 depth/1305031102.160407.png\n"
POSES = """# ground truth trajectory
# timestamp tx ty tz qx qy qz qw
1305031102.1758 1.3405 0.6266 1.6575 0.6574 0.6126 -0.2949 -0.3248
1305031098.6659 1.3563 0.6305 1.6380 0.6132 0.5962 -0.3311 -0.3986
"""
POINT = np.array([1.0, 0.2, 0.7])
LENSES = {
    "freiburg1": ([517.3, 516.5, 318.6, 255.3], [0.2624, -0.9531, -0.0054, 0.0026, 1.1633]),
    "freiburg2": ([520.9, 521.0, 325.1, 249.7], [0.2312, -0.7849, -0.0033, -0.0001, 0.9172]),
    "freiburg3": ([535.4, 539.2, 320.1, 247.6], [0.0] * 5),
}


def write(folder, picture, colors=COLORS, poses=POSES, depths=DEPTHS):
    picture(folder / "rgb" / "1305031102.175304.png", (640, 480))
    for name, text in (("rgb.txt", colors), ("groundtruth.txt", poses), ("depth.txt", depths)):
        if text is not None:
            (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize("name", LENSES)
def test_the_pixel_of_a_point(tmp_path, picture, seen_at, name):
    """OpenCV and the code on the data set's page count pixels from the centre of the first one."""
    camera = open_scene(write(tmp_path / f"rgbd_dataset_{name}_xyz", picture)).cameras[0]
    (fx, fy, cx, cy), lens = LENSES[name]
    local = Rotation.from_quat([0.6574, 0.6126, -0.2949, -0.3248]).inv().apply(POINT - [1.3405, 0.6266, 1.6575])
    k = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    pixel = cv2.projectPoints(local[None], np.zeros(3), np.zeros(3), k, np.array(lens))[0].ravel()
    np.testing.assert_allclose(seen_at(camera, POINT), pixel + 0.5, rtol=1e-6)


@pytest.mark.parametrize("listing", ["lists", "associations", "associations, depth first"])
def test_depth_has_5000_steps_a_metre(tmp_path, picture, depth_picture, listing):
    folder = write(tmp_path / "rgbd_dataset_freiburg3_x", picture)
    depth_picture(folder / "depth" / "1305031102.160407.png", np.full((480, 640), [[0] * 320 + [7500] * 320]))
    if listing != "lists":
        pair = [COLORS.splitlines()[-1], DEPTHS.splitlines()[-1]]
        (folder / "associations.txt").write_text(" ".join(pair[:: -1 if "first" in listing else 1]) + "\n")
        (folder / "rgb.txt").unlink()
    scene = open_scene(folder)
    assert scene.frames[0].image.name == "1305031102.175304.png"
    depth = scene.depth(0).numpy()
    assert np.isnan(depth[:, :320]).all() and (depth[:, 320:] == np.float32(1.5)).all()


def test_images_and_depth_far_in_time_are_not_matched(tmp_path, picture, warnings):
    late = COLORS + "1305031102.300000 rgb/1305031102.175304.png\n"
    folder = write(tmp_path / "freiburg2_y", picture, late, depths=DEPTHS.replace("102.160407 ", "102.10 "))
    late_image = picture(folder / "rgb" / "late.png", (640, 480))
    (folder / "rgb.txt").write_text(late.replace("1305031102.300000 rgb/1305031102.175304", "1305031102.3 rgb/late"))
    scene = open_scene(folder)
    assert len(scene) == 1 and scene.depth(0) is None
    assert any(f"(first: {late_image})" in text and "no pose within 0.02 s" in text for text in warnings())


def test_intrinsics_are_asked_for_or_read(tmp_path, picture):
    folder = write(tmp_path / "mine", picture)
    with pytest.raises(
        ValueError, match=r"camera-intrinsics.txt: expected K \(3 x 3\) of the colour camera, got no file"
    ):
        open_scene(folder)
    (folder / "camera-intrinsics.txt").write_text("525 0 319.5 0 525 239.5 0 0 1")
    camera = open_scene(folder).cameras[0]
    assert camera.intrinsics[:2, 2].tolist() == [320, 240] and camera.distortion is None


@pytest.mark.parametrize(
    ("colors", "poses", "message"),
    [
        ("# nothing\n", POSES, "rgb.txt: expected at least one entry, got none"),
        ("1305031102.175304\n", POSES, "rgb.txt: entry 1: expected 2 values, got 1"),
        ("now rgb/a.png\n", POSES, "rgb.txt: entry 1: timestamp: expected 1 numbers, got 'now'"),
        (COLORS, POSES.replace(" -0.3248", ""), "groundtruth.txt: entry 1: expected 8 values, got 7"),
        (COLORS, POSES.replace("-0.3248", "-1.3"), "pose at 1305031102.1758: expected a unit quaternion"),
        (COLORS, POSES.replace("-0.3248", "nan"), "pose at 1305031102.1758: expected finite numbers"),
        (COLORS, POSES.replace("1305031102", "1305031109"), "none of the 1 views can be used"),
    ],
)
def test_wrong_lines_are_named(tmp_path, picture, colors, poses, message):
    with pytest.raises(ValueError, match=message):
        open_scene(write(tmp_path / "freiburg1", picture, colors, poses))
