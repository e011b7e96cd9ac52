"""Losses: colour, and depth and opacity where they are known. All lengths are counted in the unit."""

import torch
import torch.nn.functional as F
from torch import Tensor

from raytrans.rendering.compositing import surface_share
from raytrans.rendering.renderer import Traced
from raytrans.rendering.sampling import plane_position
from raytrans.shapes import Float

KERNEL = 0.02  # width, in log distance, within which a sample counts as being at the known surface
BLUR = 0.002  # of an inverse distance, about a tenth of a pixel of parallax in small images: no view tells more


def near_surface(weights: Tensor, inverse: Tensor, known: Float[Tensor, " r"]) -> Tensor:
    """-log of the weight near a known inverse distance s: -log sum_k w_k exp(-|log(s_k/s)|/(0.02 + 0.002/s)), (R,)."""
    gap = torch.log(inverse + 1e-3) - torch.log(known + 1e-3)[:, None]
    width = KERNEL + BLUR / (known + 1e-3)[:, None]
    return -torch.log((weights * torch.exp(-gap.abs() / width)).sum(-1) + 1e-3)


def proposal_loss(edges: Tensor, weights: Tensor, known: Float[Tensor, " r"]) -> Tensor:
    """-log of the proposal's weight in the two bins around a known inverse distance, linear in its position, (R,)."""
    centers = (edges[:, 1:] + edges[:, :-1]) / 2
    width = edges[:, :-1] - edges[:, 1:]
    tent = (1 - (centers - known[:, None]).abs() / (1.5 * width)).clamp_min(0)
    empty = -torch.log(1 - weights.sum(-1) + 1e-3)
    hit = -torch.log((weights * tent).sum(-1) + 1e-3)
    return torch.where(known > 0, hit, empty)


def sweep_loss(logits: Float[Tensor, "d h w"], near: Float[Tensor, "1 h w"], known: Float[Tensor, "h w"]) -> Tensor:
    """Cross-entropy of plane logits of a source with the planes around its known inverse distances; NaN is unknown."""
    planes = logits.shape[0]
    valid = torch.isfinite(known)
    position = plane_position(torch.where(valid, known, 0.0), near[0]) * (planes - 1)
    lower = position.floor().clamp(max=planes - 2).long()
    share = position - lower
    logp = F.log_softmax(logits, 0)
    at = torch.stack([logp.gather(0, (lower + k)[None])[0] for k in (0, 1)])
    loss = -((1 - share) * at[0] + share * at[1])
    return (loss * valid).sum() / valid.sum().clamp_min(1)


def total_loss(traced: Traced, color: Tensor, inverse: Float[Tensor, " r"]) -> dict[str, Tensor]:
    """Terms of the loss of R rays: `inverse` is the known inverse distance over the unit, 0 in the sky, NaN unknown."""
    out = traced.rendering
    terms = {"color": ((out.color - color) ** 2).mean()}
    known = torch.isfinite(inverse)
    if bool(known.any()):
        s = inverse[known]
        surface = surface_share(s)
        terms["opacity"] = F.binary_cross_entropy(out.opacity[known].clamp(1e-4, 1 - 1e-4), surface)
        terms["depth"] = (surface * near_surface(traced.weights[known], traced.inverse[known], s)).mean()
        terms["proposal"] = proposal_loss(traced.edges[known], traced.proposal[known], s).mean()
    return terms
