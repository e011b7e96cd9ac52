"""Lens distortion of normalised image coordinates (x/z, y/z), and its inverse on rays.

OpenCV model, r^2 = x^2 + y^2:    x' = x F(r)/r + 2 p1 x y + p2 (r^2 + 2 x^2),  F(r) = r (1 + k1 r^2 + k2 r^4 + k3 r^6)
                                  y' = y F(r)/r + p1 (r^2 + 2 y^2) + 2 p2 x y
Rational model: as OpenCV's, with  F(r) = r (1 + k1 r^2 + k2 r^4 + k3 r^6) / (1 + k4 r^2 + k5 r^4 + k6 r^6)
Fisheye model, a = atan2(r, z):   (x', y') = (x, y) F(a)/r,                     F(a) = a (1 + k1 a^2 + ... + k4 a^8)

Polynomials fold back: beyond some radius F decreases, and points far outside the picture would land inside it;
quotients have poles. So F is followed only to the radius (`limit`) where its slope, less what the tangential terms may
take from it, or the denominator has fallen to 1 %, and is continued from there in a straight line; the tangential
terms keep their value. Every lens is then monotonic, distortion and its inverse are finite everywhere and undo each
other; within the limit all is as in OpenCV.
Source: docs.opencv.org, "Camera Calibration and 3D Reconstruction" and "Fisheye camera model".
"""

import math

import torch
from torch import Tensor

from raytrans.shapes import Float

MODELS = {
    "opencv": ("k1", "k2", "p1", "p2", "k3"),
    "rational": ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6"),
    "fisheye": ("k1", "k2", "k3", "k4"),
}
LEAST_SLOPE, LEAST_DENOMINATOR = 0.01, 0.01
# radius or angle at which the straight continuation begins at the latest
FARTHEST = {"opencv": 1e3, "rational": 1e3, "fisheye": math.pi}
WIDEST = math.pi / 2 - 1e-6  # angle to the axis that (x/z, y/z) can still express
NEWTON_STEPS, FULL_STEPS = 60, 10
Radial = tuple[list[Tensor], list[Tensor]]  # coefficients of the numerator, and of the denominator if there is one
NEARLY = 1e-8  # relative step after which one more Newton step ends at rounding


def normalized(vectors: Float[Tensor, "*n 3"]) -> Tensor:
    """Vectors of positive length at unit length."""
    return vectors / vectors.norm(dim=-1, keepdim=True)


def divided(points: Float[Tensor, "*n 3"]) -> Tensor:
    """(x/z, y/z), finite: on the plane z = 0 points are taken just off it, and the origin gives 0."""
    length = points.detach().abs().amax(-1, keepdim=True)
    x, y, z = (points / torch.where(length > 0, length, 1.0)).unbind(-1)
    z = torch.where(z.abs() > 1e-12, z, 1e-12)
    return torch.stack([x / z, y / z], -1)


