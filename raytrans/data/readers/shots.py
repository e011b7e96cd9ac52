"""What the small readers share: numbers out of text files, folders of images, and the scene of the views found."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from raytrans.data.images import image_size
from raytrans.data.scene import Frame, Scene, same_aspect
from raytrans.geometry.cameras import Cameras
from raytrans.geometry.distortion import Distortion
from raytrans.geometry.rigid import project_to_rotation

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
PIXEL_CENTER = np.array([[0.0, 0.0, 0.5], [0.0, 0.0, 0.5], [0.0, 0.0, 0.0]])
"""Added to intrinsics whose publisher counts the centre of the first pixel as (0, 0)."""

log = logging.getLogger(__name__)


@dataclass
class Shot:
    """One view: files, K (3, 3) in pixels of `size` (height, width), world_from_camera (4, 4), z-depths near, far."""

    frame: Frame
    size: tuple[int, int]
    intrinsics: np.ndarray
    world_from_camera: np.ndarray
    near: float | None = None
    far: float | None = None


def scene_of(shots: Sequence[Shot], path: Path, distortion: Sequence[float] | None = None) -> Scene:
    """The scene of some views, one OpenCV lens for all; warns of principal points that belong to another image size."""
    lens = None if distortion is None else Distortion("opencv", torch.tensor(distortion, dtype=torch.float64))
    cameras = Cameras(
        np.stack([shot.intrinsics for shot in shots]),
        np.stack([shot.world_from_camera for shot in shots]),
        size=np.array([shot.size for shot in shots]),
        distortion=lens,
        near=_for_all([shot.near for shot in shots]),
        far=_for_all([shot.far for shot in shots]),
    )
    for shot in shots:
        height, width = shot.size
        x, y = shot.intrinsics[:2, 2]
        if not (0.2 * width < x < 0.8 * width and 0.2 * height < y < 0.8 * height):
            log.warning(
                "%s: the principal point (%g, %g) is far from the centre of an image of %d x %d: are the intrinsics "
                "those of another image size?", shot.frame.image, x, y, width, height,
            )  # fmt: skip
            break
    return Scene(cameras, [shot.frame for shot in shots], path=path)


def _for_all(values: list[float | None]) -> np.ndarray | None:
    return None if any(value is None for value in values) else np.array(values)


def text_of(path: Path) -> str:
    """Text of a file. Raises ValueError naming one that cannot be read or is not text."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path}: expected a text file, got other bytes") from None


def numbers_of(words: Sequence[str], count: int, label: str) -> np.ndarray:
    """So many numbers out of words, finite or not. Raises ValueError with the label, expected and got."""
    if len(words) != count:
        raise ValueError(f"{label}: expected {count} numbers, got {len(words)}")
    try:
        return np.array([float(word) for word in words])
    except ValueError:
        raise ValueError(f"{label}: expected {count} numbers, got {' '.join(words)[:60]!r}") from None


def matrix_of(path: Path, field: str, *shapes: tuple[int, int]) -> np.ndarray:
    """The matrix, of one of some shapes, that a text file holds and nothing else."""
    words = text_of(path).split()
    wanted = " or ".join(str(rows * columns) for rows, columns in shapes)
    for shape in shapes:
        if len(words) == shape[0] * shape[1]:
            return numbers_of(words, len(words), f"{path}: {field}").reshape(shape)
    raise ValueError(f"{path}: {field}: expected {wanted} numbers, got {len(words)}")


def finite(values: np.ndarray, label: str) -> np.ndarray:
    """The same values. Raises ValueError with the label for NaN or infinity."""
    if not np.isfinite(values).all():
        raise ValueError(f"{label}: expected finite numbers, got NaN or infinity")
    return values


def rigid_of(matrix: np.ndarray, label: str) -> np.ndarray:
    """(3, 4) or (4, 4) rigid motion as (4, 4), its rotation projected to the nearest one.

    Raises ValueError with the label for NaN, a last row other than 0 0 0 1, scale, mirror images and larger errors.
    """
    finite(matrix, label)
    if matrix.shape == (4, 4) and not np.allclose(matrix[3], [0, 0, 0, 1], atol=1e-6):
        raise ValueError(f"{label}: expected the last row 0 0 0 1, got {matrix[3].tolist()}")
    result = np.eye(4)
    result[:3] = matrix[:3]
    result[:3, :3] = project_to_rotation(torch.from_numpy(result[:3, :3].copy()), name=label).numpy()
    return result


def inverse(rigid: np.ndarray) -> np.ndarray:
    """world_from_camera of camera_from_world and the other way round: [[R^T, -R^T t], [0, 1]]."""
    result = np.eye(4)
    result[:3, :3] = rigid[:3, :3].T
    result[:3, 3] = -rigid[:3, :3].T @ rigid[:3, 3]
    return result


def pinhole_of(matrix: np.ndarray, label: str) -> np.ndarray:
    """K (3, 3) or (4, 4) as (3, 3) with K[2, 2] = 1. Raises ValueError with the label for what is no K in pixels."""
    k = finite(matrix, label)[:3, :3]
    k = k / k[2, 2] if k[2, 2] else k
    if not (k[0, 0] > 0 and k[1, 1] > 0):
        raise ValueError(f"{label}: expected positive focal lengths, got {k[0, 0]:g} and {k[1, 1]:g}")
    if np.abs([k[1, 0], k[2, 0], k[2, 1], k[2, 2] - 1]).max() > 1e-6:
        raise ValueError(f"{label}: expected [[fx, skew, cx], [0, fy, cy], [0, 0, 1]], got {k.tolist()}")
    return k


def files_in(folder: Path, suffixes: Sequence[str] = IMAGE_SUFFIXES) -> list[Path]:
    """Files of a folder with one of the suffixes, sorted by name, without hidden ones; none where it does not exist."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.name.lower().endswith(tuple(suffixes)) and entry.is_file()]
    return [folder / name for name in sorted(names) if not name.startswith(".")]


def first_files(folders: Sequence[Path], suffixes: Sequence[str] = IMAGE_SUFFIXES) -> list[Path]:
    """Files of the first folder that has any with one of the suffixes; see `files_in`."""
    return next((files for files in map(lambda folder: files_in(folder, suffixes), folders) if files), [])


def sized(image: Path, stated: tuple[int, int] | None = None) -> tuple[tuple[int, int], bool]:
    """(height, width) of the pixels that belong to the camera, and whether EXIF orientation is applied to them.

    The size is that of the header. With a stated one it has the same aspect, upright or as stored; without, the pixels
    are taken as stored, as the programs that write cameras without a size do. Raises ValueError naming the file.
    """
    stored, upright = image_size(image)
    if stated is None:
        return stored, False
    for size, turn in ((upright, True), (stored, False)):
        if same_aspect(size, stated):
            return size, turn
    raise ValueError(f"{image}: expected height and width {stated} or the same aspect, got {upright}")


def tell_left_out(path: Path, names: Sequence[str], total: int, why: str) -> None:
    """Warn of views that are left out; ValueError where that is all of them."""
    if names and len(names) == total:
        raise ValueError(f"{path}: none of the {total} views can be used: {why} (first: {names[0]})")
    if names:
        log.warning("%s: %d of %d views are left out: %s (first: %s)", path, len(names), total, why, names[0])
