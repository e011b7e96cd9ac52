"""Train a model on many scenes."""

import json
import logging
import math
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from raytrans.apps import cli, finetuning
from raytrans.apps.cli import (
    INTERRUPTED,
    add_json_argument,
    add_no_page_argument,
    checkpoint,
    output_folder,
    positive_float,
    write_report,
)
from raytrans.apps.progress import Progress
from raytrans.apps.reporting import write_training_page
from raytrans.data.generate import generated_scene
from raytrans.data.generate.scene import GeneratedScene
from raytrans.data.selection import nearest
from raytrans.data.views import Views
from raytrans.export.files import append_json_line, read_json_lines, write_text
from raytrans.processes import ALONE, Processes
from raytrans.rendering.renderer import Renderer
from raytrans.rendering.synthesis import render
from raytrans.training.checkpoint import read_tensors
from raytrans.training.config import TrainConfig, read_config
from raytrans.training.hub import WEIGHTS
from raytrans.training.loop import LOG, STATE, RunOptions, init_file, train
from raytrans.training.metrics import depth_abs_rel, psnr
from raytrans.training.scenes import Captured

HELD_OUT_SEED = 500_000

log = logging.getLogger(__name__)


def parser() -> ArgumentParser:
    """Command line of `tools/train.py`."""
    out = ArgumentParser(
        prog="train",
        description="Train a model on generated scenes and folders of posed images. Writes DIR/model.safetensors (to "
        "render with), DIR/training.safetensors (to resume from), DIR/log.jsonl (see curves), DIR/logs (tensorboard) "
        "and at the end DIR/report.html (the curves, to look at). Stop it with Ctrl-C any time: the state is "
        "saved, the status is 130.",
    )
    text = "TOML file with what differs from the defaults"
    out.add_argument("config", type=Path, nargs="?", metavar="CONFIG", help=text)
    text = "instead of CONFIG: improve the released weights, or those of --init, on this scene; the best are kept, by "
    text += "views that are neither trained on nor held out. --set knows the keys of FinetuneConfig"
    out.add_argument("--finetune", type=Path, metavar="SCENE", help=text)
    out.add_argument("--out", type=output_folder, required=True, metavar="DIR", help="folder for checkpoints and logs")
    out.add_argument("--resume", action="store_true", help="go on from DIR/training.safetensors, bit for bit")
    text = "start from weights: a .safetensors file, the folder of a training run, or hub://owner/name"
    out.add_argument("--init", type=checkpoint, metavar="F", help=text)
    out.add_argument(
        "--minutes", type=positive_float, metavar="M", help="stop after this many minutes, state saved (--finetune: 5)"
    )
    out.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: a GPU if there is one")
    out.add_argument("--precision", choices=("float32", "bfloat16"), help="overrides optim.precision of the config")
    out.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="override config values, e.g. --set optim.steps=500",
    )
    add_no_page_argument(out)
    add_json_argument(out)
    cli.share(out)
    return out


def main(arguments: Namespace) -> int:
    """Train as the command line says; the exit status."""
    with cli.together(arguments.device) as processes:
        if (arguments.config is None) == (arguments.finetune is None):
            got = "neither" if arguments.config is None else "both"
            raise ValueError(f"CONFIG: expected either a configuration or --finetune SCENE, got {got}")
        if arguments.init is not None and processes.first:
            check_weights(arguments.init, arguments.resume)
        if arguments.finetune is None:
            return train_on_scenes(arguments, processes)
        if processes.count > 1:
            raise ValueError(f"--finetune: expected one process, as its steps are not shared, got {processes.count}")
        return finetuning.main(arguments, chosen_device(arguments.device))


