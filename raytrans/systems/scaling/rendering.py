"""The rendering task of the study: the arms of a renderer, trained as always, measured on views never seen."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor

from raytrans.rendering.renderer import Renderer
from raytrans.systems.scaling.flops import executed_flops
from raytrans.systems.scaling.training import Task, epochs
from raytrans.training.config import DataConfig, TrainConfig
from raytrans.training.loop import sample_losses
from raytrans.training.samples import Sample, SampleStream

HELD_OUT, HELD_OUT_SEED = 16, 100_003
Numbered = tuple[int, Sample]


@lru_cache(maxsize=4)
def samples(data: DataConfig, count: int, seed: int) -> list[Sample]:
    """The first `count` training samples of a seed: source views and target rays of generated scenes."""
    stream = SampleStream(data, seed, count, [])
    return [stream[number] for number in range(count)]


def rendering_task(configs: Mapping[tuple[str, int], TrainConfig], pool: int) -> Task:
    """Training of renderers by arm and size, `pool` samples a seed; the loss that is reported is that of the colours.

    It is the mean square error of colours of `HELD_OUT` target views in scenes of their own. Compute is that of the
    products and convolutions, executed. Raises ValueError for configurations of different data, or batches of several
    samples.
    """
    first = next(iter(configs.values()))
    if any(config.data != first.data for config in configs.values()) or first.data.batch != 1:
        raise ValueError("configs: expected the same data and a batch of one sample for all arms and sizes")
    arms = {arm: config for (arm, _), config in configs.items()}

    def batches(arm: str, data: int, seed: int) -> Iterator[Numbered]:
        drawn = samples(first.data, pool, seed)
        for number in epochs(pool, data, 1, seed):
            yield (seed << 32) + int(number), drawn[int(number)]

    def build(arm: str, size: int) -> Renderer:
        if (arm, size) not in configs:
            raise ValueError(f"size: expected one of {sorted(configs)}, got {(arm, size)}")
        model = Renderer(configs[arm, size].model)
        model.arm = arm
        return model

    def terms(model: Renderer, batch: Numbered, augmented: bool) -> dict[str, Tensor]:
        number, sample = batch
        optim = replace(arms[model.arm].optim, augment_rotation=augmented)
        return sample_losses(model, replace(sample), optim, torch.Generator().manual_seed(number))

    def color(model: Renderer, batch: Numbered) -> Tensor:
        number, sample = batch
        return terms(model, (number, replace(sample, source_distance=None)), augmented=False)["color"]

    held_out = samples(replace(first.data, reuse=1), HELD_OUT, HELD_OUT_SEED)
    return Task(
        build=build,
        batches=batches,
        loss=lambda model, batch: terms(model, batch, arms[model.arm].optim.augment_rotation)["total"],
        measure=color,
        held_out=list(enumerate(held_out)),
        rates={arm: config.optim.learning_rate for arm, config in arms.items()},
        flops=executed_flops,
    )
