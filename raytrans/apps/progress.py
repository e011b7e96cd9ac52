"""How far a long work is: a bar on stderr where that is a terminal, nothing elsewhere."""

import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from raytrans.processes import quiet

BAR = "{desc} {percentage:3.0f}% |{bar:20}| {n_fmt}/{total_fmt} {unit} [{elapsed}<{remaining}{postfix}]"
UNSTATED = 80
INTERVAL = 0.1  # seconds between two looks of a bar


class Progress:
    """A bar with the time left, rays a second and the memory of the process; nothing where stderr is no terminal.

    total: so many units of work, of which `done` are over from before. The bar goes at the end of the block.
    """

    def __init__(self, what: str, total: int, unit: str, done: int = 0):
        self.bar, self.done, self.rays = _bar(what, total, unit, done), done, 0
        self.begun = time.monotonic() if self.bar is not None else 0.0

    def __call__(self, more: int = 1, rays: int = 0, text: str = "") -> None:
        """So many more units are done and so many more rays traced; `text` says what comes next."""
        self.done, self.rays = self.done + more, self.rays + rays
        if self.bar is None:
            return
        facts = [_rate(self.rays / max(time.monotonic() - self.begun, 1e-3))] if self.rays else []
        facts += [fact for fact in (_memory(), text) if fact]
        self.bar.set_postfix_str(", ".join(facts), refresh=False)
        self.bar.update(more)

    def to(self, done: int, text: str = "") -> None:
        """So many units are done in all."""
        self(done - self.done, text=text)

    def traced(self, rays: int) -> None:
        """So many more rays are traced, where rays are the units."""
        self(rays, rays)

    def over(self, items: Iterable) -> Iterator:
        """The items, and the bar away after the last of them or when nobody wants more."""
        with self:
            yield from items

    def close(self) -> None:
        """Take the bar away."""
        if self.bar is not None:
            self.bar.close()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_) -> None:
        self.close()


class Stages:
    """A bar for each stage of a work that the package does: `stages(what, done, total)` as its callback."""

    def __init__(self):
        self.what, self.bar = "", None

    def __call__(self, what: str, done: int, total: int) -> None:
        """So many of a stage's steps are done."""
        if what != self.what or self.bar is None:
            self.close()
            self.what, self.bar = what, Progress(what, total, "")
        self.bar.to(done)

    def close(self) -> None:
        """Take the bar away."""
        if self.bar is not None:
            self.bar.close()

    def __enter__(self) -> "Stages":
        return self

    def __exit__(self, *_) -> None:
        self.close()


class Beside:
    """A stream whose lines stand above the bars, not in them."""

    def __init__(self, stream: Any):
        self.stream = stream

    def write(self, text: str) -> None:
        with aside():
            self.stream.write(text)
            self.stream.flush()

    def flush(self) -> None:
        self.stream.flush()


@contextmanager
def aside() -> Iterator[None]:
    """Take the bars from the terminal while the block writes to it."""
    tqdm = sys.modules.get("tqdm")
    if tqdm is None:  # no bar was ever made
        yield
        return
    with tqdm.tqdm.external_write_mode(file=sys.stdout):
        yield


def _bar(what: str, total: int, unit: str, done: int):
    if quiet() or not sys.stderr.isatty():
        return None
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    options = {"bar_format": BAR, "miniters": 0, "mininterval": INTERVAL, "leave": False}
    try:
        wide = os.get_terminal_size(sys.stderr.fileno()).columns
    except (OSError, ValueError):
        wide = 0
    options |= {"dynamic_ncols": True} if wide else {"ncols": UNSTATED}  # some terminals do not know how wide they are
    return tqdm(desc=what, total=total, unit=unit, initial=done, unit_scale=total >= 10_000, **options)


def _rate(rays: float) -> str:
    from tqdm import tqdm

    return f"{tqdm.format_sizeof(rays)} rays/s"


def _memory() -> str:
    """Resident size of this process."""
    try:
        import psutil
    except ImportError:
        return ""
    return f"{psutil.Process().memory_info().rss / 1e6:.0f} MB"
