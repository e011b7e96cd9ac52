"""The files of a COLMAP model, binary (.bin) or text (.txt), one function each.

What grows with the number of features is skipped on the way: `observations` reads it for one image when asked.
Source: colmap.github.io/format.html; models and their parameters: colmap.github.io/cameras.html.
"""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from raytrans.data.guards import LARGEST_SIDE

# name and number of parameters by the id that binary files hold
MODELS = {
    0: ("SIMPLE_PINHOLE", 3),
    1: ("PINHOLE", 4),
    2: ("SIMPLE_RADIAL", 4),
    3: ("RADIAL", 5),
    4: ("OPENCV", 8),
    5: ("OPENCV_FISHEYE", 8),
    6: ("FULL_OPENCV", 12),
    7: ("FOV", 5),
    8: ("SIMPLE_RADIAL_FISHEYE", 4),
    9: ("RADIAL_FISHEYE", 5),
    10: ("THIN_PRISM_FISHEYE", 12),
    11: ("RAD_TAN_THIN_PRISM_FISHEYE", 16),
    12: ("SIMPLE_DIVISION", 4),
    13: ("DIVISION", 5),
    14: ("SIMPLE_FISHEYE", 3),
    15: ("FISHEYE", 4),
    16: ("EUCM", 6),
    17: ("EQUIRECTANGULAR", 2),
}
COUNTS = dict(MODELS.values())
OBSERVATION = np.dtype([("xy", "<f8", 2), ("point", "<i8")])
POINT = np.dtype([("id", "<u8"), ("xyz", "<f8", 3), ("rgb", "u1", 3), ("error", "<f8"), ("track", "<u8")])
TRACK_ITEM = 8
LONGEST_NAME = 4096  # bytes, what file systems take for a path
SHORT_LINE = 400  # bytes; a line of observations below this may be an image in the wrong place


@dataclass(frozen=True)
class Camera:
    """One entry of cameras.bin or cameras.txt: size (height, width) and the parameters in COLMAP's order."""

    model: str
    size: tuple[int, int]
    parameters: tuple[float, ...]


@dataclass(frozen=True)
class Image:
    """One entry of images.bin or images.txt; `start` and `count` say where its observations lie in the file."""

    name: str
    camera: int
    qvec: tuple[float, ...]
    tvec: tuple[float, ...]
    start: int
    count: int


class _Binary:
    """A file that is read from front to back, and whose end is an error that names it."""

    def __init__(self, path: Path, file: BinaryIO):
        self.path, self.file, self.at, self.size = path, file, 0, os.fstat(file.fileno()).st_size

    def take(self, layout: str, what: str) -> tuple:
        start = self.at
        self.skip(struct.calcsize(layout), what)
        self.file.seek(start)
        return struct.unpack(layout, self.file.read(self.at - start))

    def skip(self, size: int, what: str) -> None:
        if self.at + size > self.size:
            raise ValueError(
                f"{self.path}: cut short, or not a file of COLMAP: expected {size} bytes for {what}, got "
                f"{self.size - self.at}"
            )
        self.at += size

    def text(self, what: str) -> str:
        self.file.seek(self.at)
        raw, mark, _ = self.file.read(LONGEST_NAME).partition(b"\0")
        if not mark:
            raise ValueError(f"{self.path}: cut short, or not a file of COLMAP: expected the end of {what}, got none")
        self.at += len(raw) + 1
        return _decoded(raw, self.path, what)

    def finish(self, count: int, what: str) -> None:
        if self.at != self.size:
            rest = self.size - self.at
            raise ValueError(
                f"{self.path}: expected {count} {what} as its head states, got {rest} more bytes after them"
            )


def _decoded(raw: bytes, path: Path, what: str) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise ValueError(f"{path}: expected {what} in UTF-8, got {raw[:60]!r}") from None


def _lines(path: Path) -> Iterator[tuple[int, list[bytes]]]:
    """(number, fields) of the lines of a text file that are neither empty nor a comment."""
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            fields = line.split()
            if fields and not fields[0].startswith(b"#"):
                yield number, fields


