"""Field types on rays: which representation of SO(2) x R every channel of a feature carries.

A channel of type (n, nu) is multiplied by e^{-i(n gamma + nu tau)} when the frame of its ray turns by gamma about the
ray and its anchor slides by tau. Arithmetic is real: a (0, 0) channel is one real number, every other channel is two
adjacent real numbers (real part, imaginary part) standing for the real representation (n, nu) + (-n, -nu).
"""

import math
import re
from dataclasses import dataclass

import torch
from torch import Tensor

_TERM = re.compile(
    r"^\s*(?:(\d+)\s*x\s*)?(?:(-?\d+)|\(\s*(-?\d+)\s*,\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*\))\s*$"
)
# a plus inside the parentheses of a type, as in 1x(0,1e+20), is part of a number
_PLUS = re.compile(r"\+(?![^(]*\))")


@dataclass(frozen=True)
class Block:
    """`multiplicity` channels of one type (n, nu), stored at features[..., start:stop]."""

    multiplicity: int
    n: int
    nu: float
    start: int

    @property
    def real(self) -> bool:
        return self.n == 0 and self.nu == 0

    @property
    def key(self) -> tuple[int, float]:
        return self.n, self.nu

    @property
    def complex(self) -> bool:
        return not self.real

    @property
    def invariant(self) -> bool:
        return self.real

    @property
    def width(self) -> int:
        """Real numbers per channel."""
        return 1 if self.real else 2

    @property
    def stop(self) -> int:
        return self.start + self.multiplicity * self.width

    @property
    def slice(self) -> slice:
        return slice(self.start, self.stop)

    def __str__(self) -> str:
        # repr of a float reads back exactly, which a format of six digits would not
        return f"{self.multiplicity}x{self.n}" if self.nu == 0 else f"{self.multiplicity}x({self.n},{self.nu!r})"


class FieldType:
    """A direct sum of types, written "16x0 + 8x1 + 4x2" or, with a frequency along the ray, "4x(1,0.5)".

    Types of negative n (or n = 0, negative nu) are stored as their conjugates, which are the same real representation.
    Equal types are merged, order is ascending, so equal sums compare equal. Raises ValueError for text it cannot read.
    """

    def __init__(self, description: "str | FieldType | dict"):
        if isinstance(description, FieldType):
            counts = description.counts
        elif isinstance(description, dict):
            counts = description
        else:
            counts = _parse(description)
        merged: dict[tuple[int, float], int] = {}
        for (n, nu), multiplicity in _checked(counts):
            key = (-n, -nu) if n < 0 or (n == 0 and nu < 0) else (n, nu)
            key = (key[0], float(key[1]) + 0.0)
            if multiplicity:
                merged[key] = merged.get(key, 0) + int(multiplicity)
        self.counts = dict(sorted(merged.items()))
        blocks, start = [], 0
        for (n, nu), multiplicity in self.counts.items():
            blocks.append(Block(multiplicity, n, nu, start))
            start = blocks[-1].stop
        self.blocks: tuple[Block, ...] = tuple(blocks)
        self.dim = start

    @property
    def channels(self) -> int:
        """Number of channels, a complex one counted once."""
        return sum(self.counts.values())

    def count(self, n: int, nu: float = 0.0) -> int:
        """Multiplicity of the type (n, nu)."""
        return self.counts.get((n, float(nu)), 0)

    def __add__(self, other: "FieldType") -> "FieldType":
        counts = dict(self.counts)
        for key, multiplicity in FieldType(other).counts.items():
            counts[key] = counts.get(key, 0) + multiplicity
        return FieldType(counts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FieldType) and self.counts == other.counts

    def __hash__(self) -> int:
        return hash(tuple(self.counts.items()))

    def __str__(self) -> str:
        return " + ".join(str(b) for b in self.blocks) or "0x0"

    def __repr__(self) -> str:
        return f"FieldType('{self}')"

    def split(self, features: Tensor) -> list[Tensor]:
        """Blocks of `features` (..., dim): real (..., multiplicity) for invariants, complex for the rest."""
        self.check(features)
        return [as_complex(features[..., b.slice]) if not b.real else features[..., b.slice] for b in self.blocks]

    def join(self, parts: list[Tensor]) -> Tensor:
        """Inverse of `split`."""
        flat = [torch.view_as_real(p).flatten(-2) if p.is_complex() else p for p in parts]
        return torch.cat(flat, -1)

    def check(self, features: Tensor, name: str = "features") -> None:
        """Raise ValueError unless the last axis of `features` has this type's dimension."""
        if features.shape[-1] != self.dim:
            raise ValueError(
                f"{name}: expected last axis {self.dim} for type {self}, got shape {tuple(features.shape)}"
            )

    def transform(self, features: Tensor, angle: Tensor | float, slide: Tensor | float = 0.0) -> Tensor:
        """Components after the frames turned by `angle` (*batch) and the anchors slid by `slide` (*batch)."""
        angle = torch.as_tensor(angle, dtype=features.dtype, device=features.device)
        slide = torch.as_tensor(slide, dtype=features.dtype, device=features.device)
        parts = []
        for block, part in zip(self.blocks, self.split(features), strict=True):
            if not block.real:
                phase = -(block.n * angle + block.nu * slide)
                part = part * torch.polar(torch.ones_like(phase), phase)[..., None]
            parts.append(part)
        return self.join(parts)

    def matrix(self, angle: Tensor | float, slide: Tensor | float = 0.0) -> Tensor:
        """Real orthogonal (..., dim, dim) matrix of the group element (angle, slide), acting on column vectors."""
        angle = torch.as_tensor(angle, dtype=torch.float64)
        slide = torch.as_tensor(slide, dtype=torch.float64)
        angle, slide = torch.broadcast_tensors(angle, slide)
        basis = torch.eye(self.dim, dtype=torch.float64).expand(*angle.shape, self.dim, self.dim)
        return self.transform(basis, angle[..., None], slide[..., None]).mT


def as_complex(features: Tensor) -> Tensor:
    """(..., 2k) interleaved real numbers to (..., k) complex ones."""
    # not view_as_complex: a block may start at an odd offset
    return torch.complex(features[..., 0::2], features[..., 1::2])


def _parse(text: str) -> dict[tuple[int, float], int]:
    counts: dict[tuple[int, float], int] = {}
    for term in _PLUS.split(str(text)):
        match = _TERM.match(term)
        if not match:
            raise ValueError(f"field type: expected terms like '16x0' or '4x(1,0.5)' joined by '+', got {text!r}")
        multiplicity = int(match[1] or 1)
        key = (int(match[2]), 0.0) if match[2] is not None else (int(match[3]), float(match[4]))
        counts[key] = counts.get(key, 0) + multiplicity
    return counts


def _checked(counts: dict) -> list[tuple[tuple[int, float], int]]:
    """The items {(n, nu): multiplicity}; ValueError where n or a multiplicity is no whole number, or nu not finite."""
    for key, multiplicity in counts.items():
        if not isinstance(key, tuple) or len(key) != 2:
            raise ValueError(f"field type: expected keys (n, nu), got {key!r}")
        n, nu = key
        if not isinstance(n, int) or not math.isfinite(nu):
            raise ValueError(f"field type: expected a whole number n and a finite nu, got {key}")
        if not isinstance(multiplicity, int) or multiplicity < 0:
            raise ValueError(f"field type: expected multiplicities >= 0, got {multiplicity} of {key}")
    return list(counts.items())
