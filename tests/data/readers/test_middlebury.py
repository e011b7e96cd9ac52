"""Middlebury: the first camera of templeSparseRing and the projection K [R t] as its README has them; bad input."""

import numpy as np
import pytest

from raytrans.data import open_scene

K = "1520.400000 0.000000 302.320000 0.000000 1525.900000 246.870000 0.000000 0.000000 1.000000"
R = (
    "0.02187598221295043000 0.98329680886213122000 -0.18068986436368856000 "
    "0.99856708067455469000 -0.01266114646423925600 0.05199500709979997700 "
    "0.04883878372068499500 -0.18156839221560722000 -0.98216479887691122000"
)
T = "-0.0726637729648 0.0223360353405 0.614604845959"
LINE = f"templeSR0001.png {K} {R} {T}"
POINT = np.array([-0.02, 0.1, 0.03])  # inside the bounding box that the README states


def write(folder, picture, text):
    picture(folder / "templeSR0001.png", (640, 480))
    (folder / "templeSR_par.txt").write_text(text)
    return folder


@pytest.mark.parametrize("opened", ["", "templeSR_par.txt"])
def test_the_pixel_of_a_point(tmp_path, picture, seen_at, opened):
    scene = open_scene(write(tmp_path, picture, f"1\n{LINE}\n") / opened)
    k, r, t = (np.array(text.split(), dtype=float) for text in (K, R, T))
    x, y, w = k.reshape(3, 3) @ (r.reshape(3, 3) @ POINT + t)
    np.testing.assert_allclose(seen_at(scene.cameras[0], POINT), [x / w, y / w], rtol=1e-8)
    assert scene.image(0).shape == (480, 640, 3) and scene.cameras.near is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "templeSR_par.txt: expected the number of images on the first line, got ''"),
        (f"{LINE}\n", "expected the number of images on the first line, got 'templeSR0001.png"),
        (f"2\n{LINE}\n", "expected 2 lines, one for each image, got 1"),
        (f"1\n{LINE} 7\n", "templeSR0001.png: expected 21 numbers, got 22"),
        (f"1\n{LINE[:-3]}x\n", "templeSR0001.png: expected 21 numbers, got '1520"),
        (f"1\n{LINE.replace(T, 'nan 0 0')}\n", "templeSR0001.png: R, t: expected finite numbers"),
        (f"1\n{LINE.replace(R, '2 0 0 0 2 0 0 0 2')}\n", "templeSR0001.png: R, t: expected a rotation within 0.001"),
        (f"1\n{LINE.replace('1520.4', '-1520.4')}\n", "templeSR0001.png: K: expected positive focal lengths"),
        (f"1\n{LINE.replace('SR0001', 'SR0009')}\n", "none of the 1 views can be used: their images do not exist"),
    ],
)
def test_wrong_lines_are_named(tmp_path, picture, text, message):
    with pytest.raises(ValueError, match=message):
        open_scene(write(tmp_path, picture, text))


def test_missing_images_are_left_out_with_a_warning(tmp_path, picture, warnings):
    scene = open_scene(write(tmp_path, picture, f"2\n{LINE.replace('SR0001', 'SR0009')}\n{LINE}\n"))
    assert len(scene) == 1 and scene.frames[0].image.name == "templeSR0001.png"
    assert any("1 of 2 views are left out" in text and "templeSR0009.png" in text for text in warnings())


def test_intrinsics_of_another_image_size_are_told(tmp_path, picture, warnings):
    write(tmp_path, picture, f"1\n{LINE}\n")
    picture(tmp_path / "templeSR0001.png", (320, 240))
    open_scene(tmp_path)
    assert any("principal point (302.32, 246.87) is far from the centre" in text for text in warnings())


def test_two_parameter_files_are_a_question(tmp_path, picture):
    write(tmp_path, picture, f"1\n{LINE}\n")
    (tmp_path / "dino_par.txt").write_text("1\n")
    with pytest.raises(ValueError, match="expected one par.txt file, got dino_par.txt, templeSR_par.txt; name one"):
        open_scene(tmp_path)
