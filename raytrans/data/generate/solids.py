"""Solids and their intersection with rays, in plain torch.

Every solid is a unit shape seen through an affine map, so that ellipsoids, plates and rods need no code of their own.
Arrays are laid out coordinate first, `(3, solids, rays)`, which keeps the long axis contiguous.
"""

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from raytrans.shapes import Float, Int

SPHERE, BOX, CYLINDER, CONE, PLANE, ROOM = range(6)
"""Kinds: unit ball; cube of half side 1; radius 1 and |z| <= 1; base z=-1, apex z=1; the plane z=0; a box seen from
inside."""


@dataclass(frozen=True)
class Solids:
    """Solids sorted by kind, with the material of each."""

    kind: Int[Tensor, " solids"]
    linear: Float[Tensor, "solids 3 3"]  # local = linear @ world + shift
    shift: Float[Tensor, "solids 3"]
    half: Float[Tensor, "solids 3"]  # world lengths of the local half axes
    texture: Int[Tensor, " solids"]
    tiles: Float[Tensor, " solids"]  # texture periods per unit length
    offset: Float[Tensor, "solids 2"]  # in periods
    gloss: Float[Tensor, " solids"]
    shininess: Float[Tensor, " solids"]
    counts: tuple[int, ...]  # solids of each kind, in the order of the kinds

    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> "Solids":
        """Copy with floating arrays in `dtype`, everything on `device`."""
        moved = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                moved[field.name] = value.to(device, dtype if value.is_floating_point() else None)
        return replace(self, **moved)

    def __len__(self) -> int:
        return len(self.kind)


def intersect(
    solids: Solids,
    origin: Float[Tensor, "3 #rays"],
    direction: Float[Tensor, "3 #rays"],
    nearest: float = 0.0,
) -> Float[Tensor, "solids rays"]:
    """Ray parameter t of the first surface met, `origin + t * direction`, per solid and ray; inf where there is none.

    Directions need no unit length. Solids are entered from outside only, rooms are left from inside only.
    Hits with t <= `nearest` do not count.
    """
    local_origin = torch.einsum("pij,jr->ipr", solids.linear, origin) + solids.shift.T[:, :, None]
    local_direction = torch.einsum("pij,jr->ipr", solids.linear, direction)
    parts, start = [], 0
    for meet, count in zip(_MEETS, solids.counts, strict=True):
        if count:
            group = slice(start, start + count)
            t = meet(local_origin[:, group], local_direction[:, group])
            parts.append(torch.where(t > nearest, t, torch.inf))
        start += count
    return torch.cat(parts)


