"""The worker: one piece at a time in one thread, errors told, nothing done for who left."""

import threading

import pytest

from raytrans.viewer.turns import Next, Rank
from raytrans.viewer.worker import Worker


@pytest.fixture
def told() -> list:
    return []


@pytest.fixture
def worker(told) -> Worker:
    return Worker(lambda owner, error: told.append((owner, str(error))), clock=lambda: 0.0)


def pieces(log: list, name: str, count: int):
    for k in range(count):
        log.append((name, k, threading.current_thread().name))
        yield Next(Rank.FINE)


def test_pieces_of_two_alternate_in_one_thread(worker):
    log = []
    for name in ("a", "b"):
        worker.ask(name, "look", pieces(log, name, 3), Rank.FINE)
    runner = threading.Thread(target=worker.run, name="runner")
    runner.start()
    while worker.waiting():
        pass
    worker.stop()
    runner.join(10)
    assert not runner.is_alive()
    assert [name for name, _, _ in log] == ["a", "b"] * 3 and {thread for *_, thread in log} == {"runner"}


def test_a_job_that_fails_is_told_and_the_others_go_on(worker, told):
    log = []

    def failing():
        yield Next(Rank.FINE)
        raise ValueError("no surface")

    worker.ask(1, "look", failing(), Rank.COARSE)
    worker.ask(2, "look", pieces(log, "b", 2), Rank.FINE)
    while worker.waiting():
        worker.work()
    assert told == [(1, "no surface")] and len(log) == 2


def test_a_job_is_abandoned_between_two_pieces(worker):
    log = []
    worker.ask(1, "look", pieces(log, "old", 100), Rank.FINE)
    worker.work(), worker.work()
    worker.ask(1, "look", pieces(log, "new", 1), Rank.FINE)
    while worker.waiting():
        worker.work()
    assert [name for name, _, _ in log] == ["old", "old", "new"]
    worker.ask(1, "look", pieces(log, "left", 100), Rank.FINE)
    worker.work()
    worker.drop(1)
    assert worker.waiting() == 0 and log[-1][:2] == ("left", 0)


def test_a_worker_that_waits_can_be_stopped(worker):
    runner = threading.Thread(target=worker.run)
    runner.start()
    worker.stop()
    runner.join(10)
    assert not runner.is_alive()
