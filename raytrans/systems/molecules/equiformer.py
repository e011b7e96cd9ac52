"""Equiformer: graph attention over atoms with irreps of SO(3), from elements and positions to an energy.

    x_ij = L_s x_j + L_t x_i,      f_ij = DTP(x_ij, Y(r_ij); w(|r_ij|)),      out_i = L sum_j A_ij c(|r_ij|) v_ij
    A_ij = c e^{l_ij} / sum_j c e^{l_ij},     l_ij = a . SmoothLeakyReLU(L f_ij), or Re<L x_i, L f_ij>/sqrt(d)
    v_ij = L f_ij, or L DTP(gate(L f_ij), Y(r_ij); w'(|r_ij|))

L are `TypedLinear`, DTP the depth-wise tensor product with path weights of a radial network, c the polynomial cutoff.
The space is R^3, the invariant a distance, values are irreps; everything else is the core that rays use.

The energy is smooth where an atom passes the cutoff. c in the softmax takes it out of the denominator, but a last
neighbour would keep A = 1 up to the cutoff; c before the value takes it out of the sum. c has two continuous
derivatives, so forces and their first derivatives are continuous.

Source: Liao and Smidt, Equiformer, 2023, and its public code. Differences: degrees without parities, gates read the
lengths of all channels beside the invariants, the cutoff.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from raytrans.fields.so3 import PointType
from raytrans.layers.attention import DotLogits, HeadScores, attend, component_heads, shares
from raytrans.layers.depthwise import Couplings, DepthwiseLinear, HarmonicCouplings
from raytrans.layers.linear import TypedLinear
from raytrans.layers.neighborhood import PairList
from raytrans.layers.nonlinear import Gate, TypedNorm, channel_invariants
from raytrans.layers.radial import ExpNormalBasis, RadialNetwork, polynomial_cutoff
from raytrans.shapes import Float, Int
from raytrans.systems.molecules.graph import Elements, neighbors, sum_of_systems

CHOICES = {"attention": ("mlp", "dot"), "messages": ("nonlinear", "linear")}
FEED = 3
"""Hidden channels of the feed-forward part over its own."""


@dataclass(frozen=True)
class EquiformerConfig:
    """Everything that fixes the architecture.

    channels: of degree 0, 1, ... l_max <= 3, all positive. The number of scalars is a multiple of `heads`. cutoff in
    Angstrom. basis: functions of the distance; radial: hidden width of the networks that read them. degree: usual
    number of neighbours, a scale of the embedding. elements: atomic numbers. Raises ValueError for anything else.
    """

    channels: tuple[int, ...] = (32, 16, 8)
    blocks: int = 2
    heads: int = 4
    attention: str = "mlp"
    messages: str = "nonlinear"
    cutoff: float = 5.0
    basis: int = 32
    radial: int = 32
    degree: float = 12.0
    elements: tuple[int, ...] = (1, 6, 7, 8)

    def __post_init__(self):
        for name in ("blocks", "heads", "basis", "radial"):
            if type(getattr(self, name)) is not int:
                raise ValueError(f"{name}: expected a whole number, got {getattr(self, name)!r}")
        if not 1 <= len(self.channels) <= 4 or min(self.channels) < 1:
            raise ValueError(f"channels: expected 1 to 4 positive numbers, of degrees 0 to 3, got {self.channels}")
        for name in ("blocks", "heads", "basis", "radial", "degree", "cutoff"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name}: expected a positive number, got {getattr(self, name)}")
        if self.channels[0] % self.heads:
            raise ValueError(f"channels: expected a multiple of heads ({self.heads}) scalars, got {self.channels[0]}")
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name}: expected one of {', '.join(known)}, got {getattr(self, name)!r}")

    @property
    def type(self) -> PointType:
        """Type of the features of an atom."""
        return PointType(dict(enumerate(self.channels)))


class Edges(NamedTuple):
    """Pairs of atoms, and what all layers read of them: harmonics, functions of the distance, the cutoff c."""

    pairs: PairList
    couplings: Couplings
    basis: Float[Tensor, "p basis"]
    cutoff: Float[Tensor, " p"]


class Message(nn.Module):
    """L DTP(f, Y; w) of features on the pairs, w a `RadialNetwork` of the distance."""

    def __init__(self, in_type: PointType, out_type: PointType, config: EquiformerConfig):
        super().__init__()
        self.product = DepthwiseLinear(in_type, out_type, len(config.channels) - 1)
        self.weights = RadialNetwork(config.basis, self.product.weights, hidden=config.radial)

    def forward(self, features: Float[Tensor, "p dim"], edges: Edges) -> Float[Tensor, "p out"]:
        return self.product(features, edges.couplings, self.weights(edges.basis))


class GraphAttention(nn.Module):
    """Attention of atoms over their neighbours, (A, dim) -> (A, dim); the formulas are those of the module."""

    def __init__(self, config: EquiformerConfig):
        super().__init__()
        kind, heads = config.type, config.heads
        self.source, self.target = TypedLinear(kind, kind), TypedLinear(kind, kind, bias=False)
        self.query = TypedLinear(kind, kind) if config.attention == "dot" else None
        self.logits = HeadScores(config.channels[0], heads) if self.query is None else DotLogits(kind, heads)
        key = PointType({0: config.channels[0]}) if self.query is None else kind
        # the map of messages to keys and the one to values are one
        self.first, self.second = Message(kind, key + kind, config), None
        if config.messages == "nonlinear":
            self.gate, self.second = Gate(kind), Message(kind, kind, config)
        self.out = TypedLinear(kind, kind)
        for name, index in zip(("key_index", "value_index"), shares(key, kind), strict=True):
            self.register_buffer(name, index, persistent=False)
        self.register_buffer("value_heads", component_heads(kind, heads), persistent=False)

    def forward(self, x: Float[Tensor, "a dim"], edges: Edges) -> Float[Tensor, "a dim"]:
        pairs = edges.pairs
        message = self.first(pairs.source(self.source(x)) + pairs.target(self.target(x)), edges)
        key, values = message.index_select(-1, self.key_index), message.index_select(-1, self.value_index)
        logits = self.logits(key) if self.query is None else self.logits(pairs.target(self.query(x)), key)
        if self.second is not None:
            values = self.second(self.gate(values), edges)
        return self.out(attend(logits, values * edges.cutoff[:, None], self.value_heads, pairs, edges.cutoff))


class Block(nn.Module):
    """x + attention(norm x), then x + feed-forward(norm x): two `TypedLinear` with a gate between them."""

    def __init__(self, config: EquiformerConfig):
        super().__init__()
        kind, wide = config.type, PointType({l: FEED * count for l, count in enumerate(config.channels)})
        self.norm, self.attention = TypedNorm(kind), GraphAttention(config)
        self.feed = nn.Sequential(TypedNorm(kind), TypedLinear(kind, wide), Gate(wide), TypedLinear(wide, kind))

    def forward(self, x: Float[Tensor, "a dim"], edges: Edges) -> Float[Tensor, "a dim"]:
        x = x + self.attention(self.norm(x), edges)
        return x + self.feed(x)


class Embedding(nn.Module):
    """Features of an element, plus what its neighbours' directions are: sum_j c L DTP(1, Y; w) / sqrt(usual number)."""

    def __init__(self, config: EquiformerConfig):
        super().__init__()
        self.elements = Elements(config.elements)
        self.scalars, self.dim, self.degree = config.channels[0], config.type.dim, config.degree
        self.atoms = nn.Embedding(self.elements.count, self.scalars)
        self.around = Message(PointType({0: self.scalars}), config.type, config)

    def forward(self, numbers: Int[Tensor, " a"], edges: Edges) -> Float[Tensor, "a dim"]:
        atoms = self.atoms(self.elements(numbers))
        cutoff = edges.cutoff[:, None]
        around = edges.pairs.sum(self.around(torch.ones_like(cutoff).expand(-1, self.scalars), edges) * cutoff)
        return around / math.sqrt(self.degree) + nn.functional.pad(atoms, (0, self.dim - self.scalars))


