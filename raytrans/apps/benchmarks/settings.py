"""How large and how often: what every measurement is told."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Sizes:
    """Sizes of all that is measured; sides in pixels, frames as (height, width).

    The base case is `count` sources of side x side; other fields hold the values along each axis. `tokens`,
    `view_samples` and `dense` are those of attention, `scenes` and `quality_samples` those of quality, `contracts` the
    side they are held at, `matrix` that of the product whose rate bounds all others.
    """

    count: int = 8
    side: int = 128
    rays: int = 1024
    small: tuple[int, int] = (6, 64)
    frame: tuple[int, int] = (300, 400)
    sources: tuple[int, ...] = (2, 4, 6, 8, 12, 16)
    samples: tuple[int, ...] = (8, 16, 24, 32, 48, 64)
    sides: tuple[int, ...] = (64, 128, 256)
    targets: tuple[int, ...] = (64, 96, 128, 192, 256)
    step_rays: tuple[int, ...] = (256, 512, 1024, 2048)
    pairs: tuple[int, ...] = (16384, 32768, 65536, 131072, 262144)
    tokens: tuple[int, int] = (2048, 512)
    view_samples: int = 4096
    dense: tuple[int, int] = (256, 32)
    scenes: int = 3
    quality_samples: tuple[int, ...] = (8, 12, 16, 32, 64)
    contracts: int = 48
    gpu_frames: tuple[tuple[int, int], ...] = ((512, 512), (756, 1008))
    matrix: int = 1024


QUICK = Sizes(
    count=3,
    side=16,
    rays=32,
    small=(2, 16),
    frame=(12, 16),
    sources=(2, 3, 4, 5),
    samples=(2, 3, 4, 6),
    sides=(8, 16),
    targets=(8, 12, 16, 24),
    step_rays=(8, 16, 32, 48),
    pairs=(256, 512, 1024, 2048),
    tokens=(32, 16),
    view_samples=32,
    dense=(16, 8),
    scenes=1,
    quality_samples=(2, 4),
    contracts=12,
    gpu_frames=((12, 16),),
    matrix=64,
)


@dataclass(frozen=True)
class Settings:
    """Weights, threads, repetitions and sizes; `alone` puts every measurement into a process of its own."""

    checkpoint: Path | None = None
    threads: int = 1
    repeats: int = 3
    sizes: Sizes = Sizes()
    alone: bool = True
