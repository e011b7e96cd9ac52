"""Geometric attention beside plain scaled dot-product attention on the same tokens."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raytrans.apps.benchmarks.settings import Sizes
from raytrans.fields.types import FieldType
from raytrans.geometry.rays import Rays
from raytrans.layers.attention import RayAttention
from raytrans.models.config import ModelConfig
from raytrans.models.stages import RayStage, ViewLayer, mlp
from raytrans.shapes import Float

HEADS = 8


class PlainBlock(nn.Module):
    """x + out(scaled_dot_product_attention(W q, W k, W v)), and a feed-forward block behind it unless `wide` is 0."""

    def __init__(self, hidden: int, heads: int, wide: int):
        super().__init__()
        self.heads = heads
        self.norm, self.out_norm = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.to_query, self.to_key, self.to_value, self.out = (nn.Linear(hidden, hidden) for _ in range(4))
        self.feed = mlp(hidden, wide, hidden) if wide else None

    def forward(self, query: Float[Tensor, "b q c"], tokens: Float[Tensor, "b n c"]) -> Float[Tensor, "b q c"]:
        parts = self.to_query(self.norm(query)), self.to_key(tokens), self.to_value(tokens)
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in parts)
        x = query + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x if self.feed is None else x + self.feed(self.out_norm(x))


Pair = tuple[Callable[[], object], Callable[[], object], int]


def pairs(sizes: Sizes, config: ModelConfig) -> dict[str, Pair]:
    """Name -> (ours, plain attention on the same tokens, number of query-key pairs), all without gradients."""
    torch.manual_seed(0)
    tokens, dim = sizes.tokens
    rays, width = sizes.dense
    samples, sources = sizes.view_samples, sizes.count
    found = {
        f"ray stage layer, {tokens} tokens of {dim}": _along(tokens, dim),
        f"view stage layer, {samples} samples x {sources} sources of {config.hidden}": _views(samples, sources, config),
        f"ray attention, {rays} x {rays} rays of {width}": _rays(rays, width),
    }
    return {
        name: (torch.no_grad()(ours), torch.no_grad()(plain), count) for name, (ours, plain, count) in found.items()
    }


def scaled_dot_product(sizes: Sizes) -> Callable[[], object]:
    """The kernel of torch alone on `sizes.tokens`, without projections."""
    tokens, dim = sizes.tokens
    q, k, v = torch.randn(3, 1, HEADS, tokens, dim // HEADS)
    return torch.no_grad()(lambda: F.scaled_dot_product_attention(q, k, v))


def _along(tokens: int, dim: int) -> Pair:
    """All tokens are samples of one ray: typed dot products and the biases of distances included."""
    typed = (4, 2)
    ours, plain = RayStage(dim, HEADS, 1, typed), PlainBlock(dim, HEADS, 2 * dim)
    x, logs = torch.randn(1, tokens, dim), torch.rand(1, tokens).sort(-1).values
    fields = {n: torch.randn(1, tokens, count, dtype=torch.complex64) for n, count in enumerate(typed, 1)}
    return lambda: ours(x, fields, logs), lambda: plain(x, x), tokens**2


def _views(samples: int, sources: int, config: ModelConfig) -> Pair:
    """Every sample attends its source rays; both get the order of axes that suits them."""
    hidden = config.hidden
    ours, plain = ViewLayer(hidden, config.heads, config.logits), PlainBlock(hidden, config.heads, hidden)
    query, x, bias = (
        torch.randn(samples, hidden),
        torch.randn(sources, samples, hidden),
        torch.randn(sources, samples, 1),
    )
    tokens = x.transpose(0, 1).contiguous()
    return lambda: ours(query, x, bias), lambda: plain(query[:, None], tokens), samples * sources


def _rays(count: int, width: int) -> Pair:
    """`RayAttention` from all rays to all rays: a kernel of its own for every pair."""
    kind = FieldType({(0, 0.0): width // 2, (1, 0.0): width // 4})
    ours, plain = RayAttention(kind, kind, kind, heads=2), PlainBlock(kind.dim, 2, 0)
    x, y = (Rays.from_points(torch.randn(count, 3), F.normalize(torch.randn(count, 3), dim=-1)) for _ in range(2))
    query, features = torch.randn(2, count, kind.dim)
    return lambda: ours(x, y, query, features), lambda: plain(query[None], features[None]), count**2
