"""The look of photographs on generated scenes: tones of things, contrast of light, and what a camera makes of both."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from raytrans.data.generate.layout import Layout, Light
from raytrans.data.statistics import LUMINANCE
from raytrans.shapes import Float

DARKEST, LIGHTEST = 0.02, 0.98


@dataclass(frozen=True)
class Development:
    """What one camera does to the pictures of a scene.

    `gain` (3) multiplies sRGB values: exposure and colour cast. `contrast` mixes in the curve 3 x^2 - 2 x^3, `vignette`
    is the loss in the corners, `softness` mixes in a 3x3 binomial blur, `noise` is a standard deviation.
    """

    gain: np.ndarray
    contrast: float
    vignette: float
    softness: float
    noise: float

    @staticmethod
    def drawn(rng: np.random.Generator) -> "Development":
        """A camera from a random stream."""
        return Development(
            gain=np.exp(rng.normal(0, 0.12) + rng.normal(0, 0.04, 3)),
            contrast=rng.uniform(0.2, 1.0),
            vignette=rng.uniform(0, 0.2),
            softness=rng.uniform(0, 0.4),
            noise=rng.uniform(0, 0.012),
        )

    def __call__(self, image: Float[Tensor, "height width 3"], rng: np.random.Generator) -> Tensor:
        """The picture that this camera takes of `image`; `rng` draws its noise."""
        height, width = image.shape[:2]
        y, x = (torch.linspace(-1, 1, side, device=image.device) for side in (height, width))
        loss = 1 - self.vignette * (y[:, None].square() + x.square()) / 2
        soft = torch.lerp(image, _blurred(image), self.softness)
        bright = (soft * torch.from_numpy(self.gain).to(soft) * loss[..., None]).clamp(0, 1)
        curved = torch.lerp(bright, bright.square() * (3 - 2 * bright), self.contrast)
        grain = torch.from_numpy(rng.standard_normal(image.shape, dtype=np.float32)).to(image.device)
        return (curved + self.noise * grain).clamp(0, 1)


def _blurred(image: Float[Tensor, "height width 3"]) -> Float[Tensor, "height width 3"]:
    """Weights 1 2 1 in both directions, edges repeated."""
    padded = torch.nn.functional.pad(image.movedim(-1, 0)[None], (1, 1, 1, 1), mode="replicate")[0].movedim(0, -1)
    rows = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
    return (rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]) / 4


def retone(layout: Layout, rng: np.random.Generator) -> None:
    """Give the pictures and the light of a finished layout, which are replaced, the range that photographs have.

    Clouds and the pictures of meshes have it.
    """
    kept = {layout.clouds, *(number for _, _, number in layout.meshes)}
    for number, picture in enumerate(layout.pictures):
        if number not in kept:
            layout.pictures[number] = _retoned(picture, rng)
    layout.light = _relit(layout.light, rng)


def _retoned(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A texture as of white, black, grey and brown things more often than of coloured ones, with its own contrast."""
    gray = (picture @ np.array(LUMINANCE, np.float32))[..., None]
    picture = gray + rng.beta(1.1, 1.6) * (picture - gray)
    mean, level = gray.mean(), rng.uniform(0.1, 0.85)
    return np.clip(level * (picture / mean) ** rng.uniform(1.0, 2.0), DARKEST, LIGHTEST).astype(np.float32)


def _relit(light: Light, rng: np.random.Generator) -> Light:
    """Harder light, darker shadows, a paler sky; backgrounds of objects that are white, black or of any grey."""
    pale = rng.uniform(0, 0.8)
    background = light.background
    if background is not None:
        background = np.ones(3) * rng.choice([1.0, 0.0, rng.uniform()], p=[0.5, 0.25, 0.25])
    return replace(
        light,
        color=light.color * rng.uniform(0.9, 1.35),
        ambient=light.ambient * rng.uniform(0.4, 1.0),
        zenith=(1 - pale) * light.zenith + 0.9 * pale,
        horizon=(1 - pale) * light.horizon + pale,
        background=background,
    )
