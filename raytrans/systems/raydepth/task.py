"""Depth along a ray from rays whose depth was measured: one task for every backbone over `Rays`.

A scene holds a few ellipsoids and boxes in a room. Cameras around it look at it along source rays that carry their
measured depth; target rays of one more camera carry nothing. Every scene lies in its own frame and has its own scale,
so nothing but the relations of the rays helps. Models return log(depth/unit), with the scene's mean measured depth as
the unit.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from raytrans.data.generate.solids import BOX, ROOM, SPHERE, Solids, intersect
from raytrans.geometry.rays import Rays, section_frame, section_from_axis
from raytrans.geometry.rigid import Similarity, random_rotation
from raytrans.shapes import Float

SOLIDS = (2, 3)  # of each kind, ellipsoids and boxes: one of these numbers
ROOM_HALF = (3.6, 4.8)  # half sides; cameras stand at CAMERA_DISTANCE of the middle
CAMERA_DISTANCE = (2.4, 3.2)
AIM = 1.1  # radius around the middle of the points that rays are drawn to


@dataclass(frozen=True)
class RayDepths:
    """Scenes of one number of rays: source rays with their depth, target rays with the depth to be found."""

    sources: Rays
    depth: Float[Tensor, "b n"]
    targets: Rays
    truth: Float[Tensor, "b m"]

    @property
    def unit(self) -> Float[Tensor, " b"]:
        """Length of a scene: its mean measured depth."""
        return self.depth.mean(-1)

    @property
    def points(self) -> Float[Tensor, "b n 3"]:
        """Where the source rays end."""
        return self.sources.point(self.depth)

    @property
    def centre(self) -> Float[Tensor, "b 3"]:
        """Mean of the measured points."""
        return self.points.mean(-2)

    def __len__(self) -> int:
        return len(self.depth)

    def __getitem__(self, index: slice | Tensor) -> "RayDepths":
        return RayDepths(self.sources[index], self.depth[index], self.targets[index], self.truth[index])

    def to(self, dtype: torch.dtype) -> "RayDepths":
        """Copy in another precision."""
        return RayDepths(*(value.to(dtype) for value in (self.sources, self.depth, self.targets, self.truth)))

    def moved(
        self, rotation: Float[Tensor, "*b 3 3"], translation: Float[Tensor, "*b 3"], scale: Tensor | float = 1.0
    ) -> "RayDepths":
        """Every scene by its own x -> scale R x + t."""
        scale = torch.as_tensor(scale, dtype=self.depth.dtype)
        sources, targets = (_moved(rays, rotation, translation, scale) for rays in (self.sources, self.targets))
        return RayDepths(sources, self.depth * scale[..., None], targets, self.truth * scale[..., None])

    def turned(self, generator: torch.Generator) -> "RayDepths":
        """Every scene by a random rotation of its own about its centre: data augmentation."""
        rotation = random_rotation(len(self), generator=generator, dtype=self.depth.dtype)
        return self.moved(rotation, self.centre - (rotation @ self.centre[..., None])[..., 0])


def _moved(rays: Rays, rotation: Tensor, translation: Tensor, scale: Tensor) -> Rays:
    direction = rays.direction @ rotation.mT
    anchor, origin = (
        scale[..., None, None] * (v @ rotation.mT) + translation[..., None, :] for v in (rays.anchor, rays.origin)
    )
    return Rays(
        direction, torch.linalg.cross(origin, direction), rotation[..., None, :, :] @ rays.frame, anchor, origin
    )


def draw(
    count: int, generator: torch.Generator, cameras: int = 4, rays: int = 12, targets: int = 8, frames: bool = True
) -> RayDepths:
    """`count` scenes in float64, `rays` source rays of each of `cameras` cameras and `targets` target rays.

    With `frames` every scene is put into a random frame: a rotation, a shift of a few units, a scale of 1/4 to 4.
    Raises ValueError for counts below one.
    """
    for name, value in (("count", count), ("cameras", cameras), ("rays", rays), ("targets", targets)):
        if value < 1:
            raise ValueError(f"{name}: expected at least 1, got {value}")
    sources = _camera_rays(count, cameras, rays, generator).reshape(count, cameras * rays)
    aimed = _camera_rays(count, 1, targets, generator).reshape(count, targets)
    both = Rays.cat([sources, aimed], 1)
    depths = torch.stack([_depths(_scene(generator), both[i]) for i in range(count)])
    scenes = RayDepths(sources, depths[:, : cameras * rays], aimed, depths[:, cameras * rays :])
    if frames:
        change = Similarity.random(count, generator=generator, extent=3.0)
        scenes = scenes.moved(change.rotation, change.translation, change.scale)
    return scenes


def _uniform(low: float, high: float, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64)


def _ball(radius: float, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Points uniform in a ball."""
    direction = torch.nn.functional.normalize(torch.randn(*shape, 3, generator=generator, dtype=torch.float64), dim=-1)
    return radius * _uniform(0.0, 1.0, (*shape, 1), generator) ** (1 / 3) * direction


