"""Coloured triangle meshes: marching cubes over a truncated signed distance, written as PLY or binary glTF."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from raytrans.export.clouds import Cloud, write_ply
from raytrans.export.files import write_bytes
from raytrans.export.fusion import DepthMaps
from raytrans.export.volume import MAX_VOXELS, Grid, Volume
from raytrans.geometry.rigid import Similarity
from raytrans.shapes import Float, Int

TRUNCATION = 4  # voxels on either side of a surface
NO_SURFACE = "mesh: the depth maps have no surface in common; try more views, larger ones, or a smaller voxel"
SMALLEST_PIECE = 0.01  # of the faces of the largest piece; smaller ones are noise


@dataclass(frozen=True)
class Mesh:
    """Vertices with normals and colours, and faces (F, 3) that turn counter-clockwise as seen from outside."""

    vertices: Cloud
    faces: Int[Tensor, "f 3"]

    def moved(self, motion: Similarity) -> "Mesh":
        """The mesh in a world moved by x -> s R x + t."""
        return Mesh(self.vertices.moved(motion), self.faces)


def fused_mesh(
    maps: DepthMaps,
    points: Float[Tensor, "p 3"],
    voxel: float,
    noise: float = 0.0,
    most: int = MAX_VOXELS,
    tell: Callable[[int], None] = lambda done: None,
) -> Mesh:
    """The surface that depth maps agree on, within the box of `points` and near them.

    voxel: side of a cell, which grows where the box would hold more than `most`. The distance is truncated at 4 voxels,
    or at `noise`, a length that depth errors stay below, where that is more. `tell(i)` is called after every view.
    Raises ValueError where no surface is found. Needs scikit-image.
    """
    if not len(points):
        raise ValueError(NO_SURFACE)
    margin = max(TRUNCATION * voxel, noise)
    grid = Grid.around(points, voxel, margin, most)
    truncation = max(TRUNCATION * grid.voxel, noise)
    volume = Volume(grid, grid.near(points, truncation), truncation)
    for i in range(len(maps)):
        volume.integrate(maps.cameras[i], maps.depth[i], maps.color[i], maps.confidence[i])
        tell(i)
    return surface(volume)


def surface(volume: Volume, smallest: float = SMALLEST_PIECE) -> Mesh:
    """Marching cubes at distance 0 over the voxels that a view has seen, without pieces that are much smaller."""
    try:
        from skimage.measure import marching_cubes
    except ImportError as error:
        raise ValueError(f"a mesh needs scikit-image ({error}); install the extra `export`") from error
    values, known = volume.dense()
    if not bool(((values < 0) & known).any() and ((values > 0) & known).any()):
        raise ValueError(NO_SURFACE)
    try:
        # its faces turn outward where values grow outward; its normals read unknown voxels at the rim, so not those
        places, faces, _, _ = marching_cubes(values.numpy(), 0.0, mask=known.numpy(), allow_degenerate=False)
    except RuntimeError as error:  # skimage says "No surface found at the given iso value."
        raise ValueError(f"mesh: the depth maps have no surface in common ({error})") from error
    faces = faces[in_known_cells(places[faces].mean(1), known.numpy())]
    if not len(faces):
        raise ValueError(NO_SURFACE)
    places, faces = without_small_pieces(places, faces, smallest)
    points = volume.grid.origin + volume.grid.voxel * torch.from_numpy(places).double()
    colors = volume.color_at(points)
    faces = torch.from_numpy(faces).long()
    return Mesh(Cloud(points, vertex_normals(points, faces), colors, torch.ones(len(points))), faces)


def vertex_normals(points: Float[Tensor, "p 3"], faces: Int[Tensor, "f 3"]) -> Float[Tensor, "p 3"]:
    """Unit sums of (b - a) x (c - a) over the faces at each vertex: means weighted by area."""
    a, b, c = points[faces].unbind(1)
    across = torch.linalg.cross(b - a, c - a)
    total = torch.zeros_like(points).index_add_(0, faces.flatten(), across.repeat_interleave(3, 0))
    return F.normalize(total, dim=-1, eps=1e-300).float()


def in_known_cells(middles: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Which faces, by their middles in voxels, lie in cells with all eight corners known; the mask looks at one."""
    cell = np.minimum(np.floor(middles).astype(int), np.array(known.shape) - 2)
    inside = np.ones(len(middles), bool)
    for corner in np.ndindex(2, 2, 2):
        inside &= known[tuple((cell + corner).T)]
    return inside


def without_small_pieces(places: np.ndarray, faces: np.ndarray, smallest: float) -> tuple[np.ndarray, np.ndarray]:
    """The mesh without connected pieces of fewer faces than `smallest` times those of the largest one."""
    piece = pieces(faces, len(places))[faces[:, 0]]
    count = np.bincount(piece)
    faces = faces[count[piece] >= smallest * count.max()]
    used, renumbered = np.unique(faces, return_inverse=True)
    return places[used], renumbered.reshape(-1, 3)


def pieces(faces: np.ndarray, count: int) -> np.ndarray:
    """For each of `count` vertices the number of its connected piece: the smallest vertex that it is joined to."""
    label = np.arange(count)
    while True:
        least = label[faces].min(1)
        found = label.copy()
        for corner in range(3):
            np.minimum.at(found, faces[:, corner], least)
        found = found[found]  # pointers are followed, so that long pieces take few rounds
        if np.array_equal(found, label):
            return label
        label = found


def write_mesh(path: str | Path, mesh: Mesh) -> None:
    """Write a mesh as .ply, or as .glb where the path ends so; ValueError for another ending."""
    kind = Path(path).suffix.lower()
    if kind not in (".ply", ".glb"):
        raise ValueError(f"{path}: expected a file .ply or .glb")
    if kind == ".ply":
        write_ply(path, mesh.vertices, mesh.faces)
    else:
        write_bytes(path, glb(mesh))


def glb(mesh: Mesh) -> bytes:
    """Binary glTF in the frame and units of the mesh: float32 positions about their middle, which is the node's place.

    So far worlds keep their digits. The axes are not turned to glTF's y-up. Needs trimesh.
    """
    try:
        import trimesh
    except ImportError as error:
        raise ValueError(f"a .glb needs trimesh ({error}); install the extra `export`, or take .ply") from error
    points = mesh.vertices.points.numpy()
    middle = 0.5 * (points.min(0) + points.max(0))
    colors = (mesh.vertices.colors.clamp(0, 1) * 255).round().byte().numpy()
    body = trimesh.Trimesh(
        points - middle,
        mesh.faces.numpy(),
        vertex_normals=mesh.vertices.normals.numpy(),
        vertex_colors=np.concatenate([colors, np.full((len(colors), 1), 255, np.uint8)], 1),
        process=False,
    )
    place = np.eye(4)
    place[:3, 3] = middle
    scene = trimesh.Scene()
    scene.add_geometry(body, transform=place)
    return scene.export(file_type="glb", include_normals=True)
