"""How much attention pairs of one kind get: means over labels of the pairs, for any space and any weight form."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from raytrans.shapes import Float, Int


class AttentionStatistics(NamedTuple):
    """Mean of |A| over the pairs of every group (*groups, heads), NaN where there is none; pairs of each (*groups)."""

    mean: Tensor
    count: Tensor


def attention_statistics(
    attention: Float[Tensor, "*pairs heads"],
    labels: Sequence[Tensor],
    sizes: Sequence[int],
    weights: Tensor | None = None,
) -> AttentionStatistics:
    """Mean |A| of the pairs that share all their labels, sum_p w_p |A_p| / sum_p w_p; the count is sum_p w_p.

    labels: (*pairs) integers, one or several, 0 ... size - 1 for every pair, or less than 0 for pairs that are left
    out; weights (*pairs) >= 0 or a mask, one each by default. Raises ValueError for labels or weights of another shape,
    labels beyond their size, and negative weights.
    """
    pairs = attention.shape[:-1]
    if not labels or len(labels) != len(sizes):
        raise ValueError(f"labels, sizes: expected as many of both, at least one, got {len(labels)} and {len(sizes)}")
    joint, used = torch.zeros(pairs, dtype=torch.long), torch.ones(pairs, dtype=torch.bool)
    for label, size in zip(labels, sizes, strict=True):
        if label.is_floating_point():
            raise ValueError(f"labels: expected integers, got {label.dtype}")
        if label.shape != pairs:
            raise ValueError(f"labels: expected the shape of the pairs {tuple(pairs)}, got {tuple(label.shape)}")
        if label.numel() and int(label.max()) >= size:
            raise ValueError(f"labels: expected numbers below {size}, got {int(label.max())}")
        joint, used = joint * size + label, used & (label >= 0)
    if weights is not None and weights.shape != pairs:
        raise ValueError(f"weights: expected the shape of the pairs {tuple(pairs)}, got {tuple(weights.shape)}")
    # a mask is a weight: booleans would saturate where they are added
    mass = torch.ones(pairs, dtype=attention.dtype) if weights is None else weights.to(attention.dtype)
    if bool((mass < 0).any()):
        raise ValueError(f"weights: expected numbers of at least 0, got {mass.min().item():g}")
    group, mass = joint[used], mass[used]
    count = mass.new_zeros(math.prod(sizes)).index_add(0, group, mass)
    total = attention.new_zeros(len(count), attention.shape[-1])
    total = total.index_add(0, group, attention.abs()[used] * mass[:, None])
    return AttentionStatistics((total / count[:, None]).unflatten(0, tuple(sizes)), count.unflatten(0, tuple(sizes)))


def bins(values: Float[Tensor, "*pairs"], edges: Sequence[float]) -> Int[Tensor, "*pairs"]:
    """k where edges_k <= value < edges_{k+1}; -1 outside of all edges and for NaN. Raises ValueError for few edges.

    Edges ascend; there is one bin fewer than edges.
    """
    if len(edges) < 2 or any(not a < b for a, b in zip(edges, edges[1:], strict=False)):
        raise ValueError(f"edges: expected at least two ascending numbers, got {list(edges)}")
    place = torch.bucketize(values, torch.as_tensor(edges, dtype=values.dtype), right=True) - 1
    return place.masked_fill((place >= len(edges) - 1) | values.isnan(), -1)
