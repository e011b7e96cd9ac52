"""Reader of MVSNet's folders, as DTU and BlendedMVS are given out: `cams/00000000_cam.txt`, images, `pair.txt`, `.pfm`.

A camera file holds the word extrinsic and camera_from_world (4 x 4), the word intrinsic and K (3 x 3), then DEPTH_MIN,
DEPTH_INTERVAL and perhaps DEPTH_NUM and DEPTH_MAX, z-depths; DEPTH_MAX is else DEPTH_MIN + (DEPTH_NUM - 1)
DEPTH_INTERVAL. Source: "File Formats" in the README of MVSNet, and that of BlendedMVS.
"""

import logging
import re
from pathlib import Path

import numpy as np

from raytrans.data.readers.shots import (
    Shot,
    files_in,
    first_files,
    inverse,
    numbers_of,
    pinhole_of,
    rigid_of,
    scene_of,
    sized,
    tell_left_out,
    text_of,
)
from raytrans.data.scene import Frame, Scene

CAMERAS, ENDING, PAIRS = "cams", "_cam.txt", "pair.txt"
IMAGES = ("blended_images", "images", "image", "rectified", "Rectified")
DEPTHS = ("rendered_depth_maps", "depths", "depth_maps", "Depths")
DTU_NAME = "rect_{:03d}_3_r5000"  # images counted from 1, in the light that MVSNet tests with
DTU_DEPTH = "depth_map_{:04d}"

log = logging.getLogger(__name__)


def found_in(path: Path) -> list[Path]:
    """The camera files of a folder that has `cams`, or of that `cams` itself."""
    folder = path if path.name == CAMERAS else path / CAMERAS
    return files_in(folder, [ENDING])


def read(files: list[Path]) -> Scene:
    """Scene of some camera files; views without an image are left out, with a warning, and so are views of `pair.txt`.

    Raises ValueError naming file and field for whatever is missing, not finite, or no rotation.
    """
    root = files[0].parent.parent
    images, depths = _by_stem(root, IMAGES), _by_stem(root, DEPTHS, [".pfm"])
    names = [file.name.removesuffix(ENDING) for file in files]
    where = {name: _named(images, name, DTU_NAME, 1) for name in names}
    missing = [name for name in names if where[name] is None]
    tell_left_out(files[0].parent, missing, len(names), f"no image in {', '.join(IMAGES)} has their name")
    _check_pairs(root, set(names) - set(missing))
    used = [(file, name) for file, name in zip(files, names, strict=True) if where[name] is not None]
    return scene_of([_shot(f, where[name], _named(depths, name, DTU_DEPTH, 0)) for f, name in used], root)


def _by_stem(root: Path, folders: tuple[str, ...], *suffixes: list[str]) -> dict[str, Path]:
    """Files by name without extension, of the first folder that has any."""
    return {file.stem: file for file in first_files([root / folder for folder in folders], *suffixes)}


def _named(files: dict[str, Path], name: str, pattern: str, first: int) -> Path | None:
    """The file of a view by the view's own name, or by DTU's pattern with views counted from `first`."""
    return files.get(name) or (files.get(pattern.format(int(name) + first)) if name.isdecimal() else None)


def _shot(path: Path, image: Path, depth: Path | None) -> Shot:
    text = re.fullmatch(r"\s*extrinsic\s+(.*?)\s+intrinsic\s+(.*?)\s*", text_of(path), re.DOTALL)
    if text is None:
        raise ValueError(f"{path}: expected the words extrinsic and intrinsic, each before its matrix")
    extrinsic = numbers_of(text[1].split(), 16, f"{path}: extrinsic").reshape(4, 4)
    words = text[2].split()
    intrinsic = numbers_of(words[:9], 9, f"{path}: intrinsic").reshape(3, 3)
    near, far = _range(words[9:], path)
    size, upright = sized(image)
    pose = inverse(rigid_of(extrinsic, f"{path}: extrinsic"))
    frame = Frame(image, upright=upright, depth=depth)
    return Shot(frame, size, pinhole_of(intrinsic, f"{path}: intrinsic"), pose, near, far)


def _range(words: list[str], path: Path) -> tuple[float | None, float | None]:
    """(near, far) out of DEPTH_MIN DEPTH_INTERVAL [DEPTH_NUM [DEPTH_MAX]]; None for what is not stated."""
    if len(words) > 4:
        raise ValueError(f"{path}: depth range: expected 2 to 4 numbers, got {len(words)}")
    values = numbers_of(words, len(words), f"{path}: depth range")
    if not np.isfinite(values).all() or not (values[:1] > 0).all():
        raise ValueError(f"{path}: DEPTH_MIN: expected finite numbers, the first positive, got {' '.join(words)}")
    near = float(values[0]) if len(values) else None
    far = None
    if len(values) > 2:
        far = float(values[3] if len(values) > 3 else values[0] + (values[2] - 1) * values[1])
        if not near < far:
            raise ValueError(f"{path}: DEPTH_MAX: expected more than DEPTH_MIN {near:g}, got {far:g}")
    return near, far


def _check_pairs(root: Path, known: set[str]) -> None:
    """Warns of views that `pair.txt` names and the folder lacks; sources are chosen from cameras, not from the file."""
    path = next((file for file in (root / PAIRS, root / CAMERAS / PAIRS) if file.is_file()), None)
    if path is None:
        return
    named = _paired(path)
    numbers = {int(name) for name in known if name.isdecimal()}
    if lost := sorted(named - numbers):
        log.warning("%s: %d of %d views have no camera or image (first: %d)", path, len(lost), len(named), lost[0])


def _paired(path: Path) -> set[int]:
    """Views of a `pair.txt`: how many there are, then for each its number and a line `n source score source score ...`.

    Raises ValueError naming the file for another number of lines or of sources than it states.
    """
    lines = [line.split() for line in text_of(path).splitlines() if line.strip()]
    if not lines:
        raise ValueError(f"{path}: expected the number of views, got an empty file")
    named = [words[0] for words in lines[1::2]] + [word for words in lines[2::2] for word in words[1::2]]
    counts = [lines[0][0], *(words[0] for words in lines[2::2])]
    if wrong := sorted(name for name in named + counts if not name.isdecimal()):
        raise ValueError(f"{path}: expected whole numbers of views, got {wrong[0][:60]!r}")
    if len(lines) - 1 != 2 * int(counts[0]):
        raise ValueError(f"{path}: expected two lines for each of {int(counts[0])} views, got {len(lines) - 1} lines")
    for view, words in zip(lines[1::2], lines[2::2], strict=True):
        if len(words) != 1 + 2 * int(words[0]):
            raise ValueError(
                f"{path}: view {view[0]}: expected {int(words[0])} sources and their scores, got {len(words) - 1} words"
            )
    return set(map(int, named))