def _quadric_interval(o: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """Interval of t with |o + t d| <= 1 over the leading axis; empty intervals are (inf, -inf).

    The squared distance of closest approach is formed from the approach point itself, which keeps float32 accurate for
    far origins, where |o|^2 - (o.d)^2 / |d|^2 cancels.
    """
    squared = (d * d).sum(0)
    middle = -(o * d).sum(0) / squared
    approach = o + middle * d
    left = 1 - (approach * approach).sum(0)
    half = torch.sqrt(left.clamp(min=0) / squared)
    met = left > 0
    return torch.where(met, middle - half, torch.inf), torch.where(met, middle + half, -torch.inf)


def _slab_interval(o: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """Interval of t with every |o + t d| <= 1 along the leading axis."""
    inverse = 1 / d
    first, second = (-1 - o) * inverse, (1 - o) * inverse
    return torch.minimum(first, second).amax(0), torch.maximum(first, second).amin(0)


def _enter(start: Tensor, stop: Tensor) -> Tensor:
    return torch.where(start < stop, start, torch.inf)


def _meet_sphere(o: Tensor, d: Tensor) -> Tensor:
    return _quadric_interval(o, d)[0]


def _meet_box(o: Tensor, d: Tensor) -> Tensor:
    return _enter(*_slab_interval(o, d))


def _meet_cylinder(o: Tensor, d: Tensor) -> Tensor:
    side, caps = _quadric_interval(o[:2], d[:2]), _slab_interval(o[2:], d[2:])
    return _enter(torch.maximum(side[0], caps[0]), torch.minimum(side[1], caps[1]))


def _meet_cone(o: Tensor, d: Tensor) -> Tensor:
    """x^2 + y^2 = ((1 - z) / 2)^2 for |z| <= 1, and the disc z = -1."""
    radius, slope = (1 - o[2]) / 2, -d[2] / 2
    a = d[0] ** 2 + d[1] ** 2 - slope**2
    b = o[0] * d[0] + o[1] * d[1] - radius * slope
    c = o[0] ** 2 + o[1] ** 2 - radius**2
    root = torch.sqrt((b * b - a * c).clamp(min=0))
    # the stable pair of roots: no difference of nearly equal numbers
    q = -(b + torch.where(b >= 0, root, -root))
    found = torch.full_like(q, torch.inf)
    for t in (q / a, c / q):
        valid = (b * b > a * c) & ((o[2] + t * d[2]).abs() <= 1) & (t > 0)
        found = torch.where(valid & (t < found), t, found)
    base = (-1 - o[2]) / d[2]
    inside = (o[0] + base * d[0]) ** 2 + (o[1] + base * d[1]) ** 2 <= 1
    return torch.where(inside & (base > 0) & (base < found), base, found)


def _meet_plane(o: Tensor, d: Tensor) -> Tensor:
    return (-o[2] / d[2]).broadcast_to(torch.broadcast_shapes(o[2].shape, d[2].shape))


def _meet_room(o: Tensor, d: Tensor) -> Tensor:
    start, stop = _slab_interval(o, d)
    return torch.where(start < stop, stop, torch.inf)


_MEETS = (_meet_sphere, _meet_box, _meet_cylinder, _meet_cone, _meet_plane, _meet_room)


def surface(
    solids: Solids,
    index: Int[Tensor, " rays"],
    point: Float[Tensor, "3 rays"],
) -> tuple[Float[Tensor, "3 rays"], Float[Tensor, "2 rays"]]:
    """Unit normal and texture coordinates (in periods) of points on the solids `index`.

    Texture coordinates are world lengths along the surface: wound round a cylinder, projected along the dominant axis
    of the normal on everything else.
    """
    linear = solids.linear[index].permute(1, 2, 0)
    local = torch.einsum("ijr,jr->ir", linear, point) + solids.shift[index].T
    kind, half = solids.kind[index], solids.half[index].T
    normal = _local_normal(kind, local)
    world_normal = torch.nn.functional.normalize(torch.einsum("ijr,ir->jr", linear, normal), dim=0)
    return world_normal, _texture_coordinates(kind, local, normal, half) * solids.tiles[index] + solids.offset[index].T


def _local_normal(kind: Tensor, local: Tensor) -> Tensor:
    x, y, z = local
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    axis = local.abs().argmax(0)
    face = torch.nn.functional.one_hot(axis, 3).T.to(local) * local.sign()
    face = torch.where(kind == ROOM, -face, face)
    side = torch.stack([x, y, zero])
    cap = torch.stack([zero, zero, z.sign()])
    cylinder = torch.where(z.abs() > torch.hypot(x, y), cap, side)
    slant = torch.stack([x, y, (1 - z) / 4])
    cone = torch.where(z + 1 < 1e-4, -torch.stack([zero, zero, one]), slant)
    normal = torch.where(kind == SPHERE, local, face)
    normal = torch.where(kind == CYLINDER, cylinder, normal)
    normal = torch.where(kind == CONE, cone, normal)
    return torch.where(kind == PLANE, torch.stack([zero, zero, one]), normal)


def _texture_coordinates(kind: Tensor, local: Tensor, normal: Tensor, half: Tensor) -> Tensor:
    scaled = local * half
    # the normal as seen in the undistorted shape decides the plane of projection
    axis = (normal / half).abs().argmax(0)
    first = torch.where(axis == 0, scaled[1], scaled[0])
    second = torch.where(axis == 2, scaled[1], scaled[2])
    # opposite faces must not show the same picture
    facing = normal.gather(0, axis[None])[0].sign()
    planar = torch.stack([first + 0.37 * facing * half.amax(0) + axis * 1.7, second])
    wound = torch.stack([torch.atan2(local[1], local[0]) * half[0], scaled[2]])
    on_side = (kind == CYLINDER) & (normal[2] == 0)
    return torch.where(kind == PLANE, scaled[:2], torch.where(on_side, wound, planar))
