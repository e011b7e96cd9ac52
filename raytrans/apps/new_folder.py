"""A folder that is filled out of sight, so that it holds all or nothing."""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from raytrans.training.claim import CLAIM, locked

UNFINISHED = ".unfinished-"


def check_new(out: Path) -> None:
    """Refuse a folder that holds anything but what killed runs left in it; ValueError."""
    if out.is_dir() and any(not path.name.startswith(UNFINISHED) for path in out.iterdir()):
        raise ValueError(f"--out: expected a new or empty folder, got {out}, which holds files")


@contextmanager
def working_folder(out: Path) -> Iterator[Path]:
    """A folder in `out` for the length of the block; what killed runs left in `out` goes first.

    Folders that it had to make go where the block fails. Raises ValueError where another run is at work in `out`.
    """
    made = [folder for folder in (out, *out.parents) if not folder.exists()]
    out.mkdir(parents=True, exist_ok=True)
    try:
        for left in out.glob(f"{UNFINISHED}*"):
            _remove(left)
        with TemporaryDirectory(prefix=UNFINISHED, dir=out) as name, locked(Path(name) / CLAIM):
            check_new(out)  # again: another run may have ended meanwhile
            yield Path(name)
    except BaseException:
        with suppress(OSError):  # one that holds something by now stays
            for folder in made:
                folder.rmdir()
        raise


def move_in(files: Mapping[Path, Path]) -> None:
    """Move files and folders to new places, in order: all of them, or none where one move fails or is interrupted."""
    begun = []
    try:
        for source, target in files.items():
            begun.append((source, target))
            os.rename(source, target)
    except BaseException:
        for source, target in begun:
            if not source.exists():
                os.rename(target, source)
        raise


def _remove(left: Path) -> None:
    try:
        with locked(left / CLAIM):
            shutil.rmtree(left)
    except BlockingIOError:
        raise ValueError(f"--out: another run is at work in {left.parent}; wait for its end or stop it") from None
