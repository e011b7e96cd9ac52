"""Range and samples of a ray, in inverse distance over the unit: s from 1/near down to 0, the point at infinity.

Bins and planes are uniform in the root of s: where cameras stand close together, everything lies at a small share of
1/near, and bins uniform in s would put it all into the first.

Naming: `inverse` s is an inverse distance counted in the unit; `edges` bound bins and descend; `weights` sum to <= 1.
"""

import math

import torch
from torch import Tensor

from raytrans.models.gather import RelativeCameras, project
from raytrans.shapes import Float

NEAREST, FARTHEST, STEPS = 0.4, 60.0, 20
FLOOR = 0.01
EXTREME = 1e15  # inverse distances stay within this and its inverse: their squares are numbers in float32


def near_inverse(cameras: RelativeCameras, origin: Float[Tensor, "r 3"], direction: Float[Tensor, "r 3"]) -> Tensor:
    """Inverse of the smallest distance at which two sources see the ray (one, if there is one source), (R,).

    A geometric scan of distances; seen views are counted by their fading weights, so the result is a continuous
    function of centres and rays alone: exp(sum_k P(first seen at t_k) log t_k).
    """
    with torch.no_grad():
        step = math.log(FARTHEST / NEAREST) / (STEPS - 1)
        logs = math.log(NEAREST) + step * torch.arange(STEPS, dtype=cameras.dtype, device=origin.device)
        samples = project(cameras, origin, direction, torch.exp(-logs).expand(origin.shape[0], -1), False)
        needed = min(2, len(cameras))
        seen = (samples.fade.sum(0) - (needed - 1)).clamp(0, 1)
        unseen = torch.cumprod(1 - seen, -1)
        before = torch.cat([torch.ones_like(unseen[:, :1]), unseen[:, :-1]], -1)
        # a ray that is never seen twice starts at one unit; half a step of margin covers the scan's resolution
        first = (before * seen * logs).sum(-1) - step / 2 * (1 - unseen[:, -1])
        return torch.exp(-first.clamp_min(math.log(NEAREST)))


def inverse_edges(near: Float[Tensor, " r"], far: Float[Tensor, " r"], bins: int) -> Float[Tensor, "r edges"]:
    """Edges of `bins` bins, uniform in the root from `near` down to `far`, inverse distances (far = 0 at infinity)."""
    steps = torch.linspace(0, 1, bins + 1, dtype=near.dtype, device=near.device)
    first, last = near.sqrt()[:, None], far.sqrt()[:, None]
    return torch.cat([near[:, None], (first + steps[1:-1] * (last - first)) ** 2, far[:, None]], -1)


def uniform_samples(near: Tensor, far: Tensor, count: int, jitter: Tensor | None = None) -> Float[Tensor, "r count"]:
    """Inverse distances uniform in the root, in the middle of `count` strata or where `jitter` (R, count) says."""
    index = torch.arange(count, dtype=near.dtype, device=near.device)
    u = (index + (0.5 if jitter is None else jitter)) / count
    first, last = near.sqrt()[:, None], far.sqrt()[:, None]
    return (first + u * (last - first)) ** 2


def plane_position(inverse: Tensor, near: Tensor) -> Tensor:
    """Where an inverse distance lies among planes from `near` to infinity: 1 - sqrt(s / near), within 0 and 1."""
    return 1 - (inverse / near).clamp(0, 1).sqrt()


def resample(edges: Tensor, weights: Tensor, count: int, jitter: Tensor | None = None) -> Float[Tensor, "r count"]:
    """Inverse-CDF samples of a histogram (R, bins) over descending `edges`, blurred and with a floor of 1 %.

    Deterministic at the quantiles (k + 1/2)/count, or stratified by `jitter` (R, count) in [0, 1). Not differentiable.
    """
    with torch.no_grad():
        padded = torch.cat([weights[:, :1], weights, weights[:, -1:]], -1)
        upper = torch.maximum(padded[:, :-1], padded[:, 1:])
        blurred = (upper[:, :-1] + upper[:, 1:]) / 2
        # the floor is a share of all light, not of what little a doubtful proposal holds: noise in it moves no samples
        mass = blurred / blurred.sum(-1, keepdim=True).clamp_min(1)
        bins = weights.shape[-1]
        mass = (1 - FLOOR) * mass + FLOOR / bins
        mass = mass / mass.sum(-1, keepdim=True)
        cdf = torch.cat([torch.zeros_like(mass[:, :1]), mass.cumsum(-1)], -1)
        index = torch.arange(count, dtype=edges.dtype, device=edges.device)
        offset = torch.full_like(index, 0.5).expand(edges.shape[0], -1) if jitter is None else jitter
        u = (index + offset) / count
        bin_of = (torch.searchsorted(cdf, u.contiguous(), right=True) - 1).clamp(0, bins - 1)
        low, share = cdf.gather(1, bin_of), mass.gather(1, bin_of)
        # a network that has gone astray gives colours that are no numbers, not places outside of every map
        fraction = ((u - low) / share).clamp(0, 1).nan_to_num(0.5)
        start, end = edges.gather(1, bin_of), edges.gather(1, bin_of + 1)
        return start + fraction * (end - start)
