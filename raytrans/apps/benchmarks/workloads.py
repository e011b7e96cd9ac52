"""What is measured: rendering, encoding, whole frames and training steps of a stated size, ready to run."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from raytrans.data.generate import GeneratedScene, generated_scene
from raytrans.data.views import Views
from raytrans.geometry.cameras import Cameras
from raytrans.rendering.renderer import Renderer
from raytrans.rendering.synthesis import encode, render
from raytrans.training.checkpoint import load
from raytrans.training.config import DataConfig, OptimConfig
from raytrans.training.loop import sample_losses
from raytrans.training.samples import SceneData, draw_sample

SEED = 900_000


@dataclass(frozen=True)
class Case:
    """A task of one size: number of sources, their size and the target's (height, width), samples a ray, precision.

    Tasks: "rendering" from sources that are encoded already, "encoding", "frame" for both, and "training": a step on
    `rays` rays. The target is as large as the sources, and samples are the model's own, where none are given.
    """

    task: str = "rendering"
    sources: int = 8
    size: tuple[int, int] = (128, 128)
    target: tuple[int, int] | None = None
    samples: int | None = None
    precision: str = "float32"
    rays: int = 1024


@dataclass(frozen=True)
class Work:
    """Something to run, and over how many rays (pixels of the sources for "encoding") its cost is spread."""

    rays: int
    run: Callable[[], object]


def prepared(case: Case, checkpoint: Path | None) -> Work:
    """The work of a case with a model from `checkpoint`, all that is not part of it done."""
    model = load(checkpoint)
    if case.samples is not None:
        model.config = model.config.with_changes(fine=case.samples)
    return _TASKS[case.task](case, model.double() if case.precision == "float64" else model)


def sources_and_target(case: Case) -> tuple[Views, Cameras]:
    """Views of a generated scene and another camera in it."""
    scene = _scene(case.size, case.sources)
    views = Views(list(scene.images[1:]), scene.cameras[1:])
    return views, scene.cameras[0] if case.target is None else scene.cameras[0].resized(*case.target)


@lru_cache(maxsize=4)
def _scene(size: tuple[int, int], sources: int) -> GeneratedScene:
    return generated_scene(SEED, "easy", size, sources + 1)


def _rendering(case: Case, model: Renderer) -> Work:
    views, camera = sources_and_target(case)
    encoded = encode(model, views)
    return Work(camera.height * camera.width, lambda: render(model, encoded, camera, case.precision))


def _encoding(case: Case, model: Renderer) -> Work:
    views, _ = sources_and_target(case)
    return Work(case.sources * case.size[0] * case.size[1], lambda: encode(model, views))


def _frame(case: Case, model: Renderer) -> Work:
    views, camera = sources_and_target(case)
    return Work(camera.height * camera.width, lambda: render(model, views, camera, case.precision))


def _training(case: Case, model: Renderer) -> Work:
    """Drawing the sample, encoder, loss, gradients and AdamW; drawing scenes is left out."""
    drawn = _scene(case.size, case.sources)
    scene = SceneData(list(drawn.images), drawn.cameras, list(drawn.depth))
    config = DataConfig(views=case.sources + 1, sources=(case.sources, case.sources), rays=case.rays)
    model, optim = model.train(), OptimConfig()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)

    def step() -> None:
        sample = draw_sample(scene, config, np.random.default_rng(SEED))
        with torch.autocast("cpu", torch.bfloat16, enabled=case.precision == "bfloat16"):
            terms = sample_losses(model, sample, optim, torch.Generator().manual_seed(SEED))
        optimizer.zero_grad(set_to_none=True)
        terms["total"].backward()
        optimizer.step()

    return Work(case.rays, step)


_TASKS = {"rendering": _rendering, "encoding": _encoding, "frame": _frame, "training": _training}
