"""Textured meshes in generated scenes: read by trimesh, met by rays through embree, shaded like the solids."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from raytrans.data.generate.layout import Layout, Material, turn
from raytrans.data.generate.solids import CYLINDER
from raytrans.data.generate.textures import SIDE
from raytrans.data.guards import check_pixels, decoding
from raytrans.shapes import Bool, Float, Int

UPRIGHT = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
"""glTF has y up, layouts have z up."""


@dataclass(frozen=True)
class Mesh:
    """One file: vertices (n, 3), faces (m, 3), normals (n, 3), uv (n, 2) with v down, picture (side, side, 3) sRGB."""

    vertices: np.ndarray
    faces: np.ndarray
    normals: np.ndarray
    uv: np.ndarray
    picture: np.ndarray


@lru_cache(maxsize=64)
def read_mesh(path: str) -> Mesh:
    """Read a textured mesh (.glb), turned z up, centred, of largest side one, standing on z = 0.

    Raises:
        ValueError: not readable as a mesh, or without faces.
    """
    import trimesh

    with decoding(Path(path), "expected a mesh that trimesh reads"), np.errstate(all="ignore"):
        mesh = trimesh.load_scene(path).to_mesh()
        if len(mesh.faces) == 0:
            raise ValueError(f"{path}: expected a mesh with faces, got none")
        return _standing(mesh, path)


def _standing(mesh, path: str) -> Mesh:
    """A mesh of trimesh as `read_mesh` hands it out."""
    vertices = np.asarray(mesh.vertices) @ UPRIGHT.T
    low, high = vertices.min(0), vertices.max(0)
    foot = np.array([*(low + high)[:2] / 2, low[2]])
    if not (np.isfinite(vertices).all() and (high > low).any()):
        raise ValueError(f"{path}: expected finite vertices that are not all one, got others")
    uv, picture = _texture(mesh, path)
    normals = np.asarray(mesh.vertex_normals) @ UPRIGHT.T
    return Mesh((vertices - foot) / (high - low).max(), np.asarray(mesh.faces), normals, uv, picture)


def _texture(mesh, path: str) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates and picture of a mesh; one flat colour where the file has no texture."""
    uv, material = getattr(mesh.visual, "uv", None), getattr(mesh.visual, "material", None)
    image = getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
    if uv is None or image is None:
        visual = mesh.visual.to_color() if hasattr(mesh.visual, "to_color") else mesh.visual
        color = np.asarray(visual.main_color)[:3] / 255
        return np.zeros((len(mesh.vertices), 2)), np.broadcast_to(color, (SIDE, SIDE, 3)).astype(np.float32)
    check_pixels(Path(path), image.height, image.width)
    picture = np.asarray(image.convert("RGB").resize((SIDE, SIDE)), np.float32) / 255
    uv = np.asarray(uv) * [1, -1] + [0, 1]
    if not np.isfinite(uv).all():
        raise ValueError(f"{path}: expected finite texture coordinates, got NaN or infinity")
    return uv, _grown(picture, _used_texels(uv[mesh.faces])).clip(0.02, 0.98)


def _used_texels(corners: np.ndarray) -> np.ndarray:
    """Mask (side, side) of texels that triangles (m, 3, 2) of the texture plane cover, found by sampling them."""
    line = (np.arange(6) + 0.5) / 6
    first, second = (grid.reshape(-1) for grid in np.meshgrid(line, line))
    folded = first + second > 1
    first, second = np.where(folded, 1 - first, first), np.where(folded, 1 - second, second)
    weights = np.stack([1 - first - second, first, second], axis=1)
    texels = np.floor(np.einsum("pc,mci->mpi", weights, corners) * SIDE).astype(np.int64) % SIDE
    used = np.zeros((SIDE, SIDE), bool)
    used[texels[..., 1], texels[..., 0]] = True
    return used


