"""The frame of the original reconstruction, which nerfstudio's `applied_transform` and `applied_scale` lead out of.

Stored poses and depths are those of applied_scale * (A x + b), [A | b] being applied_transform and x a point of the
reconstruction; the points of `ply_file_path` are A x + b, as nerfstudio multiplies them by applied_scale when it loads
them, and poses not. For what COLMAP made, nerfstudio swaps axes: (x, y, z) -> (x, z, -y), or (y, x, -z) in files that
do not say so. Source: `colmap_to_json` and `_generate_dataparser_outputs` in `nerfstudio_dataparser.py` of nerfstudio.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from raytrans.data.points import SparsePoints

TOLERANCE = 1e-3
COLMAP_FOLDER = "colmap/sparse/0"
UNSTATED = [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, -1, 0]]  # (x, y, z) -> (y, x, -z)


@dataclass(frozen=True)
class Original:
    """From stored coordinates to those of the reconstruction: x -> scale * rotation @ x + translation."""

    rotation: np.ndarray
    translation: np.ndarray
    scale: float
    cloud_scale: float  # in place of `scale` for the points of `ply_file_path`

    def pose(self, world_from_camera: np.ndarray) -> np.ndarray:
        result = world_from_camera.copy()
        result[:3, :3] = self.rotation @ world_from_camera[:3, :3]
        result[:3, 3] = self.points(world_from_camera[:3, 3])
        return result

    def points(self, xyz: np.ndarray) -> np.ndarray:
        return self.scale * xyz @ self.rotation.T + self.translation

    def sparse(self, points: SparsePoints) -> SparsePoints:
        """Points of `ply_file_path`, which are stored without applied_scale."""
        return SparsePoints(self.cloud_scale * points.xyz @ self.rotation.T + self.translation, points.rgb)


def original_of(transform: object, scale: object, path: object) -> Original | None:
    """Inverse of what a file states was applied; None where it states nothing, or the identity.

    Raises ValueError naming file and key for anything but a similarity without reflection and a positive number.
    """
    if transform is None and scale is None:
        return None
    matrix = np.eye(4) if transform is None else _matrix(transform, path)
    number = 1.0 if scale is None else scale
    if isinstance(number, bool) or not isinstance(number, (int, float)) or not 0 < number < np.inf:
        raise ValueError(f"{path}: expected a positive number applied_scale, got {scale!r}")
    own = np.cbrt(np.linalg.det(matrix[:3, :3]))
    if np.array_equal(matrix, np.eye(4)) and number == 1:
        return None
    rotation = matrix[:3, :3].T / own
    return Original(rotation, -rotation @ matrix[:3, 3] / own, 1.0 / (own * number), 1.0 / own)


def assumed_transform(path: Path) -> list[list[int]] | None:
    """What nerfstudio takes for the `applied_transform` that a `transforms.json` beside its COLMAP model leaves out."""
    return UNSTATED if path.name == "transforms.json" and (path.parent / COLMAP_FOLDER).exists() else None


def _matrix(value: object, path: object) -> np.ndarray:
    """(4, 4) similarity of a list (3, 4) or (4, 4)."""
    try:
        matrix = np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        matrix = np.empty(0)
    if matrix.shape not in ((3, 4), (4, 4)) or not np.isfinite(matrix).all():
        raise ValueError(f"{path}: expected a finite applied_transform (3, 4), got shape {matrix.shape}")
    matrix = np.concatenate([matrix[:3], [[0.0, 0.0, 0.0, 1.0]]])
    square = matrix[:3, :3].T @ matrix[:3, :3]
    size = np.trace(square) / 3
    if not (np.linalg.det(matrix[:3, :3]) > 0 and np.abs(square - size * np.eye(3)).max() <= TOLERANCE * size):
        raise ValueError(
            f"{path}: expected an applied_transform of rotation, scale and translation, got {matrix[:3, :3].tolist()}"
        )
    return matrix
