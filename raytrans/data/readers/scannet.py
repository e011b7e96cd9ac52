"""Reader of what ScanNet's SensReader exports: `color/0.jpg`, `depth/0.png`, `pose/0.txt`, `intrinsic/`.

Poses are world_from_camera (4 x 4) in metres, infinite where tracking was lost. Depth has 16 bits in millimetres, 0
means none; it has a camera of its own, at the same place, and another size: `intrinsic_color.txt` and
`intrinsic_depth.txt` (4 x 4). Pixels are counted from (0, 0) at the centre of the first one: 319.5 is the
middle of 640. Source: SensReader of ScanNet, `export_intrinsics` and the README.
"""

import logging
from pathlib import Path

import numpy as np

from raytrans.data.images import image_size
from raytrans.data.readers.rgbd import MILLIMETRE, NO_DEPTH, pose_of
from raytrans.data.readers.shots import (
    PIXEL_CENTER,
    Shot,
    files_in,
    matrix_of,
    pinhole_of,
    scene_of,
    sized,
    tell_left_out,
)
from raytrans.data.scene import Frame, Scene

CAMERA = Path("intrinsic") / "intrinsic_color.txt"
DEPTH_CAMERA = CAMERA.with_name("intrinsic_depth.txt")
EXTRINSICS = (CAMERA.with_name("extrinsic_color.txt"), CAMERA.with_name("extrinsic_depth.txt"))

log = logging.getLogger(__name__)


def found_in(path: Path) -> list[Path]:
    """The colour images of a folder that has `color`, `pose` and `intrinsic`."""
    return files_in(path / "color") if (path / "pose").is_dir() and (path / "intrinsic").is_dir() else []


def read(files: list[Path]) -> Scene:
    """Scene in the order of the numbers; frames without a finite pose are left out, with a warning.

    Depth is brought to the colour images by both intrinsics. It is left out, with a warning, where the two cameras are
    stated to lie apart. Raises ValueError naming file and field for whatever is missing or wrong.
    """
    root = files[0].parent.parent
    files = sorted(files, key=lambda file: (int(file.stem) if file.stem.isdecimal() else -1, file.name))
    poses = {file: pose_of(root / "pose" / f"{file.stem}.txt") for file in files}
    lost = [file.name for file, pose in poses.items() if pose is None]
    tell_left_out(root, lost, len(files), "they have no finite pose")
    kept = [(file, pose) for file, pose in poses.items() if pose is not None]
    color = _camera(root / CAMERA)
    depth = _camera(root / DEPTH_CAMERA) if _depth_is_there(root) else None
    color = _of_resized(color, depth, root, kept[0][0])
    return scene_of([_shot(file, pose, color, depth) for file, pose in kept], root)


def _camera(path: Path) -> np.ndarray:
    return pinhole_of(matrix_of(path, "K", (4, 4), (3, 3)), f"{path}: K") + PIXEL_CENTER


def _depth_is_there(root: Path) -> bool:
    """Whether there is depth that shares the place of the colour camera."""
    if not files_in(root / "depth", [".png"]):
        return False
    apart = [root / name for name in EXTRINSICS if (root / name).is_file()]
    if any(np.abs(matrix_of(path, "extrinsic", (4, 4)) - np.eye(4)).max() > 1e-3 for path in apart):
        log.warning("%s: expected depth at the place of the colour camera, got other extrinsics: left out", root)
        return False
    return True


def _of_resized(color: np.ndarray, depth: np.ndarray | None, root: Path, image: Path) -> np.ndarray:
    """K of the images as they are: many exports have resized them to the size of the depth, but not the numbers."""
    size, _ = sized(image)
    if depth is None or color[0, 2] < 0.8 * size[1]:
        return color
    map_size = image_size(files_in(root / "depth", [".png"])[0])[0]
    if map_size != size:
        return color
    log.warning("%s: its %s are for larger images: those of the depth, which has their size, are used", root, CAMERA)
    return depth


def _shot(image: Path, pose: np.ndarray, color: np.ndarray, depth_camera: np.ndarray | None) -> Shot:
    size, upright = sized(image)
    depth = image.parent.parent / "depth" / f"{image.stem}.png"
    has_depth = depth_camera is not None and depth.is_file()
    grid = np.linalg.solve(color.T, depth_camera.T).T if has_depth else None
    frame = Frame(
        image,
        upright=upright,
        depth=depth if has_depth else None,
        depth_scale=MILLIMETRE,
        depth_invalid=NO_DEPTH,
        depth_grid=None if grid is None else tuple(map(tuple, grid[:2].tolist())),
    )
    return Shot(frame, size, color, pose)
