"""7-Scenes and tsdf-fusion: K and pose by their pages; the kitchen's own sensor depth against its poses; bad input."""

import cv2
import numpy as np
import pytest

from raytrans.data import open_scene

# frame-000150 of the kitchen that tsdf-fusion gives out
POSE = """  7.0352107e-001	  3.1905547e-001	 -6.3492483e-001	 -9.1287065e-001
 -3.7097296e-001	  9.2696339e-001	  5.4754097e-002	 -3.4388667e-001
  6.0605687e-001	  1.9703214e-001	  7.7053267e-001	  7.5986093e-001
  0.0000000e+000	  0.0000000e+000	  0.0000000e+000	  1.0000000e+000
"""
K = " 5.85000000e+02\t 0.00000000e+00\t 3.20000000e+02\n 0 5.85e+02 2.40e+02\n 0 0 1\n"
POINT = np.array([-1.2, -0.2, 2.3])


def write(folder, picture, pose=POSE, name="frame-000150", size=(640, 480), suffix="png"):
    picture(folder / f"{name}.color.{suffix}", size)
    if pose is not None:
        (folder / f"{name}.pose.txt").write_text(pose)
    return folder


@pytest.mark.parametrize("stated", [True, False])
def test_the_pixel_of_a_point(tmp_path, picture, seen_at, stated):
    write(tmp_path, picture)
    if stated:
        (tmp_path / "camera-intrinsics.txt").write_text(K)
    x, y, z, _ = np.linalg.inv(np.array(POSE.split(), dtype=float).reshape(4, 4)) @ [*POINT, 1.0]
    expected = [585 * x / z + 320, 585 * y / z + 240]
    np.testing.assert_allclose(
        seen_at(open_scene(tmp_path).cameras[0], POINT), expected, rtol=1e-5
    )  # six digits of a rotation


def test_depth_is_in_millimetres_and_two_values_mean_none(tmp_path, picture, depth_picture):
    write(tmp_path, picture, size=(4, 2), suffix="jpg")
    (tmp_path / "camera-intrinsics.txt").write_text("4 0 2 0 4 1 0 0 1")
    depth_picture(tmp_path / "frame-000150.depth.png", [[0, 1, 1500, 65535], [65534, 2, 3, 4]])
    depth = open_scene(tmp_path).depth(0)
    expected = [[np.nan, 0.001, 1.5, np.nan], [65.534, 0.002, 0.003, 0.004]]
    np.testing.assert_allclose(depth.numpy(), expected, rtol=1e-6)


def test_sequences_and_lost_poses(tmp_path, picture, warnings):
    folder = tmp_path / "seq-01"
    write(folder, picture)
    write(folder, picture, None, "frame-000151")
    write(folder, picture, POSE.replace("-9.1287065e-001", "-1.#IND"), "frame-000152")
    with pytest.raises(ValueError, match="frame-000152.pose.txt: pose: expected 16 numbers, got"):
        open_scene(tmp_path)
    write(folder, picture, POSE.replace("-9.1287065e-001", "-inf"), "frame-000152")
    scene = open_scene(tmp_path)
    assert [frame.image.name for frame in scene.frames] == ["frame-000150.color.png"]
    write(tmp_path / "seq-02", picture)
    with pytest.raises(ValueError, match="expected one sequence, got 2; name one, such as .*seq-01"):
        open_scene(tmp_path)
    assert any("2 of 3 views are left out: they have no finite pose (first: frame-000151" in one for one in warnings())


@pytest.mark.parametrize(
    ("pose", "intrinsics", "message"),
    [
        (POSE[:-20], K, "frame-000150.pose.txt: pose: expected 16 numbers, got 15"),
        (POSE.replace("7.0352107e-001", "1.4"), K, "frame-000150.pose.txt: pose: expected a rotation within 0.001"),
        (POSE.replace("1.0000000e+000", "2.0"), K, "frame-000150.pose.txt: pose: expected the last row 0 0 0 1"),
        (POSE, "585 0 320", "camera-intrinsics.txt: K: expected 9 or 16 numbers, got 3"),
        (POSE, K.replace("5.85000000e+02", "0"), "camera-intrinsics.txt: K: expected positive focal lengths"),
    ],
)
def test_wrong_files_are_named(tmp_path, picture, pose, intrinsics, message):
    write(tmp_path, picture, pose)
    (tmp_path / "camera-intrinsics.txt").write_text(intrinsics)
    with pytest.raises(ValueError, match=message):
        open_scene(tmp_path)


def test_intrinsics_are_asked_for_where_the_images_are_not_those_of_7_scenes(tmp_path, picture):
    with pytest.raises(ValueError, match=r"camera-intrinsics.txt: expected K \(3 x 3\) of images of 320 x 240, got no"):
        open_scene(write(tmp_path, picture, size=(320, 240)))


def test_the_sensor_agrees_with_the_poses(real_data):
    """Depth of one view, taken to another by the poses, is what the sensor measured there; moved cameras disagree."""
    scene = open_scene(real_data("kitchen_rgbd"))
    first, second = 0, len(scene) - 1
    k = np.array([[585.0, 0, 320], [0, 585, 240], [0, 0, 1]])
    poses = scene.cameras.world_from_camera.numpy()
    depths = [scene.depth(i).numpy() for i in (first, second)]
    assert np.isnan(depths[0]).any() and np.nanmax(depths[0]) < 12

    def error(relative):
        v, u = np.mgrid[4:480:8, 4:640:8]
        z = depths[0][v, u].ravel()
        x = np.linalg.inv(k) @ np.stack([u.ravel() + 0.5, v.ravel() + 0.5, np.ones(u.size)]) * z
        x = relative[:3, :3] @ x + relative[:3, 3:]
        pixels = cv2.projectPoints(x.T[np.isfinite(z)], np.zeros(3), np.zeros(3), k, None)[0][:, 0]
        column, row = np.floor(pixels).astype(int).T
        inside = (column >= 0) & (column < 640) & (row >= 0) & (row < 480)
        measured = depths[1][row[inside], column[inside]]
        return np.nanmedian(np.abs(measured / x[2][np.isfinite(z)][inside] - 1))

    relative = np.linalg.inv(poses[second]) @ poses[first]
    assert error(relative) < 0.015
    assert error(np.linalg.inv(relative)) > 2 * error(relative)
