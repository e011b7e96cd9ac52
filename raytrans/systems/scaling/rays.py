"""The ray task of the study: depth of target rays from source rays of known depth, in four arms of ray attention."""

from collections.abc import Iterator
from functools import lru_cache

import torch

from raytrans.systems.raydepth import ARMS, NativeRayDepth, RayDepths, draw, error
from raytrans.systems.scaling.training import Task, epochs

BATCH, CAMERAS, RAYS, TARGETS = 8, 4, 6, 8  # scenes of a step; of a scene: cameras, source rays of each, target rays
LAYERS = 1
HELD_OUT, PART, HELD_OUT_SEED = 256, 32, 1_000_003
RATE = 3e-3


@lru_cache(maxsize=2)
def scenes(count: int, seed: int) -> RayDepths:
    """`count` scenes of a seed, each in a frame and at a scale of its own."""
    return draw(count, torch.Generator().manual_seed(seed), CAMERAS, RAYS, TARGETS)


def ray_task(pool: int, rate: float = RATE) -> Task:
    """The depth task with `pool` scenes a seed to train on; an arm's size is its width, the loss |log(depth/truth)|.

    "augmented" is the network of "world", trained on scenes that are turned at random every time.
    """

    def batches(arm: str, data: int, seed: int) -> Iterator[RayDepths]:
        drawn, generator = scenes(pool, seed), torch.Generator().manual_seed(seed)
        for index in epochs(pool, data, BATCH, seed):
            yield drawn[index].turned(generator) if arm == "augmented" else drawn[index]

    held_out = scenes(HELD_OUT, HELD_OUT_SEED)
    return Task(
        build=lambda arm, size: NativeRayDepth(arm, size, LAYERS),
        batches=batches,
        loss=lambda model, batch: error(model(batch), batch),
        held_out=[held_out[i : i + PART] for i in range(0, HELD_OUT, PART)],
        rates=dict.fromkeys(ARMS, rate),
    )
