"""Whose turn it is: a state machine of what is due, without threads, clocks or browsers.

Work comes as jobs: iterators that stop after every piece and say when the next is due. One worker takes one piece at a
time, so that a job that is no longer wanted is dropped between two pieces. The newest wish of an owner replaces the
older one. Coarse pictures go before fine ones, those before what nobody waits for; among equals the owner served
longest ago comes first. Every fourth turn goes to the owner who waits longest, for a coarse picture or a finer one, so
that nobody waits for ever; what nobody waits for has to.
"""

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from enum import IntEnum

ANYBODY = 4  # of so many turns one does not tell coarse from fine


class Rank(IntEnum):
    """What goes first."""

    COARSE = 0
    FINE = 1
    IDLE = 2


@dataclass(frozen=True)
class Next:
    """What a job says of its next piece: its rank, and that it is not due before `after` (seconds of the clock)."""

    rank: Rank
    after: float = 0.0


@dataclass
class Job:
    """Work of an owner, a piece at a time; an owner has one of each kind."""

    owner: Hashable
    kind: str
    pieces: Iterator[Next]
    next: Next


class Turns:
    """All jobs that are wanted; every time is told by the caller."""

    def __init__(self):
        self._jobs: dict[tuple[Hashable, str], Job] = {}
        self._served: dict[Hashable, dict[str, int]] = {}  # the latest turn of each kind, by owner
        self._turn = 0

    def __len__(self) -> int:
        return len(self._jobs)

    def ask(self, owner: Hashable, kind: str, pieces: Iterator[Next], first: Next) -> Job:
        """Want a job; one of the same owner and kind is wanted no more."""
        job = Job(owner, kind, pieces, first)
        self._jobs[owner, kind] = job
        return job

    def drop(self, owner: Hashable, kind: str | None = None) -> None:
        """Want nothing more of an owner, or nothing of one kind."""
        for key in [key for key in self._jobs if key[0] == owner and kind in (None, key[1])]:
            del self._jobs[key]
        if kind is None:
            self._served.pop(owner, None)

    def wanted(self, job: Job) -> bool:
        """Whether nothing has taken the place of a job."""
        return self._jobs.get((job.owner, job.kind)) is job

    def next(self, now: float) -> Job | None:
        """The job whose piece is due, whose owner thereby has its turn; None where nothing is due yet."""
        due = [job for job in self._jobs.values() if job.next.after <= now]
        if not due:
            return None
        self._turn += 1
        anybody = self._turn % ANYBODY == 0

        def precedence(job: Job) -> tuple[int, int, int]:
            kinds = self._served.get(job.owner, {})
            rank = Rank.FINE if anybody and job.next.rank < Rank.IDLE else job.next.rank
            return rank, max(kinds.values(), default=0), kinds.get(job.kind, 0)

        chosen = min(due, key=precedence)
        self._served.setdefault(chosen.owner, {})[chosen.kind] = self._turn
        return chosen

    def done(self, job: Job, following: Next | None) -> None:
        """A piece of a job is done; `following` is what comes next, None at its end."""
        if not self.wanted(job):
            return
        if following is None:
            del self._jobs[job.owner, job.kind]
        else:
            job.next = following

    def wait(self, now: float) -> float | None:
        """Seconds until something is due, None where nothing is wanted."""
        if not self._jobs:
            return None
        return max(0.0, min(job.next.after for job in self._jobs.values()) - now)