def train_on_scenes(arguments: Namespace, processes: Processes) -> int:
    """Train on many scenes, as one of some processes; the exit status."""
    overrides = list(arguments.set)
    if arguments.precision:
        overrides.append(f'optim.precision="{arguments.precision}"')
    config = read_config(arguments.config, overrides)
    options = RunOptions(
        out=processes.from_first(lambda: run_folder(arguments.out, arguments.resume)),
        resume=arguments.resume,
        init=arguments.init,
        minutes=arguments.minutes,
        device=processes.device or chosen_device(arguments.device),
    )
    captured = Captured(config.data)
    if config.data.folder_share > 0 and not captured:
        raise ValueError("data.folder_share: expected 0 where data.folders and data.shards name nothing")
    report = Report(config, options.out) if processes.first else None
    held_out = held_out_scenes(config, processes)
    interrupted = None
    try:
        train(config, options, captured, lambda model: evaluate_held_out(model, held_out, processes), report, processes)
    except KeyboardInterrupt as stop:
        if not stop.args:  # nothing is saved yet
            raise
        interrupted = stop.args[0]
    finally:
        if report is not None:
            report.close()
    if processes.first:
        step = read_tensors(options.out / STATE)[1]["step"]
        write_report(arguments.json, {"step": step, **report.last})
        facts = {"configuration": arguments.config, "step": f"{step} of {config.optim.steps}", "seed": config.seed}
        write_training_page(arguments, "Training", facts)
        if interrupted:
            log.warning(interrupted)
        else:
            log.info("step %d of %d: %s", step, config.optim.steps, written(options.out))
    return INTERRUPTED if interrupted else 0


def written(folder: Path) -> str:
    """What a run has written, and what for."""
    curves = f", curves in {folder / LOG}" if (folder / LOG).is_file() else ""
    return f"weights to render with in {folder / WEIGHTS}, state to resume from in {folder / STATE}{curves}"


def chosen_device(name: str) -> str:
    """The device that "auto" stands for; ValueError where a GPU was asked for and there is none."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device: expected a CUDA device for 'cuda', found none; use --device cpu")
    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name


def run_folder(folder: Path, resume: bool) -> Path:
    """The folder of the run, not made yet; one that holds another run is refused unless it is resumed."""
    held = (folder / "training.safetensors").exists()
    if held and not resume:
        raise ValueError(f"--out: {folder} holds a run already; go on with --resume or choose another folder")
    if resume and not held:
        raise ValueError(f"--resume: no training.safetensors in {folder}")
    return folder


def check_weights(path: Path, resume: bool) -> None:
    """Refuse `--init` beside `--resume`, a file that is no checkpoint, and weights that are not finite."""
    if resume:
        raise ValueError("--init: expected without --resume, which goes on from the weights of the run itself")
    for name, value in read_tensors(init_file(path))[0].items():
        if not bool(torch.isfinite(value).all()):
            raise ValueError(f"--init: {path}: weight {name} holds NaN or infinity")


def held_out_scenes(config: TrainConfig, processes: Processes = ALONE) -> list[GeneratedScene]:
    """This process's share of the generated scenes that neither training nor the frozen test sets use."""
    side, kinds = config.data.sizes[0], ("easy", "full")
    share = range(processes.rank, config.log.evaluate_scenes, processes.count)
    return [generated_scene(HELD_OUT_SEED + i, kinds[i % 2], (side, side), 7) for i in share]


def evaluate_held_out(model: Renderer, scenes: list, processes: Processes = ALONE) -> dict[str, float]:
    """Mean PSNR and relative z-depth error of the first view of every scene, rendered from the six others.

    scenes: this process's share of them; the first has the means over all, the others nothing.
    """
    found = list(processes.interleaved(held_out_errors(model, scene) for scene in scenes))
    return {name: sum(one[name] for one in found) / len(found) for name in (found[0] if found else ())}


def held_out_errors(model: Renderer, scene: GeneratedScene) -> dict[str, float]:
    """PSNR and relative z-depth error of the first view of a scene."""
    indices = nearest(scene.cameras, scene.cameras[0], 6, exclude=[0])
    views = Views([scene.images[i] for i in indices], scene.cameras[indices])
    out = render(model, views, scene.cameras[0])
    return {
        "psnr": psnr(out.color.cpu(), scene.images[0]),
        "depth": depth_abs_rel(out.depth.cpu(), scene.depth[0]),
    }


