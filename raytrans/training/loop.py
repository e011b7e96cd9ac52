"""The training loop, read top to bottom."""

import json
import logging
import math
import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from raytrans.geometry.rigid import random_rotation
from raytrans.models.config import ModelConfig
from raytrans.processes import ALONE, Processes
from raytrans.rendering.renderer import Renderer
from raytrans.rendering.sources import EncodedViews, source_unit
from raytrans.rendering.synthesis import background_color
from raytrans.training.checkpoint import load_weights, read_tensors, restore_training, save_model, save_training
from raytrans.training.claim import claimed
from raytrans.training.config import DataConfig, OptimConfig, TrainConfig
from raytrans.training.exchange import exchange
from raytrans.training.feed import Carried, Feed
from raytrans.training.gradients import clip_gradients
from raytrans.training.hub import WEIGHTS, weights_file
from raytrans.training.interrupts import collected, postponed
from raytrans.training.losses import sweep_loss, total_loss
from raytrans.training.samples import Sample, SampleStream
from raytrans.training.scenes import Captured, SceneData

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


def train(
    config: TrainConfig,
    options: RunOptions,
    captured: Sequence[SceneData] | Captured,
    evaluate=None,
    report=None,
    processes: Processes = ALONE,
) -> Renderer:
    """Train a model; writes `training.safetensors` (to resume) and `model.safetensors` (to use) into `options.out`.

    `captured`: scenes on disk, as `Captured(config.data)` has them, or a list. `evaluate(model) -> dict` is called on
    held-out scenes, `report(step, values)` with what there is to log: losses, norm of the gradient, seconds
    `waited` for the samples of the step, and, if any are, how many captured scenes are `skipped`.
    Every random draw is a function of (seed, step, index in the batch), so a resumed run repeats the losses of an
    uninterrupted one, and so do several processes, as `raytrans.processes.joined` has them: each takes its share of
    every batch, all have the same weights, the first alone claims the folder and writes files, and its clock counts.
    Ctrl-C leaves as KeyboardInterrupt once the state is saved, with a sentence that says how to go on. Raises
    FloatingPointError where loss or gradient is not finite; what was saved before is kept. Raises ValueError where
    another process trains in the same folder, and for a batch that the processes cannot share equally.
    """
    if config.data.batch % processes.count:
        expected = f"a multiple of the number of processes, {processes.count}"
        raise ValueError(f"data.batch: expected {expected}, got {config.data.batch}")
    alone = processes.count == 1
    with claimed(options.out) if processes.first else nullcontext(), collected(not alone) as interrupts:
        return _train(config, options, captured, evaluate, report, processes, interrupts)