class Distortion:
    """Lens of one camera or a batch: `coefficients` (*batch, K), OpenCV k1 k2 p1 p2 [k3], rational k1 k2
    p1 p2 k3 k4 k5 k6 or fisheye k1 k2 k3 k4.

    Coordinates given to the methods lead with the axes of the batch: (*batch, *more, 2); axes of length 1 broadcast.
    Raises ValueError for an unknown model, another number of coefficients, NaN or infinity.
    """

    def __init__(self, model: str, coefficients: Tensor):
        if model not in MODELS:
            raise ValueError(f"distortion: expected a model out of {', '.join(MODELS)}, got {model!r}")
        coefficients = torch.as_tensor(coefficients, dtype=torch.float64, device="cpu").clone()
        names = MODELS[model]
        if model == "opencv" and coefficients.ndim and coefficients.shape[-1] == 4:
            coefficients = torch.cat([coefficients, torch.zeros_like(coefficients[..., :1])], -1)
        if coefficients.ndim == 0 or coefficients.shape[-1] != len(names):
            count = "4 or 5 coefficients" if model == "opencv" else f"{len(names)} coefficients"
            raise ValueError(
                f"distortion: expected {count} ({' '.join(names)}) on the last axis for the {model} model, "
                f"got shape {tuple(coefficients.shape)}"
            )
        if not bool(torch.isfinite(coefficients).all()):
            raise ValueError("distortion: expected finite coefficients, got NaN or infinity")
        self.model, self.coefficients = model, coefficients
        radial, tangential = (coefficients, coefficients[..., :0])
        if model != "fisheye":
            radial, tangential = coefficients[..., [0, 1, 4]], coefficients[..., 2:4]
        self.limit = _limit(radial, tangential, FARTHEST[model])
        if model == "rational":
            self.limit = _rational_limit(radial, coefficients[..., 5:], tangential, FARTHEST[model])

    def _with(self, coefficients: Tensor, limit: Tensor) -> "Distortion":
        lens = Distortion.__new__(Distortion)
        lens.model, lens.coefficients, lens.limit = self.model, coefficients, limit
        return lens

    @property
    def shape(self) -> torch.Size:
        return self.limit.shape

    def __getitem__(self, index) -> "Distortion":
        """Index the batch, one axis."""
        return self._with(self.coefficients[index], self.limit[index])

    def __repr__(self) -> str:
        return f"Distortion({self.model!r}, shape={tuple(self.shape)})"

    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> "Distortion":
        return self._with(
            self.coefficients.to(dtype=dtype or self.coefficients.dtype, device=device or self.coefficients.device),
            self.limit.to(dtype=dtype or self.limit.dtype, device=device or self.limit.device),
        )

    def detach(self) -> "Distortion":
        """The same lens, without the graph that its coefficients may come from."""
        return self._with(self.coefficients.detach(), self.limit.detach())

    def expand(self, *batch: int) -> "Distortion":
        """Broadcast the coefficients to a batch shape."""
        return self._with(self.coefficients.expand(*batch, self.coefficients.shape[-1]), self.limit.expand(batch))

    @staticmethod
    def stack(lenses: "list[Distortion | None]") -> "Distortion | None":
        """Join lenses on a new first axis; None is a pinhole, which is an opencv lens of zeros.

        An opencv lens among rational ones is one of them. Raises ValueError for a fisheye among others: of zeros it is
        no pinhole.
        """
        models = {lens.model for lens in lenses if lens is not None}
        if not models:
            return None
        if "fisheye" in models and (len(models) > 1 or None in lenses):
            got = ", ".join(sorted({lens.model if lens is not None else "none" for lens in lenses}))
            raise ValueError(f"distortion: expected one lens model for all cameras of a batch, got {got}")
        model = max(models, key=lambda name: len(MODELS[name]))
        some = next(lens.coefficients for lens in lenses if lens is not None)
        rows = [some[..., :0] if lens is None else lens.coefficients for lens in lenses]
        pad = torch.nn.functional.pad
        return Distortion(model, torch.stack([pad(row, (0, len(MODELS[model]) - row.shape[-1])) for row in rows]))

    def quarter_turned(self, k: int = 1) -> "Distortion":
        """Lens of the camera turned k times so that x_new = y, y_new = -x: p1 becomes -p2 and p2 becomes p1."""
        if self.model == "fisheye" or k % 4 == 0:
            return self
        k1, k2, p1, p2, *rest = self.coefficients.unbind(-1)
        return self._with(torch.stack([k1, k2, -p2, p1, *rest], -1), self.limit).quarter_turned(k % 4 - 1)

    def distort(self, xy: Float[Tensor, "*n 2"]) -> Tensor:
        """Distorted coordinates of (x/z, y/z); differentiable, in the precision of `xy` and the coefficients."""
        if self.model == "fisheye":
            return self.project(torch.cat([xy, torch.ones_like(xy[..., :1])], -1))
        radial, (p1, p2), limit = self._aligned(xy.ndim - 1)
        square = (xy * xy).sum(-1)
        beyond = square > limit * limit
        radius = torch.where(beyond, square, 1.0).sqrt()
        value, slope = _quotient(radial, torch.where(beyond, limit * limit, square))
        scale = torch.where(beyond, (limit * value + slope * (radius - limit)) / radius, value)
        x, y = (xy * torch.where(beyond, limit / radius, 1.0)[..., None]).unbind(-1)
        tangential = torch.stack(
            [2 * p1 * x * y + p2 * (3 * x * x + y * y), p1 * (x * x + 3 * y * y) + 2 * p2 * x * y], -1
        )
        return xy * scale[..., None] + tangential

    def project(self, points: Float[Tensor, "*n 3"]) -> Tensor:
        """Distorted coordinates of points in camera axes; a fisheye sees behind itself. Differentiable."""
        if self.model != "fisheye":
            return self.distort(divided(points))
        length = points.detach().abs().amax(-1, keepdim=True)
        x, y, z = (points / torch.where(length > 0, length, 1.0)).unbind(-1)
        # straight behind, every direction in the picture is as good as another
        x = torch.where((z < 0) & (x * x + y * y < 1e-30), 1e-15, x)
        square = x * x + y * y
        on_axis = (z > 0) & (square <= 1e-8 * z * z)
        radius = torch.where(on_axis, 1.0, square).clamp_min(1e-30).sqrt()
        tangent = torch.where(on_axis, square, 0.0) / torch.where(on_axis, z * z, 1.0)
        angle = torch.atan2(radius, z)
        ratio = torch.where(on_axis, (1 - tangent / 3) / torch.where(on_axis, z, 1.0), angle / radius)
        radial, _, limit = self._aligned(points.ndim - 1)
        beyond = ~on_axis & (angle > limit)
        value, slope = _quotient(radial, torch.where(on_axis, tangent, torch.where(beyond, limit, angle) ** 2))
        scale = torch.where(beyond, (limit * value + slope * (angle - limit)) / radius, ratio * value)
        return torch.stack([x, y], -1) * scale[..., None]

    def undistort(self, xy: Float[Tensor, "*n 2"]) -> Tensor:
        """Inverse of `distort`, in float64, differentiable once; a fisheye's angles stop at 90 degrees."""
        if self.model == "fisheye":
            radius, angle = self._angle(xy)
            return xy * (angle.clamp_max(WIDEST).tan() / radius)[..., None]
        xy = xy.double()
        with torch.no_grad():
            radius = xy.norm(dim=-1)
            radial, _, limit = self._aligned(xy.ndim - 1)
            solved = _solved(radius, radial, limit) / torch.where(radius > 0, radius, 1.0)
            start = xy * solved[..., None]
            for i in range(NEWTON_STEPS if bool((self.coefficients[..., 2:4] != 0).any()) else 0):
                step = self._newton(start, xy)
                # whole steps may go back and forth across the circle where the straight continuation begins
                start = start - (step if i < FULL_STEPS else step / 2)
                if bool((step.abs() <= NEARLY * (NEARLY + start.abs())).all()):
                    break
        # steps converge quadratically: this one ends at rounding, and it carries the gradients
        return start - self._newton(start, xy)

    def unproject(self, xy: Float[Tensor, "*n 2"]) -> Tensor:
        """Unit directions in camera axes seen at distorted coordinates, in float64; a fisheye's end behind it."""
        if self.model != "fisheye":
            xy = self.undistort(xy)
            return normalized(torch.cat([xy, torch.ones_like(xy[..., :1])], -1))
        radius, angle = self._angle(xy)
        return torch.cat([xy.double() * (angle.sin() / radius)[..., None], angle.cos()[..., None]], -1)

    def _angle(self, xy: Tensor) -> tuple[Tensor, Tensor]:
        """Distorted radius and the fisheye's angle to the axis, at most pi; both tiny at the centre, in ratio 1."""
        square = (xy.double() ** 2).sum(-1)
        radius = torch.where(square > 1e-30, square, 1e-30).sqrt()
        radial, _, limit = self._aligned(xy.ndim - 1)
        with torch.no_grad():
            angle = _solved(radius, radial, limit)
        value, slope = _profile(angle, radial, limit)
        return radius, (angle - (value - radius) / slope.detach()).clamp_max(math.pi)

    def _newton(self, at: Tensor, target: Tensor) -> Tensor:
        """Newton's step J^-1 (distort(at) - target) of the perspective models; J is a constant for gradients."""
        residual = self.distort(at) - target
        with torch.no_grad():
            jacobian = self._jacobian(at)
            (a, b), (c, d) = (row.unbind(-1) for row in jacobian.unbind(-2))
            inverse = torch.stack([torch.stack([d, -b], -1), torch.stack([-c, a], -1)], -2)
            inverse = inverse / (a * d - b * c)[..., None, None]
        return (inverse @ residual[..., None])[..., 0]

    def _jacobian(self, xy: Tensor) -> Tensor:
        """Derivative of `distort` (..., 2, 2), perspective models."""
        radial, (p1, p2), limit = self._aligned(xy.ndim - 1)
        radius = xy.norm(dim=-1)
        value, slope = _profile(radius, radial, limit)
        safe = torch.where(radius > 0, radius, 1.0)
        along = xy / safe[..., None]
        along = along[..., :, None] * along[..., None, :]
        across = torch.eye(2, dtype=xy.dtype, device=xy.device) - along
        scale = torch.where(radius > 0, value / safe, 1.0)
        shrink = torch.where(radius > limit, limit / safe, 1.0)
        x, y = (xy * shrink[..., None]).unbind(-1)
        mixed = 2 * p1 * x + 2 * p2 * y
        rows = [torch.stack([2 * p1 * y + 6 * p2 * x, mixed], -1), torch.stack([mixed, 6 * p1 * y + 2 * p2 * x], -1)]
        inside = torch.where(radius > limit, 0.0, 1.0)[..., None, None]
        bent = torch.stack(rows, -2) @ (shrink[..., None, None] * (across + inside * along))
        return slope[..., None, None] * along + scale[..., None, None] * across + bent

    def _aligned(self, axes: int) -> tuple[Radial, tuple[Tensor, Tensor] | None, Tensor]:
        """Radial and tangential coefficients and the limit, with axes of length 1 for what follows the batch."""
        shape = (*self.shape, *(1,) * (axes - len(self.shape)))
        shaped = [c.reshape(shape) for c in self.coefficients.unbind(-1)]
        limit = self.limit.reshape(shape)
        if self.model == "fisheye":
            return (shaped, []), None, limit
        k1, k2, p1, p2, k3, *denominator = shaped
        return ([k1, k2, k3], denominator), (p1, p2), limit


