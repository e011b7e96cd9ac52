"""MVSNet: a camera file as DTU's are, by "File Formats" in MVSNet's README; .pfm written byte by byte; bad input."""

import struct

import numpy as np
import pytest

from raytrans.data import open_scene
from raytrans.data.images import read_depth

EXTRINSIC = """0.970263 0.00747983 0.241939 -191.02
-0.0147429 0.999493 0.0282234 3.28832
-0.241605 -0.030951 0.969881 22.5401
0.0 0.0 0.0 1.0"""
INTRINSIC = """2892.33 0 823.205
0 2883.18 619.071
0 0 1"""
CAMERA = f"extrinsic\n{EXTRINSIC}\n\nintrinsic\n{INTRINSIC}\n\n425 2.5\n"
POINT = np.array([30.0, -40.0, 650.0])


def write(folder, picture, text=CAMERA, names=("00000000",), images="images"):
    for name in names:
        picture(folder / images / f"{name}.jpg", (1600, 1200))
        (folder / "cams").mkdir(exist_ok=True)
        (folder / "cams" / f"{name}_cam.txt").write_text(text)
    return folder


def pfm(scale, order, rows):
    """Bytes of a portable float map by its definition: rows from the bottom up, the sign of the scale is the order."""
    values = [value for line in reversed(rows) for value in line]
    return f"Pf\n{len(rows[0])} {len(rows)}\n{scale}\n".encode() + struct.pack(f"{order}{len(values)}f", *values)


@pytest.mark.parametrize("images", ["images", "blended_images", "rectified"])
def test_the_pixel_of_a_point(tmp_path, picture, seen_at, images):
    camera = open_scene(write(tmp_path, picture, images=images)).cameras[0]
    extrinsic, intrinsic = (np.array(text.split(), dtype=float) for text in (EXTRINSIC, INTRINSIC))
    x, y, w = intrinsic.reshape(3, 3) @ (extrinsic.reshape(4, 4) @ [*POINT, 1.0])[:3]
    np.testing.assert_allclose(seen_at(camera, POINT), [x / w, y / w], rtol=1e-5)  # six digits of a rotation
    assert camera.near is not None and camera.near.item() == 425 and camera.far is None


@pytest.mark.parametrize(("end", "far"), [("425 2.5 192", 425 + 191 * 2.5), ("425 2.5 192 935", 935)])
def test_the_depth_range(tmp_path, picture, end, far):
    cameras = open_scene(write(tmp_path, picture, CAMERA.replace("425 2.5", end))).cameras
    assert cameras.near.tolist() == [425] and cameras.far.tolist() == [far]


def test_rectified_images_of_dtu_count_from_one(tmp_path, picture):
    write(tmp_path, picture, names=("00000000", "00000011"))
    for image in (tmp_path / "images").iterdir():
        image.unlink()
    for number in (1, 12):
        for light in (0, 3):
            picture(tmp_path / "rectified" / f"rect_{number:03d}_{light}_r5000.png", (1600, 1200))
    names = [frame.image.name for frame in open_scene(tmp_path).frames]
    assert names == ["rect_001_3_r5000.png", "rect_012_3_r5000.png"]


@pytest.mark.parametrize(("scale", "order"), [(-1.0, "<"), (1.0, ">"), (-2.5, "<")])
def test_pfm_depth(tmp_path, picture, scale, order):
    write(tmp_path, picture, images="blended_images")
    (tmp_path / "rendered_depth_maps").mkdir()
    rows = [[500.0, 501.0, 502.0, 503.0], [510.0, 0.0, -1.0, 513.0], [520.0, float("nan"), 522.0, 523.0]]
    (tmp_path / "rendered_depth_maps" / "00000000.pfm").write_bytes(pfm(scale, order, rows))
    depth = open_scene(tmp_path).depth(0)[200::400, 200::400]
    expected = np.array(rows)
    expected[1, 1:3] = np.nan
    np.testing.assert_array_equal(depth.numpy(), expected)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pfm(-1, "<", [[1.0, 2.0]])[:-1], "expected 8 bytes for 2 x 1 pixels, got 7"),
        (b"PF\n1 1\n-1\n" + bytes(12), "expected a grey .pfm file"),
        (b"Pf\n1 1\n-1-1\n" + bytes(4), "expected a number for its scale"),
        (b"", "expected a grey .pfm file"),
    ],
)
def test_broken_pfm_files_are_named(tmp_path, content, message):
    (tmp_path / "a.pfm").write_bytes(content)
    with pytest.raises(ValueError, match=f"a.pfm: {message}"):
        read_depth(tmp_path / "a.pfm", 1.0)


