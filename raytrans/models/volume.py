"""Regularisation of a plane-sweep volume by a small CNN that is equivariant to quarter turns of the image."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raytrans.models.turns import TURNS, TurnConv, TurnLift
from raytrans.shapes import Float


class PlaneMixing(nn.Module):
    """Convolution along the planes: (N D, 4 C, H, W) to the same shape, weights shared over pixels and turns."""

    def __init__(self, channels: int, kernel: int = 5):
        super().__init__()
        self.kernel = kernel
        self.weight = nn.Linear(channels * kernel, channels)

    def forward(self, volume: Tensor, planes: int) -> Tensor:
        # one product with the band matrix (D C, D C): MKL-DNN's gradient of a 5x1 convolution takes ten times as long
        reach = torch.arange(planes, device=volume.device)
        offset = reach - reach[:, None] + self.kernel // 2
        kernel = self.weight.weight.unflatten(1, (-1, self.kernel))
        inside = (offset >= 0) & (offset < self.kernel)
        band = (kernel[..., offset.clamp(0, self.kernel - 1)] * inside).permute(2, 0, 3, 1)
        x = volume.unflatten(0, (-1, planes)).unflatten(2, (-1, TURNS)).flatten(3).flatten(1, 2)
        x = band.flatten(2).flatten(0, 1) @ x + self.weight.bias.repeat(planes)[:, None]
        return x.reshape(volume.shape)


class VolumeRegularizer(nn.Module):
    """Plane-sweep statistics (N, D, C, h, w) and image context (N, 4 K, h, w) to one logit per plane (N, D, h, w).

    Shared over planes, so the number of planes is free. A half-resolution branch widens the context in plain regions.
    """

    def __init__(self, statistics: int, context: int, channels: int):
        super().__init__()
        self.lift = TurnLift(statistics, channels)
        self.inject = TurnConv(context, channels, kernel=1)
        self.mix_in, self.mix_low, self.mix_out = (PlaneMixing(channels) for _ in range(3))
        self.low, self.fine = TurnConv(channels, channels), TurnConv(channels, channels)
        self.head = nn.Linear(channels, 1)

    def forward(self, statistics: Float[Tensor, "n d c h w"], context: Tensor) -> Float[Tensor, "n d h w"]:
        n, planes = statistics.shape[:2]
        x = self.lift(statistics.flatten(0, 1)).unflatten(0, (n, planes)) + self.inject(context)[:, None]
        x = F.elu_(x.flatten(0, 1))
        x = F.elu_(x + self.mix_in(x, planes))
        low = F.elu_(self.low(F.avg_pool2d(x, 2)))
        low = low + self.mix_low(low, planes)
        x = x + F.interpolate(low, size=x.shape[-2:], mode="bilinear", align_corners=False)
        x = F.elu_(x + self.fine(x))
        x = F.elu_(x + self.mix_out(x, planes))
        invariant = x.unflatten(1, (-1, TURNS)).mean(2)
        return self.head(invariant.movedim(1, -1))[..., 0].unflatten(0, (n, planes))
