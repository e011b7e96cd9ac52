"""Lens distortion on normalised image coordinates (x, y) = (X/Z, Y/Z): OpenCV's polynomial and fisheye models.

opencv: r^2 = x^2 + y^2, x' = x (1 + k1 r^2 + k2 r^4 + k3 r^6) + 2 p1 x y + p2 (r^2 + 2 x^2), y' likewise with p1, p2
exchanged; coefficients (k1, k2, p1, p2, k3). fisheye: theta = atan r, theta' = theta (1 + k1 theta^2 + ... + k4 theta^8),
(x', y') = (x, y) theta'/r; coefficients (k1, k2, k3, k4). Source: OpenCV documentation, calib3d and fisheye modules.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

COUNTS = {"opencv": 5, "fisheye": 4}
ITERATIONS = 30
WIDEST = 1.5  # radians from the axis; the pinhole coordinates of fisheye rays end at pi/2


@dataclass(frozen=True)
class Distortion:
    """A lens model and its coefficients (*batch, 5) for "opencv" (4 are completed by k3 = 0), (*batch, 4) for "fisheye"."""

    model: str
    coefficients: Tensor

    def __post_init__(self):
        if self.model not in COUNTS:
            raise ValueError(f"distortion: expected model {' or '.join(COUNTS)}, got {self.model!r}")
        value = torch.as_tensor(self.coefficients)
        value = value if value.is_floating_point() else value.double()
        if value.ndim and self.model == "opencv" and value.shape[-1] == 4:
            value = torch.cat([value, torch.zeros_like(value[..., :1])], -1)
        if not value.ndim or value.shape[-1] != COUNTS[self.model]:
            raise ValueError(
                f"distortion: expected {COUNTS[self.model]} coefficients for {self.model}, got shape {tuple(value.shape)}"
            )
        if not bool(torch.isfinite(value).all()):
            raise ValueError("distortion: expected finite coefficients, got NaN or infinity")
        object.__setattr__(self, "coefficients", value)

    def __getitem__(self, index) -> "Distortion":
        return Distortion(self.model, self.coefficients[index])

    def to(self, dtype: torch.dtype, device: torch.device | str | None = None) -> "Distortion":
        return Distortion(self.model, self.coefficients.to(dtype=dtype, device=device))

    def _coefficients(self, xy: Tensor) -> tuple[Tensor, ...]:
        """Coefficients shaped to broadcast with the points of `xy` (*batch, ..., 2)."""
        extra = xy.ndim - self.coefficients.ndim
        shape = self.coefficients.shape[:-1] + (1,) * max(0, extra)
        return tuple(c.reshape(shape) for c in self.coefficients.to(xy).unbind(-1))

    def distort(self, xy: Float[Tensor, "... 2"]) -> Float[Tensor, "... 2"]:
        """Ideal pinhole coordinates to those where the lens images them; xy is (*batch, ..., 2)."""
        x, y = xy.unbind(-1)
        r2 = x * x + y * y
        if self.model == "fisheye":
            k1, k2, k3, k4 = self._coefficients(xy)
            small = r2 < 1e-12
            r = torch.where(small, 1.0, r2).sqrt()
            theta = torch.atan(r)
            t2 = theta * theta
            bent = theta * (1 + t2 * (k1 + t2 * (k2 + t2 * (k3 + t2 * k4))))
            return xy * torch.where(small, 1.0, bent / r)[..., None]
        k1, k2, p1, p2, k3 = self._coefficients(xy)
        radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
        return torch.stack(
            [
                x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
                y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
            ],
            -1,
        )

    def undistort(self, xy: Float[Tensor, "... 2"]) -> Float[Tensor, "... 2"]:
        """Inverse of `distort` by damped Newton iterations in float64; not differentiable.

        Where the polynomial folds back, a point beyond its largest value has no inverse: the closest point that the
        iteration reached is returned, which is finite and lies at the edge of the valid field.
        """
        with torch.no_grad():
            target = xy.double()
            lens = self.to(torch.float64, xy.device)
            if self.model == "fisheye":
                return lens._undistort_fisheye(target).to(xy.dtype)
            return lens._undistort_polynomial(target).to(xy.dtype)

    def _undistort_fisheye(self, target: Tensor) -> Tensor:
        k1, k2, k3, k4 = self._coefficients(target)
        bent = target.norm(dim=-1)
        theta = bent.clamp_max(WIDEST)
        for _ in range(ITERATIONS):
            t2 = theta * theta
            value = theta * (1 + t2 * (k1 + t2 * (k2 + t2 * (k3 + t2 * k4)))) - bent
            slope = 1 + t2 * (3 * k1 + t2 * (5 * k2 + t2 * (7 * k3 + 9 * t2 * k4)))
            theta = (theta - value / slope.clamp_min(0.1)).clamp(0, WIDEST)
        scale = torch.where(bent > 1e-9, torch.tan(theta) / bent.clamp_min(1e-9), 1.0)
        return target * scale[..., None]

    def _undistort_polynomial(self, target: Tensor) -> Tensor:
        xy, error = target.clone(), (self.distort(target) - target).norm(dim=-1)
        damping = torch.ones_like(error)
        for _ in range(ITERATIONS):
            a, b, c, d = self._jacobian(xy)
            determinant = a * d - b * c
            determinant = torch.where(determinant.abs() < 1e-3, 1e-3, determinant)
            u, v = (self.distort(xy) - target).unbind(-1)
            step = torch.stack([d * u - b * v, a * v - c * u], -1) / determinant[..., None]
            trial = xy - damping[..., None] * step
            new = (self.distort(trial) - target).norm(dim=-1)
            # a step that makes things worse is taken back and halved: the fold is approached, never crossed
            better = new <= error
            xy = torch.where(better[..., None], trial, xy)
            error = torch.where(better, new, error)
            damping = torch.where(better, (2 * damping).clamp_max(1), damping / 2)
        return xy

    def _jacobian(self, xy: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        k1, k2, p1, p2, k3 = self._coefficients(xy)
        x, y = xy.unbind(-1)
        r2 = x * x + y * y
        radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
        slope = 2 * (k1 + r2 * (2 * k2 + 3 * r2 * k3))
        cross = x * y * slope + 2 * p1 * x + 2 * p2 * y
        return (
            radial + x * x * slope + 2 * p1 * y + 6 * p2 * x,
            cross,
            cross,
            radial + y * y * slope + 6 * p1 * y + 2 * p2 * x,
        )

    def quarter_turned(self) -> "Distortion":
        """The lens seen in axes x' = y, y' = -x, those of an image turned by torch.rot90(k=1)."""
        if self.model == "fisheye":
            return self
        k1, k2, p1, p2, k3 = self.coefficients.unbind(-1)
        return Distortion(self.model, torch.stack([k1, k2, -p2, p1, k3], -1))
