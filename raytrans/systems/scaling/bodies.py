"""Rigid bodies that fall, turn and collide: a ball and boxes above a floor, many scenes at once.

Momentum and angular momentum are the state, and a contact changes them by an impulse at one point: what is conserved
stays so to rounding, whatever the step of time. Contacts are without friction. Two boxes touch where a corner of one
lies in the other; edges that cross without a corner inside pass through each other. Units are arbitrary: a scene is
about 2 wide and a second is long.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from raytrans.geometry.rigid import random_rotation, rotation_from_axis_angle
from raytrans.shapes import Float

CORNERS = torch.tensor([[x, y, z] for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)], dtype=torch.float64)
GRAVITY, HEIGHT, RING = 4.0, (0.7, 1.2), 0.75  # acceleration; of centres over the floor; radius of where they start


@dataclass(frozen=True)
class Bodies:
    """Scenes of n bodies, the first a ball of radius `half[..., 0]`, the others boxes of half sides `half`.

    position of the centres, rotation from the axes of a body to the world, momentum, and angular momentum about the
    own centre. gravity: the acceleration of a scene. ground: a point of the floor, which stands against gravity.
    floor, restitution: whether there is a floor, and the share of speed that a contact gives back.
    """

    position: Float[Tensor, "b n 3"]
    rotation: Float[Tensor, "b n 3 3"]
    momentum: Float[Tensor, "b n 3"]
    spin: Float[Tensor, "b n 3"]
    half: Float[Tensor, "b n 3"]
    mass: Float[Tensor, "b n"]
    gravity: Float[Tensor, "b 3"]
    ground: Float[Tensor, "b 3"]
    floor: bool = True
    restitution: float = 1.0

    def __len__(self) -> int:
        return len(self.mass)

    @property
    def up(self) -> Float[Tensor, "b 3"]:
        """The normal of the floor."""
        return -torch.nn.functional.normalize(self.gravity, dim=-1)

    @property
    def inertia(self) -> Float[Tensor, "b n 3"]:
        """Moments about the axes of a body: 2/5 m r^2 of the ball, m (a^2 + b^2)/3 of a box."""
        square = self.half.square()
        moments = (square.sum(-1, keepdim=True) - square) / 3
        moments[:, 0] = 0.4 * square[:, 0]
        return self.mass[..., None] * moments

    @property
    def velocity(self) -> Float[Tensor, "b n 3"]:
        return self.momentum / self.mass[..., None]

    @property
    def turning(self) -> Float[Tensor, "b n 3"]:
        """Angular velocities."""
        return _turning(self.rotation, self.spin, self.inertia)

    def corners(self) -> Float[Tensor, "b n 8 3"]:
        """Corners of the boxes; of the ball, those of the cube inside it, which stand for its surface."""
        half = self.half.clone()
        half[:, 0] /= 3**0.5
        return self.position[..., None, :] + (half[..., None, :] * CORNERS.to(half)) @ self.rotation.mT

    def corner_velocities(self) -> Float[Tensor, "b n 8 3"]:
        arms = self.corners() - self.position[..., None, :]
        return self.velocity[..., None, :] + torch.linalg.cross(self.turning[..., None, :], arms)

    def energy(self) -> Float[Tensor, " b"]:
        """Kinetic energy, and that of height over the floor."""
        moving = (self.momentum * self.velocity).sum((-1, -2)) / 2
        turning = (self.spin * self.turning).sum((-1, -2)) / 2
        above = self.position - self.ground[:, None]
        return moving + turning - (self.mass * (above * self.gravity[:, None]).sum(-1)).sum(-1)

    def angular_momentum(self) -> Float[Tensor, "b 3"]:
        """Of the whole scene about the origin."""
        return (self.spin + torch.linalg.cross(self.position, self.momentum)).sum(-2)

    def moved(self, rotation: Float[Tensor, "b 3 3"], translation: Float[Tensor, "b 3"]) -> "Bodies":
        """Every scene by its own x -> R x + t."""
        turn, shift = rotation[:, None], translation[:, None]
        vectors = {name: (turn @ getattr(self, name)[..., None])[..., 0] for name in ("position", "momentum", "spin")}
        vectors["position"] = vectors["position"] + shift
        gravity, ground = ((rotation @ v[..., None])[..., 0] for v in (self.gravity, self.ground))
        return replace(self, rotation=turn @ self.rotation, gravity=gravity, ground=ground + translation, **vectors)


def _turning(rotation: Tensor, spin: Tensor, inertia: Tensor) -> Tensor:
    return (rotation @ ((rotation.mT @ spin[..., None]) / inertia[..., None]))[..., 0]


def draw_bodies(count: int, generator: torch.Generator, boxes: int = 2, restitution: float = 0.8) -> Bodies:
    """`count` scenes of a ball and some boxes on a ring over the floor that fly towards each other, gravity along -z.

    Raises ValueError for less than one scene or box, or a restitution beyond [0, 1].
    """
    if count < 1 or boxes < 1:
        raise ValueError(f"count, boxes: expected at least 1, got {count} and {boxes}")
    if not 0 <= restitution <= 1:
        raise ValueError(f"restitution: expected 0 to 1, got {restitution}")
    bodies = boxes + 1
    kind = {"dtype": torch.float64, "generator": generator}

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, bodies, *shape, **kind)

    angle = (
        2 * torch.pi * (torch.arange(bodies) + 0.2 * uniform(-1, 1) + torch.rand(count, 1, **kind) * bodies) / bodies
    )
    inward = torch.stack([-angle.cos(), -angle.sin(), torch.zeros_like(angle)], -1)
    up = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    half = uniform(0.16, 0.28, 3)
    half[:, 0] = half[:, 0, :1]
    density = uniform(0.7, 1.4)
    volume = 8 * half.prod(-1)
    volume[:, 0] *= torch.pi / 6
    mass = 30 * density * volume
    velocity = uniform(0.8, 1.8, 1) * inward + 0.3 * torch.randn(count, bodies, 3, **kind)
    spin = 1.5 * mass[..., None] * half.square().mean(-1, keepdim=True) * torch.randn(count, bodies, 3, **kind)
    return Bodies(
        position=-RING * bodies / 3 * inward + uniform(*HEIGHT, 1) * up,
        rotation=random_rotation(count, bodies, generator=generator),
        momentum=mass[..., None] * velocity,
        spin=spin,
        half=half,
        mass=mass,
        gravity=-GRAVITY * up.expand(count, 3),
        ground=torch.zeros(count, 3, dtype=torch.float64),
        restitution=restitution,
    )


def simulate(bodies: Bodies, seconds: float, steps: int) -> Bodies:
    """The scenes `seconds` later: free motion in equal steps, after each of which all contacts give their impulses.

    Free flight is exact, free turning of second order in the step: half a turn with the angular velocity of its
    begin says the one for the whole.
    """
    if steps < 1 or not seconds > 0:
        raise ValueError(f"seconds, steps: expected a positive time in at least 1 step, got {seconds} in {steps}")
    step = seconds / steps
    inertia = bodies.inertia
    pull = bodies.gravity[:, None]
    for _ in range(steps):
        middle = (
            rotation_from_axis_angle(_turning(bodies.rotation, bodies.spin, inertia) * (step / 2)) @ bodies.rotation
        )
        rotation = rotation_from_axis_angle(_turning(middle, bodies.spin, inertia) * step) @ bodies.rotation
        position = bodies.position + bodies.velocity * step + pull * (step**2 / 2)
        momentum = bodies.momentum + bodies.mass[..., None] * pull * step
        bodies = collided(replace(bodies, position=position, rotation=rotation, momentum=momentum))
    return bodies


def collided(bodies: Bodies) -> Bodies:
    """The scenes after an impulse at every contact whose bodies approach, one after the other."""
    state = bodies.momentum.clone(), bodies.spin.clone()
    inverse = bodies.rotation / bodies.inertia[..., None, :] @ bodies.rotation.mT
    corners = bodies.corners()
    count = bodies.mass.shape[1]
    for i in range(count):
        for j in range(count):
            if i not in (0, j):  # the ball has no corners that could lie in a box
                _push(bodies, state, inverse, (i, j), _contact(bodies, corners, i, j))
        if bodies.floor:
            _push(bodies, state, inverse, (i, None), _on_floor(bodies, corners, i))
    return replace(bodies, momentum=state[0], spin=state[1])


def _contact(bodies: Bodies, corners: Tensor, i: int, j: int) -> tuple[Tensor, Tensor, Tensor]:
    """Where body i lies in body j: whether it does (b,), the point (b, 3), and the normal out of j (b, 3).

    The deepest corner of a box in a box, the nearest point of a box to the centre of the ball.
    """
    turn, half = bodies.rotation[:, j], bodies.half[:, j]
    if j == 0:  # a box against the ball: its nearest point
        turn, half = bodies.rotation[:, i], bodies.half[:, i]
        centre = ((bodies.position[:, 0] - bodies.position[:, i])[:, None] @ turn)[:, 0]
        inside = centre.clamp(-half, half)
        away = centre - inside
        distance = away.norm(dim=-1)
        point = bodies.position[:, i] + (turn @ inside[..., None])[..., 0]
        normal = -(turn @ away[..., None])[..., 0] / distance.clamp_min(1e-12)[:, None]
        return (distance < bodies.half[:, 0, 0]) & (distance > 0), point, normal
    local = (corners[:, i] - bodies.position[:, j, None]) @ turn
    room = half[:, None] - local.abs()  # of a corner to every pair of faces
    depth, axis = room.min(-1)
    deepest = depth.argmax(-1, keepdim=True)
    side = axis.gather(1, deepest)
    chosen = local.gather(1, deepest[..., None].expand(-1, 1, 3))[:, 0]
    sign = chosen.gather(1, side).sign()
    normal = sign * turn.gather(2, side[:, None].expand(-1, 3, 1))[..., 0]
    point = corners[:, i].gather(1, deepest[..., None].expand(-1, 1, 3))[:, 0]
    return depth.gather(1, deepest)[:, 0] > 0, point, normal


def _on_floor(bodies: Bodies, corners: Tensor, i: int) -> tuple[Tensor, Tensor, Tensor]:
    """As `_contact`, for the floor: the lowest point of a body."""
    up = bodies.up
    if i == 0:
        point = bodies.position[:, 0] - bodies.half[:, 0, :1] * up
        return ((point - bodies.ground) * up).sum(-1) < 0, point, up
    height = ((corners[:, i] - bodies.ground[:, None]) * up[:, None]).sum(-1)
    lowest = height.argmin(-1, keepdim=True)
    point = corners[:, i].gather(1, lowest[..., None].expand(-1, 1, 3))[:, 0]
    return height.gather(1, lowest)[:, 0] < 0, point, up


def _push(
    bodies: Bodies, state: tuple[Tensor, Tensor], inverse: Tensor, pair: tuple[int, int | None], contact: tuple
) -> None:
    """Give the impulse of a contact to both bodies of a pair, or to the one on the floor.

    j = -(1 + e) v.n / sum over the bodies of (1/m + n.(I^-1 (r x n)) x r), where they approach at v.n < 0.
    """
    touching, point, normal = contact
    speed, give, arms = 0.0, 0.0, []
    for body, sign in zip(pair, (1.0, -1.0), strict=True):
        if body is None:
            continue
        arm = torch.linalg.cross(point - bodies.position[:, body], normal)
        turned = (inverse[:, body] @ arm[..., None])[..., 0]
        own = (state[0][:, body] * normal).sum(-1) / bodies.mass[:, body] + (state[1][:, body] * turned).sum(-1)
        speed = speed + sign * own
        give = give + 1 / bodies.mass[:, body] + (arm * turned).sum(-1)
        arms.append((body, sign, arm))
    impulse = torch.where(touching & (speed < 0), -(1 + bodies.restitution) * speed / give, 0.0)[:, None]
    for body, sign, arm in arms:
        state[0][:, body] += sign * impulse * normal
        state[1][:, body] += sign * impulse * arm
