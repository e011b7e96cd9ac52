"""Does equivariance matter at scale? Loss against nominal compute of several arms on three tasks.

`.venv/bin/python docs/studies/scaling.py --minutes 1` measures what the page shows; the default is a shorter grid.
Runs that are finished are in OUT/runs and are not run again.
"""

import math
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from raytrans.apps import cli
from raytrans.apps.studies import script
from raytrans.apps.studies.arms import FRAMES
from raytrans.reports.charts import Plot, plots
from raytrans.systems.scaling import falling, rays
from raytrans.systems.scaling.grid import FRESH, Grid, Row, run_grid
from raytrans.systems.scaling.rendering import rendering_task
from raytrans.systems.scaling.summary import arm_summary, comparison, data_summary
from raytrans.systems.scaling.training import Task, train_cell
from raytrans.training.config import read_config

NAME, MINUTES, SHORTEST = "scaling", 0.12, 8
CONFIG = Path(__file__).resolve().parents[2] / "configs" / "tiny.toml"
WIDTHS = {
    8: (
        "model.widths=[2,2,2]",
        'model.fine_type="4x0 + 1x1"',
        'model.match_type="4x0 + 1x1"',
        "model.groups=1",
        "model.hidden=8",
        "model.typed=[1]",
    ),
    32: (
        "model.widths=[8,12,16]",
        'model.fine_type="24x0 + 4x1 + 2x2"',
        'model.match_type="16x0 + 4x1"',
        "model.groups=4",
        "model.context=4",
        "model.volume=4",
        "model.hidden=32",
        "model.heads=4",
        "model.typed=[4,2]",
    ),
}
RENDERERS = {
    "equivariant": "equivariant",
    "world": "world",
    "augmented": "world-augmented",
    "canonical": "target",
}


def renderers(pool: int) -> Task:
    """The renderer in the arms of the study of frames: the size "tiny", narrower and wider."""
    configs = {
        (arm, width): read_config(CONFIG, [*FRAMES[name], *changes])
        for arm, name in RENDERERS.items()
        for width, changes in WIDTHS.items()
    }
    return rendering_task(configs, pool)


@dataclass(frozen=True)
class Study:
    """A task with the sizes of its arms.

    seconds: a generous CPU time of a step, from which --minutes tells the longest run. task: from the number of fresh
    samples. batch: samples of a step. parts: the part of the longest run that an arm lasts, if not all. counts: numbers
    of distinct samples; share: the part that those runs last; compared: arms and their sizes in them, of about the same
    compute.
    """

    seconds: float
    task: Callable[[int], Task]
    batch: int
    sizes: dict[str, tuple[int, ...]]
    counts: tuple[int, ...]
    share: float
    compared: dict[str, int]
    parts: dict[str, float] = field(default_factory=dict)

    def steps(self, minutes: float, share: float = 1.0) -> tuple[int, ...]:
        """Lengths of a run: powers of two from `SHORTEST`, at least four of them."""
        longest = SHORTEST * 8
        while longest * 2 * self.seconds <= 60 * minutes:
            longest *= 2
        return tuple(SHORTEST * 2**k for k in range(13) if SHORTEST * 2**k <= max(SHORTEST * 8, share * longest))

    def grids(self, minutes: float, seeds: Sequence[int]) -> list[Grid]:
        """The runs of all sizes on fresh samples, and those on few."""
        fresh = [
            Grid((arm,), sizes, self.steps(minutes, self.parts.get(arm, 1.0)), tuple(seeds))
            for arm, sizes in self.sizes.items()
        ]
        steps = self.steps(minutes, self.share)
        counts = tuple(count for count in self.counts if count < steps[-1] * self.batch)
        return fresh + [Grid((arm,), (size,), steps, tuple(seeds), counts) for arm, size in self.compared.items()]


STUDIES = {
    "bodies": Study(
        seconds=0.05,
        task=falling.falling_task,
        batch=falling.BATCH,
        sizes={"algebra": (2, 4, 8), "plain": (16, 32, 64, 128)},
        counts=(32, 512),
        share=0.125,
        compared={"algebra": 8, "plain": 128, "augmented": 128},
        parts={"algebra": 0.25},
    ),
    "rays": Study(
        seconds=0.05,
        task=rays.ray_task,
        batch=rays.BATCH,
        sizes=dict.fromkeys(rays.ARMS, (4, 8, 16)),
        counts=(32, 128, 512),
        share=0.5,
        compared=dict.fromkeys(("equivariant", "world", "augmented"), 8),
    ),
    "rendering": Study(
        seconds=0.3,
        task=renderers,
        batch=1,
        sizes=dict.fromkeys(RENDERERS, tuple(WIDTHS)),
        counts=(),
        share=1.0,
        compared={},
    ),
}


