"""Reader of TUM RGB-D: `rgb.txt`, `depth.txt`, `groundtruth.txt`, or `associations.txt` of `associate.py`.

Lines hold a timestamp in seconds and a file, or tx ty tz qx qy qz qw, the pose world_from_camera in metres; `#` begins
a comment. Depth has 16 bits, 5000 steps a metre, 0 means none, and is registered to the colour image. Pixels are
counted from (0, 0) at the centre of the first one. Source: "File Formats" and "Useful tools" on the page of the data
set, with the intrinsics of its three cameras.
"""

import re
from pathlib import Path

import numpy as np

from raytrans.data.guards import below
from raytrans.data.readers.rgbd import INTRINSICS
from raytrans.data.readers.shots import (
    PIXEL_CENTER,
    Shot,
    finite,
    matrix_of,
    numbers_of,
    pinhole_of,
    rigid_of,
    scene_of,
    sized,
    tell_left_out,
    text_of,
)
from raytrans.data.scene import Frame, Scene

POSES, COLORS, DEPTHS = "groundtruth.txt", "rgb.txt", "depth.txt"
ASSOCIATIONS = ("associations.txt", "association.txt", "associate.txt")
STEPS = 5000.0
APART = 0.02  # seconds between what belongs together at most, as in associate.py
# fx, fy, cx, cy and k1 k2 p1 p2 k3 of the colour cameras, as published; the images of freiburg3 are rectified
FREIBURG = {
    "freiburg1": ((517.3, 516.5, 318.6, 255.3), (0.2624, -0.9531, -0.0054, 0.0026, 1.1633)),
    "freiburg2": ((520.9, 521.0, 325.1, 249.7), (0.2312, -0.7849, -0.0033, -0.0001, 0.9172)),
    "freiburg3": ((535.4, 539.2, 320.1, 247.6), None),
}


def found_in(path: Path) -> list[Path]:
    """`groundtruth.txt` and the list of images: associations where there are some, else `rgb.txt`."""
    lists = [path / name for name in (*ASSOCIATIONS, COLORS) if (path / name).is_file()]
    return [path / POSES, lists[0]] if lists and (path / POSES).is_file() else []


def read(files: list[Path]) -> Scene:
    """Scene of the images with a pose within 0.02 s; the others are left out, with a warning.

    Raises ValueError naming file and line for what is not as described, and where the intrinsics have to be asked for.
    """
    poses_path, images_path = files
    root = poses_path.parent
    views = _associated(images_path) if images_path.name in ASSOCIATIONS else _listed(root)
    times, lines = _poses(poses_path)
    k, lens = _camera(root)
    nearest = [_nearest(times, time) for time, _, _ in views]
    places = [_file(root, name) for _, name, _ in views]
    found = list(zip(views, places, nearest, strict=True))
    lost = [str(root / name) for (_, name, _), place, at in found if at is None or place is None]
    tell_left_out(root, lost, len(views), f"they do not exist there, or {POSES} has no pose within {APART} s")
    kept = [(place, _file(root, depth), at) for (_, _, depth), place, at in found if not (at is None or place is None)]
    return scene_of([_shot(place, depth, lines[at], k, poses_path) for place, depth, at in kept], root, lens)


def _file(root: Path, name: str | None) -> Path | None:
    """The file of a name that exists below the folder, else None."""
    path = None if name is None else below(root, name)
    return path if path is not None and path.is_file() else None


def _lines(path: Path, least: int) -> list[list[str]]:
    """Words of the lines that are no comments, the first a timestamp."""
    lines = [line.replace(",", " ").split() for line in text_of(path).splitlines() if not line.lstrip().startswith("#")]
    lines = [words for words in lines if words]
    for number, words in enumerate(lines, 1):
        if len(words) < least:
            raise ValueError(f"{path}: entry {number}: expected {least} values, got {len(words)}")
        finite(numbers_of(words[:1], 1, f"{path}: entry {number}: timestamp"), f"{path}: entry {number}: timestamp")
    if not lines:
        raise ValueError(f"{path}: expected at least one entry, got none")
    return lines


