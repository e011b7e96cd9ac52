"""The equivariant transformer of TorchMD-NET: scalars x in R^F and vectors V in R^{F x 3} at atoms.

    A_ij = SiLU( sum_head q_i k_j dk_ij / sqrt(F_head) ) phi(d_ij)     SiLU in place of the softmax, phi a cutoff
    (s1, s2, s3)_ij = v_j dv_ij,   dk, dv = SiLU(W e(d_ij))            filters of the distance
    y_i = sum_j A_ij s1_ij,        w_i = sum_j [phi(d_ij)] ( s2_ij V_j + s3_ij r_ij/|r_ij| )
    x_i += <U1 V, U2 V> o2 + o3,   V_i += (U3 V) o1 + w_i              (o1, o2, o3) = W y

In the published form [phi] is absent, and the energy jumps where an atom crosses the cutoff; with it all is continuous.
Points are the space, the distance is the invariant, and V is of degree 1, which the world's axes carry from atom to
atom. Source: Thölke and De Fabritiis, TorchMD-NET, 2022, and its public code, where an atom is a neighbour of itself
and the products of a head are not divided by the root of its channels F_head.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from raytrans.fields.so3 import PointType
from raytrans.layers.attention import DotLogits, attend, attention_weights, component_heads
from raytrans.layers.linear import TypedLinear, signature
from raytrans.layers.neighborhood import PairList
from raytrans.layers.nonlinear import channel_invariants
from raytrans.layers.radial import ExpNormalBasis, cosine_cutoff
from raytrans.shapes import Float, Int
from raytrans.systems.molecules.graph import Elements, neighbors, sum_of_systems


@dataclass(frozen=True)
class Architecture:
    """Size and form: F `channels`, `basis` functions of the distance, the cutoff in Angstrom.

    `vectors` False leaves V out and keeps the rest: the invariant transformer. `vector_cutoff` False is the published
    form. Raises ValueError where the heads do not share the channels evenly.
    """

    channels: int = 64
    layers: int = 3
    heads: int = 4
    basis: int = 24
    cutoff: float = 5.0
    vectors: bool = True
    vector_cutoff: bool = True

    def __post_init__(self):
        if min(self.channels, self.layers, self.heads) < 1 or self.channels % self.heads or self.channels % 2:
            raise ValueError(
                f"channels, layers, heads: expected at least 1 each, channels a multiple of 2 and of the heads, got "
                f"{self.channels}, {self.layers}, {self.heads}"
            )

    @property
    def parts(self) -> int:
        """Scalars per channel that a message carries."""
        return 3 if self.vectors else 1

    @property
    def type(self) -> PointType:
        """What an atom carries."""
        return PointType({0: self.channels, 1: self.channels if self.vectors else 0})


@dataclass(frozen=True)
class Edges:
    """Pairs of atoms, those of an atom with itself last: unit vectors (P, 3), features of the pair e (P, K), phi (P,).

    The unit vector of an atom with itself is zero.
    """

    pairs: PairList
    direction: Float[Tensor, "p 3"]
    features: Float[Tensor, "p k"]
    fade: Float[Tensor, " p"]


class DistanceFeatures(nn.Module):
    """e(d) = phi(d) times exponential-normal functions of the distance, from displacements (P, 3)."""

    def __init__(self, count: int, cutoff: float):
        super().__init__()
        self.basis = ExpNormalBasis(count, cutoff)

    def forward(self, displacement: Tensor, distance: Tensor, fade: Tensor) -> Float[Tensor, "p k"]:
        return self.basis(distance) * fade[:, None]


class AttentionLayer(nn.Module):
    """One layer as above, from features (A, type.dim) to their change."""

    def __init__(self, architecture: Architecture):
        super().__init__()
        one, self.vector_cutoff = architecture.channels, architecture.vector_cutoff
        self.type, self.channels, self.parts = architecture.type, one, architecture.parts
        scalars = PointType({0: one})
        self.norm = nn.LayerNorm(one)
        self.query, self.key = nn.Linear(one, one), nn.Linear(one, one)
        self.value, self.out = nn.Linear(one, self.parts * one), nn.Linear(one, self.parts * one)
        self.key_filter = nn.Linear(architecture.basis, one)
        self.value_filter = nn.Linear(architecture.basis, self.parts * one)
        self.logits = DotLogits(scalars, architecture.heads)
        self.register_buffer("heads", component_heads(scalars, architecture.heads), persistent=False)
        self.mix = None
        if architecture.vectors:
            self.mix = TypedLinear(PointType({1: one}), PointType({1: 3 * one}))

    def logit(self, x: Tensor, edges: Edges) -> Float[Tensor, "p heads"]:
        """sum_head q_i k_j dk_ij, over the root of the channels of a head, of normalised scalars (A, F)."""
        keys = edges.pairs.source(self.key(x)) * functional.silu(self.key_filter(edges.features))
        return self.logits(edges.pairs.target(self.query(x)), keys)

    def attention(self, features: Tensor, edges: Edges) -> Float[Tensor, "p heads"]:
        """A of every pair."""
        logits = self.logit(self.norm(features[:, : self.channels]), edges)
        return attention_weights(logits, edges.pairs, edges.fade, "silu")

    def forward(self, features: Float[Tensor, "a dim"], edges: Edges) -> Float[Tensor, "a dim"]:
        x = self.norm(features[:, : self.channels])
        values = edges.pairs.source(self.value(x)) * functional.silu(self.value_filter(edges.features))
        first, *rest = values.split(self.channels, -1)
        y = attend(self.logit(x, edges), first, self.heads, edges.pairs, edges.fade, "silu")
        if self.mix is None:
            return self.out(y)
        o1, o2, o3 = self.out(y).split(self.channels, -1)
        vectors = features[:, self.channels :]
        u1, u2, u3 = self.mix(vectors).unflatten(-1, (3, self.channels, 3)).unbind(-3)
        scalar = (u1 * u2).sum(-1) * o2 + o3
        return torch.cat([scalar, (u3 * o1[..., None]).flatten(-2) + self.carried(vectors, *rest, edges)], -1)

    def carried(self, vectors: Tensor, keep: Tensor, make: Tensor, edges: Edges) -> Float[Tensor, "a v"]:
        """w_i = sum_j [phi] (s2 V_j + s3 r/|r|)."""
        if self.vector_cutoff:
            keep, make = keep * edges.fade[:, None], make * edges.fade[:, None]
        # axes before channels on the pairs: products along memory take half the time
        flipped = vectors.unflatten(-1, (-1, 3)).mT.flatten(-2)
        message = edges.pairs.source(flipped).unflatten(-1, (3, -1)) * keep[:, None]
        message = message + make[:, None] * edges.direction[..., None]
        return edges.pairs.sum(message.flatten(-2)).unflatten(-1, (3, -1)).mT.flatten(-2)

    def __repr__(self) -> str:
        return signature("AttentionLayer", self.type, out=self.type)


class GatedOutput(nn.Module):
    """x' , g = MLP(x, |W1 V|),  V' = g W2 V: a gated equivariant block, from F to `out` channels.

    Source: Schütt et al., PaiNN, 2021, from which TorchMD-NET takes it.
    """

    def __init__(self, channels: int, out: int, vectors: bool):
        super().__init__()
        self.channels, self.out = channels, out
        own = PointType({1: channels})
        self.norms = TypedLinear(own, own) if vectors else None
        self.turn = TypedLinear(own, PointType({1: out})) if vectors else None
        self.feed = nn.Sequential(
            nn.Linear(2 * channels if vectors else channels, channels),
            nn.SiLU(),
            nn.Linear(channels, 2 * out if vectors else out),
        )

    def forward(self, features: Float[Tensor, "a dim"]) -> Float[Tensor, "a out_dim"]:
        x, vectors = features.tensor_split([self.channels], -1)
        if self.norms is None:
            return self.feed(x)
        lengths = channel_invariants(self.norms.out_type, self.norms(vectors))
        x, gate = self.feed(torch.cat([x, lengths], -1)).split(self.out, -1)
        return torch.cat([x, self.turn(vectors) * gate.repeat_interleave(3, -1)], -1)


class EquivariantTransformer(nn.Module):
    """Energies of molecules of the given elements: model(numbers, positions, system, count) -> (count,), in eV.

    `features` makes what the filters read of a pair, `DistanceFeatures` by default. Raises ValueError for other
    elements, atoms without a neighbour within the cutoff, and atoms at one place.
    """

    def __init__(
        self,
        elements: list[int],
        architecture: Architecture | None = None,
        features: Callable[[int, float], nn.Module] = DistanceFeatures,
    ):
        super().__init__()
        self.architecture = architecture or Architecture()
        one, basis = self.architecture.channels, self.architecture.basis
        self.elements, self.pair_features = Elements(elements), features(basis, self.architecture.cutoff)
        self.own, self.around = (nn.Embedding(self.elements.count, one) for _ in range(2))
        self.near, self.combine = nn.Linear(basis, one), nn.Linear(2 * one, one)
        self.layers = nn.ModuleList([AttentionLayer(self.architecture) for _ in range(self.architecture.layers)])
        self.norm = nn.LayerNorm(one)
        vectors = self.architecture.vectors
        self.head = nn.ModuleList([GatedOutput(one, one // 2, vectors), GatedOutput(one // 2, 1, vectors)])
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def edges(self, positions: Float[Tensor, "a 3"], system: Int[Tensor, " a"]) -> Edges:
        """All pairs within the cutoff and every atom with itself."""
        cutoff, atoms = self.architecture.cutoff, len(positions)
        pairs = neighbors(positions, system, cutoff)
        displacement = pairs.source(positions) - pairs.target(positions)
        distance = displacement.norm(dim=-1)
        zero, itself = positions.new_zeros(atoms, 3), torch.arange(atoms, device=positions.device)
        direction = torch.cat([displacement / distance[:, None], zero])
        displacement, distance = torch.cat([displacement, zero]), torch.cat([distance, zero[:, 0]])
        fade = cosine_cutoff(distance, cutoff)
        ends = (torch.cat([index, itself]) for index in (pairs.target_index, pairs.source_index))
        everything = PairList(*ends, (atoms,), (atoms,))
        return Edges(everything, direction, self.pair_features(displacement, distance, fade), fade)

    def embedding(self, numbers: Int[Tensor, " a"], edges: Edges) -> Float[Tensor, "a dim"]:
        """Scalars of an element and of the elements around it, sum_j b_{z_j} (W e_ij) phi_ij; no vectors yet."""
        place, other = self.elements(numbers), edges.pairs.target_index != edges.pairs.source_index
        filters = self.near(edges.features) * (edges.fade * other)[:, None]
        around = edges.pairs.sum(edges.pairs.source(self.around(place)) * filters)
        x = self.combine(torch.cat([self.own(place), around], -1))
        return functional.pad(x, (0, self.architecture.type.dim - x.shape[-1]))

    def features(self, numbers: Tensor, positions: Tensor, system: Tensor) -> Float[Tensor, "a dim"]:
        """What the atoms carry after the last layer, of type `architecture.type`: vectors turn with the molecule."""
        edges = self.edges(positions, system)
        features = self.embedding(numbers, edges)
        for layer in self.layers:
            features = features + layer(features, edges)
        return features

    def attention(self, numbers: Tensor, positions: Tensor, system: Tensor) -> tuple[PairList, Tensor]:
        """The pairs, and A (layers, P, heads) of every layer."""
        edges, found = self.edges(positions, system), []
        features = self.embedding(numbers, edges)
        for layer in self.layers:
            found.append(layer.attention(features, edges))
            features = features + layer(features, edges)
        return edges.pairs, torch.stack(found)

    def forward(
        self, numbers: Int[Tensor, " a"], positions: Float[Tensor, "a 3"], system: Int[Tensor, " a"], count: int
    ) -> Float[Tensor, " b"]:
        features, one = self.features(numbers, positions, system), self.architecture.channels
        features = torch.cat([self.norm(features[:, :one]), features[:, one:]], -1)
        first, last = self.head
        hidden = first(features)
        hidden = torch.cat([functional.silu(hidden[:, : one // 2]), hidden[:, one // 2 :]], -1)
        return sum_of_systems(last(hidden)[:, 0], system, count)

    def __repr__(self) -> str:
        return signature("EquivariantTransformer", self.architecture.type, out="1x0")
