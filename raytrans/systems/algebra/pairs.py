"""Three questions about two things in space, each with an exact answer, for transformers of any algebra or none.

points   two points           their distance
lines    two lines            their distance
foot     a line and a point   the point of the line that is nearest
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from raytrans.geometry.pairs import distance
from raytrans.geometry.rays import Rays
from raytrans.layers.neighborhood import Gathered
from raytrans.shapes import Float
from raytrans.systems.algebra.transformer import MultivectorTransformer
from raytrans.systems.plain import PlainBlock

TASKS = {"points": ("point", "point"), "lines": ("line", "line"), "foot": ("line", "point")}


@dataclass(frozen=True)
class Pairs:
    """Two tokens, each a point or a line through a point, and the answer: a length (b, 1) or a point (b, 3)."""

    task: str
    points: Float[Tensor, "b 2 3"]
    directions: Float[Tensor, "b 2 3"]
    answer: Float[Tensor, "b out"]

    @property
    def centre(self) -> Float[Tensor, "b 3"]:
        """Mean of the two points, which moves along."""
        return self.points.mean(1)

    def __getitem__(self, index: slice | Tensor) -> "Pairs":
        return Pairs(self.task, self.points[index], self.directions[index], self.answer[index])

    def to(self, dtype: torch.dtype) -> "Pairs":
        """Copy in another precision."""
        return Pairs(self.task, *(v.to(dtype) for v in (self.points, self.directions, self.answer)))

    def moved(self, rotation: Float[Tensor, "3 3"], translation: Float[Tensor, "3"]) -> "Pairs":
        """Everything by x -> R x + t, lengths as they are."""
        answer = self.answer @ rotation.mT + translation if self.task == "foot" else self.answer
        return Pairs(self.task, self.points @ rotation.mT + translation, self.directions @ rotation.mT, answer)


def draw(task: str, count: int, generator: torch.Generator) -> Pairs:
    """Standard normal points, directions uniform on the sphere, in float64. Raises ValueError for an unknown task."""
    if task not in TASKS:
        raise ValueError(f"task: expected one of {', '.join(TASKS)}, got {task!r}")
    points, directions = torch.randn(2, count, 2, 3, generator=generator, dtype=torch.float64)
    directions = functional.normalize(directions, dim=-1)
    if task == "points":
        answer = (points[:, 0] - points[:, 1]).norm(dim=-1, keepdim=True)
    elif task == "lines":
        answer = distance(*(Rays.from_points(points[:, i], directions[:, i]) for i in range(2)))[:, None]
    else:
        offset = ((points[:, 1] - points[:, 0]) * directions[:, 0]).sum(-1, keepdim=True)
        answer = points[:, 0] + offset * directions[:, 0]
    return Pairs(task, points, directions, answer)


def _flags(pairs: Pairs) -> Tensor:
    """(b, 2, 2): one for a line, one for a point."""
    own = [[float(kind == name) for name in ("line", "point")] for kind in TASKS[pairs.task]]
    return pairs.points.new_tensor(own).expand(len(pairs.points), 2, 2)


class AlgebraPairs(nn.Module):
    """The answer by a `MultivectorTransformer`; with `centred` coordinates count from the mean of the two points."""

    def __init__(self, variant: str, task: str, multivectors: int, scalars: int = 8, layers: int = 2, heads: int = 2):
        super().__init__()
        self.centred = variant == "E"
        out = (1, 0) if task == "foot" else (0, 1)
        self.tokens = MultivectorTransformer(variant, ((2, 2), (multivectors, scalars), out), layers, heads)

    def forward(self, pairs: Pairs) -> Float[Tensor, "b out"]:
        """Lengths are the mean of what the two tokens say; a point is p + (w y - w p), w y the output's point."""
        geometry = self.tokens.embedding
        centre = pairs.centre[:, None] if self.centred else torch.zeros_like(pairs.centre[:, None])
        points, flags = pairs.points - centre, _flags(pairs)
        lines = geometry.line(Rays.from_points(points, pairs.directions))
        own = torch.stack([lines, geometry.point(points)], -2) * flags[..., None]
        out = self.tokens(torch.cat([flags, own.flatten(-2)], -1))
        if pairs.task != "foot":
            return out.mean(1)
        weight, place = geometry.weighted_point(out[:, 1])
        return points[:, 1] + (place - weight * points[:, 1]) + centre[:, 0]


class PlainPairs(nn.Module):
    """The answer by a plain transformer on coordinates from the mean of the two points, or as they are."""

    def __init__(self, task: str, width: int, layers: int = 2, heads: int = 2):
        super().__init__()
        self.centred = True
        self.enter, self.leave = nn.Linear(11, width), nn.Linear(width, 3 if task == "foot" else 1)
        self.blocks = nn.ModuleList(PlainBlock(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, pairs: Pairs) -> Float[Tensor, "b out"]:
        """A point token shows its point, a line its direction and moment; the rest are zeros."""
        centre = pairs.centre[:, None] if self.centred else torch.zeros_like(pairs.centre[:, None])
        points, flags = pairs.points - centre, _flags(pairs)
        line, point = flags[..., :1], flags[..., 1:]
        moment = torch.linalg.cross(points, pairs.directions)
        x = self.enter(torch.cat([flags, points * point, pairs.directions * line, moment * line], -1))
        everything = Gathered.dense(x.shape[:-1], x.shape[:-1], batch=1)
        for block in self.blocks:
            x = block(x, x, everything)
        out = self.leave(self.norm(x))
        return out[:, 1] + centre[:, 0] if pairs.task == "foot" else out.mean(1)
