"""Fields at points: irreps of SO(3) in the real basis, harmonics, rotation matrices, Clebsch-Gordan coefficients.

Components of degree l are ordered m = -l ... l with the y axis as the pole, the convention of e3nn: degree 1 is
(x, y, z). Nothing here imposes a parity.
"""

import math
import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from raytrans.fields.commutant import intertwiners
from raytrans.fields.types import FieldType
from raytrans.shapes import Float

_TERM = re.compile(r"^\s*(?:(\d+)\s*x\s*)?(\d+)\s*$")
# e3nn's pole is y: the frame (e1, e2, d) of a ray in that order of axes is (e2, d, e1)
_POLE_LAST_TO_E3NN = [1, 2, 0]


def solid_harmonics(l: int, vector: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch {2*l+1}"]:
    """Homogeneous polynomials r^l Y_l(v/r) with |Y_l| = 1 on the unit sphere, smooth at the origin.

    By the recurrence of the associated Legendre functions in Cartesian form.
    """
    y, z, x = vector.unbind(-1)
    square = (vector * vector).sum(-1)
    cosines, sines = [torch.ones_like(x)], [torch.zeros_like(x)]
    for _ in range(l):
        c, s = cosines[-1], sines[-1]
        cosines.append(x * c - y * s)
        sines.append(x * s + y * c)
    out: list[Tensor] = [torch.empty(0)] * (2 * l + 1)
    for m in range(l + 1):
        before, value = torch.zeros_like(z), torch.full_like(z, float(math.prod(range(1, 2 * m, 2))))
        for k in range(m + 1, l + 1):
            before, value = value, ((2 * k - 1) * z * value - (k + m - 1) * square * before) / (k - m)
        scale = math.sqrt((2 if m else 1) * math.factorial(l - m) / math.factorial(l + m))
        out[l + m] = scale * value * cosines[m]
        if m:
            out[l - m] = scale * value * sines[m]
    return torch.stack(out, -1)


@lru_cache
def _fitting_points(l: int) -> tuple[np.ndarray, np.ndarray]:
    """Fixed unit vectors P (n, 3), pseudo-inverse of Y_l(P); numpy, as a cached tensor may be an inference one."""
    count = 4 * l + 3
    height = 1 - (2 * np.arange(count) + 1) / count
    turn = np.pi * (3 - np.sqrt(5)) * np.arange(count)
    points = np.stack([np.sqrt(1 - height**2) * np.cos(turn), np.sqrt(1 - height**2) * np.sin(turn), height], -1)
    return points, np.linalg.pinv(solid_harmonics(l, torch.tensor(points)).numpy())


def wigner(l: int, rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch {2*l+1} {2*l+1}"]:
    """D^l(R) with Y_l(R v) = D^l(R) Y_l(v), solved from the harmonics of rotated fixed points; differentiable in R."""
    if l == 0:
        return torch.ones_like(rotation[..., :1, :1])
    if l == 1:
        return rotation
    points, inverse = (torch.tensor(a, dtype=rotation.dtype, device=rotation.device) for a in _fitting_points(l))
    return (inverse @ solid_harmonics(l, points @ rotation.mT)).mT


@lru_cache
def _clebsch_gordan(l1: int, l2: int, l3: int) -> np.ndarray:
    generator = np.random.default_rng(0)
    source, target = [], []
    # two rotations about different axes by angles that are no fractions of a turn generate all of them
    for _ in range(2):
        q = np.linalg.qr(generator.standard_normal((3, 3)))[0]
        rotation = torch.tensor(q * np.linalg.det(q))
        a, b, c = (wigner(l, rotation).numpy() for l in (l1, l2, l3))
        source.append(np.kron(a, b))
        target.append(c)
    (matrix,) = intertwiners(source, target)
    vector = matrix.T.flatten()
    vector = vector * np.sign(vector[np.argmax(np.abs(vector) > 1e-6)])
    return vector.reshape(2 * l1 + 1, 2 * l2 + 1, 2 * l3 + 1)


def clebsch_gordan(l1: int, l2: int, l3: int) -> Float[Tensor, "{2*l1+1} {2*l2+1} {2*l3+1}"]:
    """Invariant tensor C of l1 x l2 x l3 with |C| = 1 (a 3j symbol in the real basis), up to a fixed sign; float64.

    C[a, b, c] u_a v_b is then of degree l3. Raises ValueError where |l1 - l2| <= l3 <= l1 + l2 does not hold.
    """
    if not abs(l1 - l2) <= l3 <= l1 + l2:
        raise ValueError(f"l3: expected {abs(l1 - l2)} to {l1 + l2} for l1={l1}, l2={l2}, got {l3}")
    return torch.tensor(_clebsch_gordan(l1, l2, l3))


@dataclass(frozen=True)
class PointBlock:
    """`multiplicity` channels of degree l, stored channel by channel at features[..., start:stop]."""

    multiplicity: int
    l: int
    start: int
    complex: bool = False

    @property
    def key(self) -> int:
        return self.l

    @property
    def invariant(self) -> bool:
        return self.l == 0

    @property
    def width(self) -> int:
        return 2 * self.l + 1

    @property
    def stop(self) -> int:
        return self.start + self.multiplicity * self.width

    @property
    def slice(self) -> slice:
        return slice(self.start, self.stop)

    def __str__(self) -> str:
        return f"{self.multiplicity}x{self.l}"


class PointType:
    """A direct sum of SO(3) irreps at points, written "16x0 + 8x1 + 4x2"; degrees 0 to 3, equal ones merged, ascending.

    Components are those in the world's axes. Raises ValueError for text it cannot read.
    """

    def __init__(self, description: "str | PointType | dict[int, int]"):
        if isinstance(description, PointType):
            counts = description.counts
        else:
            counts = description if isinstance(description, dict) else _parse(description)
        if any(not 0 <= l <= 3 or m < 0 for l, m in counts.items()):
            raise ValueError(f"point type: expected degrees 0 to 3 and multiplicities >= 0, got {description!r}")
        self.counts = {l: int(m) for l, m in sorted(counts.items()) if m}
        blocks, start = [], 0
        for l, multiplicity in self.counts.items():
            blocks.append(PointBlock(multiplicity, l, start))
            start = blocks[-1].stop
        self.blocks: tuple[PointBlock, ...] = tuple(blocks)
        self.dim = start

    @property
    def channels(self) -> int:
        return sum(self.counts.values())

    def __add__(self, other: "PointType") -> "PointType":
        degrees = {*self.counts, *other.counts}
        return PointType({l: self.counts.get(l, 0) + other.counts.get(l, 0) for l in degrees})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PointType) and self.counts == other.counts

    def __hash__(self) -> int:
        return hash(("points", *self.counts.items()))

    def __str__(self) -> str:
        return " + ".join(str(b) for b in self.blocks) or "0x0"

    def __repr__(self) -> str:
        return f"PointType('{self}')"

    def check(self, features: Tensor, name: str = "features") -> None:
        """Raise ValueError unless the last axis of `features` has this type's dimension."""
        if features.shape[-1] != self.dim:
            raise ValueError(
                f"{name}: expected last axis {self.dim} for type {self}, got shape {tuple(features.shape)}"
            )

    def split(self, features: Float[Tensor, "*batch dim"]) -> list[Tensor]:
        """Blocks (*batch, multiplicity, 2l + 1)."""
        self.check(features)
        # one split: every slice would make a gradient of the whole width of its own
        parts = features.split([b.multiplicity * b.width for b in self.blocks], -1)
        return [part.unflatten(-1, (-1, b.width)) for part, b in zip(parts, self.blocks, strict=True)]

    def join(self, parts: list[Tensor]) -> Tensor:
        """Inverse of `split`."""
        return torch.cat([p.flatten(-2) for p in parts], -1)

    def transform(self, features: Tensor, rotation: Float[Tensor, "*#batch 3 3"]) -> Tensor:
        """Components of the rotated field: D^l(R) f."""
        blocks = zip(self.blocks, self.split(features), strict=True)
        return self.join([part @ wigner(b.l, rotation).mT for b, part in blocks])

    def on_ray(self) -> FieldType:
        """Type of the same feature read in the frame of a ray: degree l holds one channel of each n = 0 ... l."""
        top = max(self.counts, default=-1)
        return FieldType({(n, 0.0): sum(m for l, m in self.counts.items() if l >= n) for n in range(top + 1)})

    def to_ray(self, features: Tensor, frame: Float[Tensor, "*#batch 3 3"]) -> Tensor:
        """Features (*batch, dim) in world axes to `on_ray()` features in frames with columns (e1, e2, d)."""
        axes = frame[..., _POLE_LAST_TO_E3NN]
        local = [part @ wigner(b.l, axes) for b, part in zip(self.blocks, self.split(features), strict=True)]
        parts = []
        for block in self.on_ray().blocks:
            n = block.n
            chosen = [(p[..., b.l + n], p[..., b.l - n]) for b, p in zip(self.blocks, local, strict=True) if b.l >= n]
            real, imaginary = (torch.cat(c, -1) for c in zip(*chosen, strict=True))
            parts.append(torch.complex(real, imaginary) if n else real)
        return self.on_ray().join(parts)

    def from_ray(self, features: Tensor, frame: Float[Tensor, "*#batch 3 3"]) -> Tensor:
        """Inverse of `to_ray`."""
        parts, used, out = self.on_ray().split(features), {}, []
        axes = frame[..., _POLE_LAST_TO_E3NN]
        for block in self.blocks:
            columns: list[Tensor] = [features] * block.width
            for n in range(block.l + 1):
                start = used.get(n, 0)
                used[n] = start + block.multiplicity
                part = parts[n][..., start : used[n]]
                columns[block.l + n] = part.real
                if n:
                    columns[block.l - n] = part.imag
            out.append(torch.stack(columns, -1) @ wigner(block.l, axes).mT)
        return self.join(out)


def _parse(text: str) -> dict[int, int]:
    counts: dict[int, int] = {}
    for term in str(text).split("+"):
        match = _TERM.match(term)
        if not match:
            raise ValueError(f"point type: expected terms like '16x0' joined by '+', got {text!r}")
        counts[int(match[2])] = counts.get(int(match[2]), 0) + int(match[1] or 1)
    return counts
