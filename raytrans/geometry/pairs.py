"""Pair geometry of two oriented lines: invariants, phases and slides that stay smooth on every singular stratum.

For a target ray x and a source ray y: c = d_x x d_y, sin(theta) = |c|, n = c/|c|, w = a_y - a_x, and phi_x, phi_y are
the angles of n in the two frames. The phases themselves are singular where the rays are parallel or antiparallel, but

    (e1 + i e2)_x . conj(e1 + i e2)_y / 2 = cos^2(theta/2) e^{i(phi_x - phi_y)}
    (e1 + i e2)_x .     (e1 + i e2)_y / 2 = sin^2(theta/2) e^{i(phi_x + phi_y)}
    c . (e1 + i e2)_x / 2 = sin(theta/2) cos(theta/2) e^{i phi_x},      and the same for y

are polynomials in the frames: the Wigner functions D^1. Every phase e^{i(n_out phi_x - n_in phi_y)} comes out of
products of these, already carrying its factor u^|n_out - n_in| v^|n_out + n_in|, with no division by a small number.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from raytrans.geometry.rays import Rays
from raytrans.shapes import Complex, Float

SOFTENING = 0.01


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(-1)


def _safe_norm(v: Tensor) -> Tensor:
    """Euclidean norm whose gradient at zero is zero instead of NaN."""
    square = _dot(v, v)
    return torch.where(square > 0, square, 1.0).sqrt() * (square > 0)


def half_angle_squares(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """sin^2(theta/2) and cos^2(theta/2) of unit vectors (..., 3), each accurate where it is small."""
    return _dot(x - y, x - y) / 4, _dot(x + y, x + y) / 4


def cross_directions(x: Tensor, y: Tensor) -> Tensor:
    """x cross y of unit vectors (..., 3) as x cross (y -+ x), which keeps its digits where they are nearly parallel."""
    x, y = torch.broadcast_tensors(x, y)
    opposite = _dot(x, y)[..., None] < 0
    return torch.linalg.cross(x, torch.where(opposite, y + x, y - x))


def angle(x: Rays, y: Rays) -> Tensor:
    """Angle theta in [0, pi] of the directions: 2 atan2(|d_x - d_y|, |d_x + d_y|); its gradient is 0 at 0 and pi."""
    return 2 * torch.atan2(_safe_norm(x.direction - y.direction), _safe_norm(x.direction + y.direction))


def reciprocal_product(x: Rays, y: Rays) -> Tensor:
    """d_x . m_y + d_y . m_x = -(a_y - a_x) . (d_x x d_y), computed from the difference of anchors.

    Zero exactly where the lines meet or are parallel; a length. Far from the world origin the form with the anchors
    keeps digits that moments lose. Source: Pottmann and Wallner, Computational Line Geometry, section 2.1.
    """
    return -_dot(y.anchor - x.anchor, cross_directions(x.direction, y.direction))


def _parallel(x: Rays, y: Rays) -> Tensor:
    cross = cross_directions(x.direction, y.direction)
    return _dot(cross, cross) <= (8 * torch.finfo(x.dtype).eps) ** 2


def distance(x: Rays, y: Rays) -> Tensor:
    """Smallest distance between the two lines, a length >= 0; gradients are finite, zero where the lines meet.

    |w . n| for skew lines, |w - (w . d) d| for parallel ones.
    """
    w, c = y.anchor - x.anchor, cross_directions(x.direction, y.direction)
    parallel = _parallel(x, y)
    safe = torch.where(parallel[..., None], torch.zeros_like(c), c)
    skew = _dot(w, safe).abs() / torch.where(parallel, torch.ones_like(c[..., 0]), _safe_norm(safe))
    across = _safe_norm(w - _dot(w, x.direction)[..., None] * x.direction)
    return torch.where(parallel, across, skew)


def feet(x: Rays, y: Rays) -> tuple[Tensor, Tensor]:
    """Positions t_x, t_y of the feet of the common perpendicular, measured along each ray from its anchor.

    t_x = (w.d_x - cos w.d_y)/sin^2, t_y = (cos w.d_x - w.d_y)/sin^2. Parallel rays have a line of common
    perpendiculars; the one half-way between the anchors is returned, with finite gradients.
    """
    w = y.anchor - x.anchor
    a, b, cosine = _dot(w, x.direction), _dot(w, y.direction), _dot(x.direction, y.direction)
    c = cross_directions(x.direction, y.direction)
    parallel = _parallel(x, y)
    sine2 = torch.where(parallel, torch.ones_like(a), _dot(c, c))
    return (
        torch.where(parallel, a / 2, (a - cosine * b) / sine2),
        torch.where(parallel, -b / 2, (cosine * a - b) / sine2),
    )


@dataclass
class RayPairs:
    """Invariants and smooth phases of pairs (x, y) of any batch shape; lengths are counted in the unit.

    cosine (*b), reciprocal (*b) are the two invariants. The rest feeds `phase`.
    """

    cosine: Float[Tensor, "*b"]
    reciprocal: Float[Tensor, "*b"]
    sine2_half: Float[Tensor, "*b"]
    cosine2_half: Float[Tensor, "*b"]
    difference: Complex[Tensor, "*b"]
    total: Complex[Tensor, "*b"]
    first: Complex[Tensor, "*b"]
    second: Complex[Tensor, "*b"]
    along_x: Float[Tensor, "*b"]
    along_y: Float[Tensor, "*b"]
    softening: float = SOFTENING

    FEATURES = 7

    @classmethod
    def of(cls, x: Rays, y: Rays, unit: Tensor | float = 1.0, softening: float = SOFTENING) -> "RayPairs":
        """Pair geometry of target rays x and source rays y, broadcast against each other."""
        w = (y.anchor - x.anchor) / torch.as_tensor(unit, dtype=x.dtype, device=x.device)[..., None]
        return cls.from_frames(x.frame, y.frame, cross_directions(x.direction, y.direction), w, softening)

    @classmethod
    def from_frames(cls, frame_x: Tensor, frame_y: Tensor, cross: Tensor, w: Tensor, softening: float) -> "RayPairs":
        dx, dy = frame_x[..., 2], frame_y[..., 2]
        inner = frame_x[..., :2].mT @ frame_y[..., :2]
        a, b, c, d = inner[..., 0, 0], inner[..., 0, 1], inner[..., 1, 0], inner[..., 1, 1]
        sine2, cosine2 = half_angle_squares(dx, dy)
        s, k = sine2 + softening**2, cosine2 + softening**2
        mixed = 1 / (2 * (s * k).sqrt())
        first = torch.complex(_dot(cross, frame_x[..., 0]) * mixed, _dot(cross, frame_x[..., 1]) * mixed)
        second = torch.complex(_dot(cross, frame_y[..., 0]) * mixed, _dot(cross, frame_y[..., 1]) * mixed)
        difference = torch.complex((a + d) / (2 * k), (c - b) / (2 * k))
        total = torch.complex((a - d) / (2 * s), (b + c) / (2 * s))
        # the vanishing one of the two is a difference of numbers near one: take it from the product of the others
        near = cosine2 > sine2
        total = torch.where(near, first * second * (k / cosine2.clamp_min(0.25)), total)
        difference = torch.where(near, difference, first * second.conj() * (s / sine2.clamp_min(0.25)))
        return cls(
            cosine=cosine2 - sine2,
            reciprocal=-_dot(w, cross),
            sine2_half=sine2,
            cosine2_half=cosine2,
            difference=difference,
            total=total,
            first=first,
            second=second,
            along_x=_dot(w, dx),
            along_y=_dot(w, dy),
            softening=softening,
        )

    @property
    def shape(self) -> torch.Size:
        return self.cosine.shape

    def features(self) -> Float[Tensor, "*b 7"]:
        """Smooth functions of the two invariants for a radial network, of order one and free of scale.

        cos, the logarithms of both softened half-angle sines, and the reciprocal product compressed at four scales.
        """
        soft = self.softening**2
        logs = [(square + soft).log() / 4 + 1 for square in (self.sine2_half, self.cosine2_half)]
        scaled = [self.reciprocal * scale for scale in (1.0, 8.0, 64.0)]
        bounded = [a * (1 + a * a).rsqrt() for a in scaled]
        return torch.stack([self.cosine, *logs, *bounded, torch.asinh(self.reciprocal)], -1)

    def phase(self, n_out: int, n_in: int, nu_out: float = 0.0, nu_in: float = 0.0) -> Complex[Tensor, "*b"]:
        """u^|n_out - n_in| v^|n_out + n_in| e^{i(n_out phi_x + nu_out t_x - n_in phi_y - nu_in t_y)}, smooth.

        u = s/sqrt(s^2 + eps^2), s = sin(theta/2), v the same with the cosine. Entries whose slides do not survive at
        theta -> 0 (nu_out != nu_in) or theta -> pi (nu_out != -nu_in) carry at least the third power there.
        """
        plus, minus = n_out + n_in, n_out - n_in
        value = _power(self.difference, plus // 2 if plus >= 0 else -(-plus // 2))
        value = value * _power(self.total, minus // 2 if minus >= 0 else -(-minus // 2))
        if plus % 2:
            value = value * self._odd(plus > 0, minus > 0)
        if nu_out or nu_in:
            value = value * self._slide(abs(plus), abs(minus), nu_out, nu_in)
        return value

    def _odd(self, plus: bool, minus: bool) -> Tensor:
        """uv times e^{i(+-(phi_x - phi_y) +- (phi_x + phi_y))/2}: one of e^{+-i phi_x}, e^{+-i phi_y}."""
        if plus == minus:
            return self.first if plus else self.first.conj()
        return self.second.conj() if plus else self.second

    def _slide(self, plus: int, minus: int, nu_out: float, nu_in: float) -> Tensor:
        tiny = torch.finfo(self.cosine.dtype).eps ** 2
        exponent, weight = 0.0, 1.0
        if nu_out != nu_in:
            total = (self.along_x - self.along_y) / (2 * self.sine2_half).clamp_min(tiny)
            exponent = exponent + (nu_out - nu_in) / 2 * total
            weight = weight * _vanish(self.sine2_half, self.softening, minus)
        if nu_out != -nu_in:
            difference = (self.along_x + self.along_y) / (2 * self.cosine2_half).clamp_min(tiny)
            exponent = exponent + (nu_out + nu_in) / 2 * difference
            weight = weight * _vanish(self.cosine2_half, self.softening, plus)
        return torch.polar(torch.ones_like(exponent), exponent) * weight


def in_precision(pairs, dtype: torch.dtype):
    """A pair geometry (a dataclass of tensors) in another precision, complex numbers in the one that goes with it."""
    changed = {}
    for name, value in vars(pairs).items():
        if isinstance(value, Tensor):
            changed[name] = value.to(dtype.to_complex() if value.is_complex() else dtype)
    return replace(pairs, **changed)


def _power(z: Tensor, n: int) -> Tensor | float:
    if n == 0:
        return torch.ones_like(z)
    base = z if n > 0 else z.conj()
    value = base
    for _ in range(abs(n) - 1):
        value = value * base
    return value


def _vanish(square: Tensor, softening: float, present: int) -> Tensor:
    """Even power of the softened sine that lifts the order `present` to at least three, smooth at zero."""
    missing = max(0, 3 - present)
    return (square / (square + softening**2)) ** ((missing + 1) // 2)
