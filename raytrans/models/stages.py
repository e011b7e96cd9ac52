"""View stage (ray attention over the source rays through a sample) and ray stage (attention along the target ray)."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from raytrans.fields.types import FieldType
from raytrans.geometry.pairs import RayPairs
from raytrans.layers.attention import HeadScores
from raytrans.models.config import ModelConfig
from raytrans.shapes import Complex, Float


def mlp(*widths: int) -> nn.Sequential:
    """Linear layers with ReLU between them (ELU costs five times as much per token here)."""
    layers: list[nn.Module] = []
    for a, b in zip(widths, widths[1:], strict=False):
        layers += [nn.Linear(a, b), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers[:-1])


def orders(typed: tuple[int, ...]) -> list[tuple[int, int]]:
    """Every n of which there are typed channels, with their number."""
    return [(n, channels) for n, channels in enumerate(typed, 1) if channels]


def pair_invariants(
    field_type: FieldType, features: Float[Tensor, "*b dim"], pairs: RayPairs
) -> Float[Tensor, "*b dim"]:
    """Carry typed source features into the pair frame: e^{-i n phi_y} f, whose two real parts are invariants.

    The (0, 0) part of the ray convolution with identity weights, before any mixing.
    """
    parts = []
    for block, part in zip(field_type.blocks, field_type.split(features), strict=True):
        parts.append(part if block.real else part * pairs.phase(0, block.n)[..., None])
    return field_type.join(parts)


class ViewStage(nn.Module):
    """Attention of one sample over the source rays through it, with typed values.

    The first query is made of visibility-weighted mean and variance over the sources and of per-sample scalars; logits
    are MLP(k_j - q, invariants_j) + log(weight_j). Typed outputs are sum_j A_j [E(n, 0) g_j + E(n, n) c f_j], with g_j
    any function of the invariants and E the transport `RayPairs.phase`. With the real kernel g_j and c are real;
    without the variance the mean is twice as wide.
    """

    def __init__(self, tokens: int, scalars: int, config: ModelConfig):
        super().__init__()
        hidden, self.typed, self.variance = config.hidden, config.typed, config.moments
        self.embed = mlp(tokens, hidden, hidden)
        self.moments = nn.Linear(hidden, hidden // 2 if self.variance else hidden)
        self.query = mlp(hidden + scalars, hidden, hidden)
        self.layers = nn.ModuleList([_view_layer(config) for _ in range(config.view_layers)])
        self.parts, channels = 2 if config.kernel == "complex" else 1, sum(self.typed)
        if channels:
            self.coefficients = nn.Linear(hidden, self.parts * channels)
            self.pass_on = nn.Parameter(torch.zeros(channels, self.parts))

    def forward(
        self,
        tokens: Float[Tensor, "n *b t"],
        weight: Float[Tensor, "n *b"],
        scalars: Float[Tensor, "*b s"],
        pairs: RayPairs,
        typed_sources: dict[int, Complex[Tensor, "n *b c"]],
    ) -> tuple[Tensor, Tensor, dict[int, Tensor], Tensor]:
        """Sample features (*b, hidden), source tokens (n, *b, hidden), typed features {n: (*b, channels)}, attention.

        The attention (n, *b) is that of the last layer, the mean of its heads.
        """
        x = self.embed(tokens)
        share = (weight / weight.sum(0).clamp_min(1e-6))[..., None]
        small = self.moments(x)
        mean = (share * small).sum(0)
        pooled = [mean, (share * (small - mean) ** 2).sum(0)] if self.variance else [mean]
        query = self.query(torch.cat([*pooled, scalars], -1))
        bias = torch.log(weight + 1e-4)[..., None]
        for layer in self.layers:
            query, attention = layer(query, x, bias)
        attention = attention.mean(-1)
        return query, x, self._typed(x, attention, pairs, typed_sources), attention

    def _typed(self, x: Tensor, attention: Tensor, pairs: RayPairs, sources: dict[int, Tensor]) -> dict[int, Tensor]:
        if not sources:
            return {}
        coefficients, pass_on = self._scalars(self.coefficients(x)), self._scalars(self.pass_on.flatten())
        out, start = {}, 0
        for n, channels in orders(self.typed):
            own = slice(start, start + channels)
            message = pairs.phase(n, 0)[..., None] * coefficients[..., own]
            message = message + pairs.phase(n, n)[..., None] * (pass_on[own] * sources[n])
            out[n] = (attention[..., None] * message).sum(0)
            start += channels
        return out

    def _scalars(self, values: Tensor) -> Tensor:
        """(..., parts channels) as complex numbers, or as they are for the real kernel."""
        return values if self.parts == 1 else torch.view_as_complex(values.unflatten(-1, (-1, 2)).contiguous())


def _view_layer(config: ModelConfig) -> nn.Module:
    if config.pooling == "moments":
        return MomentLayer(config.hidden)
    return ViewLayer(config.hidden, config.heads, config.logits, config.messages)


class ViewLayer(nn.Module):
    """One layer of attention over the source axis (the first one), followed by a feed-forward block.

    `RayAttention` with any of its logits and messages, on tokens that are invariants, fused for sources along the first
    axis.
    """

    def __init__(self, hidden: int, heads: int, logits: str = "difference", messages: str = "linear"):
        super().__init__()
        self.heads = heads
        self.norm, self.out_norm = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.to_query, self.to_key = nn.Linear(hidden, hidden // 2), nn.Linear(hidden, hidden // 2)
        self.scores = HeadScores(hidden // 2, heads) if logits == "mlp" else None
        self.to_logit = nn.Linear(hidden // 2, heads) if logits == "difference" else None
        self.to_value = nn.Linear(hidden, hidden)
        self.to_message = nn.Linear(hidden, hidden) if messages == "nonlinear" else None
        self.out = nn.Linear(hidden, hidden)
        self.feed = mlp(hidden, hidden, hidden)

    def attended(self, query: Tensor, x: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """sum_j softmax_j(logit_j + bias_j) v_j (*b, hidden), and the softmax (n, *b, heads).

        logit_j is W relu(k_j - q), or q . k_j / sqrt(d) or a . SmoothLeakyReLU(k_j + q) of every head; v_j is V x_j, or
        W silu(V x_j) for non-linear messages.
        """
        key, query = self.to_key(x), self.to_query(self.norm(query))
        if self.scores is not None:
            logit = self.scores(key + query)
        elif self.to_logit is None:
            width = query.shape[-1] // self.heads
            logit = (key * query).unflatten(-1, (self.heads, width)).sum(-1) * width**-0.5
        else:
            logit = self.to_logit((key - query).relu_())
        attention = torch.softmax(logit + bias, 0)
        value = self.to_value(x)
        value = value if self.to_message is None else self.to_message(functional.silu(value))
        value = value.unflatten(-1, (self.heads, -1))
        return (attention[..., None] * value).sum(0).flatten(-2), attention

    def forward(self, query: Tensor, x: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        mixed, attention = self.attended(query, x, bias)
        query = query + self.out(mixed)
        return query + self.feed(self.out_norm(query)), attention


class MomentLayer(nn.Module):
    """`ViewLayer` without attention: mean and variance of the values under the softmax of the bias alone.

    Source: Wang et al., IBRNet, where they pool the features of the source views.
    """

    def __init__(self, hidden: int):
        super().__init__()
        self.to_value = nn.Linear(hidden, hidden)
        self.out, self.out_norm = nn.Linear(2 * hidden, hidden), nn.LayerNorm(hidden)
        self.feed = mlp(hidden, hidden, hidden)

    def forward(self, query: Tensor, x: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        share, value = torch.softmax(bias, 0), self.to_value(x)
        mean = (share * value).sum(0)
        variance = (share * (value - mean) ** 2).sum(0)
        query = query + self.out(torch.cat([mean, variance], -1))
        return query + self.feed(self.out_norm(query)), share


class RayStage(nn.Module):
    """Transformer over the samples of one ray: typed dot products, position only by differences of log distance."""

    def __init__(self, hidden: int, heads: int, layers: int, typed: tuple[int, ...]):
        super().__init__()
        self.orders = orders(typed)
        self.norms = nn.ModuleList([nn.Linear(channels, hidden, bias=False) for _, channels in self.orders])
        self.layers = nn.ModuleList([RayLayer(hidden, heads, typed) for _ in range(layers)])

    def forward(
        self, x: Float[Tensor, "r s c"], typed: dict[int, Tensor], log_distance: Float[Tensor, "r s"]
    ) -> Tensor:
        for (n, _), linear in zip(self.orders, self.norms, strict=True):
            square = typed[n].real ** 2 + typed[n].imag ** 2
            x = x + linear((square + 1e-6).sqrt())
        gap = log_distance[:, None, :] - log_distance[:, :, None]
        near = [torch.exp(-sharpness * gap.abs()) for sharpness in (50, 10, 2)]
        position = torch.stack([torch.tanh(10 * gap), *near], 1).flatten(2)
        for layer in self.layers:
            x = layer(x, typed, position)
        return x


class RayLayer(nn.Module):
    """Multi-head attention along the ray; logits add Re<q, k> of typed channels and a bias of the log-distance gap."""

    def __init__(self, hidden: int, heads: int, typed: tuple[int, ...]):
        super().__init__()
        self.heads, self.orders = heads, orders(typed)
        self.norm, self.out_norm = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.to_qkv, self.out = nn.Linear(hidden, 3 * hidden), nn.Linear(hidden, hidden)
        self.position = nn.Linear(4, heads)
        mix = [nn.Parameter(0.1 * torch.randn(heads, channels, 2)) for _, channels in self.orders]
        self.mix = nn.ParameterList(mix)
        self.feed = mlp(hidden, 2 * hidden, hidden)

    def forward(self, x: Float[Tensor, "r s c"], typed: dict[int, Tensor], position: Tensor) -> Tensor:
        """`position` (R, 4, S S): functions of the gaps between samples, all those to the first one first."""
        q, k, v = self.to_qkv(self.norm(x)).unflatten(-1, (3, self.heads, -1)).unbind(-3)
        q, k, v = (t.transpose(1, 2).flatten(0, 1) for t in (q * q.shape[-1] ** -0.5, k, v))
        bias = self._bias(typed, position).view(len(q), x.shape[1], -1)
        attention = torch.softmax(torch.baddbmm(bias, q, k.mT), -1)
        mixed = (attention @ v).unflatten(0, (-1, self.heads)).transpose(1, 2).flatten(2)
        x = x + self.out(mixed)
        return x + self.feed(self.out_norm(x))

    def _bias(self, typed: dict[int, Tensor], position: Tensor) -> Float[Tensor, "r h s2"]:
        """What the logits hold besides q k: heads before samples, each matrix of them one piece of memory."""
        mixing = self.position.weight.expand(len(position), -1, -1)
        bias = torch.baddbmm(self.position.bias[:, None], mixing, position)
        if not self.orders:
            return bias
        left, right = [], []
        for (n, _), mix in zip(self.orders, self.mix, strict=True):
            y = typed[n]
            # Re(q conj(k)) as one real product of twice the width
            left.append(torch.view_as_real(y[:, None] * torch.view_as_complex(mix)[:, None]).flatten(-2))
            right.append(torch.view_as_real(y).flatten(-2))
        left, right = torch.cat(left, -1).flatten(1, 2), torch.cat(right, -1)
        return torch.baddbmm(bias.view(*left.shape[:2], -1), left, right.mT)
