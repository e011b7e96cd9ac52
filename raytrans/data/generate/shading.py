"""Light on generated scenes: Lambert and Blinn-Phong, soft cast shadows, ambient light darker at contacts, a sky."""

from dataclasses import dataclass

import torch
from torch import Tensor

from raytrans.data.generate.layout import Layout, Light
from raytrans.data.generate.meshes import MeshSet
from raytrans.data.generate.solids import PLANE, ROOM, Solids, intersect, surface
from raytrans.data.generate.textures import Atlas
from raytrans.shapes import Float, Int


@dataclass(frozen=True)
class Stage:
    """A built scene on one device: solids in float32 and float64, textures, light, and what ambient light needs."""

    solids: Solids
    exact: Solids
    atlas: Atlas
    light: Light
    blockers: Float[Tensor, "3 blockers"]
    reach: Float[Tensor, " blockers"]
    clouds: int
    meshes: MeshSet | None = None

    @staticmethod
    def build(layout: Layout, device: torch.device | str | None) -> "Stage":
        """From a finished layout, whose last picture is that of the clouds."""
        solids = layout.built()
        compact = (solids.kind != PLANE) & (solids.kind != ROOM) & (solids.half.amax(1) < 1.5)
        inverse = torch.linalg.inv(solids.linear[compact])
        centers = -(inverse @ solids.shift[compact][..., None])[..., 0]
        reach = solids.half[compact].log().mean(1).exp()
        meshes = MeshSet(layout.meshes, device) if layout.meshes else None
        if meshes:
            centers = torch.cat([centers, torch.from_numpy(meshes.centers)])
            reach = torch.cat([reach, torch.from_numpy(meshes.reach)])
        exact = solids.to(device=device)
        return Stage(
            exact.to(torch.float32),
            exact,
            Atlas.build(layout.pictures).to(device),
            layout.light,
            centers.T.contiguous().float().to(device),
            reach.float().to(device),
            layout.clouds,
            meshes,
        )

    def depth(self, origin: Float[Tensor, "3 1"], direction: Float[Tensor, "3 rays"]) -> Float[Tensor, " rays"]:
        """Ray parameter of the first surface in float64, inf where there is none."""
        t = intersect(self.exact, origin, direction).amin(0)
        return t if self.meshes is None else torch.minimum(t, self.meshes.meet(origin, direction)[0])


@dataclass(frozen=True)
class Hits:
    """The first surface along each ray and its material."""

    t: Float[Tensor, " rays"]
    normal: Float[Tensor, "3 rays"]
    coordinates: Float[Tensor, "2 rays"]
    texture: Int[Tensor, " rays"]
    tiles: Float[Tensor, " rays"]
    gloss: Float[Tensor, " rays"]
    shininess: Float[Tensor, " rays"]


def _met(stage: Stage, origin: Tensor, direction: Tensor, view: Tensor) -> Hits:
    solids = stage.solids
    t, index = intersect(solids, origin, direction).min(0)
    point = origin + torch.where(t.isfinite(), t, 1.0) * direction
    normal, coordinates = surface(solids, index, point)
    texture, tiles, gloss = solids.texture[index], solids.tiles[index], solids.gloss[index]
    if stage.meshes is not None:
        mesh_t, face, weights = stage.meshes.meet(origin, direction)
        nearer = mesh_t < t
        found = stage.meshes.surface(face, weights, view)
        normal, coordinates, texture, tiles = (
            torch.where(nearer, mine, other)
            for mine, other in zip(found, (normal, coordinates, texture, tiles), strict=True)
        )
        t, gloss = torch.minimum(t, mesh_t), torch.where(nearer, 0.0, gloss)
    return Hits(t, normal, coordinates, texture, tiles, gloss, solids.shininess[index])


def shade(
    stage: Stage,
    origin: Float[Tensor, "3 1"],
    direction: Float[Tensor, "3 rays"],
    pixel: float,
    lamp: Float[Tensor, "3 1"],
) -> Float[Tensor, "rays 3"]:
    """sRGB colour in [0, 1] seen along rays whose directions have unit z in their camera.

    `pixel` is the side of a pixel at unit z; `lamp` the point of the light that this sample sees.
    """
    view = torch.nn.functional.normalize(direction, dim=0)
    hits = _met(stage, origin, direction, view)
    hit = hits.t.isfinite()
    t = torch.where(hit, hits.t, 1.0)
    point = origin + t * direction
    slope = -(view * hits.normal).sum(0).clamp(max=-0.05)
    footprint = pixel * t / slope.sqrt() * hits.tiles
    albedo = stage.atlas.read(hits.texture, hits.coordinates, footprint)

    towards = lamp - point
    distance = towards.norm(dim=0)
    towards = towards / distance
    lit = _lit(stage, point + 1e-4 * hits.normal, towards, distance)
    color = _reflected(stage, hits, albedo, view, towards, lit)
    color = color + albedo * _ambient(stage, point, hits.normal)
    if stage.light.background is not None:
        return torch.where(hit, _encoded(color), _constant(stage.light.background, color)).T
    return _encoded(torch.where(hit, color, _sky(stage, view))).T


