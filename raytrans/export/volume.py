"""Truncated signed distances on a grid, averaged over depth maps, kept only near the surface.

A voxel at z-depth z of a camera that sees depth d there gets min(1, (d - z) / truncation) where d - z > -truncation:
positive in front of the surface. Source: "A Volumetric Method for Building Complex Models", Curless and Levoy 1996.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from raytrans.geometry.cameras import Cameras
from raytrans.shapes import Bool, Float

MAX_VOXELS = 2**24  # of the whole box: 64 MB for every dense array
BLOCK = 8  # voxels; blocks away from every point of the cloud hold nothing
CHUNK = 2**17  # voxels that are projected together


@dataclass(frozen=True)
class Grid:
    """A box of voxels: `origin` (3,) is the middle of the first one, `voxel` the side of each, `shape` their number."""

    origin: Float[Tensor, "3"]
    voxel: float
    shape: tuple[int, int, int]

    @classmethod
    def around(cls, points: Float[Tensor, "p 3"], voxel: float, margin: float, most: int = MAX_VOXELS) -> "Grid":
        """The smallest grid that holds the points and a margin; the voxel grows where more than `most` were needed."""
        low, high = points.amin(0) - margin, points.amax(0) + margin
        while True:
            shape = tuple((torch.ceil((high - low) / voxel).long() + 1).tolist())
            if shape[0] * shape[1] * shape[2] <= most:
                return cls(low, voxel, shape)
            voxel *= 1.05

    def near(self, points: Float[Tensor, "p 3"], reach: float) -> Bool[Tensor, "x y z"]:
        """True for the voxels in blocks that hold a point, and in their neighbours as far as `reach`."""
        blocks = [-(-side // BLOCK) for side in self.shape]
        index = ((points - self.origin) / (self.voxel * BLOCK)).floor().long()
        index = torch.minimum(index.clamp_min(0), torch.tensor(blocks) - 1)
        full = torch.zeros(blocks)
        full[index.unbind(-1)] = 1.0
        steps = int(-(-reach // (self.voxel * BLOCK)))
        full = F.max_pool3d(full[None, None], 2 * steps + 1, 1, steps)[0, 0] > 0
        for axis in range(3):
            full = full.repeat_interleave(BLOCK, axis)
        return full[: self.shape[0], : self.shape[1], : self.shape[2]]


class Volume:
    """Sums over depth maps at the active voxels of a grid: distance, weight and colour."""

    def __init__(self, grid: Grid, active: Bool[Tensor, "x y z"], truncation: float):
        self.grid, self.truncation = grid, truncation
        self.index = active.nonzero().int()
        self.distance, self.weight = torch.zeros(len(self.index)), torch.zeros(len(self.index))
        self.color, self.tint = torch.zeros(len(self.index), 3), torch.zeros(len(self.index))

    def integrate(
        self, camera: Cameras, depth: Float[Tensor, "h w"], color: Float[Tensor, "h w 3"], weight: Float[Tensor, "h w"]
    ) -> None:
        """Add one depth map, read at the nearest pixel; NaN says nothing. Colours count within the truncation."""
        for start in range(0, len(self.index), CHUNK):
            part = slice(start, start + CHUNK)
            pixels, z = camera.project(self.grid.origin + self.grid.voxel * self.index[part].double())
            column, row = pixels.nan_to_num(-1.0, -1.0, -1.0).floor().clamp(-1, 2**30).long().unbind(-1)
            inside = (z > 0) & (column >= 0) & (row >= 0) & (column < depth.shape[1]) & (row < depth.shape[0])
            at = torch.where(inside, row * depth.shape[1] + column, 0)
            distance = (depth.flatten().double()[at] - z) / self.truncation
            used = inside & (distance > -1)  # NaN is not
            share = torch.where(used, weight.flatten()[at], 0.0).float()
            self.distance[part] += share * distance.nan_to_num(0.0).clamp(-1, 1).float()
            self.weight[part] += share
            share = torch.where(distance.abs() < 1, share, 0.0)
            self.color[part] += share[:, None] * color.reshape(-1, 3)[at]
            self.tint[part] += share

    def dense(self, least: float = 0.0) -> tuple[Float[Tensor, "x y z"], Bool[Tensor, "x y z"]]:
        """Mean distances, 1 where there is none, and the voxels whose weight is above `least`."""
        values, known = torch.ones(self.grid.shape), torch.zeros(self.grid.shape, dtype=torch.bool)
        at = self.index.long().unbind(-1)
        values[at] = torch.where(self.weight > 0, self.distance / self.weight.clamp_min(1e-12), 1.0)
        known[at] = self.weight > least
        return values, known

    def color_at(self, points: Float[Tensor, "p 3"]) -> Float[Tensor, "p 3"]:
        """Mean colour at the voxel nearest to each point; grey where no view coloured it."""
        place = torch.full(self.grid.shape, -1, dtype=torch.int32)
        place[self.index.long().unbind(-1)] = torch.arange(len(self.index), dtype=torch.int32)
        nearest = ((points - self.grid.origin) / self.grid.voxel).round().long()
        nearest = torch.minimum(nearest.clamp_min(0), torch.tensor(self.grid.shape) - 1)
        row = place[nearest.unbind(-1)].long()
        known = (row >= 0) & (self.tint[row] > 0)
        mean = self.color[row] / self.tint[row].clamp_min(1e-12)[:, None]
        return torch.where(known[:, None], mean, 0.5)
