"""Source rays through the samples of target rays: projection, fading visibility, bilinear reading, pair geometry.

A sample at inverse distance s on the target ray o + d/s is written homogeneously: q = R_j^T (d + s (o - c_j)) in the
axes of source camera j, so s = 0 is the point at infinity. All lengths are counted in the unit; |q| is the distance to
the source over the distance to the target's origin.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from raytrans.geometry.cameras import Cameras
from raytrans.geometry.pairs import SOFTENING, RayPairs
from raytrans.models.reading import PlaneVolume, read_map
from raytrans.shapes import Float

GRAZING = (0.02, 0.1)  # cosine to the optical plane between which a view fades in
TINY = 1e-12


@dataclass
class RelativeCameras:
    """Source cameras recentred on `center` and counted in `unit` (batch N), all in float64.

    `grid_from_camera` takes a point (x, y, z) in the axes of a camera to z times its place in the image, which spans
    [-1, 1] from edge to edge; `size` is its width and height in pixels.
    `dtype` is the one the network works in. Vectors are cast to it once they are in the axes of a source, pixels once
    they are found: neither depends on the world frame, so that no rounding does.
    """

    camera_from_world: Float[Tensor, "n 3 3"]
    centers: Float[Tensor, "n 3"]
    grid_from_camera: Float[Tensor, "n 2 3"]
    size: Float[Tensor, "n 2"]
    reach: Float[Tensor, " n"]
    distortion: object | None
    center: Float[Tensor, "3"]
    unit: Float[Tensor, ""]
    dtype: torch.dtype

    @classmethod
    def of(cls, cameras: Cameras, center: Tensor, unit: Tensor, dtype: torch.dtype, device: torch.device):
        """From cameras in the world."""
        sides = [torch.as_tensor(v, dtype=torch.float64) for v in (cameras.width, cameras.height)]
        size = torch.stack(sides, -1).expand(len(cameras), 2)
        matrix = 2 / size[..., None] * cameras.intrinsics[:, :2]
        matrix[..., 2] -= 1
        return cls(
            camera_from_world=cameras.world_from_camera[:, :3, :3].mT.contiguous().to(device),
            centers=((cameras.centers - center) / unit).to(device),
            grid_from_camera=matrix.to(device),
            size=size.to(device),
            reach=_reach(cameras).to(device),
            distortion=None if cameras.distortion is None else cameras.distortion.to(torch.float64, device),
            center=center,
            unit=unit,
            dtype=dtype,
        )

    def __len__(self) -> int:
        return self.centers.shape[0]

    def in_axes(self, vectors: Float[Tensor, "*#n r 3"]) -> Float[Tensor, "3 n r"]:
        """World vectors in the axes of every source camera, in float64."""
        return torch.einsum("nij,nrj->inr", self.camera_from_world, vectors.double().expand(len(self), -1, -1))


def _reach(cameras: Cameras) -> Tensor:
    """Largest tangent of the angle to the optical axis over the border of each image, (N,), with 10 % of slack.

    Beyond it a lens polynomial may fold back into the image, so the view has faded there.
    """
    reach = []
    for camera in cameras:
        h, w = float(camera.height), float(camera.width)
        edge = torch.linspace(0, 1, 9, dtype=torch.float64)
        zero, one = torch.zeros_like(edge), torch.ones_like(edge)
        border = torch.cat([torch.stack(p, -1) for p in ((edge, zero), (edge, one), (zero, edge), (one, edge))])
        rays = camera.pixel_rays(border * border.new_tensor([w, h]))
        cosine = (rays.direction * camera.forward).sum(-1).clamp_min(1e-3)
        reach.append(1.1 * (1 / cosine**2 - 1).clamp_min(0).sqrt().max())
    return torch.stack(reach)


@dataclass
class Samples:
    """Samples of R target rays seen from N sources; lengths in the unit.

    grid (N, R, S, 2) in [-1, 1] for `grid_sample`, fade (N, R, S) visibility weight in [0, 1], toward (3 of (N, R, S))
    unit vector of the source ray in source camera axes, ratio (N, R, S) = |q|, inverse (N, R, S) inverse distance from
    the source.
    """

    grid: Tensor
    fade: Tensor
    toward: tuple[Tensor, Tensor, Tensor]
    ratio: Tensor
    inverse: Tensor


def _smoothstep(x: Tensor) -> Tensor:
    x = x.clamp(0, 1)
    return x * x * (3 - 2 * x)


def project(
    cameras: RelativeCameras,
    origin: Float[Tensor, "r 3"],
    direction: Float[Tensor, "r 3"],
    inverse: Float[Tensor, "r s"],
    exact: bool = True,
) -> Samples:
    """Project samples at inverse distances (R, S) along rays (origin, direction) into every source camera.

    Pixels are found in float64 and then cast: most of the network's own rounding would come from theirs. Where samples
    only say where others belong they need not be `exact`.
    """
    a, b = cameras.in_axes(direction), cameras.in_axes(origin.double() - cameras.centers[:, None])
    x, y, z = (
        torch.addcmul(p[..., None], inverse, q[..., None]) for p, q in zip(a.to(inverse), b.to(inverse), strict=True)
    )
    ratio = (x * x + y * y + z * z + TINY).sqrt()
    inward = 1 / ratio
    toward = (x * inward, y * inward, z * inward)
    fade = _smoothstep((toward[2] - GRAZING[0]) / (GRAZING[1] - GRAZING[0]))
    wide = torch.float64 if exact else inverse.dtype
    grid, bent_fade = _grid(cameras, a, b, inverse.to(wide), GRAZING[0] / 2 * ratio)
    for position, side in zip(grid, cameras.size.T[..., None, None], strict=True):
        fade = fade * _smoothstep((side / 2).to(fade) * (1 - position.abs()).to(fade))
    grid = torch.stack([position.to(fade) for position in grid], -1).clamp_(-2, 2)
    fade = fade if bent_fade is None else fade * bent_fade.to(fade)
    return Samples(grid, fade, toward, ratio, inverse * inward)


def _grid(
    cameras: RelativeCameras, a: Tensor, b: Tensor, inverse: Tensor, least: Tensor
) -> tuple[Sequence[Tensor], Tensor | None]:
    """Where points a + s b of the axes of the cameras (3, N, R) are in the images, and the weight of the lens.

    Behind the plane where a view has faded, any finite place will do: depth is at least `least` there.
    """

    def along(a: Tensor, b: Tensor) -> Tensor:
        return torch.addcmul(a.to(inverse)[..., None], inverse, b.to(inverse)[..., None])

    depth = torch.maximum(along(a[2], b[2]), least)
    if cameras.distortion is None:
        a, b = (torch.einsum("nij,jnr->inr", cameras.grid_from_camera, v) for v in (a, b))
        return [along(p, q).div_(depth) for p, q in zip(a, b, strict=True)], None
    u, v, fade = _distorted(cameras, along(a[0], b[0]) / depth, along(a[1], b[1]) / depth)
    m = cameras.grid_from_camera[:, None, None]
    return [m[..., i, 0] * u + m[..., i, 1] * v + m[..., i, 2] for i in (0, 1)], fade


def _distorted(cameras: RelativeCameras, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where the lens images pinhole coordinates, and the weight that fades the view out beyond its reach."""
    reach = cameras.reach[:, None, None]
    radius = (u * u + v * v + TINY).sqrt()
    shrink = (reach / radius).clamp_max(1)
    bent = cameras.distortion.distort(torch.stack([u * shrink, v * shrink], -1).flatten(1, 2))
    u, v = bent.unflatten(1, u.shape[1:]).unbind(-1)
    return u, v, _smoothstep((reach - radius) / (0.05 * reach))


