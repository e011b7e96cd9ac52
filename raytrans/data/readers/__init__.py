"""One reader per format. A reader offers `found_in(path) -> files` and `read(files) -> Scene`."""

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from raytrans.data.readers import colmap, idr, llff, middlebury, mvsnet, realestate, rgbd, scannet, transforms, tum
from raytrans.data.scene import Scene

# The order counts where several match: files that programs exchange come before those of single data sets.
READERS = {
    "transforms.json or transforms_train/val/test.json": transforms,
    "a COLMAP model in sparse/0, sparse, colmap/sparse/0 or the folder itself": colmap,
    "poses_bounds.npy (LLFF)": llff,
    "cameras_sphere.npz or cameras.npz (IDR, NeuS)": idr,
    "cams/*_cam.txt (MVSNet)": mvsnet,
    "*_par.txt (Middlebury)": middlebury,
    "frame-*.color.png with .pose.txt (7-Scenes)": rgbd,
    "color/, pose/ and intrinsic/ (ScanNet)": scannet,
    "groundtruth.txt with rgb.txt (TUM)": tum,
    "a camera file ID.txt (RealEstate10K)": realestate,
}
TRUSTED = "RAYTRANS_TRUSTED"
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")
VIDEOS = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".3gp", ".mts")


def open_scene(path: str | Path, trusted: Iterable[str | Path] | None = None) -> Scene:
    """Open a posed capture: a folder, or the file of its cameras; see the readers for what each accepts.

    Files of a scene name others below its own folder. `trusted` are further folders below which a `transforms.json` may
    name files, by default those of the environment variable RAYTRANS_TRUSTED, separated as in PATH.
    Raises ValueError for a path that does not exist or holds no known format, naming what was looked for. Where several
    formats match, the first of `READERS` reads; the path of its file chooses another.
    """
    path = Path(path).expanduser()
    if trusted is None:
        trusted = filter(None, os.environ.get(TRUSTED, "").split(os.pathsep))
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder")
    for reader in READERS.values():
        files = reader.found_in(path)
        if files:
            with np.errstate(over="ignore", invalid="ignore"):  # readers refuse what comes of it
                scene = transforms.read(files, list(trusted)) if reader is transforms else reader.read(files)
            scene.format = reader.__name__.rpartition(".")[2]
            return scene
    raise ValueError(f"{path}: {_advice(path)}; looked for {'; '.join(READERS)}")


def _advice(path: Path) -> str:
    """What is wrong, and what to do about an archive, a video, photographs without poses, or half a reconstruction."""
    unknown = "not a scene that can be read"
    if path.is_file() and path.suffix.lower() in VIDEOS:
        return f"{unknown}: this is a video, `raytrans import-photos` finds the poses of its frames and writes a scene"
    if not path.is_dir():
        archive = path.suffix.lower() in ARCHIVES
        return f"{unknown}: this is an archive, unpack it and give the folder" if archive else unknown
    names = {child.name.lower() for child in path.iterdir()}
    if "sparse" in names:
        return f"{unknown}: there is a folder sparse, but no COLMAP model with cameras and images in it"
    if any(name.endswith((".jpg", ".jpeg", ".png")) for name in names) or "images" in names:
        return "there are images but no camera poses: `raytrans import-photos` poses them"
    return unknown


__all__ = ["open_scene"]