def test_pairs_and_cameras_without_a_view_are_told(tmp_path, picture, warnings):
    write(tmp_path, picture, names=("00000000", "00000001"))
    (tmp_path / "cams" / "00000007_cam.txt").write_text(CAMERA)
    (tmp_path / "pair.txt").write_text("2\n0\n2 1 2036.53 9 1243.89\n1\n1 0 1052.87\n")
    assert len(open_scene(tmp_path)) == 2
    assert any("pair.txt: 1 of 3 views have no camera or image (first: 9)" in text for text in warnings())
    assert any("1 of 3 views are left out" in text and "(first: 00000007)" in text for text in warnings())
    (tmp_path / "pair.txt").write_text("2\n0\n2 one 2036.53\n")
    with pytest.raises(ValueError, match="pair.txt: expected whole numbers of views, got 'one'"):
        open_scene(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected the number of views, got an empty file"),
        ("\n\n", "expected the number of views, got an empty file"),
        ("2\n0\n", "expected two lines for each of 2 views, got 1 lines"),
        ("3\n0\n1 1 2036.53\n1\n1 0 1052.87\n", "expected two lines for each of 3 views, got 4 lines"),
        ("2\n0\n9 1 2036.53\n1\n1 0 1052.87\n", "view 0: expected 9 sources and their scores, got 2 words"),
        ("two\n0\n0\n1\n0\n", "expected whole numbers of views, got 'two'"),
    ],
)
def test_broken_pair_files_are_named(tmp_path, picture, warnings, text, message):
    write(tmp_path, picture, names=("00000000", "00000001"))
    (tmp_path / "pair.txt").write_text("2\n0\n1 1 2036.53\n1\n0\n")
    assert len(open_scene(tmp_path)) == 2 and not warnings()
    (tmp_path / "pair.txt").write_text(text)
    with pytest.raises(ValueError, match=f"pair.txt: {message}$"):
        open_scene(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected the words extrinsic and intrinsic"),
        (CAMERA.replace("0.0 0.0 0.0 1.0", ""), "extrinsic: expected 16 numbers, got 12"),
        (CAMERA.replace("0 0 1\n\n425 2.5\n", ""), "intrinsic: expected 9 numbers, got 6"),
        (CAMERA.replace("0.970263", "1.970263"), "extrinsic: expected a rotation within 0.001"),
        (CAMERA.replace("2892.33", "inf"), "intrinsic: expected finite numbers"),
        (CAMERA.replace("425", "0"), "DEPTH_MIN: expected finite numbers, the first positive"),
        (CAMERA.replace("425 2.5", "425 2.5 192 400"), "DEPTH_MAX: expected more than DEPTH_MIN 425, got 400"),
        (CAMERA.replace("425 2.5", "425 2.5 1 2 3"), "depth range: expected 2 to 4 numbers, got 5"),
    ],
)
def test_wrong_camera_files_are_named(tmp_path, picture, text, message):
    with pytest.raises(ValueError, match=f"00000000_cam.txt: {message}"):
        open_scene(write(tmp_path, picture, text))


def test_no_image_at_all(tmp_path, picture):
    (write(tmp_path, picture) / "images" / "00000000.jpg").unlink()
    with pytest.raises(ValueError, match="cams: none of the 1 views can be used: no image in"):
        open_scene(tmp_path)
