"""The training loop, read top to bottom."""

import json
import logging
import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from raytrans.geometry.rigid import random_rotation
from raytrans.models.config import ModelConfig
from raytrans.rendering.renderer import Renderer
from raytrans.rendering.sources import EncodedViews, source_unit
from raytrans.rendering.synthesis import background_color
from raytrans.training.checkpoint import load_training, load_weights, read_tensors, save_model, save_training
from raytrans.training.claim import claimed
from raytrans.training.config import OptimConfig, TrainConfig
from raytrans.training.gradients import clip_gradients
from raytrans.training.hub import WEIGHTS, weights_file
from raytrans.training.losses import sweep_loss, total_loss
from raytrans.training.samples import Sample, SampleStream, SceneData

log = logging.getLogger(__name__)
STATE, LOG = "training.safetensors", "log.jsonl"


@dataclass(frozen=True)
class RunOptions:
    """What a run may do differently without being another experiment; `init` is a checkpoint or a run's folder."""

    out: Path
    resume: bool = False
    init: Path | None = None
    minutes: float | None = None
    device: str = "cpu"


def init_file(path: Path) -> Path:
    """The checkpoint that a run starts from: a file, or `model.safetensors` of a folder; ValueError where none is."""
    file = weights_file(path)
    if not file.is_file():
        raise ValueError(f"--init: no such file {file}")
    return file


def learning_rate(optim: OptimConfig, step: int) -> float:
    """Linear warm-up, then cosine decay to 1 % of the peak."""
    warm = min(1.0, (step + 1) / max(1, optim.warmup))
    done = min(1.0, max(0.0, (step - optim.warmup) / max(1, optim.steps - optim.warmup)))
    return optim.learning_rate * warm * decay(done)


def decay(done: float) -> float:
    """Cosine from 1 at the begin of a run to 0.01 at its end."""
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done))


def sample_losses(model: Renderer, sample: Sample, optim: OptimConfig, generator: torch.Generator) -> dict[str, Tensor]:
    """Terms of the loss of one training sample; "total" is their weighted sum."""
    if optim.augment_rotation:
        turn, zero = random_rotation(generator=generator), torch.zeros(3, dtype=torch.float64)
        sample.views, sample.rays = sample.views.moved(turn, zero), sample.rays.moved(turn, zero)
    views = model.place(model.encode(sample.views), source_unit(sample.views.cameras), generator)
    terms = ray_losses(model, views, sample, generator)
    if sample.source_distance is not None and not views.one_place and bool(torch.isfinite(terms["color"])):
        terms["sweep"] = _sweep_terms(views, sample, views.relative.unit)
    return terms | {"total": weighted(terms, optim)}


def ray_losses(
    model: Renderer,
    views: EncodedViews,
    sample: Sample,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Terms of the loss of the target rays of a sample, seen from placed views; colour alone, NaN, if not finite."""
    rays = model.target_rays(views, sample.rays)
    rays.axes = sample.axes
    if bool(rays.unit.isnan().any()):
        raise ValueError("sources: expected cameras at different places, got all of them and the target at one")
    color = sample.color.to(model.dtype).to(model.device)
    jitter = torch.rand(len(color), model.config.fine, generator=generator).to(color)
    traced = model(views, rays, background_color(views, None), jitter)
    if not bool(torch.isfinite(traced.rendering.opacity).all()):
        return {"color": color.new_tensor(torch.nan)}
    known = color.new_full((len(color),), torch.nan)
    if sample.distance is not None:
        known = (rays.unit / sample.distance.to(rays.unit)).to(color)
    return total_loss(traced, color, known)


def weighted(terms: dict[str, Tensor], optim: OptimConfig) -> Tensor:
    """Sum of the terms of a loss, each times its weight."""
    return sum(getattr(optim, f"{name}_weight", 1.0) * value for name, value in terms.items())


def _sweep_terms(views: EncodedViews, sample: Sample, unit: Tensor) -> Tensor:
    """Cross-entropy of every source's depth distribution, read at the nearest pixel of each matching pixel."""
    losses = []
    for i, depth in enumerate(sample.source_distance):
        h, w = views.match[i].shape[-2:]
        camera = views.cameras[i]
        row = ((torch.arange(h) + 0.5) * camera.height / h).long()
        column = ((torch.arange(w) + 0.5) * camera.width / w).long()
        y, x = torch.meshgrid(row, column, indexing="ij")
        rays = camera.pixel_rays(torch.stack([x + 0.5, y + 0.5], -1).double())
        cosine = (rays.direction * camera.forward).sum(-1)
        known = (unit * cosine / depth[y, x]).to(views.logits[i])
        losses.append(sweep_loss(views.logits[i], views.near[i], known))
    return torch.stack(losses).mean()


def train(config: TrainConfig, options: RunOptions, folders: list[SceneData], evaluate=None, report=None) -> Renderer:
    """Train a model; writes `training.safetensors` (to resume) and `model.safetensors` (to use) into `options.out`.

    `evaluate(model) -> dict` is called on held-out scenes, `report(step, values)` with what there is to log.
    Every random draw is a function of (seed, step), so a resumed run repeats the losses of an uninterrupted one.
    Ctrl-C leaves as KeyboardInterrupt once the state is saved, with a sentence that says how to go on. Raises
    FloatingPointError where loss or gradient is not finite; what was saved before is kept. Raises ValueError where
    another process trains in the same folder.
    """
    with claimed(options.out):
        return _train(config, options, folders, evaluate, report)


def _train(config: TrainConfig, options: RunOptions, folders: list[SceneData], evaluate, report) -> Renderer:
    optim, out, device = config.optim, options.out, torch.device(options.device)
    torch.manual_seed(config.seed)
    model = Renderer(config.model).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=optim.learning_rate, weight_decay=optim.weight_decay)
    saved = _restore(config, options, model, optimizer)
    first = saved or 0
    log.info(_opening(config, options, model, first, len(folders)))
    deadline = math.inf if options.minutes is None else time.monotonic() + 60 * options.minutes
    stream = SampleStream(config.data, config.seed, optim.steps, folders)
    step, interrupted = first, False
    try:
        with _uninterrupted():  # an interrupt in a fork would be lost, or end a worker with a traceback
            samples = iter(_loader(stream, first, config.data.workers))
        for step, sample in zip(range(first, optim.steps), samples, strict=False):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(optim, step)
            generator = torch.Generator().manual_seed((config.seed << 32) + step)
            with torch.autocast(device.type, torch.bfloat16, enabled=optim.precision == "bfloat16"):
                terms = sample_losses(model, sample, optim, generator)
            if not bool(torch.isfinite(terms["total"])):
                raise FloatingPointError(_not_finite("loss", step, config.seed, saved))
            optimizer.zero_grad(set_to_none=True)
            terms["total"].backward()
            norm = clip_gradients(model.parameters(), optim.clip)
            if not bool(torch.isfinite(norm)):
                raise FloatingPointError(_not_finite("gradient", step, config.seed, saved))
            with _uninterrupted():
                optimizer.step()
                step = done = step + 1
            if report is not None:
                report(done, {name: value.item() for name, value in terms.items()} | {"gradient": norm.item()})
            if done % config.log.checkpoint_every == 0:
                with _uninterrupted():
                    save_training(out / STATE, model, optimizer, {"step": done, "config": _plain(config)})
                saved = done
            if evaluate is not None and done % config.log.evaluate_every == 0:
                report(done, {f"held-out/{k}": v for k, v in evaluate(model.eval()).items()})
                model.train()
            if time.monotonic() > deadline:
                log.info("time limit reached at step %d", done)
                break
    except KeyboardInterrupt:
        interrupted = True
    with suppress(KeyboardInterrupt), _uninterrupted():  # a second one has nothing left to stop
        save_training(out / STATE, model, optimizer, {"step": step, "config": _plain(config)})
        save_model(out / WEIGHTS, model, {"step": step, "seed": config.seed})
    if interrupted:
        raise KeyboardInterrupt(
            f"interrupted at step {step} of {optim.steps}; the state is saved in {out}; --resume continues with the "
            "same CONFIG, --set and --precision (log.* and data.workers may differ)"
        )
    return model.eval()


