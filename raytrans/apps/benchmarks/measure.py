"""CPU seconds and peak memory of a piece of work in a process of its own, and what the machine does at best."""

import multiprocessing
import platform
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import torch

from raytrans.apps.benchmarks.counting import counted
from raytrans.apps.benchmarks.settings import Settings

PRECISIONS = ("float32", "bfloat16", "float64")
IN_MEMORY, IN_CACHE = 2**27, 2**17  # bytes of a block that is copied


def isolated(task: Callable, settings: Settings, *arguments):
    """task(settings, *arguments) in a fresh process with `settings.threads` threads, so that its peak is its own."""
    if not settings.alone:
        return task(settings, *arguments)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(_threaded, task, settings, *arguments).result()
        except BrokenProcessPool:
            raise MemoryError(f"the process of {task.__name__}{arguments} was ended") from None


def _threaded(task: Callable, settings: Settings, *arguments):
    torch.set_num_threads(settings.threads)
    return task(settings, *arguments)


def timed(work: Callable[[], object], repeats: int) -> dict[str, float]:
    """Medians of CPU seconds (all threads) and of seconds over `repeats` calls, which leave a slow first one out."""
    cpu, wall = [], []
    for _ in range(repeats):
        start = time.process_time(), time.perf_counter()
        work()
        cpu.append(time.process_time() - start[0])
        wall.append(time.perf_counter() - start[1])
    return {"cpu_seconds": max(statistics.median(cpu), 1e-9), "seconds": max(statistics.median(wall), 1e-9)}


def often(work: Callable[[], object], repeats: int, least: float = 0.2) -> dict[str, float]:
    """`timed` for short work: called as often in a row as takes `least` CPU seconds; seconds are those of one call."""
    work()  # the first call of all may load code and fill caches, and would make the row too short
    once = timed(work, 1)["cpu_seconds"]
    calls = max(1, round(least / once)) if repeats > 1 else 1
    found = timed(lambda: [work() for _ in range(calls)], repeats)
    return {name: value / calls for name, value in found.items()} | counted(work)


def machine(settings: Settings) -> dict:
    """CPU model, and per CPU-second at this number of threads: GFLOP of matrix products, GB read and written by copies.

    Of a block that only memory holds, and of one that stays in cache.
    """
    size = settings.sizes.matrix
    gflops, bandwidth = {}, {}
    for precision in PRECISIONS:
        a, b = torch.randn(2, size, size, dtype=torch.float64).to(getattr(torch, precision))
        gflops[precision] = 2 * size**3 / often(lambda a=a, b=b: a @ b, settings.repeats)["cpu_seconds"] / 1e9
    for place, nbytes in (("memory", IN_MEMORY), ("cache", IN_CACHE)):
        block, target = torch.zeros(nbytes // 4), torch.empty(nbytes // 4)
        seconds = often(lambda t=target, s=block: t.copy_(s), settings.repeats)["cpu_seconds"]
        bandwidth[place] = 2 * nbytes / seconds / 1e9
    facts = {"cpu": _cpu_model(), "threads": torch.get_num_threads()}
    return {**facts, "gflops": gflops, "gb_per_second": bandwidth}


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
