"""Does equivariance matter at scale? Loss against nominal compute of several arms on three tasks.

`.venv/bin/python docs/studies/scaling.py --minutes 1` measures what the page shows; the default is a shorter grid.
Runs that are finished are in OUT/runs and are not run again.
"""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from raytrans.apps import cli
from raytrans.apps.studies import script
from raytrans.systems.scaling import falling, rays
from raytrans.systems.scaling.grid import Grid, Row, run_grid
from raytrans.systems.scaling.training import Task, train_cell

NAME, MINUTES, SHORTEST = "scaling", 0.12, 16


@dataclass(frozen=True)
class Study:
    """A task with the sizes of its arms.

    seconds: a generous CPU time of a step, from which --minutes tells the longest run. task: from the number of fresh
    samples. batch: samples of a step. counts: numbers of distinct samples; share: the part of the longest run that
    those runs last; compared: arms and their sizes in them, of about the same compute.
    """

    seconds: float
    task: Callable[[int], Task]
    batch: int
    sizes: dict[str, tuple[int, ...]]
    counts: tuple[int, ...]
    share: float
    compared: dict[str, int]

    def steps(self, minutes: float) -> tuple[int, ...]:
        """Lengths of a run: powers of two from `SHORTEST`, at least four of them."""
        steps = [SHORTEST * 2**k for k in range(4)]
        while steps[-1] * 2 * self.seconds <= 60 * minutes:
            steps.append(steps[-1] * 2)
        return tuple(steps)

    def grids(self, minutes: float, seeds: Sequence[int]) -> list[Grid]:
        """The runs of all sizes on fresh samples, and those on few."""
        steps, seeds = self.steps(minutes), tuple(seeds)
        pool = steps[-1] * self.batch
        fresh = [Grid((arm,), sizes, steps, seeds) for arm, sizes in self.sizes.items()]
        shorter = tuple(s for s in steps if s <= max(SHORTEST * 2, self.share * steps[-1]))
        counts = tuple(count for count in self.counts if count < shorter[-1] * self.batch)
        few = [Grid((arm,), (size,), shorter, seeds, counts) for arm, size in self.compared.items()]
        return fresh + few if counts and pool else fresh


STUDIES = {
    "bodies": Study(
        seconds=0.05,
        task=falling.falling_task,
        batch=falling.BATCH,
        sizes={"algebra": (2, 4, 8), "plain": (16, 32, 64, 128)},
        counts=(32, 128, 512),
        share=0.5,
        compared={"algebra": 4, "plain": 64, "augmented": 64},
    ),
    "rays": Study(
        seconds=0.029,
        task=rays.ray_task,
        batch=rays.BATCH,
        sizes=dict.fromkeys(rays.ARMS, (4, 8, 16)),
        counts=(32, 128, 512),
        share=0.25,
        compared=dict.fromkeys(("equivariant", "world", "augmented"), 8),
    ),
}


def measured(name: str, folder: Path, minutes: float, seeds: Sequence[int]) -> list[Row]:
    """All rows of a study, those that are missing from new runs."""
    study = STUDIES[name]
    pool = study.steps(minutes)[-1] * study.batch
    task = study.task(pool)
    settings = {"task": name, "pool": pool, "batch": study.batch}

    def tell(row: Row, new: bool) -> None:
        losses = " ".join(f"{loss:.4f}" for loss in row.losses)
        cli.say(f"{name} {row.cell.name}: {losses} ({row.seconds:.0f} CPU seconds{'' if new else ', from before'})")

    rows = []
    for grid in study.grids(minutes, seeds):
        here = settings | {"rates": [task.rates[arm] for arm in grid.arms]}
        rows += run_grid(folder / name, grid, lambda cell, steps: train_cell(task, cell, steps), here, tell)
    return rows


def main(arguments: Namespace) -> int:
    torch.set_num_threads(1)
    for name in arguments.task:
        measured(name, arguments.out / "runs", arguments.minutes, arguments.seeds)
    return 0


def parser() -> ArgumentParser:
    out = script.parser(NAME, "Scaling of equivariant and other arms.", MINUTES)
    out.add_argument("--task", nargs="+", choices=list(STUDIES), default=list(STUDIES), help="default: all of them")
    return out


if __name__ == "__main__":
    sys.exit(cli.run(main, parser()))