def read(maps: list[Tensor], samples: Samples) -> Tensor:
    """Bilinear reading of one map (C, h, w) per source at the samples: (N, R, S, C)."""
    return torch.stack([read_map(m, g) for m, g in zip(maps, samples.grid, strict=True)])


def read_planes(volumes: list[PlaneVolume], samples: Samples, plane: Tensor) -> Tensor:
    """Trilinear reading of one volume (C, D, h, w) per source; `plane` (N, R, S) is in [0, 1] along D: (C, N, R, S)."""
    return torch.stack([v.read(g, p) for v, g, p in zip(volumes, samples.grid, plane, strict=True)], 1)


@dataclass
class _Sections:
    """Frames of target and source rays in the axes of each source, every component (N, R, S) or broadcast to it."""

    e1x: Tensor
    e2x: Tensor
    e1y: tuple[Tensor, Tensor, Tensor]
    e2y: tuple[Tensor, Tensor, Tensor]
    offset: tuple[Tensor, Tensor, Tensor]
    sine2: Tensor
    cosine2: Tensor

    @classmethod
    def of(cls, cameras: RelativeCameras, frame: Tensor, samples: Samples) -> "_Sections":
        e1x, e2x, d = (cameras.in_axes(axis).to(cameras.dtype)[..., None] for axis in frame.unbind(-1))
        x, y, z = samples.toward
        # behind the camera the section is singular and the view has faded
        fold = 1 / (1 + z).clamp_min(0.05)
        xy = -x * y * fold
        offset = (x - d[0], y - d[1], z - d[2])
        cosine2 = ((d[0] + x) ** 2 + (d[1] + y) ** 2 + (d[2] + z) ** 2) / 4
        e1y, e2y = (1 - x * x * fold, xy, -x), (xy, 1 - y * y * fold, -y)
        return cls(e1x, e2x, e1y, e2y, offset, _dot(offset, offset) / 4, cosine2)

    def mixed(self) -> tuple[Tensor, Tensor]:
        """Phases of the common perpendicular in either frame: c . e with c = d_x x d_y, by the cyclic rule.

        Each e is orthogonal to its own direction, so the difference of the two stands for the other one and keeps
        digits where they are nearly equal.
        """
        scale = 1 / (2 * ((self.sine2 + SOFTENING**2) * (self.cosine2 + SOFTENING**2)).sqrt())
        first = torch.complex(-_dot(self.offset, self.e2x) * scale, _dot(self.offset, self.e1x) * scale)
        second = torch.complex(-_dot(self.offset, self.e2y) * scale, _dot(self.offset, self.e1y) * scale)
        return first, second