def read_cameras(path: Path) -> dict[int, Camera]:
    """Cameras by id. Raises ValueError naming file and camera for what is cut, repeated, unknown or not finite."""
    found: dict[int, Camera] = {}
    for label, key, camera in _binary_cameras(path) if path.suffix == ".bin" else _text_cameras(path):
        if key in found:
            raise ValueError(f"{label}: expected every camera once, got id {key} again")
        if not 1 <= min(camera.size) <= max(camera.size) <= LARGEST_SIDE:
            raise ValueError(
                f"{label}: expected a positive width and height, got {camera.size[1]} and {camera.size[0]}"
            )
        if not np.isfinite(camera.parameters).all():
            raise ValueError(f"{label}: expected finite parameters, got {list(camera.parameters)}")
        found[key] = camera
    if not found:
        raise ValueError(f"{path}: expected at least one camera, got none")
    return found


def _binary_cameras(path: Path) -> Iterator[tuple[str, int, Camera]]:
    with open(path, "rb") as handle:
        file = _Binary(path, handle)
        (count,) = file.take("<Q", "the number of cameras")
        for index in range(count):
            label = f"camera {index} of {count}"
            key, model, width, height = file.take("<iiQQ", label)
            if model not in MODELS:
                raise ValueError(f"{path}: {label}: expected a camera model from 0 to {max(MODELS)}, got {model}")
            name, number = MODELS[model]
            yield f"{path}: {label}", key, Camera(name, (height, width), file.take(f"<{number}d", label))
        file.finish(count, "cameras")


def _text_cameras(path: Path) -> Iterator[tuple[str, int, Camera]]:
    for number, fields in _lines(path):
        label = f"{path}: line {number}"
        name = _decoded(fields[1], path, "the camera model") if len(fields) > 1 else ""
        if name not in COUNTS:
            raise ValueError(f"{label}: expected an id and a camera model of {', '.join(COUNTS)}, got {name!r}")
        if len(fields) != 4 + COUNTS[name]:
            raise ValueError(
                f"{label}: {name}: expected size and {COUNTS[name]} parameters, got {len(fields) - 2} numbers"
            )
        key, width, height = (_number(field, int, label) for field in (fields[0], *fields[2:4]))
        yield label, key, Camera(name, (height, width), tuple(_number(field, float, label) for field in fields[4:]))


def _number(field: bytes, kind: type, label: str):
    try:
        return kind(field)
    except ValueError:
        raise ValueError(f"{label}: expected a number, got {field[:40].decode(errors='replace')!r}") from None


def count_images(path: Path) -> int:
    """Number of images of images.bin or images.txt, for the choice of one model among several."""
    if path.suffix != ".bin":
        return len(read_images(path))
    with open(path, "rb") as handle:
        return _Binary(path, handle).take("<Q", "the number of images")[0]


def read_images(path: Path) -> list[Image]:
    """Images in the order of the file. Raises ValueError naming file and image for what is cut or not a pose."""
    images = list(_binary_images(path) if path.suffix == ".bin" else _text_images(path))
    if not images:
        raise ValueError(f"{path}: expected at least one image with a pose, got none")
    names = set()
    for image in images:
        # COLMAP normalises what it reads; far from length 1 it is no pose
        length = np.linalg.norm(image.qvec)
        if not (np.isfinite([*image.qvec, *image.tvec]).all() and abs(length - 1) < 1e-2):
            raise ValueError(
                f"{path}: image {image.name}: expected a finite quaternion of length 1 and a finite translation, got "
                f"{list(image.qvec)} and {list(image.tvec)}"
            )
        if image.name in names:
            raise ValueError(f"{path}: image {image.name}: expected every image once, got its name again")
        names.add(image.name)
    return images


def _binary_images(path: Path) -> Iterator[Image]:
    with open(path, "rb") as handle:
        file = _Binary(path, handle)
        (total,) = file.take("<Q", "the number of images")
        for index in range(total):
            label = f"image {index} of {total}"
            _, *pose, camera = file.take("<I7dI", label)
            name = file.text(f"the name of {label}")
            (count,) = file.take("<Q", f"the number of observations of {label}")
            start = file.at
            file.skip(count * OBSERVATION.itemsize, f"the observations of {label} ({name})")
            yield Image(name, camera, tuple(pose[:4]), tuple(pose[4:]), start, count)
        file.finish(total, "images")


