"""One run at a time in a folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CLAIM = ".running"  # stays: another process may be waiting at it


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Keep other processes out of a folder for the length of the block, and take away what a killed run left half made.

    The system lets go of the folder with the process, however that ends. Where it knows no such locks nothing is kept
    out. Raises ValueError where another process is at work in the folder, or nothing can be written there.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / CLAIM, "w")  # noqa: SIM115
    except OSError as error:
        raise ValueError(f"--out: nothing can be written to {folder}: {error.strerror}") from None
    with file:
        try:
            # a lock of the process, which its workers do not inherit: they may outlive it by seconds
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ValueError(f"--out: another run is at work in {folder}; wait for its end or stop it") from None
        for left in folder.glob(".*.tmp"):
            left.unlink()
        yield