def _dot(a, b) -> Tensor:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def sample_turn(cameras: RelativeCameras, frame: Float[Tensor, "r 3 3"], samples: Samples) -> Tensor:
    """The `difference` phase of `sample_pairs` alone: what carries a feature from a source ray to the target ray."""
    own = _Sections.of(cameras, frame, samples)
    k = own.cosine2 + SOFTENING**2
    cosine = _dot(own.e1x, own.e1y) + _dot(own.e2x, own.e2y)
    sine = _dot(own.e2x, own.e1y) - _dot(own.e1x, own.e2y)
    turn = torch.complex(cosine / (2 * k), sine / (2 * k))
    near = own.cosine2 > own.sine2
    if bool(near.all()):
        return turn
    first, second = own.mixed()
    s = own.sine2 + SOFTENING**2
    return torch.where(near, turn, first * second.conj() * (s / own.sine2.clamp_min(0.25)))


def sample_pairs(cameras: RelativeCameras, frame: Float[Tensor, "r 3 3"], samples: Samples) -> RayPairs:
    """Pair geometry of target rays (frame columns e1, e2, d) and the source rays through their samples.

    The slice of `RayPairs` where rays meet: reciprocal product 0. Source frames are the minimal-rotation section, in
    closed form e1 = (1 - x^2/(1+z), -xy/(1+z), -x), e2 = (-xy/(1+z), 1 - y^2/(1+z), -y).
    """
    own = _Sections.of(cameras, frame, samples)
    sine2, cosine2 = own.sine2, own.cosine2
    s, k = sine2 + SOFTENING**2, cosine2 + SOFTENING**2
    p, q, r, t = (_dot(a, b) for a in (own.e1x, own.e2x) for b in (own.e1y, own.e2y))
    first, second = own.mixed()
    difference = torch.complex((p + t) / (2 * k), (r - q) / (2 * k))
    total = torch.complex((p - t) / (2 * s), (q + r) / (2 * s))
    # the vanishing one of the two is a difference of numbers near one: take it from the product of the others
    near = cosine2 > sine2
    total = torch.where(near, first * second * (k / cosine2.clamp_min(0.25)), total)
    difference = torch.where(near, difference, first * second.conj() * (s / sine2.clamp_min(0.25)))
    zero = torch.zeros_like(sine2)
    return RayPairs(
        cosine=cosine2 - sine2,
        reciprocal=zero,
        sine2_half=sine2,
        cosine2_half=cosine2,
        difference=difference,
        total=total,
        first=first,
        second=second,
        along_x=zero,
        along_y=zero,
    )
