"""A plain transformer on coordinates for the depth task, in the axes of the world or of each target ray."""

import torch
from torch import Tensor, nn

from raytrans.layers.neighborhood import Gathered
from raytrans.shapes import Float
from raytrans.systems.plain import PlainBlock
from raytrans.systems.raydepth.task import RayDepths

FRAMES = ("world", "target")


class PlainRayDepth(nn.Module):
    """log(depth/unit) by a transformer that reads directions, origins and points as numbers.

    frame "world": in the axes of the world about the scene's centre, not equivariant to rotations. "target": every
    target ray sees the scene in its own frame, which is exact but for the choice of that frame, and costs a pass of
    the sources for each target. Raises ValueError for another frame.
    """

    def __init__(self, frame: str = "world", width: int = 48, layers: int = 2, heads: int = 4):
        super().__init__()
        if frame not in FRAMES:
            raise ValueError(f"frame: expected one of {', '.join(FRAMES)}, got {frame!r}")
        self.frame = frame
        self.source, self.target = nn.Linear(11, width), nn.Linear(6, width)
        self.blocks = nn.ModuleList(PlainBlock(width, heads) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 1)

    def forward(self, scenes: RayDepths) -> Float[Tensor, "b m"]:
        """In the precision of the weights."""
        origin, axes = scenes.centre[:, None], torch.eye(3, dtype=scenes.depth.dtype).expand(len(scenes), 1, 3, 3)
        x, y, points = scenes.targets, scenes.sources, scenes.points
        unit = scenes.unit[:, None, None, None]
        if self.frame == "target":
            origin, axes = x.origin, x.frame

        def seen(vectors: Tensor) -> Tensor:
            # (b, frames, rays, 3): one frame a scene, or one for each target
            return vectors @ axes

        places = [seen((v[:, None] - origin[:, :, None]) / unit) for v in (y.origin, points)]
        share = (scenes.depth / scenes.unit[:, None])[:, None, :, None].expand(*places[0].shape[:-1], 1)
        source = torch.cat([seen(y.direction[:, None]), *places, share, share.log()], -1)
        if self.frame == "target":
            target = torch.stack([x.direction, torch.zeros_like(x.origin)], -2)[:, :, None] @ axes[:, :, None]
            target = target.flatten(-2)
        else:
            target = torch.cat([seen(x.direction[:, None]), seen((x.origin[:, None] - origin[:, :, None]) / unit)], -1)
        dtype = self.head.weight.dtype
        features, query = self.source(source.to(dtype)), self.target(target.to(dtype))
        neighborhood = Gathered.dense(query.shape[:-1], features.shape[:-1], batch=2)
        for block in self.blocks:
            query = block(query, features, neighborhood)
        return self.head(self.norm(query)).reshape(scenes.truth.shape)
