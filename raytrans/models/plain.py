"""Layers of an ordinary image encoder, in the place of those of `turns`: no quarter turn is a symmetry of them."""

import torch
from torch import Tensor, nn

from raytrans.models.turns import TurnBlock
from raytrans.shapes import Float


class PlainNorm(nn.Module):
    """Instance normalisation, also of maps of a single pixel."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, features: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        variance, mean = torch.var_mean(features, (2, 3), unbiased=False, keepdim=True)
        x = (features - mean) * (variance + 1e-4).rsqrt()
        return x * self.weight[:, None, None] + self.bias[:, None, None]


def plain_conv(in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1, gain: float = 1.0) -> nn.Conv2d:
    """Convolution with the padding and the initial scale of `TurnConv`."""
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, (kernel - stride + 1) // 2)
    nn.init.normal_(conv.weight, std=gain / (in_channels * kernel**2) ** 0.5)
    nn.init.zeros_(conv.bias)
    return conv


def plain_block(channels: int) -> TurnBlock:
    """The residual block of `turns`, of plain layers."""
    return TurnBlock(channels, PlainNorm, plain_conv)
