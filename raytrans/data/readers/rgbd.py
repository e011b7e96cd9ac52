"""Reader of posed RGB-D frames: `frame-000000.color.png`, `.depth.png`, `.pose.txt` of 7-Scenes and tsdf-fusion.

Poses are world_from_camera (4 x 4), in metres. Depth has 16 bits in millimetres; 0 and 65535 mean none.
`camera-intrinsics.txt` holds K (3 x 3); without it the camera is that which 7-Scenes states for its 640 x 480 images:
focal length 585, principal point (320, 240). Source: the pages of 7-Scenes and tsdf-fusion.
"""

from pathlib import Path

import numpy as np

from raytrans.data.readers.shots import (
    Shot,
    files_in,
    matrix_of,
    pinhole_of,
    rigid_of,
    scene_of,
    sized,
    tell_left_out,
)
from raytrans.data.scene import Frame, Scene

INTRINSICS = "camera-intrinsics.txt"
COLORS = (".color.png", ".color.jpg", ".color.jpeg")
MILLIMETRE = 1e-3
NO_DEPTH = (0.0, 65535.0)
SEVEN_SCENES = np.array([[585.0, 0, 320], [0, 585, 240], [0, 0, 1]])
SEVEN_SCENES_SIZE = (480, 640)


def found_in(path: Path) -> list[Path]:
    """The colour images of a folder, or of the folders `data` or `seq-NN` in it; empty where none has a pose."""
    inner = sorted(path.glob("seq-*")) if path.is_dir() else []
    for folders in ([path], [path / "data"], inner):
        colors = [color for folder in folders for color in files_in(folder, COLORS)]
        if colors and any(files_in(folder, [".pose.txt"]) for folder in folders):
            return colors
    return []


def read(files: list[Path]) -> Scene:
    """Scene of some colour images; frames without a finite pose are left out, with a warning.

    Raises ValueError naming file and field for wrong numbers, scale in a rotation, several sequences, and intrinsics
    that have to be asked for, as the images are not those of 7-Scenes.
    """
    folder = files[0].parent
    if several := sorted({file.parent.name for file in files} - {folder.name}):
        raise ValueError(f"{folder.parent}: expected one sequence, got {len(several) + 1}; name one, such as {folder}")
    k = _intrinsics(folder)
    poses = {file: pose_of(_beside(file, ".pose.txt")) for file in files}
    lost = [file.name for file, pose in poses.items() if pose is None]
    tell_left_out(folder, lost, len(files), "they have no finite pose")
    return scene_of([_shot(file, pose, k) for file, pose in poses.items() if pose is not None], folder)


def _intrinsics(folder: Path) -> np.ndarray | None:
    places = (folder / INTRINSICS, folder.parent / INTRINSICS)
    path = next((place for place in places if place.is_file()), None)
    return None if path is None else pinhole_of(matrix_of(path, "K", (3, 3), (4, 4)), f"{path}: K")


def pose_of(path: Path) -> np.ndarray | None:
    """world_from_camera (4, 4) of a text file; None where there is no file, or tracking was lost (NaN or infinity)."""
    if not path.is_file():
        return None
    matrix = matrix_of(path, "pose", (4, 4))
    return rigid_of(matrix, f"{path}: pose") if np.isfinite(matrix).all() else None


def _beside(color: Path, ending: str) -> Path:
    return color.with_name(color.name.split(".color.")[0] + ending)


def _shot(color: Path, pose: np.ndarray, k: np.ndarray | None) -> Shot:
    size, upright = sized(color)
    if k is None and size != SEVEN_SCENES_SIZE:
        raise ValueError(
            f"{color.parent / INTRINSICS}: expected K (3 x 3) of images of {size[1]} x {size[0]}, got no file"
        )
    depth = _beside(color, ".depth.png")
    frame = Frame(
        color,
        upright=upright,
        depth=depth if depth.is_file() else None,
        depth_scale=MILLIMETRE,
        depth_invalid=NO_DEPTH,
    )
    return Shot(frame, size, SEVEN_SCENES if k is None else k, pose)