def _camera_rays(count: int, cameras: int, rays: int, generator: torch.Generator) -> Rays:
    """Rays (count, cameras, rays) from cameras around the middle to points near it; sections are those of cameras."""
    outward = torch.nn.functional.normalize(_ball(1.0, (count, cameras), generator), dim=-1)
    eye = outward * _uniform(*CAMERA_DISTANCE, (count, cameras, 1), generator)
    camera = section_from_axis(-outward, outward.roll(1, -1))
    aim = _ball(AIM, (count, cameras, rays), generator)
    direction = torch.nn.functional.normalize(aim - eye[..., None, :], dim=-1)
    frame = section_frame(camera[..., None, :, :].expand(*direction.shape, 3), direction)
    return Rays.from_points(eye[..., None, :].expand_as(direction), direction, frame)


def _scene(generator: torch.Generator) -> Solids:
    """Ellipsoids and boxes in a room, in random places and attitudes."""
    spheres, boxes = (SOLIDS[int(torch.randint(len(SOLIDS), (), generator=generator))] for _ in range(2))
    count = spheres + boxes
    half = torch.cat([_uniform(0.25, 0.6, (count, 3), generator), _uniform(*ROOM_HALF, (1, 3), generator)])
    centre = torch.cat([_ball(0.9, (count,), generator), torch.zeros(1, 3, dtype=torch.float64)])
    linear = random_rotation(count + 1, generator=generator).mT / half[:, :, None]
    numbers = torch.zeros(count + 1, dtype=torch.float64)
    kind = torch.tensor([SPHERE] * spheres + [BOX] * boxes + [ROOM])
    return Solids(
        kind=kind,
        linear=linear,
        shift=-(linear @ centre[..., None])[..., 0],
        half=half,
        texture=kind,
        tiles=numbers,
        offset=numbers[:, None].expand(-1, 2),
        gloss=numbers,
        shininess=numbers,
        counts=(spheres, boxes, 0, 0, 0, 1),
    )


def _depths(solids: Solids, rays: Rays) -> Float[Tensor, " rays"]:
    return intersect(solids, rays.origin.T, rays.direction.T).amin(0)


def along_and_apart(rays: Rays, points: Float[Tensor, "... 3"]) -> tuple[Tensor, Tensor]:
    """Place of a point along a ray from its origin, and its squared distance from it."""
    offset = points - rays.origin
    return (offset * rays.direction).sum(-1), torch.linalg.cross(
        *torch.broadcast_tensors(offset, rays.direction)
    ).square().sum(-1)


def error(log_depth: Float[Tensor, "b m"], scenes: RayDepths) -> Float[Tensor, ""]:
    """Mean |log(depth/truth)| of predictions log(depth/unit): a relative error, free of scale."""
    return (log_depth - (scenes.truth / scenes.unit[:, None]).log()).abs().mean()


def nearest_point(scenes: RayDepths) -> Float[Tensor, "b m"]:
    """log(depth/unit) of the measured point nearest to the target ray, of those before it: no learning."""
    targets = scenes.targets.reshape(*scenes.targets.shape, 1)
    along, apart = along_and_apart(targets, scenes.points[:, None])
    chosen = apart.masked_fill(along <= 0, torch.inf).argmin(-1, keepdim=True)
    return (along.gather(-1, chosen)[..., 0].clamp_min(1e-3 * scenes.unit[:, None]) / scenes.unit[:, None]).log()
