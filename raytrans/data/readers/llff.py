"""Reader of LLFF: `poses_bounds.npy` beside `images/`, or a factor folder `images_4/`.

A row holds a 3 x 5 matrix, [R | t] with camera axes down, right, backwards and the column (height, width, focal
length), then near and far, z-depths that bound what the view sees. The principal point is the centre. Rows follow the
images sorted by name. Source: the README of LLFF, "Using your own poses without running COLMAP".
"""

import re
from pathlib import Path

import numpy as np

from raytrans.data.images import read_npy
from raytrans.data.readers.shots import Shot, files_in, finite, rigid_of, scene_of, sized
from raytrans.data.readers.sizes import rescaled
from raytrans.data.scene import Frame, Scene

NAME = "poses_bounds.npy"
FOLDERS = ("images", "images_2", "images_4", "images_8")
COLUMNS = 17


def found_in(path: Path) -> list[Path]:
    """`poses_bounds.npy` and the folder of images, for that file, its folder, or one of its image folders."""
    if path.name == NAME and path.is_file():
        path = path.parent
    if re.fullmatch(r"images(_\d+)?", path.name) and (path.parent / NAME).is_file():
        return [path.parent / NAME, path]
    if not (path / NAME).is_file():
        return []
    folders = [path / name for name in FOLDERS if files_in(path / name)]
    others = sorted(folder for folder in path.glob("images_*") if files_in(folder))
    return [path / NAME, (folders or others or [path / FOLDERS[0]])[0]]


def read(files: list[Path]) -> Scene:
    """Scene of `poses_bounds.npy` (N, 17) and the N images of a folder, each with its near and far.

    Raises ValueError for a cut file, other columns, NaN, scale in a rotation, and another number of images than rows.
    """
    path, folder = files
    rows = read_npy(path)
    if rows.ndim != 2 or rows.shape[1] != COLUMNS or len(rows) == 0 or rows.dtype.kind not in "iuf":
        raise ValueError(f"{path}: expected numbers of shape (N, {COLUMNS}), got {rows.dtype} {rows.shape}")
    images = files_in(folder)
    if len(images) != len(rows):
        raise ValueError(f"{folder}: expected {len(rows)} images, one for each row of {NAME}, got {len(images)}")
    pairs = enumerate(zip(rows.astype(np.float64), images, strict=True))
    return scene_of([_shot(row, image, f"{path}: row {i}") for i, (row, image) in pairs], path.parent)


def _shot(row: np.ndarray, image: Path, label: str) -> Shot:
    matrix, (near, far) = finite(row, label)[:15].reshape(3, 5), row[15:]
    down, right, backwards, center, (height, width, focal) = matrix.T
    if not (height >= 1 and width >= 1 and focal > 0):
        raise ValueError(
            f"{label}: expected positive height, width and focal length, got {height:g}, {width:g}, {focal:g}"
        )
    if not 0 < near < far:
        raise ValueError(f"{label}: expected 0 < near < far, got near {near:g} and far {far:g}")
    stated = (round(height), round(width))
    size, upright = sized(image, stated)
    intrinsics = np.array([[focal, 0.0, 0.5 * stated[1]], [0.0, focal, 0.5 * stated[0]], [0.0, 0.0, 1.0]])
    pose = rigid_of(np.stack([right, down, -backwards, center], 1), f"{label}: pose")
    return Shot(Frame(image, upright=upright), size, rescaled(intrinsics, stated, size), pose, float(near), float(far))
