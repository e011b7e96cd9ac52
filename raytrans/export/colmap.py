"""COLMAP text models of any cameras: cameras.txt, images.txt, points3D.txt.

Source: colmap.github.io/format.html; pixels and camera axes are those of this package.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch

from raytrans.data.points import SparsePoints
from raytrans.data.scene import Scene
from raytrans.export.files import refuse_existing, write_text
from raytrans.geometry.cameras import Cameras
from raytrans.geometry.conversions import to_colmap

FILES = ("cameras.txt", "images.txt", "points3D.txt")
OTHERS = ("rigs.txt", "frames.txt")  # of newer models; those of another one would be read with ours
UNKNOWN_ERROR = -1.0  # COLMAP's own mark


def write_colmap_scene(folder: str | Path, scene: Scene, replace: bool = False) -> Path:
    """Write the cameras and sparse points of a scene; returns the folder that its image names are relative to.

    Names are relative to the folder of all images, what COLMAP calls the image path. A picture that EXIF turns upright
    has its camera for the upright pixels. Raises ValueError as `write_colmap` does.
    """
    check_model_folder(Path(folder), replace)
    files = [os.path.abspath(frame.image) for frame in scene.frames]
    root = os.path.commonpath([os.path.dirname(file) for file in files])
    names = [Path(os.path.relpath(file, root)).as_posix() for file in files]
    write_colmap(folder, scene.cameras, names, scene.sparse_points(), replace)
    return Path(root)


def write_colmap(
    folder: str | Path,
    cameras: Cameras,
    images: Sequence[str],
    points: SparsePoints | None = None,
    replace: bool = False,
) -> None:
    """Write cameras (N,), the names of their images and sparse points as a text model; makes the folder.

    No lens is PINHOLE, an opencv lens OPENCV, or FULL_OPENCV where k3 is not 0, a rational one FULL_OPENCV, a fisheye
    OPENCV_FISHEYE. Raises ValueError for skewed pixels, and for names that the format cannot hold or that are repeated;
    for a folder that holds a model, unless it is a text model and `replace` says to write over it.
    """
    check_model_folder(Path(folder), replace)
    names = _checked(cameras, images)
    rows = [_camera_row(camera) for camera in cameras]
    ids = {row: index + 1 for index, row in enumerate(dict.fromkeys(rows))}
    seen = [(np.empty(0, np.int64), np.empty((0, 2)))] * len(names)
    if points is not None and points.observations is not None:
        seen = list(points.observations)
    qvec, tvec = to_colmap(cameras.world_from_camera)
    images_text = []
    for i, (name, row) in enumerate(zip(names, rows, strict=True)):
        images_text += [
            f"{i + 1} {_joined([*qvec[i].tolist(), *tvec[i].tolist()])} {ids[row]} {name}",
            " ".join(
                f"{_joined(pixel)} {which + 1}" for which, pixel in zip(seen[i][0], seen[i][1].tolist(), strict=True)
            ),
        ]
    folder = Path(folder)
    _write(
        folder / FILES[0],
        "CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]",
        (f"{key} {row}" for row, key in ids.items()),
    )
    _write(folder / FILES[1], "IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME; POINTS2D[]", images_text)
    table = () if points is None else _point_rows(points, cameras, seen)
    _write(folder / FILES[2], "POINT3D_ID, X, Y, Z, R, G, B, ERROR, TRACK[]", table)


def check_model_folder(folder: Path, replace: bool = False) -> None:
    """Raise ValueError where a text model would write over another one, or be read together with or behind one."""
    foreign = [*sorted(folder.glob("*.bin")), *(folder / name for name in OTHERS if (folder / name).exists())]
    if foreign:  # readers take binary files first
        raise ValueError(f"{foreign[0]}: expected a folder without another model, which programs would read instead")
    for name in () if replace else FILES:
        refuse_existing(folder / name)


def _checked(cameras: Cameras, images: Sequence[str]) -> list[str]:
    names = [str(name) for name in images]
    if len(names) != len(cameras) or len(set(names)) != len(names):
        raise ValueError(f"images: expected {len(cameras)} different names, got {len(set(names))} of {len(names)}")
    for name in names:
        # COLMAP ends a name in a text model at the first space
        if not name or name.split() != [name] or name.startswith("#"):
            raise ValueError(f"images: expected names without spaces, as the text model cannot hold them, got {name!r}")
    return names


def _camera_row(camera: Cameras) -> str:
    """MODEL WIDTH HEIGHT PARAMS of one camera."""
    (fx, skew, cx), (_, fy, cy), _ = camera.intrinsics.tolist()
    if abs(skew) > 1e-9 * fx:
        raise ValueError(f"cameras: the format holds no skew, got {skew}")
    lens = camera.distortion
    coefficients = [] if lens is None else torch.as_tensor(lens.coefficients).tolist()
    model = _model(lens.model if lens is not None else "", coefficients)
    count = {"PINHOLE": 0, "OPENCV": 4, "OPENCV_FISHEYE": 4, "FULL_OPENCV": 8}[model]
    coefficients = (coefficients + [0.0] * count)[:count]
    return f"{model} {camera.width} {camera.height} {_joined([fx, fy, cx, cy, *coefficients])}"


def _model(lens: str, coefficients: list[float]) -> str:
    if lens == "fisheye":
        return "OPENCV_FISHEYE"
    if any(coefficients[4:]):
        return "FULL_OPENCV"
    return "OPENCV" if any(coefficients) else "PINHOLE"


def _point_rows(points: SparsePoints, cameras: Cameras, seen: Sequence) -> Iterable[str]:
    """One line per point; ERROR is the mean distance in pixels between observations and projections."""
    total, count = np.zeros(len(points)), np.zeros(len(points))
    tracks: list[list[str]] = [[] for _ in range(len(points))]
    for i, (which, pixels) in enumerate(seen):
        projected = cameras[i].project(torch.from_numpy(points.xyz[which]))[0].numpy()
        np.add.at(total, which, np.linalg.norm(projected - pixels, axis=-1))
        np.add.at(count, which, 1)
        for at, index in enumerate(which.tolist()):
            tracks[index].append(f"{i + 1} {at}")
    error = np.where(count > 0, total / np.maximum(count, 1), UNKNOWN_ERROR)
    colors = points.rgb.tolist()
    for i, xyz in enumerate(points.xyz.tolist()):
        r, g, b = colors[i]
        yield f"{i + 1} {_joined(xyz)} {r} {g} {b} {error[i]:.6g} {' '.join(tracks[i])}".rstrip()


def _joined(numbers: Iterable[float]) -> str:
    return " ".join(repr(float(number)) for number in numbers)


def _write(path: Path, head: str, rows: Iterable[str]) -> None:
    write_text(path, "\n".join([f"# {head}", *rows]) + "\n")
