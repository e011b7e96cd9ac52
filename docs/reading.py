"""Measures what a scene costs a training that draws it, or reads it from a folder or a shard, for docs/training.md.

`python docs/reading.py` prints milliseconds of CPU for a scene of ten views, one thread, files in the system's cache.
"""

import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import torch

from raytrans.apps.make_scenes import write_generated
from raytrans.data.generate import generated_scene
from raytrans.data.readers import open_scene
from raytrans.data.shards import Shards
from raytrans.export.shards import scene_members, write_shards
from raytrans.training.config import DataConfig
from raytrans.training.scenes import Captured

SCENES, SIDES, TRAINED = 16, (64, 256), 64


def spent(what: str, work: Iterable) -> str:
    """A line of what every item of some work costs, the first one left out."""
    items = iter(work)
    next(items)
    begin = time.process_time()
    count = sum(1 for _ in items)
    return f"{what}: {1000 * (time.process_time() - begin) / count:.1f} ms\n"


def lines(folder: Path) -> Iterable[str]:
    """The table, line by line."""
    yield spent(f"drawn, {TRAINED} pixels", (generated_scene(i, "full", (TRAINED, TRAINED)) for i in range(SCENES)))
    for side in SIDES:
        place, drawn = folder / str(side), generated_scene(5, "full", (side, side))
        yield spent(
            f"folder written, {side} pixels", (write_generated(place / f"{i:03d}", drawn) for i in range(SCENES))
        )
        paths = sorted(place.iterdir())
        kinds = {"folder": {"folders": (f"{place}/*",)}}
        for name, jpeg in (("PNG", None), ("JPEG", 95)):
            out = folder / f"{side}-{name}"
            write_shards(out, (scene_members(open_scene(path), path.name, jpeg=jpeg) for path in paths))
            size = sum(file.stat().st_size for file in out.iterdir())
            yield f"shard of {name}, {side} pixels: {size / 1e3 / SCENES:.0f} kB a scene\n"
            kinds[f"shard of {name}"] = {"shards": (f"{out}/*.tar",)}
        for name, where in kinds.items():
            captured = Captured(DataConfig(folder_share=1.0, max_size=TRAINED, **where))
            yield spent(f"{name} read, {side} pixels", (captured[i] for i in range(SCENES)))
    begin, shards = time.process_time(), Shards.of([f"{folder}/{SIDES[0]}-PNG/*.tar"])
    yield f"index of a shard: {1000 * (time.process_time() - begin) / len(shards):.2f} ms a scene\n"


if __name__ == "__main__":
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        for line in lines(Path(name)):
            sys.stdout.write(line)
            sys.stdout.flush()
