"""What a reader of foreign files promises, and a watch that sees every breach of it.

It returns, or raises ValueError or OSError with a message of one line, and no warnings beside it. It takes no more than
10 seconds and no more than 1 GB over the process before. It opens and lists nothing outside the folder of the scene,
changes nothing on the disk, and runs no code that comes from a file, no program, and no connection.
"""

import os
import resource
import signal
import sys
import sysconfig
import traceback
import typing
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

SECONDS, BYTES = 10.0, 1 << 30
BACKSTOP = 3 << 30  # of address space: what a breach may take from the machine before it is stopped
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
RUNS = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.fork",
    "subprocess.Popen",
    "pty.spawn",
    "pickle.",
    "code.",
)
RUNS += ("ctypes.", "socket.", "urllib.", "http.", "ftplib.", "webbrowser.", "cpython.run_")
CHANGES = (
    "os.remove",
    "os.rename",
    "os.mkdir",
    "os.rmdir",
    "os.link",
    "os.symlink",
    "os.chmod",
    "os.chown",
    "os.truncate",
)
CHANGES += ("os.utime", "shutil.", "tempfile.")
SCRATCH = "unpacked"  # the folder of a scene that may be written to
LISTS = ("os.listdir", "os.scandir")
SYSTEM = (
    "/dev/null",
    "/dev/urandom",
    "/proc/self/",
    "/proc/meminfo",
    "/proc/cpuinfo",
    "/sys/devices/system/",
    "/sys/fs/",
)
OWN = Path(__file__).resolve().parents[2] / "raytrans"
GENERATED = ("<@beartype", "<frozen ", "<__array_function__")  # code that packages make of themselves
CHECKERS = ("jaxtyping", "beartype")  # of the annotations while tests run, which evaluate the sums in them


class Forbidden(BaseException):
    """Stops what must not happen; no `except Exception` of a reader holds it."""


class Hang(BaseException):
    """Stops what takes too long."""


class Watch:
    """What a reader does that it must not, while it is the one that is watched."""

    def __init__(self, folder: Path):
        self.folder = os.path.realpath(folder)
        self.seen: list[str] = []

    def event(self, event: str, values: tuple) -> None:
        breach = None
        if event == "open":
            breach = self._opened(*values[:3])
        elif event == "exec":
            breach = None if _of_a_package(values[0]) else f"runs code: {getattr(values[0], 'co_filename', '?')}"
        elif event in LISTS:
            breach = None if self._inside(values[0]) or _importing() else f"lists outside: {values[0]}"
        elif event.startswith(RUNS):
            breach = None if _importing() else f"runs: {event} {str(values)[:100]}"
        elif event.startswith(CHANGES):
            breach = None if self._scratch(values[0]) else f"changes: {event} {str(values)[:100]}"
        if breach is not None:
            self.seen.append(breach)
            raise Forbidden(breach)

    def _opened(self, path: object, mode: object, flags: object) -> str | None:
        if isinstance(path, int) or path is None:
            return None
        writes = (isinstance(mode, str) and set(mode) & set("wax+")) or (isinstance(flags, int) and flags & WRITING)
        if writes and "__pycache__" not in os.fsdecode(path) and not self._scratch(path):
            return f"writes: {os.fsdecode(path)}"
        return None if self._inside(path) else f"opens outside: {os.fsdecode(path)}"

    def _scratch(self, path: object) -> bool:
        """Whether a path is where shards are unpacked."""
        return os.path.realpath(os.fsdecode(path)).startswith(os.path.join(self.folder, SCRATCH) + os.sep)

    def _inside(self, path: object) -> bool:
        """Whether a path is of the scene, or of the packages and the system that run the reader."""
        if isinstance(path, int) or path is None:
            return True
        named = os.path.abspath(os.fsdecode(path))
        real = os.path.realpath(named)
        places = (self.folder, *LIBRARIES)
        return any(real == place or real.startswith(place + os.sep) for place in places) or named.startswith(SYSTEM)


LIBRARIES = tuple(
    {os.path.realpath(p) for p in (sys.prefix, sys.base_prefix, OWN, *sysconfig.get_paths().values())} - {"/", "/usr"}
)
_watch: Watch | None = None
_hooked = False


def _importing() -> bool:
    """Whether an import is under way, whose own work is no doing of a file."""
    frame = sys._getframe()
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


def _of_a_package(code: object) -> bool:
    name, caller = getattr(code, "co_filename", ""), sys._getframe()
    while caller.f_code.co_filename in (__file__, typing.__file__):  # typing evaluates annotations for them
        caller = caller.f_back
    checks = any(f"{os.sep}{package}{os.sep}" in caller.f_code.co_filename for package in CHECKERS)
    return checks or name.startswith((*LIBRARIES, *GENERATED)) or _importing()


def _hook(event: str, values: tuple) -> None:
    global _watch
    watch = _watch
    if watch is None:
        return
    _watch = None  # its own looks at the disk are none of the reader's
    try:
        watch.event(event, values)
    finally:
        _watch = watch


@contextmanager
def _watched(folder: Path) -> Iterator[Watch]:
    global _watch, _hooked
    if not _hooked:  # once and for all: hooks cannot be taken away
        sys.addaudithook(_hook)
        _hooked = True
    watch = Watch(folder)
    _watch = watch
    try:
        yield watch
    finally:
        _watch = None


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """Raises Hang after so many seconds of this process's own time; pytest's clock stays as it is."""

    def ring(*_) -> None:
        raise Hang

    before = signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@contextmanager
def _backstop() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = _status("VmSize")
    if used is not None:
        resource.setrlimit(resource.RLIMIT_AS, (used + BACKSTOP, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _status(key: str) -> int | None:
    """Bytes that Linux states of this process; None elsewhere."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(key))


def _reset_peak() -> int:
    """Bytes in use now, from which the peak is counted anew where the system can do that."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return _status("VmRSS") or 0
    except OSError:
        return _peak()


def _peak() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return _status("VmHWM") or unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def faults(read: Callable[[], object], folder: Path, seconds: float = SECONDS, memory: int = BYTES) -> list[str]:
    """Every breach of the contract by one call that reads files of a folder; none where it is kept."""
    found, error, before = [], None, _reset_peak()
    with _watched(folder) as watch, _backstop(), warnings.catch_warnings(record=True) as told, _alarm(seconds):
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", DeprecationWarning)  # as Python has it
        try:
            read()
        except Forbidden:
            pass
        except Hang:
            found.append(f"hang: more than {seconds:g} s")
        except KeyboardInterrupt:
            raise
        except BaseException as raised:
            error = raised
    if isinstance(error, (ValueError, OSError)):
        message = (error.strerror if isinstance(error, OSError) else None) or str(error)
        if not message.strip() or "\n" in message:
            found.append(f"message: expected one line, got {message[:200]!r} of {_place(error)}")
    elif error is not None:
        found.append(f"traceback: {type(error).__name__} at {_place(error)}: {str(error)[:200]}")
    if (taken := _peak() - before) > memory:
        found.append(f"memory: {taken / 1e6:.0f} MB more than before")
    found += [f"noise: {one.category.__name__} at {one.filename}:{one.lineno}: {one.message}" for one in told]
    return [*found, *watch.seen]


def _place(error: BaseException) -> str:
    """Innermost line of the package that an error passed, else its innermost line."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename.startswith(str(OWN))] or frames
    return f"{Path(own[-1].filename).name}:{own[-1].lineno}" if own else "?"
