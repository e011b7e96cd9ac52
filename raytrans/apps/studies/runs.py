"""Runs of a study: OUT/ARM/arm.json says what an arm is, OUT/ARM/SEED holds the run of one seed."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from raytrans.apps.studies.arms import EQUAL, Study
from raytrans.data.guards import one_line, read_json
from raytrans.export.files import write_json
from raytrans.rendering.renderer import Renderer
from raytrans.training.checkpoint import read_tensors
from raytrans.training.config import TrainConfig, read_config
from raytrans.training.loop import STATE, RunOptions, train
from raytrans.training.samples import POOL
from raytrans.training.scenes import Captured

ARM, SPENT = "arm.json", "spent.json"
MINUTES = 6.0


@dataclass(frozen=True)
class Budget:
    """Training of one model: a number of steps, or CPU minutes that are turned into one; one of them is None."""

    minutes: float | None = MINUTES
    steps: int | None = None


@dataclass(frozen=True)
class Arm:
    """An arm of a study as it is trained: changes of the configuration, budget, steps and number of parameters."""

    name: str
    changes: tuple[str, ...]
    budget: Budget
    steps: int
    parameters: int

    def config(self, base: Path, seed: int) -> TrainConfig:
        """Its configuration for one seed; scenes are drawn in this process, whose CPU time is counted."""
        return arm_config(base, self.changes, self.steps, seed)


def arm_config(base: Path, changes: tuple[str, ...], steps: int, seed: int) -> TrainConfig:
    """The configuration `base` with the changes of an arm."""
    return read_config(base, [*changes, "data.workers=0", f"optim.steps={steps}", f"seed={seed}"])


def planned_arm(folder: Path, base: Path, changes: tuple[str, ...], budget: Budget | None) -> Arm:
    """The arm that `folder` holds, or a new one, for which its seconds a step are measured.

    Raises ValueError where the folder holds an arm of other changes or of another budget than the one asked for.
    """
    held = read_arm(folder)
    if held is None:
        config = arm_config(base, changes, 1, 0)
        wanted = budget or Budget()
        steps = wanted.steps or max(1, round(60 * wanted.minutes / seconds_per_step(config)))
        arm = Arm(folder.name, changes, wanted, steps, parameters(config))
        held = read_arm(folder)  # by another process that began meanwhile
        if held is None:
            write_json(folder / ARM, vars(arm) | {"budget": vars(wanted)})
            return arm
    for what, got, expected in (("changes", held.changes, changes), ("budget", held.budget, budget or held.budget)):
        if got != expected:
            raise ValueError(f"--out: {folder} holds an arm of other {what}: expected {expected}, got {got}")
    return held


def read_arm(folder: Path) -> Arm | None:
    """The arm that a folder holds, None where there is none; ValueError for a damaged file."""
    file = folder / ARM
    if not file.is_file():
        return None
    try:
        values = read_json(file)
        budget = Budget(**values.pop("budget"))
        return Arm(**values | {"changes": tuple(values["changes"]), "budget": budget})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"--out: {file}: expected an arm of a study, got a damaged file: {one_line(error)}") from None


def parameters(config: TrainConfig) -> int:
    """Number of parameters of the model."""
    return sum(p.numel() for p in Renderer(config.model).parameters())


def check_equal(study: Study, arms: list[Arm]) -> None:
    """Refuse arms whose numbers of parameters differ by more than `EQUAL` where the study wants them equal."""
    counts = {arm.name: arm.parameters for arm in arms}
    if study.equal and max(counts.values()) > (1 + EQUAL) * min(counts.values()):
        raise ValueError(f"arms: expected numbers of parameters within {EQUAL:.0%} of each other, got {counts}")


def seconds_per_step(config: TrainConfig) -> float:
    """CPU seconds of a training step: medians of the first `POOL` steps, which draw a scene each, and of as many more.

    A scene serves `data.reuse` steps, so that its drawing counts by that part.
    """
    config = replace(config, optim=replace(config.optim, steps=2 * POOL))
    times = [time.process_time()]
    with tempfile.TemporaryDirectory() as folder:
        train(config, RunOptions(Path(folder)), [], report=lambda step, values: times.append(time.process_time()))
    spent = np.diff(times)
    drawing, using = np.median(spent[:POOL]), np.median(spent[POOL:])
    return float(using + max(0.0, drawing - using) / config.data.reuse)


def steps_done(folder: Path) -> int:
    """Steps of the state that a folder holds."""
    return read_tensors(folder / STATE)[1]["step"] if (folder / STATE).is_file() else 0


def trained(
    folder: Path, config: TrainConfig, device: str, tell: Callable[[int, int], None] = lambda steps, rays: None
) -> None:
    """Train a model into `folder`, from where an earlier attempt ended; nothing where it is finished.

    CPU seconds of all attempts go to `spent.json` with every checkpoint. `tell(1, rays)` is called after every step.
    """
    step = steps_done(folder)
    if step >= config.optim.steps:
        return
    before = spent_seconds(folder) if step else 0.0
    start = time.process_time()

    def note(step: int, values: dict[str, float]) -> None:
        tell(1, config.data.rays * config.data.batch)
        if step % config.log.checkpoint_every == 0 or step == config.optim.steps:
            write_json(folder / SPENT, {"step": step, "cpu_seconds": before + time.process_time() - start})

    train(config, RunOptions(folder, resume=step > 0, device=device), Captured(config.data), report=note)


def spent_seconds(folder: Path) -> float:
    """CPU seconds that the run in a folder has taken."""
    return read_json(folder / SPENT)["cpu_seconds"] if (folder / SPENT).is_file() else 0.0
