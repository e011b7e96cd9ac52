"""Fine-tuning on one scene, as `tools/train.py --finetune` does it."""

import logging
import time
from argparse import Namespace
from pathlib import Path

from raytrans.apps import cli, outputs
from raytrans.apps.captures import Capture
from raytrans.apps.progress import Progress
from raytrans.apps.reporting import write_training_page
from raytrans.data.priors import DepthPrior
from raytrans.data.readers import open_scene
from raytrans.data.scene import Scene
from raytrans.export.files import append_json_line, write_text
from raytrans.rendering.renderer import Renderer
from raytrans.training.checkpoint import RELEASED, load, save_model
from raytrans.training.claim import claimed
from raytrans.training.config import FinetuneConfig, finetune_config
from raytrans.training.finetuning import INTERRUPTED, LEAST, Material, Outcome, finetune
from raytrans.training.hub import WEIGHTS
from raytrans.training.loop import LOG
from raytrans.training.priors import load_priors, prior_tensors
from raytrans.training.samples import SceneData, has_length

MINUTES = 5.0

log = logging.getLogger(__name__)


def main(arguments: Namespace, device: str) -> int:
    """Fine-tune as the command line says; the exit status."""
    for name in ("resume", "precision"):
        if getattr(arguments, name):
            raise ValueError(f"--finetune: expected without --{name}")
    out, config, minutes = arguments.out, finetune_config(arguments.set), arguments.minutes or MINUTES
    for name in (WEIGHTS, LOG):
        if (out / name).exists():
            raise ValueError(f"--out: {out} holds a run already; choose another folder (--init {out} starts from it)")
    model = load(arguments.init, device)
    scene, usable = training_views(arguments.finetune, out)
    scene.priors = load_priors(arguments.init, scene)
    material = Material(scene_data(scene, usable, config), config, [scene.priors.get(i) for i in usable])
    log.info(_opening(material, arguments.init or RELEASED, minutes, device))
    begin = time.monotonic()

    def report(step: int, values: dict[str, float]) -> None:
        seconds = time.monotonic() - begin
        append_json_line(out / LOG, {"step": step, "seconds": seconds, **values})
        log.info("step %d, %.0f s: %s", step, seconds, ", ".join(f"{k} {v:.4g}" for k, v in values.items()))

    def keep(tuned: Renderer, priors: list[DepthPrior | None], step: int, psnr: float) -> None:
        known = {i: prior for i, prior in zip(usable, priors, strict=True) if prior is not None}
        tensors, named = prior_tensors(known, scene) if known else ({}, {})
        facts = {"step": step, "seed": config.seed, "check_psnr": psnr}
        save_model(out / WEIGHTS, tuned, {**facts, **named}, tensors)

    def tell(share: float, rays: int) -> None:
        bar(min(100, int(100 * share)) - bar.done, rays)

    with claimed(out), Progress("fine-tuning", 100, "%") as bar:
        write_text(out / LOG, "")
        outcome = finetune(model, material, minutes, report, keep, tell)
    cli.write_report(arguments.json, {**vars(outcome), "cpu_seconds": time.process_time(), "versions": cli.versions()})
    log.info(verdict(outcome, out / WEIGHTS))
    facts = {
        "scene": arguments.finetune,
        "start": arguments.init or RELEASED.name,
        "verdict": verdict(outcome, out / WEIGHTS),
    }
    write_training_page(arguments, "Fine-tuning", facts)
    return cli.INTERRUPTED if outcome.end == INTERRUPTED else 0


def training_views(folder: Path, out: Path) -> tuple[Scene, list[int]]:
    """A scene and those of its views that are not held out.

    Raises ValueError for fewer than `LEAST` of them, cameras that share one place, and a folder to write to that is the
    scene's own.
    """
    scene = open_scene(folder)
    outputs.check_capture(out, outputs.scene_files(scene, folder))
    usable = scene.split("train")
    if len(usable) < LEAST:
        raise ValueError(f"--finetune: {folder}: expected at least {LEAST} views not held out, got {len(usable)}")
    if not has_length(scene.cameras[usable]):
        raise ValueError(f"--finetune: {folder}: expected cameras at different places, got all {len(usable)} at one")
    return scene, usable


def scene_data(scene: Scene, usable: list[int], config: FinetuneConfig) -> SceneData:
    """Some views of a scene at `config.max_size`, with their depth where every one has it."""
    capture = Capture(scene, config.sources, config.max_size)
    views, depth = capture.views(usable), [capture.depth(i) for i in usable]
    return SceneData(list(views.images), views.cameras, None if any(d is None for d in depth) else depth)


def _opening(material: Material, init: Path, minutes: float, device: str) -> str:
    config, depth = material.config, "" if material.scene.depth is None else " and depth"
    return (
        f"fine-tuning {init} on {device} for {minutes:g} minutes: {len(material.trained)} views to train on, "
        f"{len(material.checked)} others to check, colour{depth}, {config.rays} rays a step; "
        "what is held out is not looked at"
    )


def verdict(outcome: Outcome, file: Path) -> str:
    """What came of it, in words."""
    ended = f"{outcome.end} after {outcome.steps} steps"
    checks = f"the check views went from {outcome.start:.2f} to {outcome.best:.2f} dB"
    if outcome.step == 0:
        return f"{ended}; nothing was better on the check views ({outcome.start:.2f} dB): {file} holds the start"
    return f"{ended}; {checks}: {file} holds priors and weights of step {outcome.step}"
