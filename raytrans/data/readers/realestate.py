"""Reader of RealEstate10K: a camera file `ID.txt` with the frames `TIMESTAMP.png` (or .jpg) in a folder beside it.

The first line is the address of the video. Every other one holds 19 numbers: the timestamp in microseconds; fx, fy, cx,
cy in units of width and height; two zeros; camera_from_world (3 x 4) row by row. ACID has the same format. Source: the
page of the data set, google.github.io/realestate10k/download.html.
"""

import os
from pathlib import Path

import numpy as np

from raytrans.data.readers.shots import (
    Shot,
    files_in,
    finite,
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

NUMBERS = 19
FOLDERS = ("frames", "images", "rgb")


def found_in(path: Path) -> list[Path]:
    """The camera file that `path` is, those in a folder, or the one beside a folder of frames of the same name."""
    if path.is_file():
        return [path] if _is_camera_file(path) else []
    beside = Path(f"{os.path.abspath(path)}.txt")
    if beside.is_file() and _is_camera_file(beside):
        return [beside]
    return [file for file in files_in(path, [".txt"]) if _is_camera_file(file)]


def _is_camera_file(path: Path) -> bool:
    """Whether the first line is an address and the second, if any, begins with a timestamp."""
    try:
        with open(path, encoding="utf-8") as file:
            first, second = file.readline(2048), file.readline(2048).split()
    except (OSError, UnicodeDecodeError):
        return False
    return path.suffix == ".txt" and "://" in first and (not second or second[0].isdecimal())


def read(files: list[Path]) -> Scene:
    """Scene of one camera file; frames that were not downloaded are left out, with a warning.

    Raises ValueError naming file and line for other than 19 numbers, NaN, scale in a rotation, and for several files.
    """
    path = files[0]
    if len(files) > 1:
        raise ValueError(f"{path.parent}: expected one camera file, got {len(files)}; name one, such as {path.name}")
    lines = [line.split() for line in text_of(path).splitlines()[1:] if line.strip()]
    if not lines:
        raise ValueError(f"{path}: expected lines of {NUMBERS} numbers after the address, got none")
    folders = [path.with_suffix(""), *(path.parent / name for name in FOLDERS), path.parent]
    frames = {file.stem: file for file in first_files(folders)}
    missing = [words[0] for words in lines if words[0] not in frames]
    tell_left_out(path, missing, len(lines), f"no frame in {path.stem}/ or {'/, '.join(FOLDERS)}/ has their timestamp")
    numbered = [(number, words) for number, words in enumerate(lines, 2) if words[0] in frames]
    return scene_of([_shot(words, frames[words[0]], f"{path}: line {n}") for n, words in numbered], path.parent)


def _shot(words: list[str], image: Path, label: str) -> Shot:
    values = finite(numbers_of(words, NUMBERS, label), label)
    (height, width), upright = sized(image)
    fx, fy, cx, cy = values[1:5] * [width, height, width, height]
    intrinsics = pinhole_of(np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]]), label)
    pose = inverse(rigid_of(values[7:].reshape(3, 4), f"{label}: pose"))
    return Shot(Frame(image, upright=upright), (height, width), intrinsics, pose)
