"""What stands between a file of unknown origin and its reader: sizes, numbers, places, and errors of other libraries.

A file may state anything: counts beyond its own bytes, pictures that unfold to gigabytes, names of files elsewhere.
Whatever is stated is held against the bytes that are there before anything is allocated, opened or looped over.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PIXELS = 48_000_000
"""An image of more has to have a byte for every `PIXELS_PER_BYTE`: what photographs keep even at low quality."""
PIXELS_PER_BYTE = 16
LARGEST_SIDE = 1 << 20
"""Pixels; of an image that a file states without having it."""
DIGITS = 18  # of whole numbers that stay below 2^63
LONGEST_NAME, LONGEST_PART = 4096, 255  # what file systems take


@contextmanager
def decoding(path: Path, failure: str) -> Iterator[None]:
    """Turns whatever a decoder raises, its own kinds of errors included, into ValueError("path: failure (reason)").

    An error that names the file already passes unchanged.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, ValueError) and str(error).startswith(str(path)):
            raise
        raise ValueError(f"{path}: {failure} ({one_line(error)})") from None


def one_line(error: Exception) -> str:
    """The first line of what an error says, or else its kind."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def parse_json(text: str | bytes, label: object, **hooks: Any) -> Any:
    """The value of a JSON text, long whole numbers as floats; ValueError that begins with `label` for what is none."""
    try:
        return json.loads(text, parse_int=_whole, **hooks)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{label}: not valid JSON ({error})") from None


def read_json(path: Path) -> Any:
    """The value of a JSON file. Raises ValueError naming one that cannot be read, or is no JSON."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not valid JSON ({error})") from None
    return parse_json(text, path)


def _whole(digits: str) -> int | float:
    return int(digits) if len(digits) <= DIGITS else float(digits)


def whole_of(word: str, label: str) -> int:
    """A whole number of at least 0 out of a word. Raises ValueError that begins with `label` for anything else."""
    if not (word.isascii() and word.isdecimal() and len(word) <= DIGITS):
        raise ValueError(f"{label}: expected a whole number, got {word[:60]!r}")
    return int(word)


def check_pixels(path: Path, height: int, width: int) -> None:
    """Refuse an image of many pixels, and more than a file of its length holds; ValueError naming it."""
    allowed = max(PIXELS, PIXELS_PER_BYTE * path.stat().st_size)
    if height * width > allowed:
        raise ValueError(
            f"{path}: expected at most {allowed} pixels in a file of {path.stat().st_size} bytes, got "
            f"{width} x {height}"
        )


def is_name(name: str) -> bool:
    """Whether a file can have this name, folders before it included."""
    parts = name.replace("\\", "/").split("/")
    return "\0" not in name and len(name) <= LONGEST_NAME and all(len(part) <= LONGEST_PART for part in parts)


def below(folder: Path, name: str) -> Path | None:
    """The path of a name in a folder; None where it leads out of it, as an absolute path or by `..`.

    Decided by the name alone, without a look at the disk. Links in the folder are followed: whoever made it made them.
    """
    folder = Path(os.path.abspath(folder))
    path = Path(os.path.normpath(folder / name.replace("\\", "/")))
    return path if is_name(name) and path.is_relative_to(folder) else None
