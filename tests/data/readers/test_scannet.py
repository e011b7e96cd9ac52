"""ScanNet's export: the intrinsics of scene0000_00, pixels counted from (0, 0), depth with a camera of its own."""

import numpy as np
import pytest

from raytrans.data import open_scene

COLOR = np.array([[1170.187988, 0, 647.75], [0, 1170.187988, 483.75], [0, 0, 1]])
DEPTH = np.array([[577.870605, 0, 319.5], [0, 577.870605, 239.5], [0, 0, 1]])
POSE = np.array([[0.6, 0, 0.8, 2.0], [0, 1, 0, 1.0], [-0.8, 0, 0.6, -1.5], [0, 0, 0, 1]])
POINT = np.array([4.0, 1.2, -0.5])


def four(k):
    return np.vstack([np.hstack([k, np.zeros((3, 1))]), [0, 0, 0, 1]])


def write(folder, picture, numbers=(0,), size=(1296, 968), poses=None, extrinsic=None):
    for name in ("pose", "intrinsic", "depth"):
        (folder / name).mkdir(exist_ok=True, parents=True)
    for i in numbers:
        picture(folder / "color" / f"{i}.jpg", size)
        np.savetxt(folder / "pose" / f"{i}.txt", (poses or {}).get(i, POSE))
    np.savetxt(folder / "intrinsic" / "intrinsic_color.txt", four(COLOR))
    np.savetxt(folder / "intrinsic" / "intrinsic_depth.txt", four(DEPTH))
    np.savetxt(folder / "intrinsic" / "extrinsic_depth.txt", np.eye(4) if extrinsic is None else extrinsic)
    return folder


def test_the_pixel_of_a_point(tmp_path, picture, seen_at):
    x, y, z = POSE[:3, :3].T @ (POINT - POSE[:3, 3])
    expected = [1170.187988 * x / z + 647.75 + 0.5, 1170.187988 * y / z + 483.75 + 0.5]
    np.testing.assert_allclose(seen_at(open_scene(write(tmp_path, picture)).cameras[0], POINT), expected, rtol=1e-8)


def test_depth_is_taken_through_both_cameras(tmp_path, picture, depth_picture):
    """A slow loop: the ray of a colour pixel by its K, the depth pixel that sees it by the depth camera's K."""
    values = np.arange(480 * 640).reshape(480, 640) % 60000 + 1
    values[100, :] = 0
    write(tmp_path, picture)
    depth_picture(tmp_path / "depth" / "0.png", values)
    depth = open_scene(tmp_path).depth(0).numpy()
    assert depth.shape == (968, 1296)
    unknown = 0
    for row, column in np.random.default_rng(0).integers(0, (968, 1296), (500, 2)).tolist() + [[0, 0], [204, 700]]:
        x, y, _ = DEPTH @ np.linalg.inv(COLOR) @ [column, row, 1.0]
        u, v = int(np.floor(x + 0.5)), int(np.floor(y + 0.5))
        there = 0 <= u < 640 and 0 <= v < 480 and values[v, u] > 0
        unknown += not there
        assert depth[row, column] == pytest.approx(values[v, u] / 1000 if there else np.nan, nan_ok=True)
    assert 0 < unknown < 100


def test_lost_poses_are_left_out_and_numbers_sort_as_numbers(tmp_path, picture, warnings):
    lost = {2: np.full((4, 4), -np.inf)}
    scene = open_scene(write(tmp_path, picture, (10, 2, 9), (40, 30), lost))
    assert [frame.image.name for frame in scene.frames] == ["9.jpg", "10.jpg"]
    assert any("1 of 3 views are left out: they have no finite pose (first: 2.jpg)" in text for text in warnings())


def test_all_poses_lost_is_an_error(tmp_path, picture):
    with pytest.raises(ValueError, match="none of the 1 views can be used: they have no finite pose"):
        open_scene(write(tmp_path, picture, poses={0: np.full((4, 4), np.nan)}))


def test_colour_resized_to_the_depth_takes_its_intrinsics(tmp_path, picture, depth_picture, warnings):
    write(tmp_path, picture, size=(640, 480))
    depth_picture(tmp_path / "depth" / "0.png", np.full((480, 640), 1234))
    scene = open_scene(tmp_path)
    np.testing.assert_allclose(scene.cameras[0].intrinsics.numpy(), DEPTH + [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
    assert bool((scene.depth(0) == np.float32(1.234)).all())
    assert any("intrinsic_color.txt are for larger images" in text for text in warnings())


def test_depth_from_another_place_is_left_out(tmp_path, picture, depth_picture, warnings):
    shifted = np.eye(4)
    shifted[0, 3] = 0.04
    write(tmp_path, picture, extrinsic=shifted)
    depth_picture(tmp_path / "depth" / "0.png", np.full((480, 640), 1234))
    assert open_scene(tmp_path).depth(0) is None
    assert any("expected depth at the place of the colour camera" in text for text in warnings())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("intrinsic/intrinsic_color.txt", None, "intrinsic_color.txt: cannot be read"),
        ("intrinsic/intrinsic_color.txt", "1 2 3", "intrinsic_color.txt: K: expected 16 or 9 numbers, got 3"),
        ("pose/0.txt", "1 0 0 0\n0 2 0 0\n0 0 1 0\n0 0 0 1", "0.txt: pose: expected a rotation within 0.001"),
        ("pose/0.txt", "one", "0.txt: pose: expected 16 numbers, got 1"),
    ],
)
def test_wrong_files_are_named(tmp_path, picture, name, content, message):
    write(tmp_path, picture)
    (tmp_path / name).unlink() if content is None else (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        open_scene(tmp_path)
