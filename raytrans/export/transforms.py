"""A whole scene as nerfstudio's `transforms.json` (OpenGL axes), which names the image files where they are."""

import logging
import os
from pathlib import Path

from raytrans.data.images import WHITE
from raytrans.data.scene import Frame, Scene
from raytrans.export.files import camera_frame, camera_model, refuse_existing, write_json

log = logging.getLogger(__name__)


def write_transforms_scene(path: str | Path, scene: Scene, replace: bool = False) -> None:
    """Write the cameras of a scene, and the names of its files relative to the json; `open_scene(path)` reads it again.

    Lens, near, far, depth maps, masks and splits go along. Sparse points do not, nor, with a warning, depth maps that
    have a camera of their own or stored values that mean none. Pixels stay where they are: move json and images
    together. Raises ValueError for skewed pixels, and for a file that exists unless `replace` says to write over it.
    """
    path = Path(path)
    if not replace:
        refuse_existing(path)
    folder = Path(os.path.abspath(path)).parent
    pairs = list(zip(scene.cameras, scene.frames, strict=True))
    frames = [{**camera_frame(camera, _name(frame.image, folder)), **_files(frame, folder)} for camera, frame in pairs]
    splits = {f"{name}_filenames": [frames[i]["file_path"] for i in split] for name, split in scene.splits.items()}
    lost = sum(frame.depth is not None and not _holds_depth(frame) for frame in scene.frames)
    if lost:
        log.warning("%s: %d depth maps are left out, which the format cannot describe", path, lost)
    write_json(path, {"camera_model": camera_model(scene.cameras), **splits, "frames": frames})


def _files(frame: Frame, folder: Path) -> dict[str, object]:
    """Keys of an entry of `frames` for what belongs to the image."""
    keys: dict[str, object] = {} if frame.background == WHITE else {"background": list(frame.background)}
    if frame.depth is not None and _holds_depth(frame):
        keys |= {"depth_file_path": _name(frame.depth, folder), "depth_unit_scale_factor": frame.depth_scale}
    return keys if frame.mask is None else {**keys, "mask_path": _name(frame.mask, folder)}


def _holds_depth(frame: Frame) -> bool:
    return frame.depth_grid is None and not set(frame.depth_invalid) - {0}


def _name(file: Path, folder: Path) -> str:
    """A file relative to a folder; absolute where there is no way between them, as on another drive."""
    file = Path(os.path.abspath(file))
    if file.is_relative_to(folder):
        return file.relative_to(folder).as_posix()
    try:
        # a way up leads out of the folder that a link points to
        return Path(os.path.relpath(file.parent.resolve() / file.name, folder.resolve())).as_posix()
    except ValueError:
        return file.as_posix()
