"""Scenes as tar files in WebDataset's convention, a scene a sample; `raytrans.data.shards` reads them, and says how."""

import io
import os
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from raytrans.atomic import replacing
from raytrans.data.images import bounded_size, resize_nearest
from raytrans.data.scene import Scene
from raytrans.export.files import (
    camera_frame,
    camera_model,
    depth_png_bytes,
    jpeg_bytes,
    json_text,
    png_bytes,
    refuse_existing,
)

Members = Sequence[tuple[str, bytes]]
COMPRESSION = 3  # of PNG: larger by little than at 9, several times as fast


def scene_members(
    scene: Scene, key: str, max_size: int | None = None, jpeg: int | None = None, with_depth: bool = False
) -> Members:
    """Names and contents of the members of one scene: KEY.json, KEY.0000.png, KEY.0000.depth.png and so on.

    All views, averaged down to `max_size` pixels, as PNG or as JPEG of a quality, their splits, and, if asked for, the
    depth of those that have it. Masks, sparse points and what cameras say of the files they came from stay behind.
    Raises ValueError for a file that cannot be read, and for skewed pixels.
    """
    frames, files = [], []
    depths = [_depth(scene, i, max_size) if with_depth else None for i in range(len(scene))]
    scale = _scale(depths)
    for i, depth in enumerate(depths):
        view, name = scene.views([i], max_size), f"{key}.{i:04d}"
        image = view.image(0)
        content = png_bytes(image, compression=COMPRESSION) if jpeg is None else jpeg_bytes(image, jpeg)
        files.append((f"{name}.{'png' if jpeg is None else 'jpg'}", content))
        frames.append(camera_frame(view.cameras[0], files[-1][0]))
        if depth is not None:
            files.append((f"{name}.depth.png", depth_png_bytes(depth, scale)))
            frames[-1] |= {"depth_file_path": files[-1][0], "depth_unit_scale_factor": scale}
    splits = {f"{name}_filenames": [frames[i]["file_path"] for i in split] for name, split in scene.splits.items()}
    values = {"camera_model": camera_model(scene.cameras), **splits, "frames": frames}
    return [(f"{key}.json", json_text(values).encode()), *files]


def _depth(scene: Scene, index: int, max_size: int | None) -> Tensor | None:
    depth = scene.depth(index)
    return None if depth is None else resize_nearest(depth, *bounded_size(*depth.shape, max_size))


def _scale(depths: Sequence[Tensor | None]) -> float:
    """Units of a step of 16 bits, of which the deepest pixel of a scene has 65535."""
    known = [depth[torch.isfinite(depth)] for depth in depths if depth is not None]
    deepest = max((float(depth.max()) for depth in known if len(depth)), default=0.0)
    return deepest / 65535 or 1.0


def write_shards(folder: str | Path, samples: Iterable[Members], megabytes: float = 256) -> list[Path]:
    """Write samples into `000000.tar`, `000001.tar` and so on, each of about that size; the files.

    The same samples give the same bytes. Every file is whole or not there. Raises ValueError for one that exists.
    """
    files: list[Path] = []
    waiting = iter(samples)
    sample = next(waiting, None)
    while sample is not None:
        path, size = Path(folder) / f"{len(files):06d}.tar", 0
        refuse_existing(path)
        with replacing(path) as temporary, open(temporary, "wb") as file:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
                while sample is not None and (size == 0 or size + _size(sample) <= 1e6 * megabytes):
                    size += _size(sample)
                    for name, content in sample:
                        member = tarfile.TarInfo(name)
                        member.size = len(content)
                        tar.addfile(member, io.BytesIO(content))
                    sample = next(waiting, None)
            file.flush()
            os.fsync(file.fileno())
        files.append(path)
    return files


def _size(sample: Members) -> int:
    return sum(len(content) + tarfile.BLOCKSIZE for _, content in sample)