def _quotient(radial: Radial, square: Tensor) -> tuple[Tensor, Tensor]:
    """F(t)/t and F'(t) at t^2 = square, without the continuation, for F = t N/D or t N."""
    value, slope = _polynomial(radial[0], square)
    if not radial[1]:
        return value, slope
    below, below_slope = _polynomial(radial[1], square)
    return value / below, (slope - value / below * (below_slope - below)) / below


def _polynomial(radial: list[Tensor], square: Tensor) -> tuple[Tensor, Tensor]:
    """P = 1 + k1 t^2 + k2 t^4 + ... and (t P)' at t^2 = square."""
    value, slope = torch.zeros_like(square), torch.zeros_like(square)
    for i, k in reversed(list(enumerate(radial))):
        value = (value + k) * square
        slope = (slope + (2 * i + 3) * k) * square
    return 1 + value, 1 + slope


def _profile(t: Tensor, radial: Radial, limit: Tensor) -> tuple[Tensor, Tensor]:
    """F and F' at t >= 0, continued in a straight line beyond the limit."""
    inner = torch.minimum(t, limit)
    value, slope = _quotient(radial, inner * inner)
    return inner * value + slope * (t - inner), slope


def _solved(target: Tensor, radial: Radial, limit: Tensor) -> Tensor:
    """t >= 0 with F(t) = target up to NEARLY: Newton's method kept inside a shrinking bracket."""
    low, high = torch.zeros_like(target), target / LEAST_SLOPE
    shape = torch.broadcast_shapes(target.shape, limit.shape)
    low, high, t = (v.expand(shape) for v in (low, high, torch.minimum(target, limit)))
    for _ in range(NEWTON_STEPS):
        value, slope = _profile(t, radial, limit)
        low, high = torch.where(value <= target, t, low), torch.where(value >= target, t, high)
        step = t - (value - target) / slope
        step = torch.where((step >= low) & (step <= high), step, (low + high) / 2)
        moved, t = (step - t).abs(), step
        if bool((moved <= NEARLY * t).all()):
            break
    return t


