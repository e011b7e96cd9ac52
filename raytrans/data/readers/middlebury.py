"""Reader of Middlebury multi-view stereo: `NAME_par.txt` beside its images.

The first line counts the images. Every other one holds the name of an image, K (3 x 3), R (3 x 3) and t, row by row;
the projection is K [R | t], x right and y down from the top-left corner. Source: the README of the data sets.
"""

from pathlib import Path

import numpy as np

from raytrans.data.guards import below
from raytrans.data.readers.shots import (
    Shot,
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

ENDING = "_par.txt"
NUMBERS = 21


def found_in(path: Path) -> list[Path]:
    """The parameter files that a folder holds, or the one that `path` is."""
    if path.is_file():
        return [path] if path.name.endswith(ENDING) else []
    return sorted(file for file in path.glob(f"*{ENDING}") if file.is_file())


def read(files: list[Path]) -> Scene:
    """Scene of one parameter file; listed images that do not exist are left out, with a warning.

    Raises ValueError naming file and line for a count, a number, K or R that is wrong, and for several files.
    """
    path = files[0]
    if len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise ValueError(f"{path.parent}: expected one {ENDING[1:]} file, got {names}; name one of them")
    lines = [line.split() for line in text_of(path).splitlines() if line.strip()]
    count = int(lines[0][0]) if lines and len(lines[0]) == 1 and lines[0][0].isdecimal() else None
    if count is None or count < 1:
        raise ValueError(
            f"{path}: expected the number of images on the first line, got {' '.join(sum(lines[:1], []))[:60]!r}"
        )
    if len(lines) - 1 != count:
        raise ValueError(f"{path}: expected {count} lines, one for each image, got {len(lines) - 1}")
    images = {words[0]: below(path.parent, words[0]) for words in lines[1:]}
    missing = [words[0] for words in lines[1:] if images[words[0]] is None or not images[words[0]].is_file()]
    tell_left_out(path, missing, count, "their images do not exist beside the file")
    gone = set(missing)
    return scene_of([_shot(path, words, images[words[0]]) for words in lines[1:] if words[0] not in gone], path.parent)


def _shot(path: Path, words: list[str], image: Path) -> Shot:
    label = f"{path}: {words[0]}"
    values = numbers_of(words[1:], NUMBERS, label)
    intrinsics = pinhole_of(values[:9].reshape(3, 3), f"{label}: K")
    extrinsics = np.concatenate([values[9:18].reshape(3, 3), values[18:, None]], 1)
    camera_from_world = rigid_of(extrinsics, f"{label}: R, t")
    size, upright = sized(image)
    return Shot(Frame(image, upright=upright), size, intrinsics, inverse(camera_from_world))
