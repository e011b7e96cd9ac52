"""The mixture of generated scenes that a configuration trains on."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from raytrans.data.generate import GeneratedScene, Shooting, generated_scene
from raytrans.training.config import DataConfig

NARROW = (0.03, 0.4)  # shares of their distances to which cameras are drawn together
ROLLS, ROLL_SHARES = (0.0, 0.2, np.pi), (0.5, 0.3, 0.2)  # largest roll in radians: none, as from the hand, any


def mesh_files(paths: Sequence[str]) -> list[Path]:
    """The .glb files that `data.meshes` names, those of a folder sorted by name.

    Raises:
        ValueError: no such file, or a folder without any.
    """
    files = []
    for path in map(Path, paths):
        found = sorted(path.glob("*.glb")) if path.is_dir() else [path] * path.is_file()
        if not found:
            raise ValueError(f"data.meshes: expected a .glb file or a folder of them, got {path}")
        files += found
    return files


def mixture_scene(
    config: DataConfig, seed: int, rng: np.random.Generator, meshes: Sequence[Path] = ()
) -> GeneratedScene:
    """Generated scene number `seed`, its kind, size, look and cameras drawn by `rng` as the configuration says."""
    kind = "easy" if rng.random() < config.easy_share else "full"
    if config.object_share > 0 and rng.random() < config.object_share:
        kind = "object"
    side = int(rng.choice(config.sizes))
    narrow = config.narrow_share > 0 and rng.random() < config.narrow_share
    baseline = float(np.exp(rng.uniform(*np.log(NARROW)))) if narrow else 1.0
    zoom = float(np.exp(rng.uniform(0, np.log(config.zoom))))
    roll = float(rng.choice(ROLLS, p=ROLL_SHARES)) if rng.random() < config.roll_share else 0.0
    size = _shape(side, float(np.exp(rng.uniform(-1, 1) * np.log(config.aspect))))
    photographic = rng.random() < config.photographic_share
    with_meshes = rng.random() < config.mesh_share
    return generated_scene(
        seed,
        kind,
        size,
        config.views,
        meshes=meshes if with_meshes else (),
        shooting=Shooting(baseline, roll, zoom),
        photographic=photographic,
    )


def _shape(side: int, aspect: float) -> tuple[int, int]:
    """Height and width of about `side` squared pixels, `aspect` being height over width."""
    return max(1, round(side * aspect**0.5)), max(1, round(side / aspect**0.5))
