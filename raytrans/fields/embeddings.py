"""Geometry in three algebras: points, directions, planes, rays and rigid motions as multivectors, and back.

    Euclidean  Cl(3,0)    e1 e2 e3         everything relative to a centre that moves along; no translations
    projective Cl(3,0,1)  e1 e2 e3 e0      planes are vectors, lines bivectors, points trivectors
    conformal  Cl(4,1)    e1 e2 e3 e+ e-   the same planes and lines, points are null vectors

Lines and planes are those of the projective algebra everywhere but in the Euclidean one: the null vector `ideal` that
stands for the plane at infinity is e0, or -infinity with infinity = e+ + e- and the origin o = (e- - e+)/2. Source:
Dorst and De Keninck, A guided tour to the plane-based geometric algebra PGA; de Haan, Cohen and Brehmer, Euclidean,
projective, conformal, 2024, for the three as feature spaces of one network.
"""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from raytrans.fields.algebra import Algebra
from raytrans.fields.commutant import intertwiners
from raytrans.geometry.conversions import quaternion
from raytrans.geometry.rays import Rays
from raytrans.shapes import Float

EUCLIDEAN_METRIC, PROJECTIVE_METRIC, CONFORMAL_METRIC = (1, 1, 1), (1, 1, 1, 0), (1, 1, 1, 1, -1)
_BIVECTORS = ((1, 2), (0, 2), (0, 1))  # e23, -e13, e12 belong to x, y, z
_BIVECTOR_SIGNS = (1.0, -1.0, 1.0)


