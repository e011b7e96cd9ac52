"""Homogeneous spaces, instances of one thing: three of the rigid motions, and the periodic square lattice.

    rays       SE(3)/(SO(2) x R)     types (n, nu)       Rays
    directions SO(3)/SO(2)           types (n, 0)        Rays whose position is ignored
    points     R^3 = SE(3)/SO(3)     irreps of SO(3)     tensors (*batch, 3)
    lattice    (Z_L^2 x D_4)/D_4     invariants          indices of sites (*batch,)

A space knows how its group acts on it (`act`), the `invariants` of a target and a source, smooth and free of scale, and
how to `transport` a typed feature from the source to the target. Pair geometries (`RayPairs` and those below) offer
what kernels need: `of`, `features`, `phase`. Everything broadcasts targets against sources.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from raytrans.geometry.pairs import SOFTENING, RayPairs, cross_directions
from raytrans.geometry.rays import Rays
from raytrans.shapes import Complex, Float, Int

# radius, over the unit, where entries that vanish on the axis of a ray have half their power
FOOT_SOFTENING = 0.1


class DirectionPairs:
    """Pairs of directions on the sphere: the pair geometry of rays that all pass through one point."""

    FEATURES = RayPairs.FEATURES

    @staticmethod
    def of(x: Rays, y: Rays, unit: Tensor | float = 1.0) -> RayPairs:
        """RayPairs with no positions, so that its reciprocal product and slides are zero; the unit is not used."""
        cross = cross_directions(x.direction, y.direction)
        return RayPairs.from_frames(x.frame, y.frame, cross, torch.zeros_like(cross), SOFTENING)


def _along(square: Tensor, scales: tuple[float, ...]) -> list[Tensor]:
    """Smooth functions of a squared length over the unit: bounded ones at several scales, and a logarithm."""
    bounded = [square * scale / (1 + square * scale) for scale in scales]
    return [*bounded, torch.log1p(square) / 4, (square + 1e-4).log() / 4]


@dataclass
class FootPairs:
    """Pairs of a ray and a point, seen from the frame of the ray; lengths are counted in the unit.

    offset z = (p - foot).(e1 + i e2) is the point's place around the ray, along t the position of its foot.
    """

    offset: Complex[Tensor, "*b"]
    along: Float[Tensor, "*b"]
    frame: Float[Tensor, "... 3 3"]

    FEATURES = 5

    @property
    def shape(self) -> torch.Size:
        return self.along.shape

    @classmethod
    def seen(cls, rays: Rays, points: Tensor, unit: Tensor | float) -> "FootPairs":
        unit = torch.as_tensor(unit, dtype=points.dtype, device=points.device)
        local = (((points - rays.anchor) / unit[..., None])[..., None, :] @ rays.frame).squeeze(-2)
        return cls(torch.complex(local[..., 0], local[..., 1]), local[..., 2], rays.frame)

    def features(self) -> Float[Tensor, "*b 5"]:
        """Smooth functions of the one invariant r^2 = |z|^2 for a radial network, of order one."""
        square = self.offset.real.square() + self.offset.imag.square()
        return torch.stack(_along(square, (1.0, 16.0, 256.0)), -1)

    def phase(self, n_out: int, n_in: int, nu_out: float = 0.0, nu_in: float = 0.0) -> Complex[Tensor, "*b"]:
        """q^|n_out - n_in| e^{i((n_out - n_in) phi + (nu_out - nu_in) t)}, q = r/sqrt(r^2 + s^2), smooth on the ray."""
        square = self.offset.real.square() + self.offset.imag.square()
        base = self.offset * (square + FOOT_SOFTENING**2).rsqrt()
        base = base if n_out >= n_in else base.conj()
        value = torch.ones_like(base)
        for _ in range(abs(n_out - n_in)):
            value = value * base
        if nu_out != nu_in:
            turn = (nu_out - nu_in) * self.along
            value = value * torch.polar(torch.ones_like(turn), turn)
        return value


class PointFromRay:
    """Pair geometry of target points and source rays."""

    FEATURES = FootPairs.FEATURES

    @staticmethod
    def of(x: Tensor, y: Rays, unit: Tensor | float = 1.0) -> FootPairs:
        return FootPairs.seen(y, x, unit)


class RayFromPoint:
    """Pair geometry of target rays and source points."""

    FEATURES = FootPairs.FEATURES

    @staticmethod
    def of(x: Rays, y: Tensor, unit: Tensor | float = 1.0) -> FootPairs:
        return FootPairs.seen(x, y, unit)


@dataclass
class PointPairs:
    """Pairs of points: their displacement y - x over the unit."""

    displacement: Float[Tensor, "*b 3"]

    FEATURES = 5

    @classmethod
    def of(cls, x: Tensor, y: Tensor, unit: Tensor | float = 1.0) -> "PointPairs":
        unit = torch.as_tensor(unit, dtype=y.dtype, device=y.device)
        return cls((y - x) / unit[..., None])

    def features(self) -> Float[Tensor, "*b 5"]:
        """Smooth functions of the squared distance for a radial network, of order one."""
        return torch.stack(_along(self.displacement.square().sum(-1), (1.0, 16.0, 256.0)), -1)


class RaySpace:
    """SE(3)/(SO(2) x R): invariants cos(theta) and reciprocal product/unit; transport by the phase of the pair."""

    def act(self, x: Rays, rotation: Tensor, translation: Tensor) -> Rays:
        """Rays moved by x -> R x + t."""
        return x.moved(rotation, translation)

    def invariants(self, x: Rays, y: Rays, unit: Tensor | float = 1.0) -> Float[Tensor, "*b 2"]:
        pairs = RayPairs.of(x, y, unit)
        return torch.stack([pairs.cosine, pairs.reciprocal], -1)

    def transport(self, features: Tensor, field_type, x: Rays, y: Rays, unit: Tensor | float = 1.0) -> Tensor:
        """Features (*b, dim) of a `FieldType` at y in the sections of x.

        Parallel transport by the minimal rotation d_y -> d_x, and by t_x - t_y along the rays. Type n fades like
        cos^2n(theta/2), softened, where the rays are opposite: no continuous transport exists there.
        """
        return _transport(features, field_type, RayPairs.of(x, y, unit))


class DirectionSpace:
    """SO(3)/SO(2): one invariant cos(theta); transport by the minimal rotation."""

    def act(self, x: Rays, rotation: Tensor, translation: Tensor | None = None) -> Rays:
        """Directions turned by R; a translation leaves them alone."""
        return x.moved(rotation, torch.zeros_like(rotation[..., 0]))

    def invariants(self, x: Rays, y: Rays, unit: Tensor | float = 1.0) -> Float[Tensor, "*b 1"]:
        return DirectionPairs.of(x, y).cosine[..., None]

    def transport(self, features: Tensor, field_type, x: Rays, y: Rays, unit: Tensor | float = 1.0) -> Tensor:
        """As for rays; raises ValueError for types with nu, which directions do not carry."""
        if any(block.nu for block in field_type.blocks):
            raise ValueError(f"field_type: expected types (n, 0) on directions, got {field_type}")
        return _transport(features, field_type, DirectionPairs.of(x, y))


class PointSpace:
    """R^3: one invariant |y - x|^2/unit^2; components in world axes need no transport."""

    def act(self, x: Tensor, rotation: Tensor, translation: Tensor) -> Tensor:
        """R x + t."""
        return x @ rotation.mT + translation

    def invariants(self, x: Tensor, y: Tensor, unit: Tensor | float = 1.0) -> Float[Tensor, "*b 1"]:
        return PointPairs.of(x, y, unit).displacement.square().sum(-1, keepdim=True)

    def transport(self, features: Tensor, field_type, x: Tensor, y: Tensor, unit: Tensor | float = 1.0) -> Tensor:
        """The features themselves, on the broadcast batch of x and y."""
        field_type.check(features)
        batch = torch.broadcast_shapes(x.shape[:-1], y.shape[:-1], features.shape[:-1])
        return features.expand(*batch, features.shape[-1])


@dataclass(frozen=True)
class LatticeSpace:
    """Sites of a periodic square lattice of `rows` times `columns`, i = row columns + column.

    Its group are the translations and what of the symmetries of the square maps the lattice to itself. Raises
    ValueError for fewer than 2 rows or columns.
    """

    rows: int
    columns: int

    def __post_init__(self):
        for name in ("rows", "columns"):
            value = getattr(self, name)
            if type(value) is not int or value < 2:
                raise ValueError(f"{name}: expected a whole number of at least 2, got {value!r}")

    @property
    def sites(self) -> int:
        return self.rows * self.columns

    def place(self, i: Int[Tensor, "*b"]) -> Int[Tensor, "*b 2"]:
        """Row and column of sites."""
        return torch.stack([i // self.columns, i % self.columns], -1)

    def act(self, i: Int[Tensor, "*b"], turn: int, shift: tuple[int, int], mirror: bool = False) -> Int[Tensor, "*b"]:
        """Sites mirrored (column -> -column), turned by `turn` quarters, then shifted by (rows, columns).

        Raises ValueError for an odd turn of a lattice that is no square.
        """
        if turn % 2 and self.rows != self.columns:
            raise ValueError(f"turn: expected an even number of quarters for {self.rows}x{self.columns}, got {turn}")
        row, column = self.place(i).unbind(-1)
        column = -column if mirror else column
        for _ in range(turn % 4):
            row, column = column, -row
        return (row + shift[0]) % self.rows * self.columns + (column + shift[1]) % self.columns

    def invariants(self, x: Int[Tensor, "*#b"], y: Int[Tensor, "*#b"]) -> Int[Tensor, "*#b"]:
        """Squared distance of sites the short way round, in squared lattice constants."""
        size = torch.tensor([self.rows, self.columns], device=x.device)
        apart = (self.place(y) - self.place(x)) % size
        return torch.minimum(apart, size - apart).square().sum(-1)

    def shells(self) -> Int[Tensor, "sites sites"]:
        """Number of the shell of every pair of sites: 0 a site itself, 1 its nearest neighbours, and so on."""
        sites = torch.arange(self.sites)
        return self.invariants(sites[:, None], sites).unique(return_inverse=True)[1]

    def transport(self, features: Tensor, field_type, x: Tensor, y: Tensor) -> Tensor:
        """The features themselves: every site reads its value in the same axes."""
        field_type.check(features)
        batch = torch.broadcast_shapes(x.shape, y.shape, features.shape[:-1])
        return features.expand(*batch, features.shape[-1])


def _transport(features: Tensor, field_type, pairs: RayPairs) -> Tensor:
    batch = torch.broadcast_shapes(pairs.shape, features.shape[:-1])
    parts = []
    for block, part in zip(field_type.blocks, field_type.split(features), strict=True):
        part = part if block.real else part * pairs.phase(block.n, block.n, block.nu, block.nu)[..., None]
        parts.append(part.expand(*batch, block.multiplicity))
    return field_type.join(parts)


RAYS, DIRECTIONS, POINTS = RaySpace(), DirectionSpace(), PointSpace()
