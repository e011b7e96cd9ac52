"""RealEstate10K: the 19 columns of the data set's page; a line like those given out, rotation by hand; bad input."""

import numpy as np
import pytest

from raytrans.data import open_scene

ADDRESS = "https://www.youtube.com/watch?v=abcdefghijk\n"
INTRINSICS = "0.474122553 0.842884498 0.500000000 0.500000000 0.000000000 0.000000000"
ROTATION = np.array([[0.6, 0.0, 0.8], [0.0, 1.0, 0.0], [-0.8, 0.0, 0.6]])
TRANSLATION = np.array([0.25, -0.5, 1.5])
POINT = np.array([-0.3, 0.2, 2.0])
WIDTH, HEIGHT = 320, 180


def line(timestamp=52553000, rotation=ROTATION, intrinsics=INTRINSICS):
    pose = np.concatenate([rotation, TRANSLATION[:, None]], 1).ravel()
    return f"{timestamp} {intrinsics} {' '.join(f'{value:.9f}' for value in pose)}\n"


def write(folder, picture, text, frames="0000cc6d8b108390", times=(52553000,), suffix="png"):
    for time in times:
        picture(folder / frames / f"{time}.{suffix}", (WIDTH, HEIGHT))
    (folder / "0000cc6d8b108390.txt").write_text(text)
    return folder


@pytest.mark.parametrize("frames", ["0000cc6d8b108390", "frames", ""])
@pytest.mark.parametrize("opened", ["", "0000cc6d8b108390.txt"])
def test_the_pixel_of_a_point(tmp_path, picture, seen_at, frames, opened):
    camera = open_scene(write(tmp_path, picture, ADDRESS + line(), frames) / opened).cameras[0]
    x, y, z = ROTATION @ POINT + TRANSLATION
    expected = [WIDTH * (0.474122553 * x / z + 0.5), HEIGHT * (0.842884498 * y / z + 0.5)]
    np.testing.assert_allclose(seen_at(camera, POINT), expected, rtol=1e-8)


def test_a_folder_of_frames_finds_the_file_beside_it(tmp_path, picture):
    write(tmp_path, picture, ADDRESS + line(1) + line(2), times=(1, 2), suffix="jpg")
    assert len(open_scene(tmp_path / "0000cc6d8b108390")) == 2


def test_frames_that_were_not_downloaded_are_left_out(tmp_path, picture, warnings):
    scene = open_scene(write(tmp_path, picture, ADDRESS + line() + line(52586367)))
    assert len(scene) == 1 and scene.frames[0].image.name == "52553000.png"
    assert any("1 of 2 views are left out" in text and "52586367" in text for text in warnings())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ADDRESS, "expected lines of 19 numbers after the address, got none"),
        (ADDRESS + line()[:-13], "line 2: expected 19 numbers, got 18"),
        (ADDRESS + line().replace("0.250000000", "nan"), "line 2: expected finite numbers"),
        (ADDRESS + line(rotation=2 * ROTATION), "line 2: pose: expected a rotation within 0.001"),
        (ADDRESS + line(intrinsics=INTRINSICS.replace("0.474", "-0.474")), "line 2: expected positive focal lengths"),
        (ADDRESS + line(7), "none of the 1 views can be used: no frame in 0000cc6d8b108390/"),
    ],
)
def test_wrong_lines_are_named(tmp_path, picture, text, message):
    with pytest.raises(ValueError, match=message):
        open_scene(write(tmp_path, picture, text))


def test_several_camera_files_are_a_question(tmp_path, picture):
    write(tmp_path, picture, ADDRESS + line())
    (tmp_path / "0001.txt").write_text(ADDRESS)
    with pytest.raises(ValueError, match="expected one camera file, got 2; name one, such as 0000cc6d8b108390.txt"):
        open_scene(tmp_path)


def test_other_text_files_are_not_taken_for_cameras(tmp_path, picture):
    picture(tmp_path / "1.png")
    (tmp_path / "notes.txt").write_text("see https://example.org\nfor more\n")
    with pytest.raises(ValueError, match="there are images but no camera poses"):
        open_scene(tmp_path)
