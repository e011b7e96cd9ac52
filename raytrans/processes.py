"""Several processes at one work, started by torchrun and joined by lightning-fabric over torch.distributed.

One process alone needs neither: `ALONE` does everything itself. An error of one process ends them all. Those that are
well learn of it where they exchange something next; the one that has it raises it, the others `Elsewhere`.
"""

import logging
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor

TIMEOUT = timedelta(hours=1)  # the first process may evaluate, or write a long video, while the others wait
SILENCE = 20.0  # seconds that a process leaves the word to another, before torchrun ends it for having failed
LAUNCHER = "TORCHELASTIC_RUN_ID"  # what torchrun sets in every process


class Elsewhere(Exception):
    """Another process failed and says why: this one has nothing to add."""


class Processes:
    """Processes at one work: `rank` is the number of this one from 0, `count` how many they are, `device` its own.

    `fabric` is a launched `lightning_fabric.Fabric`, None for one process alone, whose `device` is its own choice.
    """

    def __init__(self, fabric: Any = None):
        self.fabric = fabric
        self.rank, self.count = (0, 1) if fabric is None else (fabric.global_rank, fabric.world_size)
        self.device = None if fabric is None else str(fabric.device)
        self.trouble: Exception | None = None
        self.over = False  # an error has been agreed on, or a process is gone: nothing more can be exchanged

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and talks."""
        return self.rank == 0

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Put an error in the block off to the next exchange, at which the others wait; nothing for one alone."""
        try:
            yield
        except Exception as error:
            if self.count == 1:
                raise
            self.trouble = self.trouble or error

    def tell(self, value: Any = None, error: Exception | None = None) -> list:
        """Values of all processes by rank; raises on every one of them where one has an error, now or put off."""
        error, self.trouble = error or self.trouble, None
        if self.count == 1 and error is None:
            return [value]
        told = [(error is not None, value)] * self.count
        if self.count > 1:
            with self._others_alive():
                torch.distributed.all_gather_object(told, (error is not None, value))
        failed = [rank for rank, (bad, _) in enumerate(told) if bad]
        if failed:
            self.over = True
            if self.rank != failed[0]:
                raise Elsewhere
            if self.rank:
                error.add_note(f"process {self.rank} of {self.count}")
            raise error
        return [one for _, one in told]

    def from_first(self, make: Callable[[], Any]) -> Any:
        """What the first process makes, on all of them."""
        value = make() if self.first else None
        if self.count == 1:
            return value
        self.tell()
        with self._others_alive():
            return self.fabric.broadcast(value)

    def sum(self, values: Tensor) -> Tensor:
        """Sum of a tensor over all processes, in place."""
        if self.count == 1:
            return values
        with self._others_alive():
            return self.fabric.all_reduce(values, reduce_op="sum")

    def interleaved(self, own: Iterable) -> Iterator:
        """All results in order, on the first process; none on the others.

        `own`: those of this process, number `rank`, `rank + count`, ... of all. Every process has to run through this;
        a result is handed over as soon as it and the others of its round are there.
        """
        if self.count == 1:
            yield from own
            return
        own, ended = iter(own), [False]
        while not any(ended):
            result = next(((one,) for one in own), ())
            ended = self.tell(not result)
            results = [()] * self.count
            with self._others_alive():
                torch.distributed.gather_object(result, results if self.first else None)
            yield from (one for found in results for one in found)

    @contextmanager
    def _others_alive(self) -> Iterator[None]:
        """Say in a sentence that a process is gone, which torch notices as one error or another."""
        try:
            yield
        except RuntimeError as error:
            self.over = True
            raise ConnectionError(f"another process is gone ({str(error).splitlines()[0]})") from None


ALONE = Processes()


def launched() -> int:
    """How many processes torchrun started for this work; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1")) if LAUNCHER in os.environ else 1


def quiet() -> bool:
    """Whether this is one of several processes of which another speaks for all."""
    return launched() > 1 and int(os.environ.get("RANK", "0")) > 0


def local_rank() -> int:
    """Number of this process among those of its machine."""
    return int(os.environ.get("LOCAL_RANK", "0")) if launched() > 1 else 0


@contextmanager
def said_once() -> Iterator[None]:
    """For what goes wrong on every process of a machine alike, before they have joined: the first says it.

    The others wait for torchrun to end them, which it does as soon as one has failed, and speak if it does not.
    """
    try:
        yield
    except Exception:
        if local_rank():
            time.sleep(SILENCE)
        raise


@contextmanager
def joined(device: str = "auto") -> Iterator[Processes]:
    """The processes that torchrun started, for the length of the block, or `ALONE`; they end it together.

    device: "cpu", "cuda" (one GPU for each process of a machine) or "auto". Raises ValueError where lightning-fabric is
    not installed or a machine has fewer GPUs than processes; what one process raises in the block ends all of them.
    """
    with said_once():
        processes = ALONE if launched() == 1 else Processes(_launched_fabric(device))
    if processes.count == 1:
        yield processes
        return
    try:
        yield processes
        processes.tell()
    except Exception as error:
        if processes.over:
            raise
        processes.tell(error=error)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # torchrun, which a terminal interrupts too, hands it on
        raise
    finally:
        if not processes.over and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def _launched_fabric(device: str) -> Any:
    """A Fabric of the processes that the environment names."""
    here, machines = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["GROUP_WORLD_SIZE"])
    if here * machines != launched():
        raise ValueError(
            f"torchrun: expected as many processes on each of {machines} machines, got {launched()} in all"
        )
    cuda = device == "cuda" or device == "auto" and torch.cuda.is_available()
    if cuda and torch.cuda.device_count() < here:
        found = torch.cuda.device_count()
        raise ValueError(f"--device: expected a CUDA device for each of {here} processes, found {found}")
    try:
        from lightning_fabric import Fabric
        from lightning_fabric.plugins.environments import TorchElasticEnvironment
        from lightning_fabric.strategies import DDPStrategy
    except ImportError as error:
        needs = f"torchrun started {launched()} processes, which need lightning-fabric"
        raise ValueError(
            f"{needs} ({error}); in the clone, `pip install --editable '.[processes]'` installs it"
        ) from None
    # objects go over gloo in any case: over nccl they would pass through the memory of the GPUs
    strategy = DDPStrategy(process_group_backend="cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=TIMEOUT)
    fabric = Fabric(
        accelerator="cuda" if cuda else "cpu",
        devices=here,
        num_nodes=machines,
        strategy=strategy,
        plugins=[TorchElasticEnvironment()],
    )
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    try:
        fabric.launch()
    except RuntimeError as error:
        raise ConnectionError(f"torchrun: the processes did not find each other: {error}") from None
    return fabric
