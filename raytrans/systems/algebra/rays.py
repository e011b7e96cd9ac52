"""The transformers as backbones over `Rays`: a token is a line, the points where it starts and ends, invariants."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from raytrans.fields.embeddings import Embedding
from raytrans.geometry.rays import Rays
from raytrans.shapes import Float
from raytrans.systems.algebra.transformer import MultivectorTransformer
from raytrans.systems.raydepth.task import RayDepths


@dataclass(frozen=True)
class RayTokens:
    """Rays about a centre over a unit, as multivectors of an algebra: line, origin, plane, and a point on it if known.

    The plane is that through the origin across the ray, where depth is zero: its product with a point is the depth of
    the point, for which line and origin need two products.
    """

    embedding: Embedding
    centre: Float[Tensor, "*b 3"]
    unit: Float[Tensor, "*b"]

    def __call__(
        self, rays: Rays, features: Float[Tensor, "*b n c"], points: Float[Tensor, "*b n 3"] | None = None
    ) -> Float[Tensor, "*b n dim"]:
        """Features, then four multivectors a ray, the last zero without points; in the precision of the features."""
        lengths = self.unit[..., None, None]
        origin = (rays.origin - self.centre[..., None, :]) / lengths
        moved = Rays(rays.direction, torch.linalg.cross(origin, rays.direction), rays.frame, origin, origin)
        plane = self.embedding.plane(rays.direction, (rays.direction * origin).sum(-1))
        parts = [self.embedding.line(moved), self.embedding.point(origin), plane]
        if points is None:
            parts.append(torch.zeros_like(parts[0]))
        else:
            parts.append(self.embedding.point((points - self.centre[..., None, :]) / lengths))
        return torch.cat([features, torch.cat(parts, -1).to(features.dtype)], -1)


class AlgebraRays(nn.Module):
    """Invariants of target rays from source rays: `out` numbers a target, of `in_scalars` features of every ray.

    Sources attend to sources in `source_layers` blocks, then targets to them in `layers`. `multivectors` and `scalars`
    are the channels of a hidden token.
    """

    def __init__(
        self,
        variant: str,
        in_scalars: int,
        out: int,
        multivectors: int = 8,
        scalars: int = 16,
        layers: int = 2,
        source_layers: int = 0,
        heads: int = 4,
    ):
        super().__init__()
        given, hidden = (4, in_scalars), (multivectors, scalars)
        options = {"heads": heads}
        self.source = None
        if source_layers:
            self.source = MultivectorTransformer(variant, (given, hidden, given), source_layers, **options)
        self.target = MultivectorTransformer(variant, (given, hidden, (0, out)), layers, **options)

    def forward(
        self,
        targets: Rays,
        sources: Rays,
        features: tuple[Float[Tensor, "*b m c"], Float[Tensor, "*b n c"]],
        points: Float[Tensor, "*b n 3"] | None,
        centre: Float[Tensor, "*b 3"],
        unit: Float[Tensor, "*b"],
    ) -> Float[Tensor, "*b m out"]:
        """Rays (*b, m) and (*b, n), the features of both, measured points of the sources if any.

        The centre must move with the rays and the unit scale with them.
        """
        tokens = RayTokens(self.target.embedding, centre, unit)
        x, y = tokens(targets, features[0]), tokens(sources, features[1], points)
        if self.source is not None:
            y = y + self.source(y)
        return self.target(x, y)


class AlgebraRayDepth(nn.Module):
    """log(depth/unit) of the targets of the depth task, by a transformer over lines, origins and measured points."""

    def __init__(self, variant: str, **options: int):
        super().__init__()
        self.rays = AlgebraRays(variant, 3, 1, **options)

    def forward(self, scenes: RayDepths) -> Float[Tensor, "b m"]:
        """In the precision of the weights."""
        dtype = self.rays.target.leave.bias.dtype
        share = (scenes.depth / scenes.unit[:, None]).to(dtype)
        source = torch.stack([torch.ones_like(share), share, share.log()], -1)
        target = functional.pad(torch.zeros_like(scenes.truth, dtype=dtype)[..., None], (0, 2))
        return self.rays(scenes.targets, scenes.sources, (target, source), scenes.points, scenes.centre, scenes.unit)[
            ..., 0
        ]
