"""Files cut short or with a byte changed, in every format: a scene that opens, or one ValueError, and nothing else."""

import numpy as np
import pytest

from raytrans.data import open_scene

K, POSE = "40 0 20\n0 40 15\n0 0 1\n", "1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n"


def llff(folder, picture):
    picture(folder / "images" / "0.png")
    row = [*np.concatenate([np.eye(3), np.zeros((3, 1)), [[30], [40], [50.0]]], 1).ravel(), 1.0, 9.0]
    np.save(folder / "poses_bounds.npy", np.array([row]))
    return folder / "poses_bounds.npy"


def idr(folder, picture):
    picture(folder / "image" / "0.png")
    projection = np.diag([1.0, 1, 1, 1])
    projection[:3, :3] = np.array(K.split(), dtype=float).reshape(3, 3)
    np.savez_compressed(folder / "cameras.npz", world_mat_0=projection, scale_mat_0=np.eye(4))
    return folder / "cameras.npz"


def written(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def middlebury(folder, picture):
    picture(folder / "0.png")
    return written(folder / "x_par.txt", "1\n0.png 40 0 20 0 40 15 0 0 1 1 0 0 0 1 0 0 0 1 0 0 0\n")


def mvsnet(folder, picture):
    picture(folder / "images" / "0.png")
    written(folder / "pair.txt", "1\n0\n0\n")
    return written(folder / "cams" / "0_cam.txt", f"extrinsic\n{POSE}\nintrinsic\n{K}\n1 2 3 9\n")


def rgbd(folder, picture):
    picture(folder / "frame-0.color.png")
    written(folder / "camera-intrinsics.txt", K)
    return written(folder / "frame-0.pose.txt", POSE)


def scannet(folder, picture):
    picture(folder / "color" / "0.jpg")
    written(folder / "pose" / "0.txt", POSE)
    return written(folder / "intrinsic" / "intrinsic_color.txt", K)


def tum(folder, picture):
    picture(folder / "rgb" / "0.png")
    written(folder / "rgb.txt", "1.0 rgb/0.png\n")
    written(folder / "camera-intrinsics.txt", K)
    return written(folder / "groundtruth.txt", "# t\n1.0 0 0 0 0 0 0 1\n")


def realestate(folder, picture):
    picture(folder / "a" / "1.png")
    return written(folder / "a.txt", "https://a.org\n1 1 1 0.5 0.5 0 0 1 0 0 0 0 1 0 0 0 0 1 0\n")


@pytest.mark.parametrize("write", [llff, idr, middlebury, mvsnet, rgbd, scannet, tum, realestate])
@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_damage_is_a_value_error_at_worst(tmp_path, picture, write, damage):
    path = write(tmp_path, picture)
    assert len(open_scene(tmp_path)) == 1
    content, random, refused = path.read_bytes(), np.random.default_rng(0), 0
    for place in random.permutation(len(content))[:60].tolist():
        changed = bytes([int(random.integers(256))]) + content[place + 1 :] if damage == "changed" else b""
        path.write_bytes(content[:place] + changed)
        try:
            open_scene(tmp_path)
        except ValueError as error:
            refused += 1
            assert str(tmp_path) in str(error) and "\n" not in str(error)[:200]
    assert refused > 0
