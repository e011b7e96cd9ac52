"""Layers of features that hold multivectors: linear, bilinear, norm, gate, attention; equivariant to rigid motions.

All linear maps come from the commutant of the group (`Embedding.maps`), all attention from `attend`. With `mirrors` the
layers commute with reflections too. Source: de Haan, Cohen and Brehmer, Euclidean, projective, conformal, 2024.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from raytrans.fields.embeddings import Embedding
from raytrans.fields.multivectors import MultivectorBlock, MultivectorType
from raytrans.layers.attention import DotLogits, attend, component_heads
from raytrans.layers.kernel import Neighborhood
from raytrans.layers.linear import signature
from raytrans.shapes import Float

NORM_EPS = 0.1  # of squared norms, which are pure numbers: lengths are counted in a unit
MADE = 0.1  # variance of the components of multivectors that invariants make, at the start
DISTANCE_EPS = 0.1  # of squared weights of points


class MultivectorLinear(nn.Module):
    """y = sum_b w_b B_b x + b: every map of multivectors and invariants that commutes with the group, B a basis.

    The orthonormal maps of the null space are scaled between grades, which motions keep, so that all keep lengths.

    Multivectors to multivectors have 8, 16 or 40 weights for a pair of channels in the Euclidean, projective and
    conformal algebra, with mirrors 4, 9 or 20. A bias is added to invariants only.
    """

    def __init__(self, in_type: MultivectorType, out_type: MultivectorType, bias: bool = True, mirrors: bool = False):
        super().__init__()
        if in_type.algebra != out_type.algebra:
            raise ValueError(f"out_type: expected multivectors of {in_type.algebra}, got {out_type.algebra}")
        self.in_type, self.out_type = in_type, out_type
        sizes = (out_type.multivectors, in_type.multivectors), (out_type.multivectors, in_type.scalars)
        sizes = (*sizes, (out_type.scalars, in_type.multivectors))
        self.geometry, self.mirrors = Embedding(in_type.algebra), mirrors
        sizes_of_grades = np.bincount(in_type.algebra.grades)[in_type.algebra.grades]
        # an orthonormal map of a grade of d components is 1/sqrt(d) times one that keeps lengths
        self.balance = np.sqrt(np.minimum(sizes_of_grades[:, None], sizes_of_grades))
        self.weights = nn.ParameterList()
        maps = [len(basis) for basis in self.geometry.maps(mirrors)]
        # a component of variance one stays one of variance one, and invariants, which all layers make, start below
        variances = 1.0, MADE, 0.5 / maps[2]
        for size, basis, variance in zip(sizes, maps, variances, strict=True):
            scale = math.sqrt(variance / max(1, size[1]))
            self.weights.append(nn.Parameter(scale * torch.randn(*size, basis)))
        scale = math.sqrt(0.5 / max(1, in_type.scalars))
        self.mix = nn.Parameter(scale * torch.randn(out_type.scalars, in_type.scalars))
        self.bias = nn.Parameter(torch.zeros(out_type.scalars)) if bias else None

    def matrix(self) -> Float[Tensor, "out_dim in_dim"]:
        """The dense matrix of the layer."""
        # bases in the precision of the weights each time: those of a module cast upwards would keep their rounding
        turn, make, read = self.geometry.maps(self.mirrors, self.mix)
        turn = turn * self.in_type.algebra.constant("balance", self.balance, self.mix)
        turn, make, read = (
            torch.einsum("oik,kab->oaib", weight, basis).flatten(2).flatten(0, 1)
            for weight, basis in zip(self.weights, (turn, make, read), strict=True)
        )
        return torch.cat([torch.cat([self.mix, read], 1), torch.cat([make, turn], 1)])

    def forward(self, features: Float[Tensor, "*batch in_dim"]) -> Float[Tensor, "*batch out_dim"]:
        self.in_type.check(features)
        out = features @ self.matrix().T
        if self.bias is None:
            return out
        return out + functional.pad(self.bias, (0, out.shape[-1] - len(self.bias)))

    def __repr__(self) -> str:
        return signature("MultivectorLinear", self.in_type, out=self.out_type)


class MultivectorBilinear(nn.Module):
    """Linear of (A x)(B x)/2^{n/2}, channel by channel; with `join` half of the channels are joins r A x v B x instead.

    A join changes its sign in a mirror, so that `mirrors` need a reference r that does too, such as the weight of a
    point. The geometric product alone misses some maps of the projective algebra, both together miss none.
    """

    def __init__(self, in_type: MultivectorType, out_type: MultivectorType, join: bool = False, mirrors: bool = False):
        super().__init__()
        self.in_type, self.out_type, self.algebra = in_type, out_type, in_type.algebra
        self.mirrors = mirrors
        self.joined = out_type.multivectors // 2 if join else 0
        middle = MultivectorType(self.algebra, out_type.multivectors, out_type.scalars)
        self.factors = MultivectorLinear(
            in_type, MultivectorType(self.algebra, 2 * middle.multivectors, middle.scalars), mirrors=mirrors
        )
        self.middle = middle
        self.mix = MultivectorLinear(middle, out_type, mirrors=mirrors)

    def forward(
        self, features: Float[Tensor, "*batch in_dim"], reference: Float[Tensor, "*#batch"] | None = None
    ) -> Float[Tensor, "*batch out_dim"]:
        """Raises ValueError where mirrors and join come without a reference."""
        if self.joined and self.mirrors and reference is None:
            raise ValueError("reference: expected a number for each token, which mirrors turn over, got none")
        scalars, multivectors = self.factors.out_type.split(self.factors(features))
        left, right = multivectors.chunk(2, -2)
        split = left.shape[-2] - self.joined
        products = self.algebra.product(left[..., :split, :], right[..., :split, :])
        if self.joined:
            joins = self.algebra.join(left[..., split:, :], right[..., split:, :])
            joins = joins if reference is None else joins * reference[..., None, None]
            products = torch.cat([products, joins], -2)
        return self.mix(self.middle.join((scalars, products / math.sqrt(self.algebra.dim))))

    def __repr__(self) -> str:
        return signature("MultivectorBilinear", self.in_type, out=self.out_type)


class MultivectorNorm(nn.Module):
    """x_k / sqrt(mean over channels of |<~x_k x_k>|/d_k + eps) for every grade k, with d_k blades that have a square;
    layer norm of invariants.

    Grade by grade, as products make invariants beside which the rest would vanish. A null vector of one grade, such as
    a point of the conformal algebra, has no size and is not divided. A pseudoscalar that the metric hides counts with
    its coefficient. One scale for each channel.
    """

    def __init__(self, in_type: MultivectorType, eps: float = NORM_EPS):
        super().__init__()
        self.in_type = self.out_type = in_type
        self.eps = eps
        algebra = in_type.algebra
        weights = np.where(algebra.grades == len(algebra.metric), 1.0, algebra.weights)
        grades = (algebra.grades[:, None] == np.arange(len(algebra.metric) + 1)).astype(float)
        seen = np.maximum(np.abs(weights) @ grades, 1)
        self.squares, self.grades = weights[:, None] * grades / seen, grades.T
        self.scalars = nn.LayerNorm(in_type.scalars) if in_type.scalars else nn.Identity()
        self.scale = nn.Parameter(torch.ones(in_type.multivectors, 1))

    def forward(self, features: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        scalars, multivectors = self.in_type.split(features)
        constant = self.in_type.algebra.constant
        square = multivectors.square() @ constant("norm squares", self.squares, multivectors)
        factor = (square.abs().mean(-2) + self.eps).rsqrt() @ constant("norm grades", self.grades, multivectors)
        return self.in_type.join((self.scalars(scalars), multivectors * factor[..., None, :] * self.scale))

    def __repr__(self) -> str:
        return signature("MultivectorNorm", self.in_type, out=self.out_type)


class MultivectorGate(nn.Module):
    """gelu(<x>_0) x of multivectors, gelu of invariants."""

    def __init__(self, in_type: MultivectorType):
        super().__init__()
        self.in_type = self.out_type = in_type

    def forward(self, features: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        scalars, multivectors = self.in_type.split(features)
        return self.in_type.join((functional.gelu(scalars), functional.gelu(multivectors[..., :1]) * multivectors))

    def __repr__(self) -> str:
        return signature("MultivectorGate", self.in_type, out=self.out_type)


@dataclass(frozen=True)
class _Laid:
    """Channels of the vectors whose dot products are logits: invariants, then multivectors of a reduced width."""

    scalars: int
    multivectors: int
    width: int

    @property
    def channels(self) -> int:
        return self.scalars + self.multivectors

    @property
    def blocks(self) -> tuple[MultivectorBlock, ...]:
        return (
            MultivectorBlock(self.scalars, 1, 0, True),
            MultivectorBlock(self.multivectors, self.width, self.scalars, False),
        )


class MultivectorLogits(nn.Module):
    """s_q . s_k + sum_c w_c <~q_c k_c>_0, over sqrt(d) of every head: a dot product with the weights of the metric.

    With `distance` (projective algebra) the points in q_c and k_c add -w'_c |q_0 k - k_0 q|^2/((q_0^2 + e)(k_0^2 + e)),
    the squared distance of points p = q/q_0, and leave the plain product, to which they give a constant. The learned
    w, w' of every channel are positive. Raises ValueError for `distance` in another algebra.
    """

    def __init__(self, key_type: MultivectorType, heads: int, distance: bool = False):
        super().__init__()
        geometry = Embedding(key_type.algebra)
        if distance and (geometry.conformal or not geometry.translates):
            raise ValueError(
                f"distance: expected the projective algebra, whose product is blind, got {key_type.algebra}"
            )
        self.key_type, self.distance = key_type, distance
        weights = torch.tensor(key_type.algebra.weights, dtype=torch.get_default_dtype())
        if distance:
            weights[key_type.algebra.grades == 3] = 0
        seen = weights.nonzero()[:, 0]
        self.register_buffer("seen", seen, persistent=False)
        self.register_buffer("metric", weights[seen], persistent=False)
        self.geometry = geometry
        laid = _Laid(key_type.scalars, key_type.multivectors, len(seen) + (5 if distance else 0))
        self.dot = DotLogits(laid, heads)
        # at one, products of like multivectors and distances of a few units would leave a token to see one other alone
        self.scales = nn.Parameter(torch.full((key_type.multivectors, 2 if distance else 1), -2.0))

    def queries(self, features: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch laid"]:
        """Queries with the metric, the learned weights and the features of distance."""
        scalars, multivectors = self.key_type.split(features)
        scales = self.scales.exp()
        parts = [multivectors[..., self.seen] * self.metric * scales[:, :1]]
        if self.distance:
            weight, place = self.geometry.weighted_point(multivectors)
            square = place.square().sum(-1, keepdim=True)
            parts.append(
                torch.cat([square, weight**2, weight * place], -1) * scales[:, 1:] / (weight**2 + DISTANCE_EPS)
            )
        return torch.cat([scalars, torch.cat(parts, -1).flatten(-2)], -1)

    def keys(self, features: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch laid"]:
        """Keys, with the other half of the features of distance."""
        scalars, multivectors = self.key_type.split(features)
        parts = [multivectors[..., self.seen]]
        if self.distance:
            weight, place = self.geometry.weighted_point(multivectors)
            square = place.square().sum(-1, keepdim=True)
            parts.append(torch.cat([-(weight**2), -square, 2 * weight * place], -1) / (weight**2 + DISTANCE_EPS))
        return torch.cat([scalars, torch.cat(parts, -1).flatten(-2)], -1)

    def forward(self, queries: Float[Tensor, "*#pairs laid"], keys: Float[Tensor, "*#pairs laid"]) -> Tensor:
        """Logits (*pairs, heads) of what `queries` and `keys` made."""
        return self.dot(queries, keys)


class MultivectorAttention(nn.Module):
    """Multi-head attention of targets over sources, all of `in_type`, by `attend`; values stay in world axes."""

    def __init__(self, in_type: MultivectorType, heads: int, distance: bool = False, mirrors: bool = False):
        super().__init__()
        self.in_type = self.query_type = self.out_type = in_type
        self.query, self.key, self.value, self.mix = (
            MultivectorLinear(in_type, in_type, bias=False, mirrors=mirrors) for _ in range(4)
        )
        self.logits = MultivectorLogits(in_type, heads, distance)
        self.register_buffer("heads", component_heads(in_type, heads), persistent=False)

    def forward(
        self,
        query: Float[Tensor, "*targets dim"],
        features: Float[Tensor, "*sources dim"],
        neighborhood: Neighborhood,
        weights: Tensor | None = None,
    ) -> Float[Tensor, "*targets dim"]:
        """Features of targets and sources to what each target gathers; weights (*pairs) may be a mask."""
        queries = neighborhood.target(self.logits.queries(self.query(query)))
        keys = neighborhood.source(self.logits.keys(self.key(features)))
        values = neighborhood.source(self.value(features)).expand(*neighborhood.pairs, -1)
        return self.mix(attend(self.logits(queries, keys), values, self.heads, neighborhood, weights))

    def __repr__(self) -> str:
        return signature("MultivectorAttention", self.in_type, out=self.out_type)
