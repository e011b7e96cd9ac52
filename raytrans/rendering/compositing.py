"""From densities and colours at samples to colour, depth, opacity and spread of a ray.

w_k = alpha_k prod_{j<k} (1 - alpha_j). Samples beyond `HORIZON` units are background: they have colour but no depth.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from raytrans.shapes import Float

HORIZON = (0.003, 0.01)  # inverse distances over the unit between which a surface fades into background
WINDOW = 0.03  # width of the window around the dominant mode, in log distance
SHARPNESS = 8


@dataclass
class Rendering:
    """What a set of rays (*batch) sees. Lengths are in the user's units; NaN where nothing is there.

    color (*batch, 3); depth (*batch) z-depth of the dominant surface, for rays of a camera; depth_mean (*batch) the
    plain mean z-depth, differentiable; distance (*batch) along the ray to the dominant surface; opacity (*batch) share
    of the ray that meets a surface; spread (*batch) standard deviation of the distance.
    """

    color: Float[Tensor, "*batch 3"]
    distance: Float[Tensor, "*batch"]
    distance_mean: Float[Tensor, "*batch"]
    opacity: Float[Tensor, "*batch"]
    spread: Float[Tensor, "*batch"]
    depth: Float[Tensor, "*batch"] | None = None
    depth_mean: Float[Tensor, "*batch"] | None = None

    def map(self, function) -> "Rendering":
        """Apply `function` to every tensor."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return Rendering(**{k: None if v is None else function(v) for k, v in values.items()})

    def write(self, start: int, part: "Rendering") -> None:
        """Put the rays of `part` in the place of those from `start` on."""
        for f in fields(self):
            value = getattr(part, f.name)
            if value is not None:
                getattr(self, f.name)[start : start + len(value)] = value

    @staticmethod
    def cat(parts: "list[Rendering]") -> "Rendering":
        """Concatenate along the first axis."""
        names = [f.name for f in fields(Rendering)]
        columns = {n: [getattr(p, n) for p in parts] for n in names}
        return Rendering(**{n: None if c[0] is None else torch.cat(c) for n, c in columns.items()})


def weights_from_alpha(alpha: Float[Tensor, "*r s"]) -> tuple[Tensor, Tensor]:
    """Weights w_k = alpha_k prod_{j<k} (1 - alpha_j), and what is left after the last sample."""
    passed = torch.cumprod(1 - alpha, -1)
    before = torch.cat([torch.ones_like(passed[..., :1]), passed[..., :-1]], -1)
    return alpha * before, passed[..., -1]


def surface_share(inverse: Tensor) -> Tensor:
    """1 for samples that are near enough to be a surface, fading smoothly to 0 towards infinity."""
    x = ((inverse - HORIZON[0]) / (HORIZON[1] - HORIZON[0])).clamp(0, 1)
    return x * x * (3 - 2 * x)


def composite(weights: Tensor, colors: Tensor, inverse: Float[Tensor, "r s"], background: Tensor) -> Rendering:
    """Composite weights (R, S) and colours (R, S, 3) at inverse distances over the unit; distances come out in units.

    opacity = sum_k w_k h_k with h_k = `surface_share`; distance_mean = sum w_k h_k t_k / opacity; distance is the mean
    in a smooth window around the dominant mode: weights w_k h_k m_k^8, m_k = sum_j w_j h_j exp(-(log t_k/t_j)^2/2h^2).
    """
    color = (weights[..., None] * colors).sum(-2) + (1 - weights.sum(-1, keepdim=True)) * background
    surface = weights * surface_share(inverse)
    opacity = surface.sum(-1)
    # fading samples have weight zero below the horizon, so the cap on the distance is never seen
    distance = 1 / inverse.clamp_min(HORIZON[0])
    total = opacity.clamp_min(1e-6)
    mean = (surface * distance).sum(-1) / total
    spread = ((surface * (distance - mean[..., None]) ** 2).sum(-1) / total + 1e-12).sqrt()
    logs = distance.log()
    near = torch.exp(-0.5 * ((logs[..., :, None] - logs[..., None, :]) / WINDOW) ** 2)
    mass = (near * surface[..., None, :]).sum(-1) / total[..., None]
    window = surface * mass**SHARPNESS
    mode = (window * distance).sum(-1) / window.sum(-1).clamp_min(1e-20)
    return Rendering(color, mode, mean, opacity, spread)