class Report:
    """Lines of `log.jsonl`, progress bar, tensorboard (where that is installed), and the last values of a run."""

    def __init__(self, config: TrainConfig, folder: Path):
        self.config, self.last = config, {}
        self.file, self.fresh = folder / LOG, False
        self.step, self.sums, self.count, self.timed, self.waited = 0, {}, 0, 0, 0.0
        self.rays = config.data.rays * config.data.batch
        self.start: float | None = None  # rates leave the first step out, which takes what starts up with it
        self.bar, self.curves = None, None

    def __call__(self, step: int, values: dict[str, float]) -> None:
        if not self.fresh:  # not before the folder is this run's
            drop_lines(self.file, step)
            self.fresh, self.curves = True, Curves(self.file.parent / "logs")
        if any(name.startswith("held-out/") for name in values):
            self._log(step, values)
            self.last["held-out/step"] = step
            return
        if self.start is None:  # the bar comes after what is said at the start
            self.start, self.bar = time.monotonic(), Progress("training", self.config.optim.steps, "steps", step)
        else:
            self.timed, self.waited = self.timed + 1, self.waited + values["waited"]
            self.bar(step - self.bar.done, self.rays, self._shown())
        self.step, self.count, self.skipped = step, self.count + 1, values.get("skipped")
        for name, value in values.items():
            if name not in ("waited", "skipped"):
                self.sums[name] = self.sums.get(name, 0.0) + value
        if self.count == self.config.log.log_every:
            self._log_mean()

    def _log_mean(self) -> None:
        """Log the mean since the last time."""
        mean = {name: value / self.count for name, value in self.sums.items()}
        mean["psnr"] = -10 * math.log10(max(mean["color"], 1e-12))
        if self.timed:
            seconds = max(time.monotonic() - self.start, 1e-9)
            mean |= {"rays_per_second": self.rays * self.timed / seconds, "waiting": self.waited / seconds}
        if self.skipped:
            mean["skipped"] = self.skipped
        self.sums, self.count, self.timed, self.waited, self.start = {}, 0, 0, 0.0, time.monotonic()
        self._log(self.step, mean)

    def _log(self, step: int, values: dict[str, float]) -> None:
        self.last |= values
        append_json_line(self.file, {"step": step, **values})
        self.curves.add(step, values)
        log.info("step %d: %s", step, ", ".join(f"{k} {v:.4g}" for k, v in values.items()))

    def _shown(self) -> str:
        """What stands in the bar: the last means."""
        last = {name: f"{self.last[name]:.4g}" for name in ("psnr", "held-out/psnr", "skipped") if name in self.last}
        if "waiting" in self.last:
            last["waiting"] = f"{self.last['waiting']:.0%}"
        return ", ".join(f"{name} {value}" for name, value in last.items())

    def close(self) -> None:
        """Log the steps since the last mean, and flush."""
        if self.count:
            self._log_mean()
        for open_end in (self.bar, self.curves):
            if open_end is not None:
                open_end.close()


def drop_lines(file: Path, step: int) -> None:
    """Take out what is logged from a step on, which a run begins with: of an earlier run, or past the state resumed."""
    if file.is_file():
        kept = [json.dumps(line) + "\n" for line in read_json_lines(file) if line.get("step", step) < step]
        write_text(file, "".join(kept))


class Curves:
    """Curves for tensorboard, where that is installed, as long as there is room for them; `log.jsonl` has them too."""

    def __init__(self, folder: Path):
        self.folder, self.writer = folder, None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            log.warning("tensorboard is not installed: the curves are in %s alone", folder.parent / LOG)
        else:
            self.writer = self._tried(lambda: SummaryWriter(str(folder)))

    def add(self, step: int, values: dict[str, float]) -> None:
        """The values of a step."""
        if self.writer is not None:
            self._tried(lambda: [self.writer.add_scalar(name, value, step) for name, value in values.items()])

    def close(self) -> None:
        """Write what is left."""
        if self.writer is not None:
            self._tried(self.writer.close)

    def _tried(self, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except OSError as error:
            self.writer = None
            log.warning("%s: no more curves for tensorboard (%s)", self.folder, error)
