"""The ray task of the study: depth of target rays from source rays of known depth, in four arms of ray attention.

A scene is one ellipsoid that all rays meet. Its surface has nine numbers and the source rays tell more of them, so that
nothing but compute and data keeps the loss from falling.
"""

from collections.abc import Iterator
from functools import lru_cache

import torch
from torch import Tensor

from raytrans.geometry.rays import Rays, section_frame, section_from_axis
from raytrans.geometry.rigid import Similarity, random_rotation
from raytrans.shapes import Float
from raytrans.systems.raydepth import ARMS, NativeRayDepth, RayDepths, error
from raytrans.systems.scaling.training import Task, epochs

CAMERAS, RAYS, TARGETS = 4, 6, 8  # of a scene: cameras, source rays of each, target rays of one more
HALF, DISTANCE, WITHIN = (0.4, 1.2), (2.0, 3.0), 0.9  # half axes, of cameras from the middle, share that rays aim at
BATCH, LAYERS = 8, 1
HELD_OUT, PART, HELD_OUT_SEED = 256, 32, 1_000_003
RATES = dict.fromkeys(ARMS, 5e-3)


def ellipsoid_depth(
    origin: Float[Tensor, "*b 3"], direction: Float[Tensor, "*b 3"], centre: Tensor, axes: Tensor
) -> Float[Tensor, "*b"]:
    """Distance along rays from outside to the ellipsoid |axes (x - centre)| = 1, NaN for a ray that misses it.

    centre (*b, 3) and axes (*b, 3, 3), whose rows are unit axes over their half lengths, broadcast.
    """
    start, along = ((axes @ v[..., None])[..., 0] for v in (origin - centre, direction))
    a, b, c = along.square().sum(-1), (along * start).sum(-1), start.square().sum(-1) - 1
    return (-b - (b.square() - a * c).sqrt()) / a


def draw_ellipsoids(count: int, generator: torch.Generator, frames: bool = True) -> RayDepths:
    """`count` scenes in float64, each, with `frames`, in a random frame and at a scale of 1/4 to 4."""
    if count < 1:
        raise ValueError(f"count: expected at least 1, got {count}")
    kind = {"generator": generator, "dtype": torch.float64}
    half = HALF[0] + (HALF[1] - HALF[0]) * torch.rand(count, 3, **kind)
    turn = random_rotation(count, generator=generator)
    centre = 0.3 * torch.randn(count, 1, 3, **kind)
    axes = (turn.mT / half[..., None])[:, None]
    views = CAMERAS + 1
    outward = torch.nn.functional.normalize(torch.randn(count, views, 3, **kind), dim=-1)
    eye = centre + outward * (DISTANCE[0] + (DISTANCE[1] - DISTANCE[0]) * torch.rand(count, views, 1, **kind))
    camera = section_from_axis(-outward, outward.roll(1, -1))
    aim = torch.nn.functional.normalize(torch.randn(count, views, max(RAYS, TARGETS), 3, **kind), dim=-1)
    aim = WITHIN * aim * torch.rand(*aim.shape[:-1], 1, **kind) ** (1 / 3)
    aim = centre[:, :, None] + (turn[:, None, None] @ (half[:, None, None] * aim)[..., None])[..., 0]
    direction = torch.nn.functional.normalize(aim - eye[:, :, None], dim=-1)
    frame = section_frame(camera[..., None, :, :].expand(*direction.shape, 3), direction)
    rays = Rays.from_points(eye[:, :, None].expand_as(direction), direction, frame)
    depth = ellipsoid_depth(rays.origin, rays.direction, centre[:, :, None], axes[:, None])
    sources = rays[:, :CAMERAS, :RAYS].reshape(count, CAMERAS * RAYS)
    scenes = RayDepths(
        sources, depth[:, :CAMERAS, :RAYS].flatten(1), rays[:, CAMERAS, :TARGETS], depth[:, CAMERAS, :TARGETS]
    )
    if frames:
        change = Similarity.random(count, generator=generator, extent=3.0)
        scenes = scenes.moved(change.rotation, change.translation, change.scale)
    return scenes


@lru_cache(maxsize=4)
def scenes(count: int, seed: int) -> RayDepths:
    """The scenes of a seed."""
    return draw_ellipsoids(count, torch.Generator().manual_seed(seed))


def ray_task(pool: int) -> Task:
    """The depth task with `pool` scenes a seed to train on; an arm's size is its width, the loss |log(depth/truth)|.

    "augmented" is the network of "world", trained on scenes that are turned at random every time.
    """

    def batches(arm: str, data: int, seed: int) -> Iterator[RayDepths]:
        drawn, generator = scenes(pool, seed), torch.Generator().manual_seed(seed)
        for index in epochs(pool, data, BATCH, seed):
            yield drawn[index].turned(generator) if arm == "augmented" else drawn[index]

    held_out = scenes(HELD_OUT, HELD_OUT_SEED)
    wanted = (held_out.truth / held_out.unit[:, None]).log()
    return Task(
        build=lambda arm, size: NativeRayDepth(arm, size, LAYERS),
        batches=batches,
        loss=lambda model, batch: error(model(batch), batch),
        held_out=[held_out[i : i + PART] for i in range(0, HELD_OUT, PART)],
        rates=RATES,
        trivial=(wanted - wanted.median()).abs().mean().item(),
    )
