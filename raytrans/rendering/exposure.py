"""A gain and a bias for every source photo and colour channel, fitted to what the photos show of the same surfaces.

Pixel p of source i shows a surface where the source's own distribution of depth puts it; source j shows the same point
in the colour y where i shows x, and believes in it with a weight w. The fit, closed and without labels, minimises

    sum_ij mean_p w (g_i x + b_i - g_j y - b_j)^2 + PRIOR sum_i ((g_i - 1)^2 + b_i^2),    mean g = 1, mean b = 0

so that what is rendered has the mean exposure. It depends on no frame, order or quarter turn. Source, for gains alone:
Brown and Lowe, Automatic Panoramic Image Stitching, section 6.
"""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from raytrans.models.gather import Samples, project, read, read_planes
from raytrans.rendering.sampling import plane_position
from raytrans.rendering.sources import EncodedViews, matching_rays
from raytrans.shapes import Float

PRIOR = 1e-3
REACH = 2.0  # planes within which two distributions of depth mean the same surface


@dataclass
class ColorPairs:
    """Weighted means over the pixels of source i of what j shows of the same points, each (N, N, 3), 0 where i = j.

    weight of pairs, x and y colours of i and j, xx, yy, xy their products.
    """

    weight: Tensor
    x: Tensor
    y: Tensor
    xx: Tensor
    yy: Tensor
    xy: Tensor


def balanced(views: EncodedViews) -> EncodedViews:
    """Placed views with their colours at the mean exposure; differentiable in the colours, not in the depths."""
    gain, bias = fitted(color_pairs(views))
    corrected = zip(gain.to(views.colors[0]), views.colors, bias.to(views.colors[0]), strict=True)
    return replace(views, colors=[g[:, None, None] * color + b[:, None, None] for g, color, b in corrected])


def color_pairs(views: EncodedViews) -> ColorPairs:
    """Compare the sources at the matching pixels of each, in colours averaged down to those."""
    small = [F.adaptive_avg_pool2d(c, m.shape[-2:]) for c, m in zip(views.colors, views.match, strict=True)]
    rows = [_row(views, small, i) for i in range(len(views))]
    return ColorPairs(*(torch.stack(values) for values in zip(*rows, strict=True)))


def _row(views: EncodedViews, small: list[Tensor], i: int) -> list[Tensor]:
    """The fields of `ColorPairs` for source i against every other, (N, 3) each."""
    origin, frame, _ = matching_rays(views, i)
    position, sure = surface(views.volume[i].values[0].detach().flatten(1).T)
    inverse = (views.near[i].flatten() * (1 - position) ** 2)[:, None]
    samples = project(views.relative, origin, frame[..., 2], inverse)
    weight = (samples.fade * sure[:, None] * _agreeing(views, samples))[..., 0].double()
    weight = weight * (torch.arange(len(views), device=weight.device) != i)[:, None] / max(1, len(views) - 1)
    y = read(small, samples)[:, :, 0].double()
    x = y[i]
    w = weight[..., None]
    return [(w * value).mean(1) for value in (torch.ones_like(y), x.expand_as(y), y, x * x, y * y, x * y)]


def surface(probability: Float[Tensor, "r d"]) -> tuple[Float[Tensor, " r"], Float[Tensor, " r"]]:
    """Mean position among the planes, in [0, 1], and the probability within `REACH` planes of it, fading."""
    last = probability.shape[1] - 1
    planes = torch.linspace(0, 1, last + 1, dtype=probability.dtype, device=probability.device)
    position = (probability * planes).sum(1)
    near = (1 - last / REACH * (planes - position[:, None]).abs()).clamp_min(0)
    return position, (probability * near).sum(1)


def _agreeing(views: EncodedViews, samples: Samples) -> Float[Tensor, "n r s"]:
    """Share of the light of every source that its own distribution stops within `REACH` planes of the samples."""
    at = plane_position(samples.inverse, read(views.near, samples)[..., 0])
    reach = REACH / (views.volume[0].values.shape[1] - 1)
    before, behind = (read_planes(views.volume, samples, (at + k).clamp(0, 1))[1].detach() for k in (-reach, reach))
    return (before - behind).clamp(0, 1)


def fitted(pairs: ColorPairs) -> tuple[Float[Tensor, "n 3"], Float[Tensor, "n 3"]]:
    """Gains and biases of the photos, by the normal equations with two multipliers for their means."""
    n = len(pairs.weight)

    def block(own: Tensor, theirs: Tensor, across: Tensor) -> Tensor:
        """diag(sum_j own_ij + sum_j theirs_ji) - across, (3, N, N)."""
        return torch.diag_embed((own.sum(1) + theirs.sum(0)).T) - across.permute(2, 0, 1)

    gains = block(pairs.xx, pairs.yy, pairs.xy + pairs.xy.transpose(0, 1))
    mixed = block(pairs.x, pairs.y, pairs.x + pairs.y.transpose(0, 1))
    biases = block(pairs.weight, pairs.weight, pairs.weight + pairs.weight.transpose(0, 1))
    normal = torch.cat([torch.cat([gains, mixed], 2), torch.cat([mixed.mT, biases], 2)], 1)
    change = -normal[..., :n].sum(-1)  # the residual of gains 1 and biases 0
    mean = torch.block_diag(*[normal.new_ones(1, n)] * 2).expand(3, -1, -1)
    prior = PRIOR * torch.eye(2 * n, dtype=normal.dtype, device=normal.device)
    zero = normal.new_zeros(3, 2, 2)
    system = torch.cat([torch.cat([normal + prior, mean.mT], 2), torch.cat([mean, zero], 2)], 1)
    solution = torch.linalg.solve(system, torch.cat([change, zero[..., 0]], 1))
    return 1 + solution[:, :n].T, solution[:, n : 2 * n].T