def prepared(study: Study, minutes: float) -> Task:
    """The task with as many fresh samples as the longest run takes."""
    return study.task(study.steps(minutes)[-1] * study.batch)


def measured(name: str, task: Task, folder: Path, minutes: float, seeds: Sequence[int]) -> list[Row]:
    """All rows of a study, those that are missing from new runs."""
    study = STUDIES[name]
    pool = study.steps(minutes)[-1] * study.batch
    settings = {"task": name, "pool": pool, "batch": study.batch}

    def tell(row: Row, new: bool) -> None:
        losses = " ".join(f"{loss:.4f}" for loss in row.losses)
        cli.say(f"{name} {row.cell.name}: {losses} ({row.seconds:.0f} CPU seconds{'' if new else ', from before'})")

    rows = []
    for grid in study.grids(minutes, seeds):
        here = settings | {"rates": [task.rates[arm] for arm in grid.arms]}
        rows += run_grid(folder / name, grid, lambda cell, steps: train_cell(task, cell, steps), here, tell)
    return rows


def summary(study: Study, rows: Sequence[Row], minutes: float, trivial: float | None) -> dict:
    """Everything that the page says of a task."""
    arms = {}
    for arm in study.sizes:
        steps = study.steps(minutes, study.parts.get(arm, 1.0))
        arms[arm] = arm_summary(rows, arm, steps, study.batch, trivial)
    steps = study.steps(minutes, study.share)
    shorter = [replace(row, losses=row.losses[: len(steps)]) for row in rows]
    data = {}
    for arm, size in study.compared.items():
        if any(row.cell.arm == arm and row.cell.data != FRESH for row in rows):
            data[arm] = data_summary(shorter, arm, size, steps[-1])
    return {
        "trivial": trivial,
        "arms": arms,
        "comparison": comparison(arms),
        "data": data,
        "data_steps": steps[-1],
        "cpu_seconds": sum(row.seconds for row in rows),
    }


def power(value: float) -> str:
    """A number as a power of ten."""
    return f"10^{math.log10(value):.1f}"


def between(bounds: Sequence[float] | None) -> str:
    return "one seed" if bounds is None else f"{bounds[0]:.3f} to {bounds[1]:.3f}"


def told(name: str, found: dict) -> None:
    """The tables of the page, in its format."""
    cli.say(f"\n{name}, {found['cpu_seconds'] / 60:.1f} CPU minutes in all\n")
    cli.say("| arm | sizes | parameters | FLOPs of a step | decades | CPU s a run | least loss |")
    cli.say("|---|---|---|---|---|---|---|")
    for arm, values in found["arms"].items():
        least = min(min(row) for row in values["losses"])
        ends = [values[key][i] for key in ("parameters", "flops_per_step", "cpu_seconds") for i in (0, -1)]
        sizes = ", ".join(map(str, values["sizes"]))
        cells = f"{ends[0]:,} to {ends[1]:,} | {ends[2]:.2g} to {ends[3]:.2g} | {values['decades']:.1f}"
        cli.say(f"| {arm} | {sizes} | {cells} | {ends[4]:.0f} to {ends[5]:.0f} | {least:.4f} |")
    cli.say("\n| arm | fitted on | exponent | interval | of each seed | misfit | floor | work of a sample ~ C^p |")
    cli.say("|---|---|---|---|---|---|---|---|")
    for arm, values in found["arms"].items():
        cli.say(fitted(arm, values))
    cli.say("\n| arms | intervals overlap | fitted on both | loss ratio there |")
    cli.say("|---|---|---|---|")
    for pair in found["comparison"]:
        ends = "none" if pair["compute"] is None else " to ".join(map(power, pair["compute"]))
        ratio = "" if pair["ratio"] is None else " to ".join(f"{value:.2f}" for value in pair["ratio"])
        answer = {None: "one seed", True: "yes", False: "no"}[pair["overlap"]]
        cli.say(f"| {pair['arms'][0]} / {pair['arms'][1]} | {answer} | {ends} | {ratio} |")
    if found["data"]:
        counts = max((values["counts"] for values in found["data"].values()), key=len)
        cli.say(
            f"\n| arm, after {found['data_steps']} steps | compute | {' | '.join(str(c or 'fresh') for c in counts)} |"
        )
        cli.say("|---" * (len(counts) + 2) + "|")
        for arm, values in found["data"].items():
            spread = values["deviations"] or [None] * len(values["losses"])
            cells = [script.shown({"mean": m, "deviation": d}) for m, d in zip(values["losses"], spread, strict=True)]
            cells += ["-"] * (len(counts) - len(cells))
            cli.say(f"| {arm} {values['size']} | {power(values['flops'])} | {' | '.join(cells)} |")