def _lit(stage: Stage, point: Tensor, towards: Tensor, distance: Tensor) -> Tensor:
    """1 where nothing stands between point and lamp, else 0; rooms and grounds cast no shadow."""
    solids, lit = stage.solids, torch.ones_like(distance)
    casting = sum(solids.counts[:PLANE])
    if casting:
        arrays = (getattr(solids, name)[:casting] for name in _ARRAYS)
        casters = Solids(*arrays, counts=(*solids.counts[:PLANE], *(0,) * (ROOM + 1 - PLANE)))
        lit = (intersect(casters, point, towards, nearest=1e-4).amin(0) > distance).to(point)
    return lit if stage.meshes is None else lit * ~stage.meshes.blocks(point + 4e-3 * towards, towards)


_ARRAYS = ("kind", "linear", "shift", "half", "texture", "tiles", "offset", "gloss", "shininess")


def _reflected(
    stage: Stage, hits: Hits, albedo: Tensor, view: Tensor, towards: Tensor, lit: Tensor
) -> Float[Tensor, "3 rays"]:
    """Lambert + Blinn-Phong from the lamp, and the sky mirrored by glossy surfaces with Schlick's Fresnel factor."""
    color = _constant(stage.light.color, albedo)
    normal, gloss = hits.normal, hits.gloss
    facing = (normal * towards).sum(0).clamp(min=0)
    result = albedo * color * (facing * lit)
    if bool((gloss > 0).any()):
        half = torch.nn.functional.normalize(towards - view, dim=0)
        lobe = (normal * half).sum(0).clamp(min=1e-6) ** hits.shininess
        result = result + color * (gloss * lit * (facing > 0) * lobe * (2 + hits.shininess) / 24)
        cosine = -(normal * view).sum(0).clamp(max=0)
        mirrored = view + 2 * cosine * normal
        result = result + _sky(stage, mirrored) * (gloss * (0.06 + 0.6 * (1 - cosine) ** 5))
    return result


def _ambient(stage: Stage, point: Tensor, normal: Tensor) -> Float[Tensor, "3 rays"]:
    """Light from everywhere: more from above, less where solids are near (each hides a cone of (r / distance)^2)."""
    strength = 0.65 + 0.35 * normal[2]
    if len(stage.reach):
        away = stage.blockers[:, :, None] - point[:, None]
        squared = (away * away).sum(0).clamp(min=1e-6)
        cosine = (away * normal[:, None]).sum(0).clamp(min=0) / squared.sqrt()
        hidden = (cosine * (stage.reach[:, None] ** 2 / squared).clamp(max=1)).sum(0)
        strength = strength * (1 - hidden).clamp(min=0.3)
    return _constant(stage.light.ambient, point) * strength


def _sky(stage: Stage, view: Tensor) -> Tensor:
    """Gradient from horizon to zenith, with clouds projected from a plane overhead."""
    height = view[2].abs().clamp(min=0.0)
    base = torch.lerp(_constant(stage.light.horizon, view), _constant(stage.light.zenith, view), height.sqrt())
    if stage.light.background is not None:
        return base
    overhead = view[:2] / (height + 0.3) * 0.25
    texture = torch.full_like(view[0], stage.clouds, dtype=torch.long)
    clouds = stage.atlas.read(texture, overhead, torch.full_like(height, 0.012))
    return base * (0.7 + 0.6 * clouds)


def _constant(color, like: Tensor) -> Tensor:
    return torch.as_tensor(color, dtype=like.dtype, device=like.device)[:, None]


def _encoded(color: Tensor) -> Tensor:
    """Linear light to sRGB (gamma 2.2), with highlights rolled off softly above 0.8."""
    bright = color.clamp(min=0)
    rolled = torch.where(bright > 0.8, 1 - 0.2 * torch.exp(-(bright - 0.8) / 0.2), bright)
    return rolled.clamp(min=0, max=1).pow(1 / 2.2)