def _restore(config: TrainConfig, options: RunOptions, model: Renderer, optimizer: torch.optim.Optimizer) -> int | None:
    """Start from what `options` name: the step of the state that is resumed, None where there is none."""
    if not options.resume:
        if options.init is not None:
            load_weights(model, read_tensors(init_file(options.init))[0], options.init)
        return None
    path = options.out / STATE
    metadata = load_training(path, model, optimizer)
    if _experiment(metadata["config"]) != _experiment(_plain(config)):
        changes = _changes(metadata["config"], config)
        raise ValueError(
            f"--resume: configuration differs from that of {path}: {changes}; repeat its CONFIG, --set and --precision"
        )
    return metadata["step"]


def _opening(config: TrainConfig, options: RunOptions, model: Renderer, first: int, folders: int) -> str:
    steps, count = config.optim.steps, sum(p.numel() for p in model.parameters())
    if first >= steps:
        return f"already at step {first} of {steps}, nothing to do"
    begin = "" if options.init is None else f" from {options.init}"
    share = f" for {config.data.folder_share:.0%} of the scenes" if folders else ""
    return (
        f"training size {config.size}, {count:,} parameters{begin}, steps {first + 1} to {steps} of {config.data.rays} "
        f"rays on {options.device}, folders: {folders}{share}; a line every {config.log.log_every} steps"
    )


def _not_finite(what: str, step: int, seed: int, saved: int | None) -> str:
    kept = "no state was saved" if saved is None else f"the state of step {saved} is kept"
    return f"the {what} is not finite at step {step}, seed {seed}; {kept}; try a smaller optim.learning_rate"


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Put Ctrl-C off to the end of the block: weights and step number change together, files are written whole."""
    elsewhere = (
        threading.current_thread() is not threading.main_thread()
    )  # where signals neither arrive nor are handled
    if elsewhere or signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        yield
        return
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before or signal.default_int_handler)
    if came:
        raise KeyboardInterrupt


def _loader(stream: SampleStream, first: int, workers: int):
    return torch.utils.data.DataLoader(
        stream,
        batch_size=None,
        sampler=range(first, len(stream)),
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        worker_init_fn=_leave_interrupts_to_the_parent,
    )


def _leave_interrupts_to_the_parent(worker: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _plain(config: TrainConfig) -> dict:
    return json.loads(json.dumps(config.to_dict()))


def _experiment(config: dict) -> dict:
    """What the losses depend on: all but logging and the number of processes that draw samples.

    Keys of the model that an earlier version did not know have their defaults.
    """
    data = {name: value for name, value in config["data"].items() if name != "workers"}
    model = ModelConfig().to_dict() | config["model"]
    return {name: value for name, value in config.items() if name != "log"} | {"data": data, "model": model}


def _changes(before: dict, config: TrainConfig) -> str:
    old, new = _experiment(before), _experiment(_plain(config))
    found = []
    for section, value in new.items():
        if isinstance(value, dict):
            found += [
                f"{section}.{k}: {old.get(section, {}).get(k)!r} -> {v!r}"
                for k, v in value.items()
                if old.get(section, {}).get(k) != v
            ]
        elif old.get(section) != value:
            found.append(f"{section}: {old.get(section)!r} -> {value!r}")
    return ", ".join(found)
