"""The one worker of a server: takes pieces of work in turn, in the thread that runs it.

The model is not made for two calls at once, and processors are few: so there is one worker, however many browsers look.
"""

import logging
import threading
import time
from collections.abc import Callable, Hashable, Iterator

from raytrans.viewer.turns import Next, Rank, Turns

LOGGER = logging.getLogger(__name__)


class Worker:
    """`Turns` behind a lock, with a loop; `ask`, `drop` and `stop` may be called from any thread.

    failed(owner, error) is told of a job that raised; the others go on.
    """

    def __init__(self, failed: Callable[[Hashable, Exception], None], clock: Callable[[], float] = time.monotonic):
        self.clock, self._failed = clock, failed
        self._turns, self._changed, self._stopped = Turns(), threading.Condition(), False

    def ask(self, owner: Hashable, kind: str, pieces: Iterator[Next], rank: Rank) -> None:
        """Want a job from now on, instead of the one of this kind that the owner had."""
        with self._changed:
            self._turns.ask(owner, kind, pieces, Next(rank))
            self._changed.notify()

    def drop(self, owner: Hashable, kind: str | None = None) -> None:
        """Want nothing more of an owner, or nothing of one kind."""
        with self._changed:
            self._turns.drop(owner, kind)

    def stop(self) -> None:
        """End `run` after the piece that it is at."""
        with self._changed:
            self._stopped = True
            self._changed.notify()

    def waiting(self) -> int:
        """How many jobs are wanted."""
        with self._changed:
            return len(self._turns)

    def run(self) -> None:
        """Work until `stop`."""
        while not self._stopped:
            self.work()

    def work(self) -> None:
        """Do one piece, or wait until one may be due."""
        with self._changed:
            job = self._turns.next(self.clock())
            if job is None:
                if not self._stopped:
                    self._changed.wait(self._turns.wait(self.clock()))
                return
        try:
            following = next(job.pieces, None)
        except Exception as error:
            LOGGER.debug("a job of the viewer failed", exc_info=True)
            following = None
            self._failed(job.owner, error)
        with self._changed:
            self._turns.done(job, following)