def _limit(radial: Tensor, tangential: Tensor, farthest: float) -> Tensor:
    """Smallest t > 0 at which F'(t) - 6 |p| t has fallen to LEAST_SLOPE, or `farthest`, (*batch).

    6 |p| t bounds what the tangential terms take from the slope. The roots w = 1/t of the polynomial
    (1 - LEAST_SLOPE) w^2n - 6 |p| w^(2n-1) + 3 k1 w^(2n-2) + 5 k2 w^(2n-4) + ... are the eigenvalues of its companion.
    """
    degree = 2 * radial.shape[-1]
    row = radial.new_zeros(*radial.shape[:-1], degree)
    row[..., 0] = 6 * tangential.detach().norm(dim=-1)
    row[..., 1::2] = -radial.detach() * torch.arange(3, degree + 2, 2)
    return _first_root(row / (1 - LEAST_SLOPE), farthest)


def _first_root(row: Tensor, farthest: float) -> Tensor:
    """Smallest t > 0, at most `farthest`, with 1 = row_1 t + row_2 t^2 + ... (*batch): 1/t is an eigenvalue."""
    degree = row.shape[-1]
    below = torch.eye(degree, dtype=row.dtype)[:-1].expand(*row.shape[:-1], degree - 1, degree)
    roots = torch.linalg.eigvals(torch.cat([row[..., None, :], below], -2))
    real = torch.where(roots.imag.abs() <= 1e-7 * roots.real, roots.real, 0.0)
    return 1 / real.amax(-1).clamp_min(1 / farthest)