class Equiformer(nn.Module):
    """Atomic numbers (A,), positions (A, 3) in Angstrom, molecule of every atom (A,), their number -> energies (B,).

    Energies in eV do not change under motions of a molecule and orders of its atoms; a mirror may change them. Raises
    ValueError for unknown elements and for atoms that coincide, are not finite, or see no other within the cutoff.
    """

    def __init__(self, config: EquiformerConfig | None = None):
        super().__init__()
        self.config = config = config or EquiformerConfig()
        top = len(config.channels) - 1
        self.couplings, self.basis = HarmonicCouplings(top, top, top), ExpNormalBasis(config.basis, config.cutoff)
        self.embedding = Embedding(config)
        self.blocks = nn.ModuleList([Block(config) for _ in range(config.blocks)])
        self.norm, width = TypedNorm(config.type), config.channels[0]
        self.energy = nn.Sequential(nn.Linear(config.type.channels, width), nn.SiLU(), nn.Linear(width, 1))

    def edges(self, positions: Float[Tensor, "a 3"], system: Int[Tensor, " a"]) -> Edges:
        """Pairs nearer than the cutoff, with their harmonics and functions of the distance."""
        pairs = neighbors(positions, system, self.config.cutoff)
        offset = pairs.source(positions) - pairs.target(positions)
        distance = offset.norm(dim=-1)
        couplings = self.couplings(offset / distance[:, None])
        cutoff = polynomial_cutoff(distance, self.config.cutoff)
        return Edges(pairs, couplings, self.basis(distance), cutoff)

    def forward(
        self, numbers: Int[Tensor, " a"], positions: Float[Tensor, "a 3"], system: Int[Tensor, " a"], count: int
    ) -> Float[Tensor, " b"]:
        edges = self.edges(positions, system)
        x = self.embedding(numbers, edges)
        for block in self.blocks:
            x = block(x, edges)
        invariants = channel_invariants(self.config.type, self.norm(x))
        return sum_of_systems(self.energy(invariants)[:, 0], system, count)
