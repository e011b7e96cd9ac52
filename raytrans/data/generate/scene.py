"""Generated scenes: images of known cameras with exact depth, drawn by seed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from raytrans.data.generate.layout import Layout, haar
from raytrans.data.generate.meshes import add_meshes
from raytrans.data.generate.photographic import Development, retone
from raytrans.data.generate.rigs import Shooting, Shots, easy_rig, full_rig
from raytrans.data.generate.shading import Stage, shade
from raytrans.data.generate.themes import THEMES, easy
from raytrans.geometry.cameras import Cameras
from raytrans.shapes import Float

_KINDS = {"easy": 1, "full": 2, "object": 3}
_SUBPIXELS = ((0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75))


@dataclass(frozen=True)
class GeneratedScene:
    """Views of one scene.

    `images` is (N, H, W, 3) float32 sRGB in [0, 1] and `depth` (N, H, W) float32 z-depth of the ray through each
    pixel's centre, NaN where it meets nothing; both are lists of one array per view where sizes differ.
    """

    images: Tensor | list[Tensor]
    depth: Tensor | list[Tensor]
    cameras: Cameras
    seed: int
    theme: str

    def __len__(self) -> int:
        return len(self.images)


def generated_scene(
    seed: int,
    kind: str = "full",
    size: tuple[int, int] | Sequence[tuple[int, int]] | None = (64, 64),
    count: int = 10,
    device: torch.device | str | None = None,
    meshes: Sequence[str | Path] = (),
    shooting: Shooting | None = None,
    photographic: bool = False,
) -> GeneratedScene:
    """Draw scene number `seed`: `count` views of `size` (H, W) pixels, the same for the same arguments.

    `easy`: solids on a textured ground under a sky, upright cameras within 35 degrees of a middle direction.
    `full`: the whole mixture (rooms, objects on white, thin structures, several layers, glossy materials, plain
    regions; arcs, spheres and forward-facing rigs, roll, several focal lengths), in a world frame of random rotation,
    origin and scale.
    `object`: those of `full` that show one object before a plain background, half of them from a turntable.

    `size` may also be one size for each view; None draws a size around 64 pixels for every view of `full`. `meshes` are
    .glb files of which one to three join the scene (needs trimesh and embreex). `shooting` changes the cameras.
    `photographic` gives the same solids and cameras the tones, light and lens
    of photographs. Random numbers are drawn on the CPU.

    Raises:
        ValueError: negative `seed`, unknown `kind`, `count` or a side below one, too few sizes, a mesh that cannot be
            read.
    """
    drawing = drawn(seed, kind, size, count, meshes)
    rolls, looks = (np.random.default_rng([seed, _KINDS[kind], stream]) for stream in (4, 5))
    if shooting is not None:
        drawing = replace(drawing, shots=shooting(drawing.shots, rolls))
    if photographic:
        retone(drawing.layout, looks)
    stage = Stage.build(drawing.layout, device)
    views = [rendered_view(stage, drawing.shots, i) for i in range(count)]
    if photographic:
        camera = Development.drawn(looks)
        views = [(camera(color.clamp(0, 1), looks), z) for color, z in views]
    return _assembled(views, drawing, seed)


@dataclass(frozen=True)
class Drawing:
    """What a seed stands for before it is rendered.

    Cameras are in the canonical frame, which `frame` takes to the world by rotation, translation and scale.
    """

    layout: Layout
    shots: Shots
    frame: tuple[np.ndarray, np.ndarray, float]
    theme: str


def drawn(seed: int, kind: str, size: object, count: int, meshes: Sequence[str | Path] = ()) -> Drawing:
    """Draw a layout and cameras with a clear view of it; arguments as for `generated_scene`."""
    if kind not in _KINDS:
        raise ValueError(f"kind: expected one of {sorted(_KINDS)}, got {kind!r}")
    if not isinstance(seed, (int, np.integer)) or seed < 0:
        raise ValueError(f"seed: expected a whole number of at least 0, got {seed!r}")
    sizes = _checked_sizes(size, count, kind)
    streams = [np.random.default_rng([seed, _KINDS[kind], stream]) for stream in range(4)]
    shots = None
    while shots is None:
        layout, theme = _drawn_layout(streams[0], kind)
        if meshes:
            add_meshes(layout, theme, meshes, streams[3])
        solids = layout.built()
        if kind == "easy":
            shots = easy_rig(streams[1], count, sizes, layout, solids)
        else:
            tries = (full_rig(streams[1], count, sizes, theme, layout, solids) for _ in range(4))
            shots = next((rig for rig in tries if rig is not None), None)
    return Drawing(layout, shots, _frame(streams[2], kind), theme)


def _checked_sizes(size: object, count: int, kind: str) -> np.ndarray | None:
    """Sizes (count, 2), or None where they are to be drawn."""
    if count < 1:
        raise ValueError(f"count: expected at least 1, got {count}")
    if size is None and kind != "easy":
        return None
    sizes = np.asarray((64, 64) if size is None else size)
    if sizes.shape not in ((2,), (count, 2)) or sizes.min() < 1:
        raise ValueError(f"size: expected (H, W) or {count} of them, each side at least 1, got {size}")
    return np.broadcast_to(sizes, (count, 2)).copy()


def _drawn_layout(rng: np.random.Generator, kind: str) -> tuple[Layout, str]:
    layout, theme = Layout(rng), "easy"
    if kind == "easy":
        easy(layout)
    else:
        shares = np.array([share for _, share in THEMES.values()])
        theme = "object" if kind == "object" else str(rng.choice(list(THEMES), p=shares / shares.sum()))
        THEMES[theme][0](layout)
    layout.clouds = layout.picture({"noise": 1.0})
    return layout, theme


def _frame(rng: np.random.Generator, kind: str) -> tuple[np.ndarray, np.ndarray, float]:
    """Rotation, translation and scale from the canonical frame to the world."""
    if kind == "easy":
        return np.eye(3), np.zeros(3), 1.0
    scale = float(10 ** rng.uniform(-1, 1))
    return haar(rng), scale * rng.uniform(-10, 10, 3), scale


@torch.no_grad()
def rendered_view(stage: Stage, shots: Shots, index: int) -> tuple[Float[Tensor, "h w 3"], Float[Tensor, "h w"]]:
    """Colour, averaged over 2x2 rays a pixel, and depth along the ray through its centre (inf where nothing is met)."""
    device, (height, width) = stage.reach.device, (int(side) for side in shots.sizes[index])
    pose = torch.from_numpy(shots.world_from_camera[index]).to(device)
    inverse = torch.from_numpy(np.linalg.inv(shots.intrinsics[index])).to(device)
    depth, color = [], []
    for pixels in _chunks(height, width, len(stage.solids), device):
        exact = pose[:3, :3] @ _camera_directions(inverse, pixels, (0.5, 0.5))
        depth.append(stage.depth(pose[:3, 3:], exact))
        total = 0.0
        for k, offset in enumerate(_SUBPIXELS):
            direction = (pose[:3, :3] @ _camera_directions(inverse, pixels, offset)).float()
            total = total + shade(stage, pose[:3, 3:].float(), direction, 0.6 * float(inverse[0, 0]), _lamp(stage, k))
        color.append(total / len(_SUBPIXELS))
    return torch.cat(color).view(height, width, 3), torch.cat(depth).view(height, width)


def _chunks(height: int, width: int, solids: int, device: torch.device) -> tuple[Tensor, ...]:
    """Pixel numbers (row, column) in pieces that keep (solids, rays) arrays in cache."""
    rays = 2**22 if device.type == "cuda" else 2**14
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    pixels = torch.stack([columns.reshape(-1), rows.reshape(-1)]).to(device, torch.float64)
    return pixels.split(max(256, rays // max(solids, 4)), dim=1)


def _camera_directions(inverse: Tensor, pixels: Tensor, offset: tuple[float, float]) -> Float[Tensor, "3 rays"]:
    """Directions of unit z in the camera frame, so that a ray's parameter is its z-depth."""
    x = inverse[0, 0] * (pixels[0] + offset[0]) + inverse[0, 2]
    y = inverse[1, 1] * (pixels[1] + offset[1]) + inverse[1, 2]
    return torch.stack([x, y, torch.ones_like(x)])


def _lamp(stage: Stage, sample: int) -> Float[Tensor, "3 1"]:
    """The four rays of a pixel see four points of the lamp, which softens shadows at no cost."""
    corner = ((1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1))[sample]
    position = torch.from_numpy(stage.light.position) + 0.5 * stage.light.size * torch.tensor(
        corner, dtype=torch.float64
    )
    return position.float().to(stage.reach.device)[:, None]


def _assembled(views: list, drawing: Drawing, seed: int) -> GeneratedScene:
    shots, (rotation, translation, scale) = drawing.shots, drawing.frame
    images = [color.clamp(0, 1) for color, _ in views]
    depth = [torch.where(z.isfinite(), scale * z, torch.nan).float() for _, z in views]
    sizes = {tuple(int(side) for side in size) for size in shots.sizes}
    cameras = Cameras(shots.intrinsics, shots.world_from_camera, size=min(sizes) if len(sizes) == 1 else shots.sizes)
    cameras = cameras.moved(torch.from_numpy(rotation), torch.from_numpy(translation), scale)
    if len(sizes) == 1:
        images, depth = torch.stack(images), torch.stack(depth)
    return GeneratedScene(images, depth, cameras, seed, drawing.theme)
