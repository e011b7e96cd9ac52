"""Density and colour at a sample from what the stages know about it."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raytrans.models.stages import mlp
from raytrans.shapes import Float

INTERVAL_CAP = 0.3  # log distance; the last sample stands for everything behind it
DENSITY_SCALE = 30.0
RESIDUAL = 0.1  # largest learned addition to a colour
SAME_RAY = math.sin(math.radians(0.25) / 2) ** 2  # sin^2 of half the angle within which two rays are as good as one
SAME_RAY_FLOOR, SAME_RAY_POWER = 1e-3, 2


class Head(nn.Module):
    """alpha = 1 - exp(-softplus(sigma) delta) with delta a capped log-distance interval; colour a blend of sources.

    With `residual`, plus `RESIDUAL` tanh of a function of the sample's features that starts at zero.
    """

    def __init__(self, hidden: int, scalars: int, residual: bool = False):
        super().__init__()
        self.density = mlp(hidden + scalars, hidden, 1)
        self.hazard = nn.Parameter(torch.tensor(1.0))
        self.blend_source, self.blend_sample = nn.Linear(hidden, hidden), nn.Linear(hidden, hidden)
        self.blend_out = nn.Linear(hidden, 1)
        self.residual = mlp(hidden, hidden // 2, 3) if residual else None
        if residual:
            nn.init.zeros_(self.residual[-1].weight)
            nn.init.zeros_(self.residual[-1].bias)

    def alpha(self, x: Tensor, scalars: Tensor, interval: Tensor, visible: Tensor) -> Float[Tensor, "r s"]:
        """Opacity of the samples; `visible` (R, S) fades it to zero where no view sees."""
        sigma = self.density(torch.cat([x, scalars], -1))[..., 0] + self.hazard * scalars[..., 0]
        return (1 - torch.exp(-DENSITY_SCALE * F.softplus(sigma) * interval)) * visible

    def color(
        self, x: Tensor, tokens: Tensor, colors: Tensor, weight: Tensor, sine2_half: Float[Tensor, "n r s"]
    ) -> tuple[Float[Tensor, "r s 3"], Float[Tensor, "n r s"]]:
        """Convex combination of source colours (N, R, S, 3), so that plain backgrounds stay exact, and the residual.

        Also the shares (N, R, S) of the sources in it.

        A source ray that is the target ray, by sin^2 of half the angle between them, has the colour whatever the depth.
        """
        logit = self.blend_out(self.blend_source(tokens).add_(self.blend_sample(x)).relu_())[..., 0]
        share = torch.softmax(logit + torch.log(weight + 1e-4) + same_ray(sine2_half), 0)
        blend = (share[..., None] * colors).sum(0)
        return (blend if self.residual is None else blend + RESIDUAL * torch.tanh(self.residual(x))), share


def same_ray(sine2_half: Tensor) -> Tensor:
    """2 log(1 + a / (s + a / 1000)): what a source gains where its ray leaves the target's by less than 0.25 degrees.

    s is sin^2 of half the angle between the rays, a that of the 0.25 degrees; at one degree it gains 0.12.
    Source: "epipole consistency" of Buehler et al., Unstructured Lumigraph Rendering.
    """
    return SAME_RAY_POWER * torch.log1p(SAME_RAY / (sine2_half + SAME_RAY_FLOOR * SAME_RAY))


def log_intervals(inverse: Float[Tensor, "r s"]) -> tuple[Tensor, Tensor]:
    """Log distances (capped far away) and the capped intervals to the next sample, the last one being the cap."""
    logs = -torch.log(inverse + 1e-3)
    gap = (logs[:, 1:] - logs[:, :-1]).clamp(0, INTERVAL_CAP)
    return logs, torch.cat([gap, torch.full_like(gap[:, :1], INTERVAL_CAP)], -1)
