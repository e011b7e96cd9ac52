"""Convolutions that are equivariant to quarter turns of the image exactly: the group C4 acting on the pixel grid.

A regular map has shape (N, 4 C, H, W), channel 4 c + r being group channel c seen by the filter turned r times.
Turning the image by torch.rot90(k=1) turns every map and shifts r by one. Kernel 3 with stride 1 and kernel 4 with
stride 2, padding 1, keep this exact on even sides. Source: Cohen and Welling, Group Equivariant Convolutional Networks.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raytrans.fields.types import FieldType
from raytrans.shapes import Float

TURNS = 4


class TurnLift(nn.Module):
    """Lifting convolution from an image (N, C_in, H, W) to a regular map (N, 4 C_out, H', W'), no bias."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1):
        super().__init__()
        self.stride, self.padding = stride, (kernel - stride + 1) // 2
        self.weight = nn.Parameter(
            torch.randn(out_channels, in_channels, kernel, kernel) / (in_channels * kernel**2) ** 0.5
        )

    def forward(self, image: Float[Tensor, "n c h w"]) -> Tensor:
        turned = torch.stack([torch.rot90(self.weight, r, (-2, -1)) for r in range(TURNS)], 1)
        return F.conv2d(image, turned.flatten(0, 1), stride=self.stride, padding=self.padding)


class TurnConv(nn.Module):
    """Group convolution between regular maps, with a bias shared over the turns."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1, gain: float = 1.0):
        super().__init__()
        self.stride, self.padding = stride, (kernel - stride + 1) // 2
        scale = gain / (in_channels * TURNS * kernel**2) ** 0.5
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, TURNS, kernel, kernel) * scale)
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, features: Float[Tensor, "n c h w"]) -> Tensor:
        turned = [torch.rot90(self.weight, r, (-2, -1)).roll(r, 2) for r in range(TURNS)]
        weight, bias = torch.stack(turned, 1).flatten(2, 3).flatten(0, 1), self.bias.repeat_interleave(TURNS)
        if weight.shape[-1] > 1:
            return F.conv2d(features, weight, bias, self.stride, self.padding)
        # MKL-DNN's 1x1 convolution sums in an order that depends on the number of threads; a product does not
        mixing = weight[..., 0, 0].expand(len(features), -1, -1)
        return torch.baddbmm(bias[:, None], mixing, features.flatten(2)).unflatten(2, features.shape[2:])


class TurnNorm(nn.Module):
    """Instance normalisation whose statistics run over pixels and turns, affine weights shared over the turns."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, features: Float[Tensor, "n c h w"]) -> Tensor:
        x = features.unflatten(1, (-1, TURNS))
        variance, mean = torch.var_mean(x, (2, 3, 4), unbiased=False, keepdim=True)
        x = (x - mean) * (variance + 1e-4).rsqrt()
        return (x * self.weight[:, None, None, None] + self.bias[:, None, None, None]).flatten(1, 2)


class TurnBlock(nn.Module):
    """Residual block of two group convolutions, or of plain layers: x + conv(elu(norm(conv(elu(norm(x))))))."""

    def __init__(self, channels: int, norm: Callable = TurnNorm, conv: Callable = TurnConv):
        super().__init__()
        self.norms = nn.ModuleList([norm(channels), norm(channels)])
        self.convs = nn.ModuleList([conv(channels, channels), conv(channels, channels, gain=0.5)])

    def forward(self, features: Tensor) -> Tensor:
        x = features
        for norm, conv in zip(self.norms, self.convs, strict=True):
            x = conv(F.elu(norm(x)))
        return features + x


def turn_channels(field_type: FieldType) -> int:
    """Group channels that `fourier` needs for a type with n <= 3."""
    if any(b.n > 3 or b.nu for b in field_type.blocks):
        raise ValueError(f"field type: quarter turns carry (n, 0) with n <= 3, got {field_type}")
    return field_type.channels + field_type.count(2)


def fourier(features: Float[Tensor, "n c h w"], field_type: FieldType) -> Float[Tensor, "n dim h w"]:
    """Typed components of a regular map: mean for n = 0, sum_r i^{-r} f_r / 2 for n = 1, two signs paired for n = 2.

    To quarter turns n = 3 is the conjugate of n = 1. The sign of the Fourier transform is the one of the
    minimal-rotation section (features times e^{-i n gamma}).
    """
    x = features.unflatten(1, (-1, TURNS))
    n0, n1, n2, n3 = (field_type.count(n) for n in range(4))
    zero, one, two, three = x.split([n0, n1, 2 * n2, n3], 1)
    parts = [zero.mean(2)]
    if n1:
        parts.append(torch.stack([one[:, :, 0] - one[:, :, 2], one[:, :, 3] - one[:, :, 1]], 2).flatten(1, 2) / 2)
    if n2:
        parts.append((two[:, :, 0] - two[:, :, 1] + two[:, :, 2] - two[:, :, 3]) / 2)
    if n3:
        real, imaginary = three[:, :, 0] - three[:, :, 2], three[:, :, 1] - three[:, :, 3]
        parts.append(torch.stack([real, imaginary], 2).flatten(1, 2) / 2)
    return torch.cat(parts, 1)
