"""Bilinear reading of maps at many positions: channels last, sums in a fixed order, a backward pass that sorts.

`grid_sample` reads channel by channel and scatters gradients; a bag of four rows per position costs a third of it.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


def corners(grid: Float[Tensor, "m 2"], height: int, width: int) -> tuple[Int[Tensor, " m"], Float[Tensor, "m 4"]]:
    """Row of the upper left pixel in a (height * width) table, and the weights of it, its right, lower, last neighbour.

    Positions in [-1, 1] cover the image from edge to edge, those beyond the outermost pixel centres are moved there.
    """
    x = (grid[:, 0] * (width / 2) + (width - 1) / 2).clamp(0, width - 1)
    y = (grid[:, 1] * (height / 2) + (height - 1) / 2).clamp(0, height - 1)
    left, top = x.floor().clamp_(max=max(width - 2, 0)), y.floor().clamp_(max=max(height - 2, 0))
    x, y = x - left, y - top
    a, b = 1 - x, 1 - y
    weights = torch.stack([a * b, x * b, a * y, x * y], -1)
    return top.int() * width + left.int(), weights


class _Bilinear(torch.autograd.Function):
    """Weighted sum of four rows of a table for each position; gradients for the table alone."""

    @staticmethod
    def forward(ctx, table: Tensor, base: Tensor, weights: Tensor, steps: tuple[int, ...]) -> Tensor:
        ctx.save_for_backward(base, weights)
        ctx.steps, ctx.rows = steps, len(table)
        rows = base[:, None] + torch.tensor(steps, dtype=torch.int32, device=base.device)
        return F.embedding_bag(rows, table.detach(), per_sample_weights=weights, mode="sum")

    @staticmethod
    def backward(ctx, gradient: Tensor):
        base, weights = ctx.saved_tensors
        base, order = base.sort(stable=True)
        starts = torch.searchsorted(base, torch.arange(ctx.rows, dtype=torch.int32, device=base.device)).int()
        weights, order, gradient = weights[order], order.int(), gradient.contiguous()
        out = gradient.new_zeros(ctx.rows, gradient.shape[-1])
        for k, step in enumerate(ctx.steps):
            share = weights[:, k].contiguous()
            part = F.embedding_bag(order, gradient, starts, per_sample_weights=share, mode="sum")
            out[step:] += part[: ctx.rows - step]
        return out, None, None, None


def read_map(values: Float[Tensor, "c h w"], grid: Float[Tensor, "*b 2"]) -> Float[Tensor, "*b c"]:
    """Values at positions in [-1, 1] (`align_corners=False`, border padding); free of copies for channels-last maps.

    Differentiable in the values, not in the positions.
    """
    height, width = values.shape[-2:]
    table = values.to(grid.dtype).permute(1, 2, 0).reshape(height * width, -1).contiguous()
    base, weights = corners(grid.detach().reshape(-1, 2), height, width)
    right, down = min(width - 1, 1), width * min(height - 1, 1)
    out = _Bilinear.apply(table, base, weights, (0, right, down, right + down))
    return out.reshape(*grid.shape[:-1], values.shape[0])
