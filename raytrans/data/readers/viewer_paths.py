"""Camera paths that nerfstudio's viewer exports: `camera_path.json`, undone by its `dataparser_transforms.json`."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from raytrans.data.guards import LARGEST_SIDE, read_json
from raytrans.geometry.cameras import Cameras
from raytrans.geometry.conversions import from_opengl
from raytrans.geometry.rigid import inverse_rigid, project_to_rotation, rigid

TRANSFORMS = "dataparser_transforms.json"


@dataclass(frozen=True)
class ViewerPath:
    """The cameras of a path (N,) in the frame of the scene, and frames per second where the file says."""

    cameras: Cameras
    fps: float | None


def is_camera_path(path: Path) -> bool:
    """Whether a JSON file holds a camera path of the viewer; False for what cannot be read."""
    try:
        content = read_json(Path(path))
    except ValueError:
        return False
    return isinstance(content, dict) and "camera_path" in content


def read_camera_path(path: Path, transforms: Path | None = None) -> ViewerPath:
    """Read a path whose poses are x' = s (A x + t) of the scene's, with A, t, s of `dataparser_transforms.json`.

    camera_to_world: 16 numbers row by row, OpenGL axes; fov: vertical, in degrees; principal point in the middle.
    transforms: that file, by default the one beside `path`. Raises ValueError where there is none, since nerfstudio
    turns and scales what it trains on, and for anything missing, not finite or not perspective.
    Source: nerfstudio, cameras/camera_paths.py and its documentation of data conventions.
    """
    path = Path(path)
    transforms = path.parent / TRANSFORMS if transforms is None else Path(transforms)
    if not transforms.is_file():
        raise ValueError(
            f"{path}: a camera path is in the frame that nerfstudio trained in, turned and scaled; expected "
            f"{TRANSFORMS} of that training beside it or given, found no {transforms}"
        )
    content = _content(path)
    kind = str(content.get("camera_type", "perspective")).lower()
    if kind != "perspective":
        raise ValueError(f"{path}: camera_type: expected perspective, got {kind}")
    height, width = (_number(content.get(key), f"{path}: {key}") for key in ("render_height", "render_width"))
    if max(height, width) > LARGEST_SIDE:
        raise ValueError(f"{path}: expected at most {LARGEST_SIDE} pixels a side, got {width:g} x {height:g}")
    shots = content.get("camera_path")
    if not isinstance(shots, list) or not shots or not all(isinstance(shot, dict) for shot in shots):
        raise ValueError(f"{path}: camera_path: expected a non-empty list of objects, got {str(shots)[:60]}")
    labels = [f"{path}: camera_path[{i}]" for i in range(len(shots))]
    named = list(zip(shots, labels, strict=True))
    poses = [_matrix(shot.get("camera_to_world"), (4, 4), f"{label}: camera_to_world") for shot, label in named]
    focal = [_focal(shot.get("fov"), height, label) for shot, label in named]
    intrinsics = np.array([[[f, 0, width / 2], [0, f, height / 2], [0, 0, 1]] for f in focal])
    pose = from_opengl(np.stack(poses))
    fps = content.get("fps")
    fps = None if fps is None else _number(fps, f"{path}: fps")
    return ViewerPath(Cameras(intrinsics, _undone(pose, transforms), size=(height, width)), fps)


def _undone(pose, transforms: Path):
    """Poses of the frame that nerfstudio trains in, in that of the scene: (A^T R, A^T (c / s - t))."""
    content = _content(transforms)
    matrix = _matrix(content.get("transform"), (3, 4), f"{transforms}: transform")
    scale = _number(content.get("scale"), f"{transforms}: scale")
    turn = project_to_rotation(pose.new_tensor(matrix[:, :3]), name=f"{transforms}: transform")
    back = inverse_rigid(rigid(turn, pose.new_tensor(matrix[:, 3])))
    return back @ rigid(pose[:, :3, :3], pose[:, :3, 3] / scale)


def _content(path: Path) -> dict[str, Any]:
    content = read_json(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected an object, got {type(content).__name__}")
    return content


def _number(value: Any, label: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise ValueError(f"{label}: expected a number above 0, got {value!r}")
    return value


def _matrix(value: Any, shape: tuple[int, int], label: str) -> np.ndarray:
    """Numbers, nested or row by row, as a finite matrix."""
    try:
        matrix = np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        matrix = np.zeros(0)
    if matrix.size != shape[0] * shape[1] or not np.isfinite(matrix).all():
        raise ValueError(f"{label}: expected {shape[0] * shape[1]} finite numbers, got {str(value)[:60]}")
    return matrix.reshape(shape)


def _focal(fov: Any, height: float, label: str) -> float:
    """(H / 2) / tan(fov / 2) in pixels."""
    fov = _number(fov, f"{label}: fov")
    if not fov < 180:
        raise ValueError(f"{label}: fov: expected degrees below 180, got {fov}")
    return 0.5 * height / math.tan(math.radians(fov) / 2)
