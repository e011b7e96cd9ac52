"""One run at a time in a folder."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from raytrans.atomic import UNFINISHED

CLAIM = ".running"  # stays: another process may be waiting at it


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold the lock of a file, made where there is none, for the length of the block.

    The system lets go of it with the process, however that ends. Where it knows no such locks nothing is kept out.
    Raises BlockingIOError where another process holds it, OSError where the file cannot be written.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    with open(file, "w") as handle:
        try:
            # a lock of the process, which its workers do not inherit: they may outlive it by seconds
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BlockingIOError(f"{file}: another process holds it") from None
        yield


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Keep other processes out of a folder for the length of the block, and take away what a killed run left half made.

    Raises ValueError where another process is at work in the folder, or nothing can be written there.
    """
    with ExitStack() as held:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            held.enter_context(locked(folder / CLAIM))
        except BlockingIOError:
            raise ValueError(f"--out: another run is at work in {folder}; wait for its end or stop it") from None
        except OSError as error:
            raise ValueError(f"--out: nothing can be written to {folder}: {error.strerror}") from None
        for left in folder.glob(UNFINISHED):
            left.unlink()
        yield
