"""Ctrl-C at a moment of our choice."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collected(wanted: bool = True) -> Iterator[list[int]]:
    """Collect in a list what would interrupt the block, if that is wanted."""
    came: list[int] = []
    # where signals neither arrive nor are handled
    elsewhere = threading.current_thread() is not threading.main_thread()
    if not wanted or elsewhere or signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        yield came
        return
    before = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        yield came
    finally:
        signal.signal(signal.SIGINT, before or signal.default_int_handler)


@contextmanager
def postponed() -> Iterator[None]:
    """Put Ctrl-C off to the end of the block: weights and step number change together, files are written whole."""
    with collected() as came:
        yield
    if came:
        signal.raise_signal(signal.SIGINT)
