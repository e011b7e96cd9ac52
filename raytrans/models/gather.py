"""Source rays through the samples of target rays: projection, fading visibility, bilinear reading, pair geometry.

A sample at inverse distance s on the target ray o + d/s is homogeneous: q = R_j^T (d + s (o - c_j)) in the axes
of source camera j, so s = 0 is the point at infinity. All lengths are counted in the unit; |q| is the distance to the
source over the distance to the target's origin.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from raytrans.geometry.cameras import Cameras
from raytrans.geometry.pairs import SOFTENING, RayPairs

GRAZING = (0.02, 0.1)  # cosine to the optical plane between which a view fades in
TINY = 1e-12


@dataclass
class RelativeCameras:
    """Source cameras recentred on `center` and counted in `unit` (batch N).

    Rotations and centres stay in float64 and are cast once vectors are in the axes of a source: those do not depend on
    the world frame, so that neither does any rounding. The rest is in the working dtype.
    """

    camera_from_world: Float[Tensor, "n 3 3"]
    centers: Float[Tensor, "n 3"]
    intrinsics: Float[Tensor, "n 3 3"]
    size: Float[Tensor, "n 2"]
    reach: Float[Tensor, " n"]
    distortion: object | None
    center: Float[Tensor, "3"]
    unit: Float[Tensor, ""]

    @classmethod
    def of(cls, cameras: Cameras, center: Tensor, unit: Tensor, dtype: torch.dtype, device: torch.device):
        """From cameras in the world; `dtype` is the one the network works in."""

        def cast(value: Tensor) -> Tensor:
            return value.to(dtype=dtype, device=device)

        height, width = (torch.as_tensor(v, dtype=torch.float64) for v in (cameras.height, cameras.width))
        return cls(
            camera_from_world=cameras.world_from_camera[:, :3, :3].mT.contiguous().to(device),
            centers=((cameras.centers - center) / unit).to(device),
            intrinsics=cast(cameras.intrinsics),
            size=cast(torch.stack([width, height], -1)),
            reach=cast(_reach(cameras)),
            distortion=None if cameras.distortion is None else cameras.distortion.to(dtype, device),
            center=center,
            unit=unit,
        )

    def __len__(self) -> int:
        return self.centers.shape[0]

    @property
    def dtype(self) -> torch.dtype:
        """The dtype that the network works in."""
        return self.intrinsics.dtype

    def in_axes(self, vectors: Float[Tensor, "*#n r 3"]) -> Float[Tensor, "3 n r"]:
        """World vectors in the axes of every source camera, turned in float64 and then cast."""
        turned = torch.einsum("nij,nrj->inr", self.camera_from_world, vectors.double().expand(len(self), -1, -1))
        return turned.to(self.dtype)


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
) -> Samples:
    """Project samples at inverse distances (R, S) along rays (origin, direction) into every source camera.

    Origins and directions are best given in float64.
    """
    a = cameras.in_axes(direction)[..., None]
    b = cameras.in_axes(origin.double() - cameras.centers[:, None])[..., None]
    x, y, z = (a[i] + inverse * b[i] for i in range(3))
    ratio = (x * x + y * y + z * z + TINY).sqrt()
    inward = 1 / ratio
    x, y, z = x * inward, y * inward, z * inward
    depth = torch.where(z > GRAZING[0] / 2, z, GRAZING[0] / 2)
    u, v = x / depth, y / depth
    fade = _smoothstep((z - GRAZING[0]) / (GRAZING[1] - GRAZING[0]))
    reach = cameras.reach[:, None, None]
    if cameras.distortion is not None:
        radius = (u * u + v * v + TINY).sqrt()
        fade = fade * _smoothstep((reach - radius) / (0.05 * reach))
        shrink = (reach / radius).clamp_max(1)
        u, v = _distorted(cameras, u * shrink, v * shrink)
    k = cameras.intrinsics[:, None, None]
    width, height = cameras.size[:, 0, None, None], cameras.size[:, 1, None, None]
    u, v = k[..., 0, 0] * u + k[..., 0, 1] * v + k[..., 0, 2], k[..., 1, 1] * v + k[..., 1, 2]
    for position, side in ((u, width), (v, height)):
        inside = torch.minimum(position, side - position)
        fade = fade * _smoothstep(inside)
    grid = torch.stack([(2 * u / width - 1).clamp(-2, 2), (2 * v / height - 1).clamp(-2, 2)], -1)
    return Samples(grid, fade, (x, y, z), ratio, inverse * inward)


def _distorted(cameras: RelativeCameras, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    n = u.shape[0]
    bent = cameras.distortion.distort(torch.stack([u, v], -1).reshape(n, -1, 2)).reshape(*u.shape, 2)
    return bent[..., 0], bent[..., 1]


def read(maps: list[Tensor], samples: Samples) -> Tensor:
    """Bilinear reading of one map (C, h, w) per source at the samples: (N, R, S, C)."""
    values = [
        F.grid_sample(m[None], g[None], mode="bilinear", padding_mode="border", align_corners=False)[0]
        for m, g in zip(maps, samples.grid, strict=True)
    ]
    return torch.stack(values).permute(0, 2, 3, 1)


def read_planes(volumes: list[Tensor], samples: Samples, plane: Tensor) -> Tensor:
    """Trilinear reading of one volume (C, D, h, w) per source; `plane` (N, R, S) is in [0, 1] along D: (N, R, S, C)."""
    values = []
    for volume, grid, p in zip(volumes, samples.grid, plane, strict=True):
        # planes sit at the ends of [0, 1], pixels at the half-integers that grid_sample assumes
        planes = volume.shape[1]
        along = (2 * p * (planes - 1) + 1) / planes - 1
        at = torch.cat([grid, along[..., None]], -1)
        values.append(F.grid_sample(volume[None], at[None, None], padding_mode="border", align_corners=False)[0, :, 0])
    return torch.stack(values).permute(0, 2, 3, 1)


def sample_pairs(cameras: RelativeCameras, frame: Float[Tensor, "r 3 3"], samples: Samples) -> RayPairs:
    """Pair geometry of target rays (frame columns e1, e2, d) and the source rays through their samples.

    The slice of `RayPairs` where rays meet: reciprocal product 0. Source frames are the minimal-rotation section, in
    closed form e1 = (1 - x^2/(1+z), -xy/(1+z), -x), e2 = (-xy/(1+z), 1 - y^2/(1+z), -y).
    """
    e1x, e2x, d = (cameras.in_axes(axis)[..., None] for axis in frame.unbind(-1))
    x, y, z = samples.toward
    # behind the camera the section is singular and the view has faded
    fold = 1 / (1 + z).clamp_min(0.05)
    e1y = (1 - x * x * fold, -x * y * fold, -x)
    e2y = (-x * y * fold, 1 - y * y * fold, -y)

    def dot(a, b) -> Tensor:
        return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]

    offset = (x - d[0], y - d[1], z - d[2])
    sine2 = dot(offset, offset) / 4
    cosine2 = ((d[0] + x) ** 2 + (d[1] + y) ** 2 + (d[2] + z) ** 2) / 4
    s, k = sine2 + SOFTENING**2, cosine2 + SOFTENING**2
    mixed = 1 / (2 * (s * k).sqrt())
    p, q, r, t = dot(e1x, e1y), dot(e1x, e2y), dot(e2x, e1y), dot(e2x, e2y)
    # c . e with c = d_x x d_y, by the cyclic rule; each e is orthogonal to its own direction, so the difference of the
    # two stands for the other one and keeps digits where they are nearly equal
    first = torch.complex(-dot(offset, e2x) * mixed, dot(offset, e1x) * mixed)
    second = torch.complex(-dot(offset, e2y) * mixed, dot(offset, e1y) * mixed)
    difference = torch.complex((p + t) / (2 * k), (r - q) / (2 * k))
    total = torch.complex((p - t) / (2 * s), (q + r) / (2 * s))
    # the vanishing one of the two is a difference of numbers near one: take it from the product of the others
    near = cosine2 > sine2
    total = torch.where(near, first * second * (k / cosine2.clamp_min(0.25)), total)
    difference = torch.where(near, difference, first * second.conj() * (s / sine2.clamp_min(0.25)))
    zero = torch.zeros_like(x)
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