def _text_images(path: Path) -> Iterator[Image]:
    """Two lines per image, the second, of observations, possibly empty."""
    with open(path, "rb") as file:
        number = 0
        while line := file.readline():
            number += 1
            fields = line.strip().split(maxsplit=9)
            if not fields or fields[0].startswith(b"#"):
                continue
            label = f"{path}: line {number}"
            if len(fields) != 10:
                raise ValueError(
                    f"{label}: expected id, quaternion, translation, camera id and name, got {len(fields)} fields"
                )
            pose = tuple(_number(field, float, label) for field in fields[1:8])
            camera, name = _number(fields[8], int, label), _decoded(fields[9], path, "the name of an image")
            start, seen = file.tell(), file.readline()
            number += 1
            if len(seen) < SHORT_LINE and len(seen.split()) % 3:
                raise ValueError(
                    f"{path}: line {number}: expected the observations of {name} (x, y, point id each), or an empty "
                    f"line, got {len(seen.split())} fields"
                )
            yield Image(name, camera, pose[:4], pose[4:], start, len(seen))


def observations(path: Path, image: Image) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (K, 2) and ids of the points (K,) that an image saw; features without a point are left out."""
    with open(path, "rb") as file:
        file.seek(image.start)
        if path.suffix == ".bin":
            rows = np.frombuffer(file.read(image.count * OBSERVATION.itemsize), OBSERVATION)
            pixels, points = rows["xy"], rows["point"]
        else:
            fields = file.readline().split()
            try:
                pixels = np.array([fields[0::3], fields[1::3]], dtype=np.float64).T.reshape(-1, 2)
                points = np.array(fields[2::3], dtype=np.int64)
                if len(points) != len(pixels):
                    raise ValueError
            except (ValueError, OverflowError):
                raise ValueError(
                    f"{path}: image {image.name}: expected x, y and point id of each observation"
                ) from None
    return pixels[points >= 0], points[points >= 0]


def read_points(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids (M,) int64, xyz (M, 3) float64 and rgb (M, 3) uint8 of points3D.bin or points3D.txt, sorted by id."""
    ids, xyz, rgb = _binary_points(path) if path.suffix == ".bin" else _text_points(path)
    if not np.isfinite(xyz).all():
        raise ValueError(
            f"{path}: point {ids[~np.isfinite(xyz).all(1)][0]}: expected finite coordinates, got NaN or infinity"
        )
    order = np.argsort(ids, kind="stable")
    if (repeated := np.flatnonzero(np.diff(ids[order]) == 0)).size:
        raise ValueError(f"{path}: expected every point once, got id {ids[order][repeated[0]]} again")
    return ids[order], xyz[order], rgb[order]


def _binary_points(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    with open(path, "rb") as handle:
        file = _Binary(path, handle)
        (count,) = file.take("<Q", "the number of points")
        if count * POINT.itemsize > file.size:
            file.skip(count * POINT.itemsize, f"{count} points")
        handle.seek(0)
        data = handle.read()
    starts = np.empty(count, np.int64)
    length = struct.Struct("<Q").unpack_from
    for index in range(count):
        starts[index] = file.at
        file.skip(POINT.itemsize, f"point {index} of {count}")
        (track,) = length(data, file.at - 8)
        file.skip(track * TRACK_ITEM, f"the track of point {index} of {count}")
    file.finish(count, "points")
    if not count:
        return np.empty(0, np.int64), np.empty((0, 3)), np.empty((0, 3), np.uint8)
    windows = np.lib.stride_tricks.sliding_window_view(np.frombuffer(data, np.uint8), POINT.itemsize)
    rows = np.ascontiguousarray(windows[starts]).view(POINT)[:, 0]
    return rows["id"].astype(np.int64), rows["xyz"].copy(), rows["rgb"].copy()


def _text_points(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rows, ids = [], []
    for number, fields in _lines(path):
        if len(fields) < 8:
            raise ValueError(
                f"{path}: line {number}: expected id, x, y, z, r, g, b and error, got {len(fields)} fields"
            )
        label = f"{path}: line {number}"
        ids.append(_number(fields[0], int, label))
        rows.append([_number(field, float, label) for field in fields[1:7]])
        if not (0 <= ids[-1] < 1 << 63 and all(0 <= color < 256 for color in rows[-1][3:])):
            raise ValueError(f"{label}: expected an id of at least 0 and colours from 0 to 255, got others")
    table = np.array(rows, dtype=np.float64).reshape(-1, 6)
    return np.array(ids, dtype=np.int64), table[:, :3], table[:, 3:].astype(np.uint8)
