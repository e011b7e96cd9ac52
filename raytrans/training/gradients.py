"""Gradients kept within bounds."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def clip_gradients(parameters: Iterable[nn.Parameter], most: float) -> Tensor:
    """Shrink the gradients to a norm of at most `most`; the norm before, infinite or NaN only where a gradient is.

    As torch's `clip_grad_norm_`, but for norms whose square is no number in float32: photographs of nothing but the
    grey in the middle make all features of untrained weights zero, and every normalisation multiplies gradients by 100.
    """
    parameters = list(parameters)
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = nn.utils.get_total_norm(gradients)
    if bool(torch.isinf(norm)):
        norm = nn.utils.get_total_norm([gradient.double() for gradient in gradients])
    nn.utils.clip_grads_with_norm_(parameters, most, norm)
    return norm
