"""Fine-tuning on one scene: every step renders rays of one view from some of those nearest to it.

Two things are learned: where the surfaces are along the rays of every view (a `DepthPrior` each, which starts as what
the depth sweep finds), and the weights that make colours of it. The encoder stays as it is, so that every view goes
through it once.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from raytrans.data.priors import DepthPrior
from raytrans.data.selection import nearest
from raytrans.data.views import Views
from raytrans.geometry.rays import Rays
from raytrans.rendering.renderer import Renderer
from raytrans.rendering.sources import EncodedViews, joined, source_unit
from raytrans.rendering.synthesis import arranged, render_rays, view_turn
from raytrans.training.config import FinetuneConfig, OptimConfig
from raytrans.training.gradients import clip_gradients
from raytrans.training.loop import decay, ray_losses, weighted
from raytrans.training.metrics import psnr
from raytrans.training.samples import Sample, SceneData, seen_through

CHECK_STEP, CHECKS, CHECK_PIXELS = 8, 6, 1500
BETAS = 0.9, 0.99
INTERRUPTED = "interrupted"
LEAST = 4  # views: one to check, one to train on, two sources
Keep = Callable[[Renderer, list[DepthPrior | None], int, float], None]
"""Called with what is better than ever: the model, the priors of the views, the step, the PSNR of the checks."""


@dataclass(frozen=True)
class Outcome:
    """PSNR of the checks at the start and with what is kept, the step of that (0: the start), steps done, the end."""

    start: float
    best: float
    step: int
    steps: int
    end: str


class Material:
    """One scene: which views are trained on, which are checked, the sources of each, priors of earlier fine-tuning."""

    def __init__(self, scene: SceneData, config: FinetuneConfig, priors: Sequence[DepthPrior | None] = ()):
        if len(scene.images) < LEAST:
            raise ValueError(f"views: expected at least {LEAST} that are not held out, got {len(scene.images)}")
        self.scene, self.config = scene, config
        self.priors = list(priors) or [None] * len(scene.images)
        checked = range(CHECK_STEP // 2, len(scene.images), CHECK_STEP) or [len(scene.images) - 1]
        self.checked = evenly(list(checked), CHECKS)
        self.trained = [i for i in range(len(scene.images)) if i not in self.checked]

    def sources(self, view: int, generator: torch.Generator | None = None) -> list[int]:
        """The views nearest to one, itself left out; with a generator `drawn` of them."""
        cameras = self.scene.cameras
        chosen = nearest(cameras, cameras[view], self.config.sources, [view])
        if generator is not None and len(chosen) > self.config.drawn:
            chosen = [chosen[k] for k in torch.randperm(len(chosen), generator=generator)[: self.config.drawn].tolist()]
        return chosen

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

    def checks(self) -> list[tuple[list[int], Rays, Tensor]]:
        """Sources, rays and colours of the views that are checked."""
        generator = torch.Generator().manual_seed(0)
        samples = [(i, self.sample(i, generator, CHECK_PIXELS)) for i in self.checked]
        return [(self.sources(i), sample.rays, sample.color) for i, sample in samples]


class PreparedViews:
    """The views of a scene as sources: encoded once, each with the logits of a prior that can be learned.

    Each is arranged as `encode` would have it, alone; its prior, where there is none yet, is what the depth sweep finds
    against the views nearest to it.
    """

    @torch.no_grad()
    def __init__(self, model: Renderer, material: Material):
        scene, turned = material.scene, model.config.encoder == "turns"
        self.model, self.turns, self.encoded = model, [], []
        for i, (image, prior) in enumerate(zip(scene.images, material.priors, strict=True)):
            self.turns.append(view_turn(image, scene.cameras[i]) if turned else 0)
            self.encoded.append(model.encode(arranged(Views([image], scene.cameras[i], [prior]), turned)))
        start = []
        for i, encoded in enumerate(self.encoded):
            rig = [self.encoded[k] for k in (i, *material.sources(i))]
            start.append(encoded.priors[0] or model.depth_prior(joined(rig)))
        self.logits = [nn.Parameter(prior.logits.to(model.device, model.dtype)) for prior in start]
        self.near = [prior.near for prior in start]

    def given(self, indices: Sequence[int]) -> EncodedViews:
        """Some of the views, ready to render from, as they are without fine-tuning."""
        return self._placed([self.encoded[i] for i in indices])

    def placed(self, indices: Sequence[int]) -> EncodedViews:
        """Some of the views, ready to render from, with their priors as they are now."""
        priors = [DepthPrior(self.logits[i], self.near[i]) for i in indices]
        return self._placed([replace(self.encoded[i], priors=[p]) for i, p in zip(indices, priors, strict=True)])

    def _placed(self, parts: list[EncodedViews]) -> EncodedViews:
        views = joined(parts)
        return self.model.place(views, source_unit(views.cameras))

    def priors(self) -> list[DepthPrior]:
        """The priors of all views as they are now, in the orientation of their images."""
        found = zip(self.logits, self.near, self.turns, strict=True)
        return [DepthPrior(logits.detach(), near).quarter_turned(-turns) for logits, near, turns in found]


def evenly(values: list[int], count: int) -> list[int]:
    """At most `count` of some values, evenly spaced."""
    count = min(count, len(values))
    return [values[(2 * k + 1) * len(values) // (2 * count)] for k in range(count)]


class Best:
    """A model and its priors, which are kept whenever the checks are better than ever.

    What was given is kept first: step 0.
    """

    def __init__(self, model: Renderer, material: Material, views: PreparedViews, keep: Keep):
        self.model, self.views, self.checks, self.keep = model, views, material.checks(), keep
        self.start = self._measured(views.given)
        if math.isnan(self.start):
            raise ValueError("model: expected finite colours of the views that are checked, got NaN")
        self.psnr, self.step = self.start, 0
        keep(model, material.priors, 0, self.start)

    def check(self, step: int) -> float:
        """Mean PSNR of the checks now."""
        value = self._measured(self.views.placed)
        if value > self.psnr:
            self.psnr, self.step = value, step
            self.keep(self.model, self.views.priors(), step, value)
        return value

    @torch.no_grad()
    def _measured(self, placed: Callable[[Sequence[int]], EncodedViews]) -> float:
        found = [
            psnr(render_rays(self.model, placed(sources), rays).color.cpu(), color)
            for sources, rays, color in self.checks
        ]
        return sum(found) / len(found)


def finetune(
    model: Renderer,
    material: Material,
    minutes: float,
    report: Callable[[int, dict[str, float]], None],
    keep: Keep,
    tell: Callable[[float, int], None] = lambda share, rays: None,
) -> Outcome:
    """Train priors and weights, and `keep(model, priors, step, psnr)` the start, then every better one by the checks.

    The rates fall with the share of the steps or of the time that is over, whichever is larger; `tell(share, rays)` is
    told it after every step. Ctrl-C and a loss that is not finite end it early. Raises ValueError where the colours of
    the start are not finite.
    """
    begin = time.monotonic()
    config, generator = material.config, torch.Generator().manual_seed(material.config.seed)
    done, step, end, colors = 0.0, 0, "time is over", []
    views = PreparedViews(model, material)
    # few steps: squares of gradients from the start of a run would slow its end
    groups = [
        {"params": list(model.parameters()), "rate": config.learning_rate},
        {"params": views.logits, "rate": config.prior_rate},
    ]
    optimizer = torch.optim.AdamW(groups, betas=BETAS, weight_decay=0.0)
    best = Best(model, material, views, keep)
    report(0, {"check/psnr": best.start})
    try:
        while done < 1:
            warm = min(1, (step + 1) / (config.warmup + 1))
            for group in optimizer.param_groups:
                group["lr"] = group["rate"] * warm * decay(done)
            colors.append(_step(model, material, views, optimizer, generator))
            if not math.isfinite(colors[-1]):
                end = f"the loss is not finite at step {step + 1}"
                break
            step += 1
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


def _step(
    model: Renderer,
    material: Material,
    views: PreparedViews,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
) -> float:
    """Descend once on rays of a view; the colour term before, NaN where loss or gradient is not finite."""
    optimizer.zero_grad(set_to_none=True)
    view = material.trained[int(torch.randint(len(material.trained), (), generator=generator))]
    sources = views.placed(material.sources(view, generator))
    terms = ray_losses(model, sources, material.sample(view, generator), generator)
    total = weighted(terms, OptimConfig())
    if not bool(torch.isfinite(total)):
        return math.nan
    total.backward()
    norm = clip_gradients(model.parameters(), material.config.clip)
    touched = [logits.grad for logits in views.logits if logits.grad is not None]
    if not bool(torch.isfinite(norm)) or not all(bool(torch.isfinite(gradient).all()) for gradient in touched):
        return math.nan
    optimizer.step()
    return terms["color"].item()
