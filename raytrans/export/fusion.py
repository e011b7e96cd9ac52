"""Depth maps of several views checked against each other and fused: what other views confirm stays."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from raytrans.data.selection import nearest
from raytrans.export.clouds import Cloud, cloud_of, merged, point_map
from raytrans.geometry.cameras import Cameras
from raytrans.shapes import Bool, Float


@dataclass(frozen=True)
class DepthMaps:
    """Cameras (N,) with z-depth (H, W), confidence (H, W) and colours (H, W, 3) of each; NaN where unknown."""

    cameras: Cameras
    depth: list[Tensor]
    confidence: list[Tensor]
    color: list[Tensor]

    def __len__(self) -> int:
        return len(self.depth)

    def trusted(self, least: float) -> "DepthMaps":
        """Depth forgotten where its confidence is below `least`."""
        pairs = zip(self.depth, self.confidence, strict=True)
        return replace(self, depth=[torch.where(c >= least, d, torch.nan) for d, c in pairs])

    def known(self) -> int:
        """Number of pixels whose depth is known."""
        return sum(int(depth.isfinite().sum()) for depth in self.depth)


@dataclass(frozen=True)
class Agreement:
    """What a pixel needs to be kept: `views` others whose depth says the same.

    `depth`: largest relative difference of depth; `pixels`: largest distance after the way there and back; `compared`:
    to how many views, the nearest ones, each is compared.
    """

    views: int = 2
    depth: float = 0.02
    pixels: float = 1.5
    compared: int = 10


def without_rim(confidence: Float[Tensor, "h w"], opacity: Float[Tensor, "h w"]) -> Float[Tensor, "h w"]:
    """Confidence times the least opacity of a pixel and its eight neighbours.

    The colour of a pixel at the rim of an object is a mixture with the background, its depth often one as well.
    """
    return confidence * -F.max_pool2d(-opacity[None, None], 3, 1, 1)[0, 0]


def consistent(
    maps: DepthMaps, agreement: Agreement = Agreement(), tell: Callable[[int], None] = lambda done: None
) -> DepthMaps:
    """Keep the depth of a pixel where enough other views confirm it; it becomes the mean over those and itself.

    A point x of view i is projected into view j; the depth found there (bilinear) leads to a point that is projected
    back. Confirmed means |z' - z| <= depth * z and |p' - p| <= pixels. `tell(i)` is called after every view.
    Source: the geometric consistency of "MVSNet", Yao et al. 2018, with the mean over the views that agree.
    """
    kept = []
    for i in range(len(maps)):
        others = nearest(maps.cameras, maps.cameras[i], agreement.compared, exclude=[i]) if len(maps) > 1 else []
        points, depth = point_map(maps.cameras[i], maps.depth[i]), maps.depth[i].double()
        count, total = torch.ones_like(depth), depth.clone()
        for j in others:
            found, distance = reprojected(points, maps.cameras[i], maps.cameras[j], maps.depth[j])
            agrees = ((found - depth).abs() <= agreement.depth * depth) & (distance <= agreement.pixels)
            count += agrees
            total += torch.where(agrees, found, 0.0)
        enough = count >= agreement.views + 1
        kept.append(torch.where(enough, total / count, torch.nan).to(maps.depth[i]))
        tell(i)
    return replace(maps, depth=kept)


def reprojected(
    points: Float[Tensor, "h w 3"], own: Cameras, other: Cameras, depth: Float[Tensor, "h2 w2"]
) -> tuple[Float[Tensor, "h w"], Float[Tensor, "h w"]]:
    """z-depth in `own` of what `other` says lies where it sees the points, and how far that is from their pixels.

    NaN where the other view does not see the point or does not know.
    """
    pixels, z = other.project(points)
    seen = sampled(depth, pixels)
    rays = other.pixel_rays(torch.where(seen.isfinite()[..., None], pixels, 1.0))
    cosine = (rays.direction * other.forward).sum(-1)
    back = other.centers + rays.direction * (seen / cosine)[..., None]
    at, found = own.project(back)
    height, width = points.shape[:2]
    rows, columns = torch.arange(height).double() + 0.5, torch.arange(width).double() + 0.5
    distance = torch.hypot(at[..., 0] - columns, at[..., 1] - rows[:, None])
    valid = (z > 0) & (found > 0)
    return torch.where(valid, found, torch.nan), torch.where(valid, distance, torch.nan)


def sampled(values: Float[Tensor, "h w"], pixels: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
    """Bilinear values at pixel coordinates, float64; NaN outside the picture and where one of the four is unknown."""
    height, width = values.shape
    grid = pixels.reshape(1, 1, -1, 2) * 2 / torch.tensor([width, height], dtype=torch.float64) - 1
    finite = torch.nan_to_num(grid, nan=2.0, posinf=2.0, neginf=-2.0)
    found = F.grid_sample(values.double()[None, None], finite, padding_mode="border", align_corners=False)
    inside = (finite.abs() <= 1).all(-1).reshape(pixels.shape[:-1])
    return torch.where(inside, found.reshape(pixels.shape[:-1]), torch.nan)


def footprint(maps: DepthMaps) -> float:
    """Median size of a pixel on the surface, z / f, over the pixels that are known. Raises ValueError where none is."""
    sizes = []
    for camera, depth in zip(maps.cameras, maps.depth, strict=True):
        focal = (camera.intrinsics[0, 0] * camera.intrinsics[1, 1]).sqrt()
        sizes.append((depth[depth.isfinite()].double() / focal)[::7])
    sizes = torch.cat(sizes)
    if not len(sizes):
        raise ValueError(
            "depth: no pixel is known whose depth other views confirm; try views wider apart, or less confidence"
        )
    return float(sizes.median())


def fused(maps: DepthMaps, voxel: float) -> Cloud:
    """One cloud of all maps with at most one point in a cube of side `voxel`; memory is bounded by what is merged."""
    whole: Cloud | None = None
    for camera, depth, color, weight in zip(maps.cameras, maps.depth, maps.color, maps.confidence, strict=True):
        part = merged(cloud_of(camera, depth, color, weight), voxel)
        whole = part if whole is None else merged(Cloud.cat([whole, part]), voxel)
    return whole


def inside_box(points: Float[Tensor, "p 3"], quantile: float) -> Bool[Tensor, " p"]:
    """Which points lie between two quantiles of all, `quantile` and one less that, along every axis."""
    order = points.sort(0).values
    low = order[int(quantile * (len(points) - 1))]
    high = order[int((1 - quantile) * (len(points) - 1))]
    return ((points >= low) & (points <= high)).all(-1)
