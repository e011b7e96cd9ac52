"""The region that cameras around a point cover, and a smooth closed loop inside it."""

import math

import torch
from torch import Tensor

from raytrans.geometry.cameras import Cameras
from raytrans.shapes import Float

SURROUND = 1.7  # radians: the largest gap in azimuth that cameras surrounding a point may leave
STEEP = 1.3  # radians of elevation beyond which azimuths say little about directions
TIE = 1e-9  # angles that differ by rounding
WITNESSES = 3  # cameras that have to see a place for a picture to show more of it than a guess
NEARBY = 0.44  # radians: beyond this parallax they see another side of it
GRID = 5  # places along each side of a picture


class Region:
    """Directions and distances of cameras seen from a point, in azimuth and elevation about an up axis.

    offset (N, 3) camera centres minus the point, none of them zero; up (3) unit; spare (3, 3) the axes of one camera,
    for where nothing else fixes a direction. `.up` is the axis that azimuths turn about. No length but those of the
    offsets enters: the loop of moved and scaled offsets is the moved and scaled loop.
    """

    def __init__(self, offset: Float[Tensor, "n 3"], up: Float[Tensor, "3"], spare: Float[Tensor, "3 3"]):
        self.distance = offset.norm(dim=-1)
        self.direction = offset / self.distance[:, None]
        self.up, self.spare = up, spare
        self._measure()
        if not self.surrounding and float(self.elevation.abs().max()) > STEEP:
            self.up = self._level_axis()
            self._measure()

    def _measure(self) -> None:
        """Azimuths counted from the middle of the covered arc, or from the first camera where there is no gap."""
        height = self.direction @ self.up
        flat = self.direction - height[:, None] * self.up
        length = flat.norm(dim=-1)
        self.elevation = torch.atan2(height, length)
        first = flat[int((length >= 0.5 * length.max()).double().argmax())]
        if float(first.norm()) <= TIE:
            # every camera is straight above or below: any direction of a camera's axes will do
            first = self.spare[:, int((self.spare.mT @ self.up).abs().argmin())]
            first = first - (first @ self.up) * self.up
        self.zero = first / first.norm()
        self.side = torch.linalg.cross(self.up, self.zero)
        azimuth = torch.atan2(flat @ self.side, flat @ self.zero)
        # rounding must not decide on which end of the circle the first camera falls
        azimuth = torch.where(length > TIE, torch.remainder(azimuth + TIE, 2 * math.pi) - TIE, 0.0)
        order = azimuth.sort().values
        gap = torch.cat([order[1:], order[:1] + 2 * math.pi]) - order
        widest = int((gap >= gap.max() - TIE).double().argmax())
        self.surrounding = float(gap[widest]) < SURROUND
        if not self.surrounding:
            self._turn(float(order[widest] + 0.5 * gap[widest]) - math.pi)
            azimuth = torch.remainder(azimuth - float(order[widest] + 0.5 * gap[widest]), 2 * math.pi) - math.pi
        self.azimuth = azimuth

    def _turn(self, angle: float) -> None:
        zero, side = self.zero, self.side
        self.zero = math.cos(angle) * zero + math.sin(angle) * side
        self.side = math.cos(angle) * side - math.sin(angle) * zero

    def _level_axis(self) -> Float[Tensor, "3"]:
        """An axis across the mean direction: up where that is not along it, else an axis of a camera."""
        mean = self.direction.mean(0)
        mean = mean / mean.norm() if float(mean.norm()) > 1e-6 else self.direction[0]
        choices = torch.cat([self.up[None], -self.spare[:, 1:2].mT, self.spare[:, :1].mT])
        across = choices - (choices @ mean)[:, None] * mean
        axis = across[int((across.norm(dim=-1) > 0.2).double().argmax())]
        return axis / axis.norm()

    def loop(self, phase: Float[Tensor, "k"], size: float = 1.0) -> Float[Tensor, "k 3"]:
        """Offsets of a smooth closed loop at phases in [0, 2 pi): a full turn, or an ellipse within what is covered.

        size: of the ellipse, relative to the largest.
        """
        if self.surrounding:
            weight = torch.softmax(4 * torch.cos(phase[:, None] - self.azimuth), -1)
            return self._offsets(phase, weight @ self.elevation, weight)
        points = torch.stack([self.azimuth, self.elevation], -1)
        curve = points.mean(0) + size * torch.stack([phase.cos(), phase.sin()], -1) @ inscribed_ellipse(points).mT
        apart = (curve[:, None] - points).square().sum(-1)
        spread = (points - points.mean(0)).square().sum(-1).mean()
        weight = torch.softmax(-apart / spread.clamp_min(TIE**2), -1)
        return self._offsets(curve[:, 0], curve[:, 1], weight)

    def _offsets(self, azimuth: Tensor, elevation: Tensor, weight: Float[Tensor, "k n"]) -> Float[Tensor, "k 3"]:
        flat = azimuth.cos()[:, None] * self.zero + azimuth.sin()[:, None] * self.side
        direction = elevation.cos()[:, None] * flat + elevation.sin()[:, None] * self.up
        return (weight @ self.distance.log()).exp()[:, None] * direction


