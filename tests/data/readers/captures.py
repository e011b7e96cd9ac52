"""The smallest capture of every format, one view each; what the formats want is in the tests of their readers."""

import json

import numpy as np
from PIL import Image


def picture(path, size=(40, 30), color=(51, 102, 153)):
    """Writes a small image of (width, height), its folder included."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path)
    return path


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


def colmap(folder, picture):
    picture(folder / "images" / "0.png")
    written(folder / "sparse" / "0" / "cameras.txt", "1 PINHOLE 40 30 50 50 20 15\n")
    written(folder / "sparse" / "0" / "points3D.txt", "")
    return written(folder / "sparse" / "0" / "images.txt", "1 1 0 0 0 0 0 0 1 0.png\n\n")


def transforms(folder, picture):
    picture(folder / "images" / "0.png")
    frame = {"file_path": "images/0.png", "transform_matrix": np.eye(4).tolist()}
    return written(folder / "transforms.json", json.dumps({"w": 40, "h": 30, "fl_x": 50.0, "frames": [frame]}))


EVERY = [llff, idr, middlebury, mvsnet, rgbd, scannet, tum, realestate, colmap, transforms]
