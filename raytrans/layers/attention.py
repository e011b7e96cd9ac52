"""Attention over any pair of spaces, with typed queries, keys and values.

    out_i = sum_j softmax_j( l(q_i, k_ij) + b(invariants_ij) + log w_ij ) v_ij,     k_ij, v_ij = kernel outputs
    l(q, k) = Re<q, k>/sqrt(d), or W relu(invariants of k - q), or a . SmoothLeakyReLU(W invariants of q + k)

Queries, keys and values of a target transform by one unitary, so the softmax is invariant and the output is typed.
`attend` is that sum for every space of the package; `RayAttention` makes the logits and values of rays and points.
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional

from raytrans.layers.convolution import checked_features, everything, pair_geometry
from raytrans.layers.kernel import Neighborhood, RayKernel
from raytrans.layers.linear import AnyType, TypedLinear, signature
from raytrans.layers.neighborhood import Elements
from raytrans.layers.nonlinear import Gate, channel_invariants, smooth_leaky_relu
from raytrans.layers.radial import RadialNetwork
from raytrans.shapes import Float, Int

ACTIVATIONS = {"softmax": None, "silu": functional.silu, "relu": functional.relu}


def attend(
    logits: Float[Tensor, "*#pairs heads"],
    values: Float[Tensor, "*#pairs dim"],
    heads: Int[Tensor, " dim"],
    neighborhood: Neighborhood,
    weights: Tensor | None = None,
    activation: str = "softmax",
) -> Float[Tensor, "*targets dim"]:
    """sum_j A_j[head of component] values_j for any space, either layout of pairs and any value type.

    A = softmax_j(logits), or silu(logits), or relu(logits), by `activation`. `heads` names the head of every component
    of the values; weights (*pairs) multiply e^logit or A: a mask or a cutoff is a weight. Plain arithmetic, so that
    second derivatives exist, which fused attention has none of.
    """
    share = attention_weights(logits, neighborhood, weights, activation)
    common = neighborhood.common(values)
    if common is not None and len(heads.bincount(minlength=share.shape[-1]).unique()) == 1:
        return _products(share, common, heads)
    return neighborhood.sum(share.index_select(-1, heads) * values)


def _products(share: Tensor, values: Tensor, heads: Tensor) -> Tensor:
    """`attend` of values (..., K, dim) that all targets see, heads of equal width: one matrix product for each head."""
    order = heads.argsort(stable=True)
    parts = values.index_select(-1, order).unflatten(-1, (share.shape[-1], -1)).movedim(-2, -3)
    summed = (share.movedim(-1, -3) @ parts).movedim(-3, -2).flatten(-2)
    return summed.index_select(-1, order.argsort())


def attention_weights(
    logits: Float[Tensor, "*pairs heads"],
    neighborhood: Neighborhood,
    weights: Tensor | None = None,
    activation: str = "softmax",
) -> Float[Tensor, "*pairs heads"]:
    """A of `attend`. Raises ValueError for an unknown activation."""
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation: expected one of {', '.join(ACTIVATIONS)}, got {activation!r}")
    function = ACTIVATIONS[activation]
    if function is None:
        return neighborhood.softmax(logits, weights)
    share = function(logits)
    return share if weights is None else share * weights.to(logits.dtype)[..., None]


@runtime_checkable
class Channels(Protocol):
    """What heads are dealt to, any type of features: blocks of channels, each with a `multiplicity` and a `width`."""

    channels: int
    blocks: tuple


def component_heads(field_type: Channels, heads: int) -> Int[Tensor, " dim"]:
    """Head of every component: channels are dealt to the heads in turn, components of a channel stay together."""
    channel_heads = torch.arange(field_type.channels) % heads
    widths = torch.tensor([b.width for b in field_type.blocks for _ in range(b.multiplicity)], dtype=torch.long)
    return channel_heads.repeat_interleave(widths)


class DotLogits(nn.Module):
    """Re<q, k>/sqrt(d) of every head; with adjacent real and imaginary parts this is a plain dot product."""

    def __init__(self, query_type: Channels, heads: int):
        super().__init__()
        own = functional.one_hot(component_heads(query_type, heads), heads)
        self.register_buffer("heads", own, persistent=False)

    def forward(self, query: Float[Tensor, "*#pairs dim"], keys: Float[Tensor, "*#pairs dim"]) -> Tensor:
        heads = self.heads.to(keys.dtype)
        return (query * keys) @ (heads / heads.sum(0).clamp_min(1).sqrt())


class DifferenceLogits(nn.Module):
    """W relu(z), z the invariants of k - q: its (0, 0) components, and the length of every other channel.

    An MLP of k - q, which tells agreement from disagreement where a product cannot. Source: Zhao et al., Point
    Transformer, 2021, equation 3, with one logit a head.
    """

    def __init__(self, query_type: AnyType, heads: int):
        super().__init__()
        self.query_type = query_type
        self.mix = nn.Linear(query_type.channels, heads, bias=False)

    def forward(self, query: Float[Tensor, "*#pairs dim"], keys: Float[Tensor, "*#pairs dim"]) -> Tensor:
        return self.mix(functional.relu(channel_invariants(self.query_type, keys - query)))


class HeadScores(nn.Module):
    """a_h . SmoothLeakyReLU(z_h), z_h the part of z (*b, width heads) that belongs to head h.

    Raises ValueError where the width is no multiple of the heads. Source: Liao and Smidt, Equiformer, 2023.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        if width < 1 or width % heads:
            raise ValueError(f"width: expected a multiple of heads ({heads}), got {width}")
        self.score = nn.Parameter(torch.randn(heads, width // heads) * (heads / width) ** 0.5)

    def forward(self, z: Float[Tensor, "*b width"]) -> Float[Tensor, "*b heads"]:
        return (smooth_leaky_relu(z).unflatten(-1, self.score.shape) * self.score).sum(-1)


class MLPLogits(nn.Module):
    """a . SmoothLeakyReLU(W z) of every head, z the invariants of q + k: its (0, 0) components, and lengths.

    Query and key are linear in target and source, so that q + k is any linear map of both. Source: Liao and Smidt,
    Equiformer, 2023, where z are the invariant channels of a message.
    """

    def __init__(self, query_type: AnyType, heads: int):
        super().__init__()
        self.query_type = query_type
        width = heads * -(-query_type.channels // heads)
        self.mix, self.scores = nn.Linear(query_type.channels, width), HeadScores(width, heads)

    def forward(self, query: Float[Tensor, "*#pairs dim"], keys: Float[Tensor, "*#pairs dim"]) -> Tensor:
        return self.scores(self.mix(channel_invariants(self.query_type, query + keys)))


LOGITS = {"dot": DotLogits, "difference": DifferenceLogits, "mlp": MLPLogits}


class NonlinearMessage(nn.Module):
    """W gate(v) of the value v of every pair, before the values are summed.

    The sum of linear messages is a linear map of the mean feature of the sources; this one is not. Source: Liao and
    Smidt, Equiformer, 2023, whose second map is a tensor product with the direction of the pair.
    """

    def __init__(self, out_type: AnyType | str):
        super().__init__()
        self.gate, self.mix = Gate(out_type), TypedLinear(out_type, out_type)
        self.in_type = self.out_type = self.gate.out_type

    def forward(self, values: Float[Tensor, "*pairs dim"]) -> Float[Tensor, "*pairs dim"]:
        return self.mix(self.gate(values))


MESSAGES = {"linear": lambda out_type: nn.Identity(), "nonlinear": NonlinearMessage}


def shares(first: AnyType, second: AnyType) -> tuple[Tensor, Tensor]:
    """Where the components of two types lie in their sum, which merges equal types."""
    left, right = [], []
    for block in (first + second).blocks:
        middle = block.start + first.counts.get(block.key, 0) * block.width
        left += range(block.start, middle)
        right += range(middle, block.stop)
    return torch.tensor(left, dtype=torch.long), torch.tensor(right, dtype=torch.long)


class RayAttention(nn.Module):
    """Multi-head attention of target rays over source rays, from `in_type` at sources and `query_type` at targets.

    Keys have the query's type, `logits` of query and key are "dot", "difference" or "mlp" (`LOGITS`). `kernel` is
    the class of kernels of the two spaces: rays from rays by default; those of `raytrans.layers.points` make it
    attention between rays and points with the same code (types of points are given as `PointType`). Values are linear
    in the features; `with_messages("nonlinear")` changes that.
    """

    def __init__(
        self,
        in_type: AnyType | str,
        query_type: AnyType | str,
        out_type: AnyType | str,
        heads: int = 1,
        basis: int = 8,
        extras: int = 0,
        kernel: Callable[..., nn.Module] = RayKernel,
        logits: str = "dot",
    ):
        super().__init__()
        if heads < 1:
            raise ValueError(f"heads: expected at least 1, got {heads}")
        if logits not in LOGITS:
            raise ValueError(f"logits: expected one of {', '.join(LOGITS)}, got {logits!r}")
        query = TypedLinear(query_type, query_type, bias=False)
        value = TypedLinear(out_type, out_type, bias=False)
        self.kernel = kernel(in_type, query.in_type + value.in_type, basis, extras)
        self.in_type, self.query_type, self.out_type = self.kernel.in_type, query.in_type, value.out_type
        self.query, self.mix, self.heads = query, value, heads
        self.logits = LOGITS[logits](self.query_type, heads)
        self.logit_bias = RadialNetwork(self.kernel.radial.features, heads, extras)
        self.message = MESSAGES["linear"](self.out_type)
        key_index, value_index = shares(self.query_type, self.out_type)
        self.register_buffer("key_index", key_index, persistent=False)
        self.register_buffer("value_index", value_index, persistent=False)
        self.register_buffer("value_heads", component_heads(self.out_type, heads), persistent=False)

    def with_messages(self, messages: str) -> "RayAttention":
        """This layer with "linear" messages, which are the kernel's values v, or "nonlinear" ones, W gate(v)."""
        if messages not in MESSAGES:
            raise ValueError(f"messages: expected one of {', '.join(MESSAGES)}, got {messages!r}")
        self.message = MESSAGES[messages](self.out_type)
        return self

    def forward(
        self,
        x: Elements,
        y: Elements,
        query: Float[Tensor, "... query_dim"],
        features: Float[Tensor, "... in_dim"],
        neighborhood: Neighborhood | None = None,
        unit: Tensor | float = 1.0,
        weights: Tensor | None = None,
        extras: Tensor | None = None,
    ) -> Float[Tensor, "... out_dim"]:
        """Query (*targets, query_type.dim) and features (*sources, in_type.dim) to (*targets, out_type.dim).

        weights (*pairs) >= 0 multiply the attention (a boolean mask is a weight); a target that sees nothing gets
        zeros.
        """
        if neighborhood is None:
            neighborhood = everything(x, y)
        query = self.query(checked_features(self.query, "query", query))
        pairs = pair_geometry(self.kernel, x, y, features, neighborhood, unit)
        outputs = self.kernel(pairs, neighborhood.source(features), extras)
        logits = self.logits(neighborhood.target(query), outputs.index_select(-1, self.key_index))
        logits = logits + self.logit_bias(pairs.features(), extras)
        values = self.message(outputs.index_select(-1, self.value_index))
        return self.mix(attend(logits, values, self.value_heads, neighborhood, weights))

    def __repr__(self) -> str:
        return signature("RayAttention", self.in_type, self.query_type, out=self.out_type)
