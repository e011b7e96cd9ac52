"""Time and processes of measurements."""

import time

import torch

from raytrans.apps.benchmarks.measure import isolated, machine, often, timed
from raytrans.apps.benchmarks.settings import QUICK, Settings


def test_a_process_of_its_own_has_the_threads_it_was_told():
    torch.set_num_threads(2)
    found = isolated(machine, Settings(threads=1, repeats=1, sizes=QUICK))
    assert found["threads"] == 1 and torch.get_num_threads() == 2
    assert isolated(lambda settings, x: x + settings.repeats, Settings(repeats=3, alone=False), 4) == 7


def test_sleep_takes_time_but_no_cpu_time_and_a_slow_first_call_does_not_count():
    calls = []

    def work() -> None:
        calls.append(1)
        time.sleep(0.2 if len(calls) == 1 else 0.02)

    found = timed(work, 3)
    assert len(calls) == 3 and 0.02 <= found["seconds"] and found["cpu_seconds"] < found["seconds"]


def test_short_work_is_timed_by_the_call(monkeypatch):
    clock, calls = [0.0], []
    x = torch.randn(64, 64)

    def work() -> None:
        clock[0] += 0.002 if calls else 1.0
        calls.append(x @ x)

    monkeypatch.setattr(time, "process_time", lambda: clock[0])
    found = often(work, 2, least=0.01)
    assert len(calls) == 1 + 1 + 2 * 5 + 1  # warmed up, measured once, two rows of 0.01 / 0.002, counted
    assert abs(found["cpu_seconds"] - 0.002) < 1e-9
    assert found["flops"] == 2 * 64**3 and found["bytes"] == 3 * 4 * 64**2