class Embedding:
    """Geometry of space in one of the three algebras. Raises ValueError for an algebra of another metric."""

    def __init__(self, algebra: Algebra):
        if algebra.metric not in (EUCLIDEAN_METRIC, PROJECTIVE_METRIC, CONFORMAL_METRIC):
            raise ValueError(
                f"algebra: expected squares {EUCLIDEAN_METRIC}, {PROJECTIVE_METRIC} or {CONFORMAL_METRIC}, as points "
                f"and motions need three +1 and at most a null direction, got {algebra.metric}"
            )
        self.algebra = algebra
        self.translates = algebra.metric != EUCLIDEAN_METRIC
        self.conformal = algebra.metric == CONFORMAL_METRIC

    def __repr__(self) -> str:
        return f"Embedding({self.algebra})"

    def _vector(self, x: Tensor, *more: Tensor) -> Tensor:
        """x in e1, e2, e3 and the other generators' components."""
        rest = len(self.algebra.metric) - 3 - len(more)
        zeros = torch.zeros_like(x[..., 0])
        return self.algebra.vector(torch.cat([x, torch.stack([*more, *[zeros] * rest], -1)], -1) if rest or more else x)

    def _bivector(self, x: Tensor) -> Tensor:
        """x1 e23 - x2 e13 + x3 e12."""
        out = x.new_zeros(*x.shape[:-1], self.algebra.dim)
        places = [self.algebra.index[blade] for blade in _BIVECTORS]
        out[..., places] = x * x.new_tensor(_BIVECTOR_SIGNS)
        return out

    def _ideal(self, scale: Tensor, name: str) -> Tensor:
        """scale times the null vector of the plane at infinity."""
        if not self.translates:
            raise ValueError(
                f"{name}: expected an algebra with a null vector, projective or conformal, got {self.algebra}; "
                "in the Euclidean one everything is relative to a centre"
            )
        zeros = torch.zeros_like(scale)[..., None].expand(*scale.shape, 3)
        return self._vector(zeros, -scale, -scale) if self.conformal else self._vector(zeros, scale)

    def point(self, p: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch dim"]:
        """p, or e123 - p1 e230 + p2 e130 - p3 e120 where three planes meet, or o + p + p^2/2 infinity."""
        if not self.translates:
            return self._vector(p)
        if self.conformal:
            half = p.square().sum(-1) / 2
            return self._vector(p, half - 0.5, half + 0.5)
        return self._trivector(torch.ones_like(p[..., 0]), p)

    def _trivector(self, weight: Tensor, p: Tensor) -> Tensor:
        out = p.new_zeros(*p.shape[:-1], self.algebra.dim)
        places = [self.algebra.index[blade] for blade in ((1, 2, 3), (0, 2, 3), (0, 1, 3))]
        out[..., places] = p * p.new_tensor([-1.0, 1.0, -1.0])
        out[..., self.algebra.index[(0, 1, 2)]] = weight
        return out

    def direction(self, v: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch dim"]:
        """A vector that translations leave alone: v, or the point of weight zero, or v ^ infinity."""
        if not self.translates:
            return self._vector(v)
        if self.conformal:
            return -self.algebra.exterior(self._vector(v), self._ideal(torch.ones_like(v[..., 0]), "direction"))
        return self._trivector(torch.zeros_like(v[..., 0]), v)

    def plane(self, normal: Float[Tensor, "*batch 3"], offset: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch dim"]:
        """The plane normal . x = offset: n - offset ideal, or offset + n in the Euclidean algebra."""
        value = self._vector(normal)
        if self.translates:
            return value - self._ideal(offset, "plane")
        return value + offset[..., None] * self.algebra.blade(dtype=normal.dtype).to(normal.device)

    def line(self, rays: Rays) -> Float[Tensor, "*batch dim"]:
        """The Pluecker ray (d, m): d1 e23 - d2 e13 + d3 e12 + ideal ^ m; if Euclidean d + m1 e23 - m2 e13 + m3 e12."""
        if not self.translates:
            return self._vector(rays.direction) + self._bivector(rays.moment)
        ideal = self._ideal(torch.ones_like(rays.direction[..., 0]), "line")
        return self._bivector(rays.direction) + self.algebra.exterior(ideal, self._vector(rays.moment))

    def rotor(self, rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch dim"]:
        """The versor w - x e23 + y e13 - z e12 of a rotation whose quaternion is (w, x, y, z)."""
        wxyz = quaternion(rotation)
        one = self.algebra.blade(dtype=rotation.dtype).to(rotation.device)
        return wxyz[..., :1] * one - self._bivector(wxyz[..., 1:])

    def translator(self, translation: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch dim"]:
        """The versor 1 - ideal t/2. Raises ValueError in the Euclidean algebra, whose metric has no null vector."""
        ideal = self._ideal(torch.ones_like(translation[..., 0]), "translation")
        one = self.algebra.blade(dtype=translation.dtype).to(translation.device)
        return one - self.algebra.product(ideal, self._vector(translation)) / 2

    def reflector(self, normal: Float[Tensor, "*batch 3"], offset: Float[Tensor, "*batch"]) -> Tensor:
        """The versor (*batch, dim) of the mirror at the plane normal . x = offset, 0 in the Euclidean algebra."""
        if not self.translates:
            if bool((offset != 0).any()):
                raise ValueError(f"offset: expected mirrors through the centre for {self.algebra}, got {offset}")
            return self._vector(normal)
        return self.plane(normal, offset)

    def motion(self, rotation: Float[Tensor, "*batch 3 3"], translation: Float[Tensor, "*batch 3"]) -> Tensor:
        """The versor (*batch, dim) of x -> R x + t; the rotation alone in the Euclidean algebra, whose centre moves."""
        turned = self.rotor(rotation)
        return self.algebra.product(self.translator(translation), turned) if self.translates else turned

    def weighted_point(self, x: Float[Tensor, "*batch dim"]) -> tuple[Tensor, Tensor]:
        """Weight w (*batch, 1) and w p (*batch, 3) of the point that the grade of points of x stands for.

        w is 1 in the Euclidean algebra, else the coefficient of e123 or that of the origin, -infinity . x.
        """
        self.algebra.check(x)
        if not self.translates:
            return torch.ones_like(x[..., :1]), x[..., 1:4]
        if self.conformal:
            return x[..., 5:6] - x[..., 4:5], x[..., 1:4]
        first, second, third, weight = (self.algebra.index[b] for b in ((1, 2, 3), (0, 2, 3), (0, 1, 3), (0, 1, 2)))
        place = torch.stack([-x[..., first], x[..., second], -x[..., third]], -1)
        return x[..., weight : weight + 1], place

    def point_of(self, x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch 3"]:
        """The point that x stands for; not finite where its weight is zero."""
        weight, place = self.weighted_point(x)
        return place / weight

    def distance(self, x: Float[Tensor, "*#batch dim"], y: Float[Tensor, "*#batch dim"]) -> Float[Tensor, "*batch"]:
        """Distance of two points: |x - y|, |join| over the weights, or sqrt(-2 x . y) over theirs."""
        if not self.translates:
            return self.algebra.norms(x - y)[..., 1]
        weight = (self.weighted_point(x)[0] * self.weighted_point(y)[0])[..., 0]
        if self.conformal:
            return (-2 * self.algebra.inner(x, y) / weight).clamp_min(0).sqrt()
        return self.algebra.norms(self.algebra.join(x, y))[..., 2] / weight.abs()

    def ray_invariants(self, x: Float[Tensor, "*#batch dim"], y: Float[Tensor, "*#batch dim"]) -> Tensor:
        """cos(theta) and the reciprocal product of two lines (*batch, 2): grades 0 and 4 of their product, negative.

        Raises ValueError in the Euclidean algebra, where lines are known up to their common centre alone.
        """
        self._ideal(torch.zeros(()), "lines")
        product = self.algebra.product(x, y)
        four = product[..., self.algebra.index[(0, 1, 2, 3)]]
        return torch.stack([-product[..., 0], four if self.conformal else -four], -1)

    def generators(self, mirrors: bool = False) -> list[np.ndarray]:
        """Matrices x -> [B, x] of the rotations and translations and, with mirrors, that of the reflection of e1."""
        algebra, eye = self.algebra, torch.eye(3, dtype=torch.float64)
        bivectors = list(self._bivector(eye))
        if self.translates:
            ideal = self._ideal(torch.ones(3, dtype=torch.float64), "translation")
            bivectors += list(algebra.product(ideal, self._vector(eye)))
        matrices = [(algebra.left(b) - algebra.right(b)).numpy() for b in bivectors]
        if mirrors:
            basis = torch.eye(algebra.dim, dtype=torch.float64)
            matrices.append(algebra.sandwich(self._vector(eye[0]), basis).mT.numpy())
        return matrices

    def maps(self, mirrors: bool = False, like: Tensor | None = None) -> tuple[Tensor, ...]:
        """Orthonormal bases of all linear maps that commute with the motions (and mirrors), float64 or as `like`.

        Of multivectors (k, dim, dim), of invariants to multivectors (k, dim, 1), of these to invariants (k, 1, dim).
        """
        like = torch.zeros((), dtype=torch.float64) if like is None else like
        bases = enumerate(_maps(self.algebra.metric, mirrors))
        return tuple(self.algebra.constant(f"maps {mirrors} {place}", basis, like) for place, basis in bases)


@lru_cache
def _maps(metric: tuple[int, ...], mirrors: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    own = Embedding(Algebra(metric)).generators(mirrors)
    trivial = [np.zeros((1, 1))] * (len(own) - mirrors) + [np.ones((1, 1))] * mirrors
    return intertwiners(own, own), intertwiners(trivial, own), intertwiners(own, trivial)


NAMES = {"euclidean": EUCLIDEAN_METRIC, "projective": PROJECTIVE_METRIC, "conformal": CONFORMAL_METRIC}


@lru_cache
def embedding(name: str) -> Embedding:
    """The embedding called "euclidean", "projective" or "conformal". Raises ValueError for another name."""
    if name not in NAMES:
        raise ValueError(f"name: expected one of {', '.join(NAMES)}, got {name!r}")
    return Embedding(Algebra(NAMES[name]))