def fitted(arm: str, values: dict) -> str:
    """A row of the table of exponents."""
    if values["law"] is None:
        return f"| {arm} | nothing learnt | | | | | | |"
    law, floor, surface = values["law"], values["law_with_floor"], values["surface"]
    ends = " to ".join(power(values["envelope"]["budgets"][i]) for i in (0, -1))
    seeds = ", ".join(f"{value:.3f}" for value in law["seeds"])
    more = "not told from 0"
    if floor["identified"]:
        limits = between(floor["interval"])
        more = f"{floor['floor']:.3g}, exponent {floor['exponent']:.2f} ({limits}), misfit {floor['misfit']:.3f}"
    split = "fewer than 3 sizes or lengths"
    if surface is not None:
        split = "not determined"
        if surface["determined"]:
            split = f"{surface['share']:.2f} ({between(surface['share_interval'])})"
    start = f"| {arm} | {ends} | {law['exponent']:.3f} | {between(law['interval'])} | {seeds} | {law['misfit']:.3f} "
    return f"{start}| {more} | {split} |"


Curve = tuple[np.ndarray, Sequence[float]]
COMPUTE = {"x_label": "log10 of FLOPs", "log_y": True, "x_zero": False}


def picture(found: dict[str, dict]) -> np.ndarray:
    """A row for each task: losses of all runs, envelopes, and losses against numbers of samples."""
    names = list(dict.fromkeys(arm for task in found.values() for arm in [*task["arms"], *task["data"]]))
    panels = []
    for name, task in found.items():
        panels.append(
            Plot(f"{name}: loss, all runs", parts=[every(task, arm) for arm in names], **COMPUTE, style="dots")
        )
        if any(values["law"] for values in task["arms"].values()):
            panels.append(Plot(f"{name}: lower envelope", parts=[lowest(task, arm) for arm in names], **COMPUTE))
        if task["data"]:
            title, label = f"{name}: loss after {task['data_steps']} steps", "distinct samples"
            panels.append(Plot(title, label, [few(task, arm) for arm in names], log_x=True, log_y=True))
    return plots(panels, names, columns=3)


def every(task: dict, arm: str) -> Curve | None:
    """Losses of all cells of an arm."""
    if arm not in task["arms"]:
        return None
    values = task["arms"][arm]
    return np.log10(np.outer(values["flops_per_step"], values["steps"])).ravel(), np.ravel(values["losses"])


def lowest(task: dict, arm: str) -> Curve | None:
    """The envelope of an arm."""
    if not task["arms"].get(arm, {}).get("law"):
        return None
    return np.log10(task["arms"][arm]["envelope"]["budgets"]), task["arms"][arm]["envelope"]["losses"]


def few(task: dict, arm: str) -> Curve | None:
    """Losses of an arm on few samples."""
    if arm not in task["data"]:
        return None
    known = [number for number, count in enumerate(task["data"][arm]["counts"]) if count is not None]
    return tuple(np.array([task["data"][arm][key][number] for number in known], float) for key in ("counts", "losses"))


def main(arguments: Namespace) -> int:
    torch.set_num_threads(1)
    found = {}
    for name in arguments.task:
        study = STUDIES[name]
        task = prepared(study, arguments.minutes)
        rows = measured(name, task, arguments.out / "runs", arguments.minutes, arguments.seeds)
        found[name] = summary(study, rows, arguments.minutes, task.trivial)
        told(name, found[name])
    seconds = sum(task["cpu_seconds"] for task in found.values())
    script.finish(arguments, {"cpu_seconds": seconds, **script.rounded(found)}, picture(found), NAME)
    return 0


def parser() -> ArgumentParser:
    out = script.parser(NAME, "Scaling of equivariant and other arms.", MINUTES)
    out.add_argument("--task", nargs="+", choices=list(STUDIES), default=list(STUDIES), help="default: all of them")
    return out


if __name__ == "__main__":
    sys.exit(cli.run(main, parser()))
