"""Fine-tuning on one scene: every step renders rays of one view from some of those nearest to it.

All weights are trained. Encoder and depth sweep take most of a step, and leaving them as they are makes it ten times as
fast, but what is wrong with a scene is where its surfaces end, which those two decide.
"""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from raytrans.data.selection import nearest
from raytrans.data.views import Views
from raytrans.geometry.rays import Rays
from raytrans.rendering.renderer import Renderer
from raytrans.rendering.sources import source_unit
from raytrans.rendering.synthesis import arranged, render_rays
from raytrans.training.config import FinetuneConfig, OptimConfig
from raytrans.training.gradients import clip_gradients
from raytrans.training.loop import decay, ray_losses, weighted
from raytrans.training.metrics import psnr
from raytrans.training.samples import Sample, SceneData, seen_through

CHECK_STEP, CHECKS, CHECK_PIXELS = 8, 6, 1500
BETAS = 0.9, 0.99
INTERRUPTED = "interrupted"
LEAST = 4  # views: one to check, one to train on, two sources


@dataclass(frozen=True)
class Outcome:
    """PSNR of the checks at the start and with what is kept, the step of that (0: the start), steps done, the end."""

    start: float
    best: float
    step: int
    steps: int
    end: str


class Material:
    """One scene: which views are trained on, which are checked, and the sources of each."""

    def __init__(self, scene: SceneData, config: FinetuneConfig):
        if len(scene.images) < LEAST:
            raise ValueError(f"views: expected at least {LEAST} that are not held out, got {len(scene.images)}")
        self.scene, self.config = scene, config
        checked = range(CHECK_STEP // 2, len(scene.images), CHECK_STEP) or [len(scene.images) - 1]
        self.checked = evenly(list(checked), CHECKS)
        self.trained = [i for i in range(len(scene.images)) if i not in self.checked]

    def sources(self, view: int, generator: torch.Generator | None = None) -> Views:
        """The views nearest to one, itself left out, arranged as for rendering; with a generator some of them."""
        cameras = self.scene.cameras
        chosen = nearest(cameras, cameras[view], self.config.sources, [view])
        if generator is not None and len(chosen) > self.config.drawn:
            chosen = [chosen[k] for k in torch.randperm(len(chosen), generator=generator)[: self.config.drawn].tolist()]
        return arranged(Views([self.scene.images[i] for i in chosen], cameras[chosen]))

    def sample(self, view: int, generator: torch.Generator, distinct: int | None = None) -> Sample:
        """Rays through random pixels of a view, or through `distinct` different ones."""
        camera = self.scene.cameras[view]
        count = camera.height * camera.width
        if distinct is None:
            pixels = torch.randint(count, (self.config.rays,), generator=generator)
        else:
            pixels = torch.randperm(count, generator=generator)[:distinct]
        rays, color, distance = seen_through(self.scene, view, pixels)
        return Sample(None, rays, color, distance, None, camera.world_from_camera[:3, :3])

    def checks(self) -> list[tuple[Views, Rays, Tensor]]:
        """Sources, rays and colours of the views that are checked."""
        generator = torch.Generator().manual_seed(0)
        samples = [(i, self.sample(i, generator, CHECK_PIXELS)) for i in self.checked]
        return [(self.sources(i), sample.rays, sample.color) for i, sample in samples]


def evenly(values: list[int], count: int) -> list[int]:
    """At most `count` of some values, evenly spaced."""
    count = min(count, len(values))
    return [values[(2 * k + 1) * len(values) // (2 * count)] for k in range(count)]


def measured(model: Renderer, checks: list[tuple[Views, Rays, Tensor]]) -> float:
    """Mean PSNR over the checks."""
    found = [psnr(render_rays(model, sources, rays).color.cpu(), color) for sources, rays, color in checks]
    return sum(found) / len(found)


class Best:
    """The moving average of a model, which is kept whenever the checks are better than ever, the start included."""

    def __init__(self, model: Renderer, material: Material, keep: Callable[[Renderer, int, float], None]):
        self.checks, self.average, self.keep = material.checks(), copy.deepcopy(model).eval(), keep
        self.psnr = -math.inf
        self.start = self.check(0)
        if math.isnan(self.start):
            raise ValueError("model: expected finite colours of the views that are checked, got NaN")

    @torch.no_grad()
    def follow(self, model: Renderer, share: float) -> None:
        """average = share * average + (1 - share) * model, weight by weight."""
        for own, theirs in zip(self.average.parameters(), model.parameters(), strict=True):
            own.lerp_(theirs, 1 - share)

    def check(self, step: int) -> float:
        """PSNR of the average now."""
        value = measured(self.average, self.checks)
        if value > self.psnr:
            self.psnr, self.step = value, step
            self.keep(self.average, step, value)
        return value


def finetune(
    model: Renderer,
    material: Material,
    minutes: float,
    report: Callable[[int, dict[str, float]], None],
    keep: Callable[[Renderer, int, float], None],
    tell: Callable[[float, int], None] = lambda share, rays: None,
) -> Outcome:
    """Train all weights and `keep(model, step, psnr)` the start, then every better one by the checks.

    What is checked and kept is a moving average of the weights. The learning rate falls with the share of the steps or
    of the time that is over, whichever is larger; `tell(share, rays)` is told it after every step. Ctrl-C and a loss
    that is not finite end it early. Raises ValueError where the colours of the start are not finite.
    """
    config, generator = material.config, torch.Generator().manual_seed(material.config.seed)
    done, step, end, colors = 0.0, 0, "time is over", []
    # few steps: squares of gradients from the start of a run would slow its end
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, betas=BETAS, weight_decay=0.0)
    best = Best(model, material, keep)
    report(0, {"check/psnr": best.start})
    begin = time.monotonic()
    try:
        while done < 1:
            warm = min(1, (step + 1) / (config.warmup + 1))
            optimizer.param_groups[0]["lr"] = config.learning_rate * warm * decay(done)
            colors.append(_step(model, material, optimizer, generator))
            if not math.isfinite(colors[-1]):
                end = f"the loss is not finite at step {step + 1}"
                break
            step += 1
            best.follow(model, min(config.average, step / (step + 9)))
            before, done = done, max(step / config.steps, (time.monotonic() - begin) / (60 * minutes))
            tell(done, config.rays)
            if done >= 1 or int(done * config.checks) > int(before * config.checks):
                report(step, {"color": sum(colors) / len(colors), "check/psnr": best.check(step)})
                colors.clear()
        else:
            end = "all steps are done" if step >= config.steps else end
    except KeyboardInterrupt:
        end = INTERRUPTED
    return Outcome(best.start, best.psnr, best.step, step, end)


def _step(model: Renderer, material: Material, optimizer: torch.optim.Optimizer, generator: torch.Generator) -> float:
    """Descend once on rays of a view; the colour term before, NaN where loss or gradient is not finite."""
    optimizer.zero_grad(set_to_none=True)
    view = material.trained[int(torch.randint(len(material.trained), (), generator=generator))]
    views = material.sources(view, generator)
    sources = model.place(model.encode(views), source_unit(views.cameras), generator)
    terms = ray_losses(model, sources, material.sample(view, generator), generator)
    total = weighted(terms, OptimConfig())
    if not bool(torch.isfinite(total)):
        return math.nan
    total.backward()
    norm = clip_gradients(model.parameters(), material.config.clip)
    if not bool(torch.isfinite(norm)):
        return math.nan
    optimizer.step()
    return terms["color"].item()
