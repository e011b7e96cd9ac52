"""The type of features that hold multivectors and invariants, beside `FieldType` on rays and `PointType` at points."""

from dataclasses import dataclass

import torch
from torch import Tensor

from raytrans.fields.algebra import Algebra
from raytrans.fields.embeddings import Embedding
from raytrans.shapes import Float


@dataclass(frozen=True)
class MultivectorBlock:
    """`multiplicity` channels of one width, invariants or multivectors, stored at features[..., start:stop]."""

    multiplicity: int
    width: int
    start: int
    invariant: bool
    complex: bool = False

    @property
    def key(self) -> str:
        return "invariant" if self.invariant else "multivector"

    @property
    def stop(self) -> int:
        return self.start + self.multiplicity * self.width

    @property
    def slice(self) -> slice:
        return slice(self.start, self.stop)


class MultivectorType:
    """`scalars` invariants, then `multivectors` multivectors of an algebra; components are those in the world's axes.

    Raises ValueError for negative numbers.
    """

    def __init__(self, algebra: Algebra, multivectors: int, scalars: int = 0):
        if multivectors < 0 or scalars < 0:
            raise ValueError(f"multivectors, scalars: expected numbers >= 0, got {multivectors}, {scalars}")
        self.algebra, self.multivectors, self.scalars = algebra, multivectors, scalars
        self.counts = {"invariant": scalars, "multivector": multivectors}
        blocks = (
            MultivectorBlock(scalars, 1, 0, True),
            MultivectorBlock(multivectors, algebra.dim, scalars, False),
        )
        self.blocks = tuple(block for block in blocks if block.multiplicity)
        self.dim = scalars + multivectors * algebra.dim

    @property
    def channels(self) -> int:
        return self.scalars + self.multivectors

    def __add__(self, other: "MultivectorType") -> "MultivectorType":
        if other.algebra != self.algebra:
            raise ValueError(f"other: expected multivectors of {self.algebra}, got {other.algebra}")
        return MultivectorType(self.algebra, self.multivectors + other.multivectors, self.scalars + other.scalars)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MultivectorType) and (self.algebra, self.counts) == (other.algebra, other.counts)

    def __hash__(self) -> int:
        return hash((self.algebra, *self.counts.items()))

    def __str__(self) -> str:
        squares = self.algebra.metric
        signature = ",".join(str(squares.count(square)) for square in (1, -1, 0)[: 3 if 0 in squares else 2])
        return f"{self.scalars}x0 + {self.multivectors}xCl({signature})"

    def __repr__(self) -> str:
        return f"MultivectorType('{self}')"

    def check(self, features: Tensor, name: str = "features") -> None:
        """Raise ValueError unless the last axis of `features` has this type's dimension."""
        if features.shape[-1] != self.dim:
            raise ValueError(
                f"{name}: expected last axis {self.dim} for type {self}, got shape {tuple(features.shape)}"
            )

    def split(self, features: Float[Tensor, "*batch dim"]) -> tuple[Tensor, Tensor]:
        """Invariants (*batch, scalars) and multivectors (*batch, multivectors, 2^n)."""
        self.check(features)
        multivectors = features[..., self.scalars :].unflatten(-1, (self.multivectors, self.algebra.dim))
        return features[..., : self.scalars], multivectors

    def join(self, parts: tuple[Tensor, Tensor]) -> Tensor:
        """Inverse of `split`."""
        return torch.cat([parts[0], parts[1].flatten(-2)], -1)

    def transform(
        self,
        features: Float[Tensor, "*batch dim"],
        rotation: Float[Tensor, "*#batch 3 3"],
        translation: Float[Tensor, "*#batch 3"],
    ) -> Tensor:
        """Components of the features moved by x -> R x + t: versors act on multivectors, invariants stay.

        In the Euclidean algebra the centre moves along, so that R alone acts.
        """
        invariants, multivectors = self.split(features)
        versor = Embedding(self.algebra).motion(rotation, translation)[..., None, :]
        return self.join((invariants, self.algebra.sandwich(versor, multivectors)))