def _train(
    config: TrainConfig, options: RunOptions, captured: Sequence | Captured, evaluate, report, processes, interrupts
) -> Renderer:
    optim, out, device = config.optim, options.out, torch.device(options.device)
    torch.manual_seed(config.seed)
    model = Renderer(config.model).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=optim.learning_rate, weight_decay=optim.weight_decay)
    saved = _restore(config, options, model, optimizer, processes)
    first = saved or 0
    log.info(_opening(config, options, model, first, len(captured), processes.count))
    deadline = math.inf if options.minutes is None else time.monotonic() + 60 * options.minutes
    stream = SampleStream(config.data, config.seed, optim.steps, captured)
    if any(other != _plain(config) for other in processes.tell(_plain(config))):
        raise ValueError("CONFIG: expected the same values for all processes, got different ones")
    step, interrupted = first, False
    try:
        with postponed():  # an interrupt in a fork would be lost, or end a worker with a traceback
            samples = Feed(_loader(stream, first, config.data.workers, processes))
        for step in range(first, optim.steps):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(optim, step)
            optimizer.zero_grad(set_to_none=True)
            terms = {}
            with processes.attempt():
                terms = _descent(model, islice(samples, config.data.batch // processes.count), config)
            flags = bool(interrupts), processes.first and time.monotonic() > deadline
            terms, (interrupted, late) = exchange(processes, list(model.parameters()), terms, flags)
            if not bool(torch.isfinite(terms["total"])):
                raise FloatingPointError(_not_finite("loss", step, config.seed, saved))
            norm = clip_gradients(model.parameters(), optim.clip)
            if not bool(torch.isfinite(norm)):
                raise FloatingPointError(_not_finite("gradient", step, config.seed, saved))
            with postponed():
                optimizer.step()
                step = done = step + 1
            with processes.attempt():
                if report is not None:
                    values = {name: value.item() for name, value in terms.items()}
                    report(done, values | {"gradient": norm.item()} | samples.facts())
                if done % config.log.checkpoint_every == 0:
                    _save_state(out, model, optimizer, done, config, processes)
                    saved = done
            if evaluate is not None and done % config.log.evaluate_every == 0:
                values = evaluate(model.eval())
                model.train()
                with processes.attempt():
                    if report is not None:
                        report(done, {f"held-out/{k}": v for k, v in values.items()})
            if late:
                log.info("time limit reached at step %d", done)
            if late or interrupted:
                break
    except KeyboardInterrupt:
        interrupted = True
    processes.tell()
    with suppress(KeyboardInterrupt), postponed():  # a second one has nothing left to stop
        _save_state(out, model, optimizer, step, config, processes)
        if processes.first:
            save_model(out / WEIGHTS, model, {"step": step, "seed": config.seed})
    if interrupted:
        raise KeyboardInterrupt(
            f"interrupted at step {step} of {optim.steps}; the state is saved in {out}; --resume continues with the "
            "same CONFIG, --set and --precision (log.*, data.workers and data.cache may differ)"
        )
    return model.eval()


def _descent(model: Renderer, samples: Iterable[tuple[int, Sample]], config: TrainConfig) -> dict[str, Tensor]:
    """Add the gradients of some samples, by number, to those of the model; their share of the means over the batch."""
    shares: dict[str, Tensor] = {}
    for number, sample in samples:
        generator = torch.Generator().manual_seed((config.seed << 32) + number)
        with torch.autocast(model.device.type, torch.bfloat16, enabled=config.optim.precision == "bfloat16"):
            terms = sample_losses(model, sample, config.optim, generator)
        terms = {name: value / config.data.batch for name, value in terms.items()}
        for name, value in terms.items():
            shares[name] = shares[name] + value.detach() if name in shares else value.detach()
        if not bool(torch.isfinite(terms["total"])):
            break
        terms["total"].backward()
    return shares


def _save_state(
    out: Path, model: Renderer, optimizer: torch.optim.Optimizer, step: int, config: TrainConfig, processes: Processes
) -> None:
    """Write the state of a step, which all processes have, from the first of them."""
    if processes.first:
        with postponed():
            save_training(out / STATE, model, optimizer, {"step": step, "config": _plain(config)})


def _restore(
    config: TrainConfig, options: RunOptions, model: Renderer, optimizer: torch.optim.Optimizer, processes: Processes
) -> int | None:
    """Start from what `options` name: the step of the state that is resumed, None where there is none.

    The first process reads it for all: others may be on machines that do not have the file.
    """
    if not options.resume:
        if options.init is not None:
            load_weights(model, processes.from_first(lambda: read_tensors(init_file(options.init)))[0], options.init)
        return None
    path = options.out / STATE
    tensors, metadata = processes.from_first(lambda: read_tensors(path))
    restore_training(model, optimizer, tensors, metadata, path)
    if _experiment(metadata["config"]) != _experiment(_plain(config)):
        changes = _changes(metadata["config"], config)
        raise ValueError(
            f"--resume: configuration differs from that of {path}: {changes}; repeat its CONFIG, --set and --precision"
        )
    return metadata["step"]


def _opening(
    config: TrainConfig, options: RunOptions, model: Renderer, first: int, captured: int, processes: int
) -> str:
    steps, count = config.optim.steps, sum(p.numel() for p in model.parameters())
    if first >= steps:
        return f"already at step {first} of {steps}, nothing to do"
    begin = "" if options.init is None else f" from {options.init}"
    share = f" for {config.data.folder_share:.0%} of the scenes" if captured else ""
    batch = "" if config.data.batch == 1 else f"{config.data.batch} x "
    place = options.device if processes == 1 else f"{processes} processes, the first on {options.device}"
    return (
        f"training size {config.size}, {count:,} parameters{begin}, steps {first + 1} to {steps} of {batch}"
        f"{config.data.rays} rays on {place}, scenes on disk: {captured}{share}; "
        f"a line every {config.log.log_every} steps"
    )


def _not_finite(what: str, step: int, seed: int, saved: int | None) -> str:
    kept = "no state was saved" if saved is None else f"the state of step {saved} is kept"
    return f"the {what} is not finite at step {step}, seed {seed}; {kept}; try a smaller optim.learning_rate"


def _loader(
    stream: SampleStream, first: int, workers: int, processes: Processes = ALONE
) -> Iterator[tuple[int, Sample | ValueError]]:
    """This process's samples from step `first` on, with their numbers."""
    batch, rank = stream.config.batch, processes.rank
    own = range(first * batch + rank, len(stream), processes.count)
    loader = torch.utils.data.DataLoader(
        Carried(stream),
        batch_size=None,
        sampler=own,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        worker_init_fn=_leave_interrupts_to_the_parent,
    )
    return zip(own, loader, strict=False)


def _leave_interrupts_to_the_parent(worker: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _plain(config: TrainConfig) -> dict:
    return json.loads(json.dumps(config.to_dict()))


def _experiment(config: dict) -> dict:
    """What the losses depend on: all but logging, the number of processes that draw samples and what these keep.

    Keys that an earlier version did not know have their defaults.
    """
    data = json.loads(json.dumps(asdict(DataConfig()))) | config["data"]
    data = {name: value for name, value in data.items() if name not in ("workers", "cache")}
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