def _rational_limit(top: Tensor, bottom: Tensor, tangential: Tensor, farthest: float) -> Tensor:
    """Smallest t > 0 at which D or F' - 6 |p| t has fallen to its least, or `farthest`, (*batch), for F = t N/D.

    The second is where N D + 2 u (N' D - N D') = (LEAST_SLOPE + 6 |p| t) D^2, in u = t^2.
    """
    top, bottom = top.detach(), bottom.detach()
    one = torch.ones_like(top[..., :1])
    n, d = torch.cat([one, top], -1), torch.cat([one, bottom], -1)
    power = torch.arange(4, dtype=top.dtype)
    slope = _product((1 + 2 * power) * n, d) - _product(n, 2 * power * d)
    square = _product(d, d)
    whole = top.new_zeros(*top.shape[:-1], 14)
    whole[..., 0:13:2] = slope - LEAST_SLOPE * square
    whole[..., 1:14:2] = -6 * tangential.detach().norm(dim=-1, keepdim=True) * square
    pole = top.new_zeros(*top.shape[:-1], 6)
    pole[..., 1::2] = -bottom / (1 - LEAST_DENOMINATOR)
    return torch.minimum(_first_root(-whole[..., 1:] / whole[..., :1], farthest), _first_root(pole, farthest))


def _product(a: Tensor, b: Tensor) -> Tensor:
    """Coefficients of the product of two polynomials, lowest first."""
    result = a.new_zeros(*a.shape[:-1], a.shape[-1] + b.shape[-1] - 1)
    for i in range(b.shape[-1]):
        result[..., i : i + a.shape[-1]] += a * b[..., i : i + 1]
    return result
