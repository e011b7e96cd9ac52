"""Measures what the processes of a training tell each other in a step, for docs/training.md.

Started by torchrun: `torchrun --standalone --nproc-per-node 2 docs/exchange.py` prints, for every size, the number of
parameters, the megabytes that a process hands in, and seconds of an exchange, by the clock and of CPU.
"""

import sys
import time

import torch

from raytrans.models.config import model_config
from raytrans.processes import Processes, joined
from raytrans.rendering.renderer import Renderer
from raytrans.training.exchange import TERMS, exchange

SIZES, WARM, REPEATS = ("tiny", "small", "base"), 3, 30


def exchanged(processes: Processes, size: str) -> str:
    """One line of the table."""
    parameters = list(Renderer(model_config(size)).parameters())
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    terms = {name: torch.ones(()) for name in TERMS}
    seconds = []
    for _ in range(WARM + REPEATS):
        processes.tell()  # together
        begin = time.perf_counter(), time.process_time()
        exchange(processes, parameters, terms, [False, False])
        seconds.append((time.perf_counter() - begin[0], time.process_time() - begin[1]))
    clock, cpu = (sorted(values)[REPEATS // 2] for values in zip(*seconds[WARM:], strict=True))
    count = sum(parameter.numel() for parameter in parameters)
    return f"{size}: {count:,} parameters, {4e-6 * count:.2f} MB, {clock:.4f} s, {cpu:.4f} CPU-seconds"


if __name__ == "__main__":
    with joined("cpu") as every:
        for name in SIZES:
            line = exchanged(every, name)
            if every.first:
                sys.stdout.write(line + "\n")
