"""The task of bodies that fall and collide: where are the corners of their faces a while later?

A token is a face: its four corners with their velocities, gravity and the floor. Models return, for every corner of
every face, how far it ends from where it would be in free fall along a straight line.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn

from raytrans.geometry.rigid import random_rotation
from raytrans.layers.neighborhood import Gathered
from raytrans.shapes import Float
from raytrans.systems.algebra import MultivectorTransformer
from raytrans.systems.raydepth.plain import PlainBlock
from raytrans.systems.scaling.bodies import CORNERS, GRAVITY, draw_bodies, simulate
from raytrans.systems.scaling.training import Task, epochs

SECONDS, STEPS = 0.6, 48  # how much later, and the steps of the simulation
SPREAD = 1.0  # of where a scene lies, which is about 2 wide
BATCH, HELD_OUT, PART, HELD_OUT_SEED = 16, 512, 64, 1_000_003
LAYERS, HEADS, GAIN = 3, 4, 10.0
FACES = torch.stack([(CORNERS[:, a] == s).nonzero()[:, 0] for a in range(3) for s in (-1, 1)])  # (6, 4)


@dataclass(frozen=True)
class Falls:
    """Scenes in any frame: corners of the bodies (b, n, 8, 3) with velocities, gravity, a point of the floor, the
    logarithms of the masses (b, n), and where the corners are later.
    """

    corners: Float[Tensor, "b n 8 3"]
    velocities: Float[Tensor, "b n 8 3"]
    gravity: Float[Tensor, "b 3"]
    ground: Float[Tensor, "b 3"]
    masses: Float[Tensor, "b n"]
    later: Float[Tensor, "b n 8 3"]

    def __len__(self) -> int:
        return len(self.masses)

    def __getitem__(self, index: Tensor | slice) -> "Falls":
        return Falls(*(value[index] for value in vars(self).values()))

    def to(self, dtype: torch.dtype) -> "Falls":
        return Falls(*(value.to(dtype) for value in vars(self).values()))

    def moved(self, rotation: Float[Tensor, "b 3 3"], translation: Float[Tensor, "b 3"]) -> "Falls":
        """Every scene by its own x -> R x + t."""
        turned = {name: _turned(getattr(self, name), rotation) for name in vars(self) if name != "masses"}
        for name in ("corners", "ground", "later"):
            shape = (len(self), *[1] * (turned[name].ndim - 2), 3)
            turned[name] = turned[name] + translation.reshape(shape)
        return Falls(**turned, masses=self.masses)

    def anywhere(self, generator: torch.Generator) -> "Falls":
        """Every scene turned at random and put elsewhere, as those that are drawn: data augmentation."""
        dtype = self.masses.dtype
        rotation = random_rotation(len(self), generator=generator, dtype=dtype)
        place = SPREAD * torch.randn(len(self), 3, generator=generator, dtype=torch.float64).to(dtype)
        centre = self.corners.mean((1, 2))
        return self.moved(rotation, place - (rotation @ centre[..., None])[..., 0])

    def faces(self, values: Float[Tensor, "b n 8 3"]) -> Float[Tensor, "b f 4 3"]:
        """Values of corners at the four corners of every face; six faces a body."""
        return values[:, :, FACES].flatten(1, 2)

    def surprise(self) -> Float[Tensor, "b f 4 3"]:
        """What is to be found: where the corners of the faces are, from where free fall would take them."""
        falling = SECONDS * self.velocities + SECONDS**2 / 2 * self.gravity[:, None, None]
        return self.faces(self.later - self.corners - falling)

    def kinds(self) -> Float[Tensor, "b f k"]:
        """Invariants of a face: which body it belongs to, and the logarithm of its mass."""
        count = self.masses.shape[1]
        which = torch.eye(count, dtype=self.masses.dtype).expand(len(self), -1, -1)
        return torch.cat([which, self.masses[..., None]], -1).repeat_interleave(len(FACES), 1)


def _turned(values: Tensor, rotation: Tensor) -> Tensor:
    return (
        (values.flatten(1, -2) @ rotation.mT).reshape(values.shape)
        if values.ndim > 2
        else _turned_one(values, rotation)
    )


def _turned_one(values: Tensor, rotation: Tensor) -> Tensor:
    return (rotation @ values[..., None])[..., 0]


@lru_cache(maxsize=4)
def falls(count: int, seed: int) -> Falls:
    """`count` scenes of a seed in random frames, in float32; simulated in float64."""
    generator = torch.Generator().manual_seed(seed)
    begin = draw_bodies(count, generator)
    end = simulate(begin, SECONDS, STEPS)
    scenes = Falls(
        begin.corners(), begin.corner_velocities(), begin.gravity, begin.ground, begin.mass.log(), end.corners()
    )
    return scenes.anywhere(generator).to(torch.float32)


class PlainFalls(nn.Module):
    """A pre-norm transformer on the coordinates of the faces."""

    def __init__(self, width: int, bodies: int = 3):
        super().__init__()
        if width % HEADS:
            raise ValueError(f"width: expected a multiple of {HEADS} heads, got {width}")
        self.start = nn.Linear(12 + 12 + 3 + 4 + bodies + 1, width)
        self.blocks = nn.ModuleList(PlainBlock(width, HEADS) for _ in range(LAYERS))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 12)

    def forward(self, scenes: Falls) -> Float[Tensor, "b f 4 3"]:
        corners = scenes.faces(scenes.corners)
        up = -scenes.gravity / GRAVITY
        floor = torch.cat([up, (up * scenes.ground).sum(-1, keepdim=True)], -1)
        world = torch.cat([scenes.gravity / GRAVITY, floor], -1)[:, None].expand(-1, corners.shape[1], -1)
        velocities = scenes.faces(scenes.velocities)
        x = self.start(torch.cat([corners.flatten(-2), velocities.flatten(-2), world, scenes.kinds()], -1))
        neighborhood = Gathered.dense(x.shape[:-1], x.shape[:-1], batch=1)
        for block in self.blocks:
            x = block(x, x, neighborhood)
        return self.head(self.norm(x)).unflatten(-1, (4, 3))


class AlgebraFalls(nn.Module):
    """The same faces as multivectors of the improved projective transformer, with eight times as many scalars.

    A corner is a point and, in the same multivector, the plane through it whose normal is its velocity; one more is the
    floor, whose normal tells where gravity points. What is returned are normals of planes, which translations leave
    alone; they are small beside invariants in a token, hence `GAIN`.
    """

    def __init__(self, multivectors: int, bodies: int = 3):
        super().__init__()
        hidden = multivectors, 8 * multivectors
        self.body = MultivectorTransformer("iP", ((5, bodies + 1), hidden, (4, 0)), LAYERS, heads=2)

    def forward(self, scenes: Falls) -> Float[Tensor, "b f 4 3"]:
        space = self.body.embedding
        corners, velocities = scenes.faces(scenes.corners), scenes.faces(scenes.velocities)
        seen = space.point(corners) + space.plane(velocities, (velocities * corners).sum(-1))
        up = -scenes.gravity / GRAVITY
        floor = space.plane(up, (up * scenes.ground).sum(-1))[:, None, None].expand(-1, seen.shape[1], -1, -1)
        x = self.body.in_type.join((scenes.kinds(), torch.cat([seen, floor], -2)))
        return GAIN * self.body.out_type.split(self.body(x))[1][..., 1:4]


ARMS = {"algebra": AlgebraFalls, "plain": PlainFalls, "augmented": PlainFalls}
RATES = {"algebra": 5e-3, "plain": 3e-3, "augmented": 3e-3}


def falling_task(pool: int) -> Task:
    """The task with `pool` scenes a seed to train on; the loss is the mean square error over that of free fall.

    "augmented" is "plain" on scenes that are turned and shifted at random every time.
    """
    held_out = falls(HELD_OUT, HELD_OUT_SEED)
    scale = held_out.surprise().square().mean().item()

    def batches(arm: str, data: int, seed: int) -> Iterator[Falls]:
        drawn, generator = falls(pool, seed), torch.Generator().manual_seed(seed)
        for index in epochs(pool, data, BATCH, seed):
            yield drawn[index].anywhere(generator) if arm == "augmented" else drawn[index]

    return Task(
        build=lambda arm, size: ARMS[arm](size),
        batches=batches,
        loss=lambda model, batch: (model(batch) - batch.surprise()).square().mean() / scale,
        held_out=[held_out[i : i + PART] for i in range(0, HELD_OUT, PART)],
        rates=RATES,
        trivial=1.0,
    )