def _listed(root: Path) -> list[tuple[float, str, str | None]]:
    """(time, image, depth or None) of `rgb.txt`, with the depth of `depth.txt` nearest in time."""
    colors = [(float(words[0]), words[1]) for words in _lines(root / COLORS, 2)]
    depths = _lines(root / DEPTHS, 2) if (root / DEPTHS).is_file() else []
    depths.sort(key=lambda words: float(words[0]))
    times = np.array([float(words[0]) for words in depths])
    found = [_nearest(times, time) for time, _ in colors]
    return [
        (time, image, None if at is None else depths[at][1]) for (time, image), at in zip(colors, found, strict=True)
    ]


def _associated(path: Path) -> list[tuple[float, str, str | None]]:
    """(time, image, depth) of pairs in either order: the depth is what lies in a folder `depth`."""
    views = []
    for words in _lines(path, 4):
        (time, image), (other_time, depth) = words[:2], words[2:4]
        if image.startswith("depth") or "/depth" in image:
            time, image, depth = other_time, depth, image
        views.append((float(numbers_of([time], 1, f"{path}: timestamp")[0]), image, depth))
    return views


def _nearest(times: np.ndarray, time: float) -> int | None:
    """Index of the sorted time nearest to one, None where none is near enough."""
    if len(times) == 0:
        return None
    after = int(np.searchsorted(times, time))
    best = min((i for i in (after - 1, after) if 0 <= i < len(times)), key=lambda i: abs(times[i] - time))
    return best if abs(times[best] - time) <= APART else None


def _poses(path: Path) -> tuple[np.ndarray, list[list[str]]]:
    lines = sorted(_lines(path, 8), key=lambda words: float(words[0]))
    return np.array([float(words[0]) for words in lines]), lines


def _pose(words: list[str], path: Path) -> np.ndarray:
    """(4, 4) of t tx ty tz qx qy qz qw, R = (w^2 - v.v) I + 2 v v^T + 2 w [v]x for the unit quaternion (v, w)."""
    label = f"{path}: pose at {words[0]}"
    values = finite(numbers_of(words[1:], 7, label), label)
    norm = np.linalg.norm(values[3:])
    if abs(norm - 1) > 0.01:
        raise ValueError(f"{label}: expected a unit quaternion, got one of length {norm:.3g}")
    x, y, z, w = values[3:] / norm
    v, cross = np.array([x, y, z]), np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    rotation = (w * w - v @ v) * np.eye(3) + 2 * np.outer(v, v) + 2 * w * cross
    return rigid_of(np.concatenate([rotation, values[:3, None]], 1), label)


def _camera(root: Path) -> tuple[np.ndarray, tuple[float, ...] | None]:
    """K and lens: of `camera-intrinsics.txt`, else as published for the camera that the folder's name names."""
    if (root / INTRINSICS).is_file():
        return pinhole_of(matrix_of(root / INTRINSICS, "K", (3, 3)), f"{root / INTRINSICS}: K"), None
    name = re.search(r"freiburg[123]", root.resolve().name)
    if name is None:
        raise ValueError(
            f"{root / INTRINSICS}: expected K (3 x 3) of the colour camera, got no file, and the folder's name has "
            f"none of {', '.join(FREIBURG)}"
        )
    (fx, fy, cx, cy), lens = FREIBURG[name[0]]
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]]), lens


def _shot(image: Path, depth: Path | None, words: list[str], k: np.ndarray, poses: Path) -> Shot:
    size, upright = sized(image)
    frame = Frame(image, upright=upright, depth=depth, depth_scale=1 / STEPS)
    return Shot(frame, size, k + PIXEL_CENTER, _pose(words, poses))
