"""LLFF: axes, bounds and folders by the README of LLFF, "Using your own poses without running COLMAP"; bad input."""

import numpy as np
import pytest

from raytrans.data import open_scene

TURN = np.array([[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]])  # columns down, right, backwards
CENTER = np.array([0.5, -2.0, 1.5])
HEIGHT, WIDTH, FOCAL = 60, 80, 70.0
POINT = CENTER + TURN @ [0.3, -0.4, -2.0]  # 0.3 down, 0.4 left, 2 ahead


def row(near=1.25, far=6.0, turn=TURN, hwf=(HEIGHT, WIDTH, FOCAL)):
    return [*np.concatenate([turn, CENTER[:, None], np.array(hwf)[:, None]], 1).ravel(), near, far]


def write(folder, picture, rows, images="images", size=(WIDTH, HEIGHT)):
    for i in range(len(rows)):
        picture(folder / images / f"{i:03d}.JPG", size)
    np.save(folder / "poses_bounds.npy", np.array(rows))
    return folder


def test_axes_are_down_right_backwards(tmp_path, picture, seen_at):
    scene = open_scene(write(tmp_path, picture, [row(), row(2.0, 9.0)]))
    expected = [WIDTH / 2 + FOCAL * -0.4 / 2, HEIGHT / 2 + FOCAL * 0.3 / 2]
    np.testing.assert_allclose(seen_at(scene.cameras[0], POINT), expected, rtol=1e-9)
    assert scene.cameras.near.tolist() == [1.25, 2.0] and scene.cameras.far.tolist() == [6.0, 9.0]
    assert scene.cameras.centers[0].tolist() == pytest.approx(CENTER)


@pytest.mark.parametrize("opened", ["", "images_4"])
def test_factor_folders_scale_the_focal_length(tmp_path, picture, seen_at, opened):
    write(tmp_path, picture, [row()], "images_4", (WIDTH // 4, HEIGHT // 4))
    camera = open_scene(tmp_path / opened).cameras[0]
    assert (camera.height, camera.width) == (15, 20)
    np.testing.assert_allclose(seen_at(camera, POINT), [10 - 17.5 * 0.2, 7.5 + 17.5 * 0.15], rtol=1e-9)


def test_the_full_images_are_taken_unless_another_folder_is_named(tmp_path, picture):
    write(tmp_path, picture, [row()])
    write(tmp_path, picture, [row()], "images_8", (10, 8))  # 60 / 8 = 7.5, rounded
    assert open_scene(tmp_path / "poses_bounds.npy").cameras[0].width == WIDTH
    assert open_scene(tmp_path / "images_8").cameras[0].width == 10


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([row()[:16]], r"poses_bounds.npy: expected numbers of shape \(N, 17\), got float64 \(1, 16\)"),
        ([row(near=-1.0)], "row 0: expected 0 < near < far, got near -1 and far 6"),
        ([row(turn=1.1 * TURN)], "row 0: pose: expected a rotation within 0.001, got one off by"),
        ([row(turn=TURN[:, [1, 0, 2]])], "row 0: pose: expected a right-handed frame"),
        ([row(), row(hwf=(60, 80, np.nan))], "row 1: expected finite numbers"),
        ([row(hwf=(60, 80, 0))], "row 0: expected positive height, width and focal length"),
        ([row(hwf=(80, 60, 70))], r"000.JPG: expected height and width \(80, 60\) or the same aspect, got \(60, 80\)"),
    ],
)
def test_wrong_numbers_are_named(tmp_path, picture, rows, message):
    with pytest.raises(ValueError, match=message):
        open_scene(write(tmp_path, picture, rows))


def test_images_missing_or_empty_and_cut_arrays_are_named(tmp_path, picture):
    write(tmp_path, picture, [row(), row()])
    (tmp_path / "images" / "001.JPG").write_bytes(b"")
    with pytest.raises(ValueError, match="001.JPG: an empty file"):
        open_scene(tmp_path)
    (tmp_path / "images" / "001.JPG").unlink()
    with pytest.raises(ValueError, match="images: expected 2 images, one for each row of poses_bounds.npy, got 1"):
        open_scene(tmp_path)
    array = tmp_path / "poses_bounds.npy"
    array.write_bytes(array.read_bytes()[:-9])
    with pytest.raises(ValueError, match="poses_bounds.npy: cannot be read as a .npy array"):
        open_scene(tmp_path)


@pytest.mark.parametrize("header", [b"{'descr': (", b"{'descr': 08}"])
def test_headers_that_are_no_python_are_refused(tmp_path, header):
    (tmp_path / "poses_bounds.npy").write_bytes(b"\x93NUMPY\x01\x00" + bytes([118, 0]) + header.ljust(117) + b"\n")
    with pytest.raises(ValueError, match="cannot be read as a .npy array"):
        open_scene(tmp_path)


def test_pickles_are_refused(tmp_path):
    np.save(tmp_path / "poses_bounds.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="cannot be read as a .npy array"):
        open_scene(tmp_path)
