"""Where along a target ray the surface may be: the sources' own depth distributions, read at coarse positions."""

import torch
from torch import Tensor, nn

from raytrans.models.gather import Samples


class Agreement(nn.Module):
    """Pool hazards and visibilities of the sources at samples of a ray into per-sample scalars."""

    features = 4

    def forward(self, hazard: Tensor, visible: Tensor, samples: Samples, cosine: Tensor) -> Tensor:
        """Inputs (N, R, S); output (R, S, 4): mean hazard, sharpest hazard, visibility, share of views that see it."""
        weight = samples.fade * (visible + 0.05) * (1.05 + cosine) ** 2
        total = weight.sum(0) + 1e-4
        mean = (weight * hazard).sum(0) / total
        sharp = (weight * hazard**2).sum(0) / (weight * hazard + 1e-4).sum(0)
        seen = samples.fade.sum(0)
        light = (samples.fade * visible).sum(0) / (seen + 1e-4)
        return torch.stack([torch.log(mean + 1e-3), torch.log(sharp + 1e-3), light, torch.tanh(seen / 2)], -1)


class Proposal(nn.Module):
    """Opacity of every coarse bin of a ray from pooled hazards: a small convolution along the ray."""

    def __init__(self, hidden: int = 16):
        super().__init__()
        self.convs = nn.ModuleList(
            [nn.Conv1d(Agreement.features, hidden, 5, padding=2), nn.Conv1d(hidden, 1, 5, padding=2)]
        )
        self.slope = nn.Parameter(torch.tensor(1.0))
        nn.init.zeros_(self.convs[1].weight)
        nn.init.zeros_(self.convs[1].bias)

    def forward(self, pooled: Tensor) -> Tensor:
        """(R, S, 4) to alpha (R, S); no view that sees a bin, no opacity."""
        x = self.convs[1](self.convs[0](pooled.mT).relu_())[:, 0]
        return torch.sigmoid(self.slope * (pooled[..., 0] + 2) + x) * pooled[..., 3]
