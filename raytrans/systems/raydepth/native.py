"""Ray attention for the depth task: the layers of the package, with arms that give up its frames of rays.

arm           features                            invariants of a pair of the caller, beside (cos, reciprocal)
equivariant   types 0, 1, 2 in the frames of rays where the point lies along the target, how far from it
world         as many invariants                  the same, and point and directions in the axes of the world
augmented     as many invariants                  the same as world; training turns every scene at random
canonical     as many invariants                  the same, and point and directions in the frame of the target
"""

import torch
from torch import Tensor, nn

from raytrans.fields.types import FieldType
from raytrans.geometry.rays import Rays
from raytrans.layers.attention import RayAttention
from raytrans.layers.linear import TypedLinear
from raytrans.layers.neighborhood import Gathered
from raytrans.layers.nonlinear import Gate, TypedNorm
from raytrans.shapes import Float
from raytrans.systems.raydepth.task import RayDepths, along_and_apart

ARMS = ("equivariant", "world", "augmented", "canonical")
INVARIANTS, DIRECTIONS = 6, 9


def point_invariants(targets: Rays, points: Float[Tensor, "... 3"], unit: Tensor) -> Float[Tensor, "... 6"]:
    """Smooth invariants of a ray with its origin and a point, over the unit: the place along it, and functions of the
    squared distance from it.
    """
    along, square = along_and_apart(targets, points)
    along, square = along / unit, square / unit**2
    bounded = [scale * square / (1 + scale * square) for scale in (1.0, 16.0, 256.0)]
    return torch.stack([along, *bounded, torch.log1p(square) / 4, (square + 1e-4).log() / 4], -1)


def _coordinates(arm: str, targets: Rays, sources: Rays, points: Tensor, unit: Tensor) -> Tensor:
    """(point - origin)/unit, direction of the source, direction of the target, in the axes of the arm."""
    offset = (points - targets.origin) / unit[..., None]
    vectors = torch.broadcast_tensors(offset, sources.direction, targets.direction)
    axes = targets.frame if arm == "canonical" else torch.eye(3, dtype=offset.dtype)
    return (torch.stack(vectors, -2) @ axes).flatten(-2)


class _Block(nn.Module):
    """Attention of targets over sources and a gated mixing, each behind a norm and beside a residual."""

    def __init__(self, kind: FieldType, extras: int, heads: int, basis: int):
        super().__init__()
        self.query_norm, self.source_norm = TypedNorm(kind), TypedNorm(kind)
        self.attention = RayAttention(kind, kind, kind, heads, basis, extras)
        wide = kind + kind
        self.mix = nn.Sequential(TypedNorm(kind), TypedLinear(kind, wide), Gate(wide), TypedLinear(wide, kind))

    def forward(self, x: Rays, y: Rays, query: Tensor, features: Tensor, places: dict) -> Tensor:
        query = query + self.attention(x, y, self.query_norm(query), self.source_norm(features), **places)
        return query + self.mix(query)


class NativeRayDepth(nn.Module):
    """log(depth/unit) of target rays by `layers` of ray attention over source rays whose depth is known.

    `width` invariants, half as many channels of type 1, a quarter of type 2. The arms are those of the table above and
    have the same numbers per feature; "augmented" is "world" to the network. Raises ValueError for an unknown arm.
    """

    def __init__(self, arm: str = "equivariant", width: int = 16, layers: int = 2, heads: int = 4, basis: int = 8):
        super().__init__()
        if arm not in ARMS:
            raise ValueError(f"arm: expected one of {', '.join(ARMS)}, got {arm!r}")
        self.arm = arm
        typed = FieldType({(0, 0.0): width, (1, 0.0): width // 2, (2, 0.0): width // 4})
        self.kind = typed if arm == "equivariant" else FieldType({(0, 0.0): typed.dim})
        self.invariants = self.kind.count(0)
        self.source = nn.Linear(2, self.invariants)
        self.start = nn.Parameter(torch.zeros(self.invariants))
        extras = INVARIANTS + (0 if arm == "equivariant" else DIRECTIONS)
        self.blocks = nn.ModuleList(_Block(self.kind, extras, heads, basis) for _ in range(layers))
        self.norm = TypedNorm(self.kind)
        self.head = nn.Linear(self.invariants, 1)

    def forward(self, scenes: RayDepths) -> Float[Tensor, "b m"]:
        """In the precision of the weights; the rays keep their own."""
        x, y, dtype = scenes.targets, scenes.sources, self.start.dtype
        neighborhood = Gathered.dense(x.shape, y.shape, batch=1)
        laid, points = neighborhood.target(x), neighborhood.source(scenes.points)
        unit = scenes.unit[:, None, None]
        extras = [point_invariants(laid, points, unit)]
        if self.arm != "equivariant":
            extras.append(_coordinates(self.arm, laid, neighborhood.source(y), points, unit))
        places = {
            "neighborhood": neighborhood,
            "unit": scenes.unit[:, None].expand(*x.shape),
            "extras": torch.cat(extras, -1).to(dtype),
        }
        share = (scenes.depth / scenes.unit[:, None]).to(dtype)
        features = self._typed(self.source(torch.stack([share, share.log()], -1)))
        query = self._typed(self.start.expand(*x.shape, -1))
        for block in self.blocks:
            query = block(x, y, query, features, places)
        return self.head(self.norm(query)[..., : self.invariants])[..., 0]

    def _typed(self, invariants: Tensor) -> Tensor:
        """Features whose other channels are zero."""
        return nn.functional.pad(invariants, (0, self.kind.dim - self.invariants))
