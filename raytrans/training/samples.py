"""Training samples: source views and target rays of one scene, each a function of (seed, step, index in the batch)."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from raytrans.data.selection import nearest
from raytrans.data.views import Views
from raytrans.geometry.cameras import Cameras
from raytrans.geometry.rays import Rays
from raytrans.rendering.sources import COINCIDENT, source_unit
from raytrans.shapes import Int
from raytrans.training.config import DataConfig
from raytrans.training.mixture import mesh_files, mixture_scene

FIRST_SEED = 1_000_000
POOL = 8
BIAS = 0.2  # spread of what is added to a photo, of that of the logarithm of its gain


@dataclass
class SceneData:
    """All views of a scene in memory; depth[i] (H, W) z-depth with NaN in the sky, or None where it is unknown."""

    images: list[Tensor]
    cameras: Cameras
    depth: list[Tensor] | None


@dataclass
class Sample:
    """One sample of a step: sources, target rays (R,) with colours (R, 3) and distances, and the sources' own z-depth.

    `views` is None where the sources are encoded once for many steps.
    """

    views: Views | None
    rays: Rays
    color: Tensor
    distance: Tensor | None
    source_distance: list[Tensor] | None
    axes: Tensor | None = None


def scene_of_step(config: DataConfig, seed: int, step: int, index: int = 0) -> tuple[int, int]:
    """(scene number, use) of a sample: scenes come in interleaved pools of eight, each scene used `reuse` times.

    Every index of the batch has scenes of its own, so that the process which takes its samples draws each once.
    """
    block, within = divmod(step, POOL * config.reuse)
    use, member = divmod(within, POOL)
    return (block * POOL + member + 7919 * seed) * config.batch + index, use


class SampleStream(torch.utils.data.Dataset):
    """Item `step * batch + index` is a sample of that step; a map-style dataset, so that loaders can prefetch.

    Which process asks for it makes no difference, and a run can be resumed anywhere.
    """

    def __init__(self, config: DataConfig, seed: int, steps: int, folders: list[SceneData]):
        self.config, self.seed, self.steps, self.folders = config, seed, steps, folders
        self.meshes = mesh_files(config.meshes)
        self.load = lru_cache(maxsize=POOL * config.batch)(self._load)

    def __len__(self) -> int:
        return self.steps * self.config.batch

    def __getstate__(self) -> dict:
        return {k: v for k, v in self.__dict__.items() if k != "load"}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self.load = lru_cache(maxsize=POOL * self.config.batch)(self._load)

    def _load(self, number: int) -> SceneData:
        rng = np.random.default_rng([self.seed, number, 1])
        if self.folders and rng.random() < self.config.folder_share:
            return self.folders[int(rng.integers(len(self.folders)))]
        scene = mixture_scene(self.config, FIRST_SEED + number, rng, self.meshes)
        return SceneData(list(scene.images), scene.cameras, list(scene.depth))

    def __getitem__(self, position: int) -> Sample:
        step, index = divmod(position, self.config.batch)
        number, _ = scene_of_step(self.config, self.seed, step, index)
        rng = np.random.default_rng([self.seed, step, index, 2])
        return draw_sample(self.load(number), self.config, rng)


def draw_sample(scene: SceneData, config: DataConfig, rng: np.random.Generator) -> Sample:
    """A target view, sources near it, and random pixels of the target.

    Where target and sources would share one place, so that nothing has a length, one source comes from elsewhere.
    """
    target = int(rng.integers(len(scene.images)))
    low, high = config.sources
    count = min(int(rng.integers(low, high + 1)), len(scene.images) - 1)
    close = nearest(scene.cameras, scene.cameras[target], min(count + 3, len(scene.images) - 1), [target])
    chosen = sorted(rng.permutation(len(close))[:count].tolist())
    chosen = [close[i] for i in chosen]
    if not has_length(scene.cameras[[target, *chosen]]) and has_length(scene.cameras):
        chosen[-1] = _from_elsewhere(scene.cameras, target)
    camera = scene.cameras[target]
    pixels = torch.as_tensor(rng.integers(0, camera.height * camera.width, config.rays))
    rays, color, distance = seen_through(scene, target, pixels)
    images = [scene.images[i] for i in chosen]
    if config.exposure > 0:
        images = [exposed(image, config.exposure, rng) for image in images]
    views = Views(images, scene.cameras[chosen])
    source_depth = None
    if distance is not None:
        distance = sky_is_infinite(distance)
        source_depth = [sky_is_infinite(scene.depth[i]) for i in chosen]
    return Sample(views, rays, color, distance, source_depth, camera.world_from_camera[:3, :3])


def seen_through(scene: SceneData, view: int, pixels: Int[Tensor, " r"]) -> tuple[Rays, Tensor, Tensor | None]:
    """Rays (R,) through pixels of a view, counted row by row, their colours (R, 3), and distances (R,) where known."""
    camera = scene.cameras[view]
    row, column = pixels // camera.width, pixels % camera.width
    rays = camera.pixel_rays(torch.stack([column + 0.5, row + 0.5], -1).double())
    color = scene.images[view][row, column]
    if scene.depth is None:
        return rays, color, None
    return rays, color, scene.depth[view][row, column] / (rays.direction * camera.forward).sum(-1)


def exposed(image: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    """A photo (H, W, 3) taken with another exposure: gain e^(s a) and bias s b / 5, a and b standard normal."""
    gain, bias = strength * rng.standard_normal(2)
    return (image * float(np.exp(gain)) + BIAS * float(bias)).clamp(0, 1)


def has_length(cameras: Cameras) -> bool:
    """Whether anything says how long a unit is: cameras at different places, or a bound on depth."""
    return cameras.near is not None or source_unit(cameras) is not None


def _from_elsewhere(cameras: Cameras, target: int) -> int:
    """The best source for a view among those at another place."""
    distance = (cameras.centers - cameras.centers[target]).norm(dim=-1)
    away = distance > COINCIDENT * cameras.centers.abs().max()
    here = [i for i in range(len(cameras)) if not away[i]]
    # about as near as rounding: others may be told apart where none is from this one
    return nearest(cameras, cameras[target], 1, here)[0] if bool(away.any()) else int(distance.argmax())


def sky_is_infinite(depth: Tensor) -> Tensor:
    """Exact depth maps are NaN where nothing was hit: an infinite distance."""
    return torch.where(torch.isnan(depth), torch.inf, depth)
