"""Held-out views, and the errors of renderings of them."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from raytrans.data.views import Views
from raytrans.geometry.cameras import Cameras
from raytrans.reports.pictures import Shown
from raytrans.training.metrics import DEPTH_METRICS, SSIM_WINDOW, depth_errors, depth_metrics, psnr, ssim

CLOSE = 0.03  # relative depth error


@dataclass(frozen=True)
class Case:
    """A held-out view: sources, camera, true colours and, where known, true z-depth."""

    name: str
    views: Views
    camera: Cameras
    image: Tensor
    depth: Tensor | None


@dataclass
class Scores:
    """Errors of one method, a value for each view; relative depth errors of every pixel that meets a surface.

    `maps`: the `depth_metrics` of each view as it is, and scaled by its median.
    """

    psnr: list[float] = field(default_factory=list)
    ssim: list[float] = field(default_factory=list)
    depth: list[Tensor] = field(default_factory=list)
    maps: list[tuple[dict[str, float], dict[str, float]]] = field(default_factory=list)

    def add(self, color: Tensor, depth: Tensor | None, case: Case) -> None:
        self.psnr.append(psnr(color, case.image))
        if min(case.image.shape[:2]) >= SSIM_WINDOW:
            self.ssim.append(ssim(color, case.image))
        if depth is not None and case.depth is not None:
            self.depth.append(depth_errors(depth, case.depth))
            self.maps.append(tuple(depth_metrics(depth, case.depth, scaled) for scaled in (False, True)))

    def extend(self, other: "Scores") -> None:
        """Append the views of another."""
        for name, values in vars(other).items():
            getattr(self, name).extend(values)

    def values(self) -> dict[str, object]:
        """Means over the views of PSNR, SSIM and `depth_metrics`, as they are and scaled; depth errors over all pixels.

        None where nothing is known.
        """
        depth = torch.cat(self.depth) if self.depth else torch.zeros(0)
        known = depth.numel() > 0
        return {
            "psnr": _mean(self.psnr),
            "ssim": _mean(self.ssim),
            "depth_median": depth.median().item() if known else None,
            "depth_mean": depth.mean().item() if known else None,
            "depth_close": (depth < CLOSE).double().mean().item() if known else None,
            "depth_metrics": _means([plain for plain, _ in self.maps]),
            "depth_metrics_scaled": _means([scaled for _, scaled in self.maps]),
        }


@dataclass(frozen=True)
class Scored:
    """A case under every protocol and method, and its rendering in the first protocol."""

    protocols: dict[str, Scores]
    baselines: dict[str, Scores]
    shown: Shown


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _means(maps: list[dict[str, float]]) -> dict[str, float | None] | None:
    """Mean of every metric over the views where it is known; None for no views."""
    if not maps:
        return None
    return {name: _mean([one[name] for one in maps if math.isfinite(one[name])]) for name in DEPTH_METRICS}