def covered_share(cameras: Cameras, path: Cameras, point: Float[Tensor, "3"]) -> float:
    """The least share of a picture of `path`, in the plane of `point` across its axis, that three cameras see nearby.

    Nearby is within 0.44 radians, seen from the place in question. `path` has pinhole cameras with `point` before them.
    """
    size = torch.stack([path.width, path.height], -1)[:, None]
    steps = (torch.arange(GRID, dtype=torch.float64) + 0.5) / GRID
    sight = path.pixel_rays(size * torch.cartesian_prod(steps, steps)).direction
    own, forward = path.centers[:, None], path.forward[:, None]
    depth = ((point - own) * forward).sum(-1, keepdim=True)
    place = own + sight * depth / (sight * forward).sum(-1, keepdim=True)
    pixel, z = cameras.project(place[None])
    theirs = place - cameras.centers[:, None, None]
    near = (theirs * sight).sum(-1) > math.cos(NEARBY) * theirs.norm(dim=-1)
    bounds = torch.stack([cameras.width, cameras.height], -1)[:, None, None]
    seen = near & (z > 0) & (pixel > 0).all(-1) & (pixel < bounds).all(-1)
    return float((seen.sum(0) >= WITNESSES).double().mean(-1).min())


def inscribed_ellipse(points: Float[Tensor, "n 2"]) -> Float[Tensor, "2 2"]:
    """The matrix E of the ellipse mean + E [cos t, sin t] of the points' proportions, the largest in their convex hull.

    E = k C^(1/2), C the covariance; k = min_n max_i n . C^(-1/2)(p_i - mean), the least distance of the mean from an
    edge with normal n after whitening. Points on a line give a segment, one point gives zero.
    """
    centered = points - points.mean(0)
    values, vectors = torch.linalg.eigh(centered.mT @ centered / len(points))
    # a line's second eigenvalue is rounding; its root would not be
    std = torch.where(values > max(1e-12 * float(values[-1]), TIE**2), values, 0.0).sqrt()
    if float(std[-1]) == 0:
        return torch.zeros(2, 2, dtype=points.dtype)
    inverse = torch.where(std > 0, 1 / std.clamp_min(1e-300), 0.0)
    whitened = centered @ (vectors * inverse) @ vectors.mT
    if float(std[0]) == 0:
        normals = torch.stack([vectors[:, 1], -vectors[:, 1]])
    else:
        normals = _edge_normals(whitened)
    reach = (whitened @ normals.mT).amax(0).min()
    return reach * (vectors * std) @ vectors.mT


def _edge_normals(points: Float[Tensor, "n 2"]) -> Float[Tensor, "m 2"]:
    """Unit normals of the lines through any two of the points that are outermost in one of 256 directions.

    All edges of the convex hull are among them, but for corners that no direction sees; those are cut off.
    """
    t = torch.arange(256, dtype=points.dtype) * (2 * math.pi / 256)
    corners = points[(points @ torch.stack([t.cos(), t.sin()])).argmax(0).unique()]
    edge = (corners[:, None] - corners).flatten(0, 1)
    edge = edge[edge.norm(dim=-1) > TIE]
    return torch.stack([edge[:, 1], -edge[:, 0]], -1) / edge.norm(dim=-1, keepdim=True)
