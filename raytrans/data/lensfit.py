"""Corrections of focal length, principal point and distortion that matched features ask for while the poses stay.

All cameras share them: the focal length is multiplied by exp(f), the principal point moves by (x, y) pixels, and k1
and k2 are added to the lens. Gauss-Newton on Sampson distances with Cauchy weights; standard errors are those of the
sum over pairs of views (sandwich), because matches of one pair err together.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from raytrans.data.matching import Matches
from raytrans.data.suspects import with_lens
from raytrans.geometry.cameras import Cameras
from raytrans.geometry.distortion import MODELS, Distortion
from raytrans.geometry.epipolar import sights, signed_distance
from raytrans.shapes import Float

NAMES = ("x", "y", "focal", "k1", "k2")
STEPS = torch.tensor([0.25, 0.25, 0.002, 0.01, 0.02], dtype=torch.float64)
BOUNDS = torch.tensor([20.0, 20.0, 0.7, 0.5, 1.0], dtype=torch.float64)


@dataclass(frozen=True)
class LensFit:
    """Corrections (5,) and their standard errors (5,), in the order of NAMES; 0 for what was held."""

    values: Float[Tensor, " 5"]
    errors: Float[Tensor, " 5"]


def corrected(cameras: Cameras, values: Float[Tensor, " 5"]) -> Cameras:
    """Cameras with the corrections applied."""
    k = cameras.intrinsics.clone()
    k[:, :2, :2] *= values[2].exp()
    k[:, :2, 2] += values[:2]
    lens = cameras.distortion
    if bool((values[3:] != 0).any()):
        model = "opencv" if lens is None else lens.model
        more = torch.zeros(len(cameras), len(MODELS[model]), dtype=torch.float64)
        more[:, :2] = values[3:]
        lens = Distortion(model, more if lens is None else lens.coefficients + more)
    return with_lens(cameras, k, lens)


def residuals(matches: Matches, cameras: Cameras) -> Float[Tensor, " n"]:
    """Signed Sampson distance of each match in pixels; 0 where there is no baseline."""
    a, b = matches.sides()
    poses = cameras.world_from_camera
    seen = [sights(cameras[side], matches.pixels[:, i]) for i, side in enumerate((a, b))]
    return signed_distance(*seen, poses[a], poses[b]).nan_to_num(0.0)


def fit_lens(matches: Matches, cameras: Cameras, free: Sequence[str], rounds: int = 3) -> LensFit:
    """Corrections of what is `free`, the rest held."""
    columns = [NAMES.index(name) for name in free]
    values, errors = torch.zeros(5, dtype=torch.float64), torch.zeros(5, dtype=torch.float64)
    for _ in range(rounds):
        error = residuals(matches, corrected(cameras, values))
        slope = torch.stack([_slope(matches, cameras, values, column) for column in columns], 1)
        scale = 1.4826 * error.abs().median()
        weight = 1 / (1 + (error / (2 * scale)) ** 2)
        pairs = len(matches.views)
        products = (weight[:, None] * slope)[:, :, None] * slope[:, None]
        normal = torch.zeros(pairs, len(free), len(free), dtype=torch.float64).index_add(0, matches.pair, products)
        right = torch.zeros(pairs, len(free), dtype=torch.float64)
        right = right.index_add(0, matches.pair, slope * (weight * error)[:, None])
        inverse = torch.linalg.pinv(normal.sum(0))
        step = -inverse @ right.sum(0)
        values[columns] = (values[columns] + step).clamp(-BOUNDS[columns], BOUNDS[columns])
        left = right + normal @ step
        errors[columns] = (inverse @ (left.T @ left) @ inverse).diagonal().sqrt()
    return LensFit(values, errors)


def _slope(matches: Matches, cameras: Cameras, values: Tensor, column: int) -> Tensor:
    """Central difference of the residuals by one correction."""
    step = torch.zeros(5, dtype=torch.float64)
    step[column] = STEPS[column]
    ahead, behind = (residuals(matches, corrected(cameras, values + sign * step)) for sign in (1, -1))
    return (ahead - behind) / (2 * STEPS[column])