def _grown(picture: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Picture whose unused texels take the mean of the used ones near them, so that coarse levels show no seams."""
    if len(picture) == 1 or used.all():
        return picture
    weight = used[..., None].astype(np.float32)
    halves = [
        array.reshape(len(picture) // 2, 2, len(picture) // 2, 2, -1).mean((1, 3))
        for array in (picture * weight, weight)
    ]
    coarse = _grown(halves[0] / np.maximum(halves[1], 1e-6), halves[1][..., 0] > 0)
    return np.where(used[..., None], picture, coarse.repeat(2, 0).repeat(2, 1))


def add_meshes(layout: Layout, theme: str, paths: Sequence[str | Path], rng: np.random.Generator) -> None:
    """Put one to three of the meshes on the ground of a layout; where there is none, one alone on a small foot."""
    alone = theme in ("white", "object")
    chosen = rng.permutation(len(paths))[: 1 if alone else int(rng.integers(1, 4))]
    if alone:
        layout.solids.clear()
        layout.add(CYLINDER, (0, 0, -0.53), (0.35, 0.35, 0.03), Material(0))
    for number in chosen:
        mesh = read_mesh(str(paths[number]))
        size = rng.uniform(1.0, 1.5) if alone else rng.uniform(0.5, 1.0)
        size, spot = (size, np.zeros(2)) if alone else _free_place(layout, mesh, size, rng)
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = size * turn(rng), (*spot, -0.5 if alone else 0.0)
        layout.pictures.append(mesh.picture)
        layout.meshes.append((mesh, matrix, len(layout.pictures) - 1))
        if alone:
            layout.target = np.array([0, 0, size * mesh.vertices[:, 2].max() / 2 - 0.5])


def _free_place(layout: Layout, mesh: Mesh, size: float, rng: np.random.Generator) -> tuple[float, np.ndarray]:
    """Size and place (2,) of a mesh: smaller where the ground is crowded, and anywhere where it is full."""
    for smaller in size * np.array([1.0, 0.8, 0.6, 0.45]):
        spot = layout.place(np.ptp(mesh.vertices, axis=0)[:2] * smaller / 2, 1.3, rng, 200)
        if spot is not None:
            return smaller, spot
    return size, layout.target[:2] + rng.uniform(-0.8, 0.8, 2)


class MeshSet:
    """All meshes of a scene as one soup of triangles.

    Distances are those of the flat triangles in float64; embree only says which triangle is met first. Shading uses the
    interpolated vertex normals.
    """

    def __init__(self, placed: list[tuple[Mesh, np.ndarray, int]], device: torch.device | str | None = None):
        import trimesh

        counts = np.cumsum([0] + [len(mesh.vertices) for mesh, _, _ in placed])
        vertices = np.concatenate([mesh.vertices @ matrix[:3, :3].T + matrix[:3, 3] for mesh, matrix, _ in placed])
        normals = np.concatenate([mesh.normals @ matrix[:3, :3].T for mesh, matrix, _ in placed])
        faces = np.concatenate([mesh.faces + start for (mesh, _, _), start in zip(placed, counts[:-1], strict=True)])
        uv = np.concatenate([mesh.uv for mesh, _, _ in placed])
        self._caster = trimesh.ray.ray_pyembree.RayMeshIntersector(trimesh.Trimesh(vertices, faces, process=False))
        self._corners = torch.from_numpy(vertices[faces]).to(device)  # (faces, 3 corners, 3)
        self._normals = torch.from_numpy(normals[faces]).float().to(device)
        self._uv = torch.from_numpy(uv[faces]).float().to(device)
        texture = np.repeat([number for _, _, number in placed], [len(mesh.faces) for mesh, _, _ in placed])
        self._texture = torch.from_numpy(texture).to(device)
        self._tiles = self._periods_per_length()
        placed_vertices = np.split(vertices, counts[1:-1])
        self.centers = np.stack([(part.min(0) + part.max(0)) / 2 for part in placed_vertices])
        self.reach = np.array([0.4 * np.ptp(part, axis=0).prod() ** (1 / 3) for part in placed_vertices])

    def _periods_per_length(self) -> Float[Tensor, " faces"]:
        """Square root of texture area over area, of each triangle."""
        edges = (self._corners[:, 1:] - self._corners[:, :1]).float()
        area = torch.linalg.cross(edges[:, 0], edges[:, 1]).norm(dim=-1)
        flat = self._uv[:, 1:] - self._uv[:, :1]
        return (torch.linalg.det(flat).abs() / area.clamp(min=1e-12)).sqrt()

    def meet(
        self, origin: Float[Tensor, "3 #rays"], direction: Float[Tensor, "3 rays"]
    ) -> tuple[Float[Tensor, " rays"], Int[Tensor, " rays"], Float[Tensor, "3 rays"]]:
        """Ray parameter (inf where nothing is met), triangle, and barycentric coordinates."""
        start, along = origin.expand_as(direction).double(), direction.double()
        face = self._caster.intersects_first(start.T.cpu().numpy(), along.T.cpu().numpy())
        face = torch.from_numpy(np.asarray(face)).to(direction.device)
        first, second, third = self._corners[face.clamp(min=0)].unbind(1)
        # Cramer's rule for origin + t direction = first + u (second - first) + v (third - first)
        edge, other, away = second - first, third - first, start.T - first
        normal, turned = torch.linalg.cross(edge, other), torch.linalg.cross(away, along.T)
        scale = -1 / (normal * along.T).sum(-1)
        t = scale * (normal * away).sum(-1)
        u, v = scale * (other * turned).sum(-1), -scale * (edge * turned).sum(-1)
        met = (face >= 0) & t.isfinite() & (t > 0)
        return (
            torch.where(met, t, torch.inf).to(direction),
            face.clamp(min=0),
            torch.stack([1 - u - v, u, v]).to(direction),
        )

    def surface(
        self, face: Int[Tensor, " rays"], weights: Float[Tensor, "3 rays"], view: Float[Tensor, "3 rays"]
    ) -> tuple[Float[Tensor, "3 rays"], Float[Tensor, "2 rays"], Int[Tensor, " rays"], Float[Tensor, " rays"]]:
        """Unit normal on the side of the viewer, texture coordinates, texture, and periods per unit length."""
        normal = torch.einsum("rci,cr->ir", self._normals[face], weights)
        normal = torch.nn.functional.normalize(normal, dim=0)
        normal = torch.where((normal * view).sum(0) > 0, -normal, normal)
        coordinates = torch.einsum("rci,cr->ir", self._uv[face], weights)
        return normal, coordinates, self._texture[face], self._tiles[face]

    def blocks(self, point: Float[Tensor, "3 rays"], towards: Float[Tensor, "3 rays"]) -> Bool[Tensor, " rays"]:
        """Whether a triangle stands on the ray from each point; lamps lie beyond all meshes."""
        hit = self._caster.intersects_any(point.T.cpu().double().numpy(), towards.T.cpu().double().numpy())
        return torch.from_numpy(np.asarray(hit)).to(point.device)
