"""One transformer, four algebras: which multivectors, which products, which inner products.

variant   algebra       product                  attention sees
E         Cl(3,0)       geometric                the dot product of vectors from the centre
P         Cl(3,0,1)     geometric                directions; not where points lie
iP        Cl(3,0,1)     geometric and join       the distance of points too
C         Cl(4,1)       geometric                the distance of points, an inner product of theirs
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from raytrans.fields.embeddings import Embedding, embedding
from raytrans.fields.multivectors import MultivectorType
from raytrans.layers.multivectors import (
    MultivectorAttention,
    MultivectorBilinear,
    MultivectorGate,
    MultivectorLinear,
    MultivectorNorm,
)
from raytrans.layers.neighborhood import Gathered
from raytrans.shapes import Float


@dataclass(frozen=True)
class Variant:
    """Name of the embedding, whether products join, whether attention gets features of distance."""

    space: str
    join: bool = False
    distance: bool = False

    @property
    def embedding(self) -> Embedding:
        return embedding(self.space)


VARIANTS = {
    "E": Variant("euclidean"),
    "P": Variant("projective"),
    "iP": Variant("projective", join=True, distance=True),
    "C": Variant("conformal"),
}

START = 0.1  # of the output's scale


class TransformerBlock(nn.Module):
    """x + attention(norm x, norm y); x + mix(norm x): bilinear, norm, gate, linear; `expansion` channels inside."""

    def __init__(self, kind: MultivectorType, variant: Variant, heads: int, expansion: int, mirrors: bool):
        super().__init__()
        wide = MultivectorType(kind.algebra, expansion * kind.multivectors, expansion * kind.scalars)
        self.query_norm, self.source_norm, self.norm = (MultivectorNorm(kind) for _ in range(3))
        self.attention = MultivectorAttention(kind, heads, variant.distance, mirrors)
        self.bilinear = MultivectorBilinear(kind, wide, variant.join, mirrors)
        # products of invariants would open gates so wide that nothing but invariants is left
        self.gate = nn.Sequential(MultivectorNorm(wide), MultivectorGate(wide))
        self.mix = MultivectorLinear(wide, kind, mirrors=mirrors)

    def forward(self, x: Tensor, y: Tensor, neighborhood: Gathered, reference: Tensor | None) -> Tensor:
        x = x + self.attention(self.query_norm(x), self.source_norm(y), neighborhood)
        return x + self.mix(self.gate(self.bilinear(self.norm(x), reference)))


class MultivectorTransformer(nn.Module):
    """Tokens with multivectors and invariants to tokens with multivectors and invariants, equivariant to motions.

    `channels` = (multivectors, scalars) of the input, of the hidden tokens and of the output, in this order. With
    `mirrors` reflections are symmetries too, and the join of "iP" needs a reference. "E" has no translations:
    the caller gives it coordinates from a centre that moves along, as `AlgebraRays` does. Raises ValueError for an
    unknown variant, and for channels, layers, heads or an expansion that are too few.
    """

    def __init__(
        self,
        variant: str,
        channels: tuple[tuple[int, int], tuple[int, int], tuple[int, int]],
        layers: int = 2,
        heads: int = 4,
        expansion: int = 1,
        mirrors: bool = False,
    ):
        super().__init__()
        if variant not in VARIANTS:
            raise ValueError(f"variant: expected one of {', '.join(VARIANTS)}, got {variant!r}")
        if len(channels) != 3 or any(len(pair) != 2 for pair in channels):
            raise ValueError(f"channels: expected (multivectors, scalars) of input, hidden and output, got {channels}")
        if layers < 0 or min(heads, expansion) < 1:
            raise ValueError(
                f"layers, heads, expansion: expected at least 0, 1 and 1, got {layers}, {heads}, {expansion}"
            )
        self.variant, self.embedding = VARIANTS[variant], VARIANTS[variant].embedding
        self.in_type, self.kind, self.out_type = (MultivectorType(self.embedding.algebra, *c) for c in channels)
        self.enter = MultivectorLinear(self.in_type, self.kind, mirrors=mirrors)
        self.blocks = nn.ModuleList(
            TransformerBlock(self.kind, self.variant, heads, expansion, mirrors) for _ in range(layers)
        )
        self.norm = MultivectorNorm(self.kind)
        self.leave = MultivectorLinear(self.kind, self.out_type, mirrors=mirrors)
        # an output of noise is reduced at first by closing the gates, some of which never open again
        with torch.no_grad():
            for weight in self.leave.parameters():
                weight.mul_(START)

    def forward(
        self,
        targets: Float[Tensor, "*b m in_dim"],
        sources: Float[Tensor, "*b n in_dim"] | None = None,
        reference: Float[Tensor, "*b #m"] | None = None,
    ) -> Float[Tensor, "*b m out_dim"]:
        """Targets attend to sources; without sources all tokens attend to each other."""
        x = self.enter(targets)
        y = None if sources is None else self.enter(sources)
        seen = targets if sources is None else sources
        neighborhood = Gathered.dense(targets.shape[:-1], seen.shape[:-1], batch=targets.ndim - 2)
        for block in self.blocks:
            x = block(x, x if y is None else y, neighborhood, reference)
        return self.leave(self.norm(x))
