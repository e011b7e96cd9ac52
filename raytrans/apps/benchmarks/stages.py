"""The parts of the model alone, on what they are really given: inputs caught while a picture is rendered."""

from collections.abc import Callable

import torch
from torch import nn

from raytrans.apps.benchmarks.settings import Sizes
from raytrans.apps.benchmarks.workloads import Case, sources_and_target
from raytrans.rendering.renderer import Renderer
from raytrans.rendering.synthesis import encode, render


def caught(module: nn.Module, run: Callable[[], object]) -> tuple[tuple, dict]:
    """Positional and named arguments of the first call of a module while something runs."""
    calls = []
    handle = module.register_forward_pre_hook(lambda _, args, kwargs: calls.append((args, kwargs)), with_kwargs=True)
    try:
        run()
    finally:
        handle.remove()
    return calls[0]


def stages(model: Renderer, sizes: Sizes) -> dict[str, tuple[Callable[[], object], str, int]]:
    """Name -> (a call without gradients, what its cost is spread over, how many of them) for one chunk of rays."""
    views, camera = sources_and_target(Case(sources=sizes.count, size=(sizes.side, sizes.side)))
    encoded = encode(model, views)
    placed, targets, *_ = caught(model, lambda: render(model, encoded, camera))[0]
    pixels, rays, config = sizes.count * sizes.side**2, len(targets.origin), model.config
    samples = rays * (config.fine + 1)

    def replay(module: nn.Module, run: Callable[[], object]) -> Callable[[], object]:
        args, kwargs = caught(module, run)
        return lambda: module(*args, **kwargs)

    def rendering() -> None:
        render(model, encoded, camera)

    parts = {
        "encoder": (replay(model.encoder, lambda: encode(model, views)), "source pixel", pixels),
        "sweep": (replay(model.sweep, lambda: encode(model, views)), "source pixel", pixels),
        "proposal": (lambda: model.propose_weights(placed, targets), "target ray", rays),
        "view stage": (replay(model.views, rendering), "sample and source", samples * sizes.count),
        "ray stage": (replay(model.along, rendering), "sample", samples),
        "whole chunk": (replay(model, rendering), "target ray", rays),
    }
    return {name: (torch.no_grad()(call), what, count) for name, (call, what, count) in parts.items()}
