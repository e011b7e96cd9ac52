"""Which sources each target sees: one interface, two layouts, so that every layer is written once.

`Gathered` keeps the K sources of a target on an axis of their own, pairs have shape (*targets, K). `PairList` keeps P
pairs in any order with the indices of both ends. Cost and memory of everything here are linear in the number of pairs.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from raytrans.geometry.pairs import angle, distance
from raytrans.geometry.rays import Rays
from raytrans.shapes import Float

Elements = Tensor | Rays


def _each(elements: Elements, function: Callable[[Tensor], Tensor]) -> Elements:
    return elements.map(function) if isinstance(elements, Rays) else function(elements)


def batch_of(elements: Elements) -> torch.Size:
    """Batch shape of rays or of points (*batch, 3)."""
    return elements.shape if isinstance(elements, Rays) else elements.shape[:-1]


def _apart(x: Elements, y: Elements, unit: float) -> Tensor:
    """How far apart elements are: sqrt(angle^2 + (distance/unit)^2) of rays, else the distance."""
    if isinstance(x, Rays) and isinstance(y, Rays):
        return torch.hypot(angle(x, y), distance(x, y) / unit)
    if isinstance(x, Rays) or isinstance(y, Rays):
        rays, points = (x, y) if isinstance(x, Rays) else (y, x)
        return torch.linalg.cross(*torch.broadcast_tensors(points - rays.anchor, rays.direction)).norm(dim=-1)
    return (x - y).norm(dim=-1)


def _check(name: str, elements: Elements, expected: tuple[int, ...]) -> None:
    if tuple(elements.shape[: len(expected)]) != expected:
        raise ValueError(f"{name}: expected leading shape {expected}, got shape {tuple(elements.shape)}")


def _check_index(name: str, index: Tensor, size: int) -> None:
    if index.dtype not in (torch.int64, torch.int32):
        raise ValueError(f"{name}: expected integers, got {index.dtype}")
    if index.numel() and not (0 <= int(index.min()) and int(index.max()) < size):
        raise ValueError(f"{name}: expected indices from 0 to {size - 1}, got {int(index.min())} to {int(index.max())}")


class Gathered:
    """Neighbourhoods of equal size K: every target, batch shape `targets`, sees K sources; pairs are (*targets, K).

    Made by `dense` (everything sees everything), `laid_out` (sources already have shape (*targets, K)), `from_index`
    or `nearest`.
    """

    def __init__(self, targets: tuple[int, ...], sources: tuple[int, ...], size: int, index: Tensor | None, batch: int):
        self.targets, self.sources, self.size = tuple(targets), tuple(sources), size
        self.index, self.batch = index, batch

    @classmethod
    def dense(cls, targets: tuple[int, ...], sources: tuple[int, ...], batch: int = 0) -> "Gathered":
        """Every target with every source; the first `batch` axes are shared (separate scenes)."""
        if tuple(targets[:batch]) != tuple(sources[:batch]):
            raise ValueError(
                f"targets, sources: expected equal first {batch} axes, got {tuple(targets)}, {tuple(sources)}"
            )
        return cls(targets, sources, torch.Size(sources[batch:]).numel(), None, batch)

    @classmethod
    def laid_out(cls, targets: tuple[int, ...], size: int) -> "Gathered":
        """Sources and their features come with shape (*targets, size) already."""
        return cls(targets, (*targets, size), size, None, len(targets))

    @classmethod
    def from_index(cls, index: Tensor, sources: tuple[int, ...]) -> "Gathered":
        """Target t sees the sources index[t] of the flattened shape `sources`; index has shape (*targets, K)."""
        _check_index("index", index, torch.Size(sources).numel())
        return cls(index.shape[:-1], sources, index.shape[-1], index, 0)

    @classmethod
    def nearest(cls, x: Elements, y: Elements, count: int, unit: float = 1.0, chunk: int = 1 << 20) -> "Gathered":
        """The `count` elements of y nearest to each of x: rays by sqrt(angle^2 + (distance/unit)^2), else by distance.

        The choice is discrete, has no gradient, and is the same in every world frame except where scores tie.
        """
        x_shape, y_shape = (batch_of(e) for e in (x, y))
        flat, targets = (
            _each(e, lambda v, s=s: v.reshape(-1, *v.shape[len(s) :])) for e, s in ((y, y_shape), (x, x_shape))
        )
        sources = y_shape.numel()
        if not 0 < count <= sources:
            raise ValueError(f"count: expected 1 to {sources}, the number of sources, got {count}")
        step, found = max(1, chunk // sources), []
        with torch.no_grad():
            for start in range(0, x_shape.numel(), step):
                part = _each(targets, lambda v, start=start: v[start : start + step, None])
                found.append(_apart(part, flat, unit).topk(count, largest=False).indices)
        index = torch.cat(found) if found else torch.zeros(0, count, dtype=torch.long, device=x.device)
        return cls.from_index(index.reshape(*x_shape, count), y_shape)

    @property
    def pairs(self) -> tuple[int, ...]:
        return (*self.targets, self.size)

    def source(self, elements: Elements) -> Elements:
        """Values (*sources, ...) laid on the pairs, (*targets, K, ...) or broadcastable to it."""
        _check("sources", elements, self.sources)

        def lay(value: Tensor) -> Tensor:
            trailing = value.shape[len(self.sources) :]
            if self.index is not None:
                return value.reshape(-1, *trailing)[self.index]
            between = (1,) * (len(self.targets) - self.batch)
            return value.reshape(*self.sources[: self.batch], *between, self.size, *trailing)

        return _each(elements, lay)

    def common(self, values: Tensor) -> Tensor | None:
        """Values without the axis of the targets, (..., K, dim), where all targets of a row see the same; else None."""
        alike = values.ndim > 2 and values.shape[-3] == 1 and values.shape[-2] == self.size
        return values.squeeze(-3) if alike and self.targets[-1] > 1 else None

    def target(self, elements: Elements) -> Elements:
        """Values (*targets, ...) laid on the pairs, (*targets, 1, ...)."""
        _check("targets", elements, self.targets)
        return _each(elements, lambda value: value.unsqueeze(len(self.targets)))

    def sum(self, values: Float[Tensor, "..."]) -> Tensor:
        """Sum per-pair values (*targets, K, dim) over the sources, (*targets, dim)."""
        return values.expand(*self.pairs, values.shape[-1]).sum(-2)

    def contract(self, a: Float[Tensor, "..."], b: Float[Tensor, "..."]) -> Tensor:
        """Sum over sources of the outer product of (*targets, K, A) and (*targets, K, B), never formed per pair."""
        return torch.einsum("...ka,...kb->...ab", a, b).expand(*self.targets, -1, -1)

    def count(self, like: Tensor) -> Tensor:
        """Number of sources of every target, per pair, broadcastable to (*targets, K)."""
        return torch.full((), float(self.size), dtype=like.dtype, device=like.device)

    def softmax(self, logits: Float[Tensor, "..."], weights: Tensor | None = None) -> Tensor:
        """w e^l / sum w e^l over the sources for logits (*targets, K, heads) and weights (*targets, K) >= 0.

        Weights may be a mask. A target whose weights are all zero gets zeros.
        """
        if weights is None or not self.size:
            return torch.softmax(logits, -2)
        weights = weights.to(logits.dtype)[..., None]
        top = logits.detach().masked_fill(weights <= 0, -torch.inf).amax(-2, keepdim=True)
        mass = _exp_below(logits, top) * weights
        return _divide(mass, mass.sum(-2, keepdim=True))


class PairList:
    """Pairs in any order: target (P,) and source (P,) index the flattened shapes `targets` and `sources`."""

    def __init__(
        self,
        target: Tensor,
        source: Tensor,
        targets: tuple[int, ...],
        sources: tuple[int, ...],
    ):
        if target.ndim != 1 or target.shape != source.shape:
            raise ValueError(
                f"target, source: expected two lists of one length, got {tuple(target.shape)}, {tuple(source.shape)}"
            )
        self.targets, self.sources = torch.Size(targets), torch.Size(sources)
        _check_index("target", target, self.targets.numel())
        _check_index("source", source, self.sources.numel())
        self.target_index, self.source_index = target.long(), source.long()

    @classmethod
    def within(cls, points: Float[Tensor, "a 3"], radius: float, system: Tensor | None = None) -> "PairList":
        """All pairs of different points nearer than `radius`, of the same `system` (A,) where given.

        Targets in ascending order. Raises ValueError for points that are not finite, a radius that is not positive, or
        two points of a system at one place, between which nothing has a direction.
        """
        if not radius > 0:
            raise ValueError(f"radius: expected a positive length, got {radius}")
        if not bool(torch.isfinite(points).all()):
            raise ValueError("points: expected finite coordinates, got NaN or infinity")
        system = torch.zeros(len(points), dtype=torch.long, device=points.device) if system is None else system
        found = []
        with torch.no_grad():
            for own in system.unique().tolist():
                index = (system == own).nonzero()[:, 0]
                found.append(index[_near(points[index], radius, index)])
        pairs = torch.cat(found) if found else system.new_zeros(0, 2)
        target, source = pairs[pairs[:, 0].argsort(stable=True)].unbind(-1)
        return cls(target, source, (len(points),), (len(points),))

    @property
    def pairs(self) -> tuple[int, ...]:
        return tuple(self.target_index.shape)

    def source(self, elements: Elements) -> Elements:
        """Values (*sources, ...) laid on the pairs, (P, ...)."""
        _check("sources", elements, tuple(self.sources))
        count = len(self.sources)
        return _each(elements, lambda value: value.reshape(-1, *value.shape[count:]).index_select(0, self.source_index))

    def common(self, values: Tensor) -> None:
        """No values on the pairs are known to be alike for several targets."""
        return None

    def target(self, elements: Elements) -> Elements:
        """Values (*targets, ...) laid on the pairs, (P, ...)."""
        _check("targets", elements, tuple(self.targets))
        count = len(self.targets)
        return _each(elements, lambda value: value.reshape(-1, *value.shape[count:]).index_select(0, self.target_index))

    def sum(self, values: Float[Tensor, "pairs dim"]) -> Tensor:
        """Sum per-pair values (P, dim) over the sources of each target, (*targets, dim)."""
        total = values.new_zeros(self.targets.numel(), values.shape[-1]).index_add(0, self.target_index, values)
        return total.reshape(*self.targets, values.shape[-1])

    def contract(self, a: Float[Tensor, "pairs a"], b: Float[Tensor, "pairs b"]) -> Tensor:
        """Sum over sources of the outer product of (P, A) and (P, B), one column of A at a time: (*targets, A, B)."""
        return torch.stack([self.sum(a[:, i : i + 1] * b) for i in range(a.shape[-1])], -2)

    def count(self, like: Tensor) -> Tensor:
        """Number of sources of the target of every pair, (P,)."""
        ones = torch.ones(len(self.target_index), 1, dtype=like.dtype, device=like.device)
        return self.sum(ones).reshape(-1)[self.target_index]

    def softmax(self, logits: Float[Tensor, "pairs heads"], weights: Tensor | None = None) -> Tensor:
        """w e^l / sum w e^l over the pairs of one target; zeros where all its weights are zero."""
        weights = torch.ones_like(logits[:, :1]) if weights is None else weights.to(logits.dtype)[:, None]
        index = self.target_index[:, None].expand_as(logits)
        visible = logits.detach().masked_fill(weights <= 0, -torch.inf)
        top = logits.new_full((self.targets.numel(), logits.shape[-1]), -torch.inf)
        top = top.scatter_reduce(0, index, visible, "amax")[self.target_index]
        mass = _exp_below(logits, top) * weights
        return _divide(mass, self.sum(mass).reshape(-1, logits.shape[-1])[self.target_index])


def _near(points: Tensor, radius: float, names: Tensor) -> Tensor:
    """Indices (P, 2) of the pairs of different points nearer than the radius; `names` of the points, for errors."""
    # of the differences themselves: the short way by products loses half of the digits
    square = (points[:, None] - points).square().sum(-1)
    square.fill_diagonal_(torch.inf)
    if bool((square == 0).any()):
        first, second = names[(square == 0).nonzero()[0]].tolist()
        raise ValueError(f"points: expected different places, got points {first} and {second} at the same")
    return (square < radius**2).nonzero()


def _exp_below(logits: Tensor, top: Tensor) -> Tensor:
    """e^{l - top}; a masked logit may exceed the top of the visible ones, where it is cut to stay finite."""
    return (logits - top.masked_fill(top == -torch.inf, 0.0)).clamp(max=0.0).exp()


def _divide(mass: Tensor, total: Tensor) -> Tensor:
    return mass / total.masked_fill(total == 0, 1.0)
