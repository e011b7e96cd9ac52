"""Reader of IDR's and NeuS's `cameras_sphere.npz` or `cameras.npz` beside `image/` and `mask/`, as for DTU.

`world_mat_i` (4 x 4) is the projection K [R | t] of image i by name, `scale_mat_i` takes the unit sphere, which holds
the object, to the world. Both programs render the pixel in column 0 and row 0 through (0, 0), so half a pixel is added.
Everything stays in the units of the world. Source: the loaders of IDR and NeuS, `load_K_Rt_from_P` and `gen_rays_at`.
"""

import io
import re
import zipfile
from pathlib import Path

import numpy as np

from raytrans.data.guards import decoding
from raytrans.data.images import npy_array
from raytrans.data.readers.shots import PIXEL_CENTER, Shot, files_in, finite, first_files, pinhole_of, scene_of, sized
from raytrans.data.scene import Frame, Scene

NAMES = ("cameras_sphere.npz", "cameras.npz")
IMAGES, MASKS = ("image", "images", "rgb"), ("mask", "masks")
NAMED = re.compile(r"((?:world|scale)_mat_\d{1,9})(?:\.npy)?", re.ASCII)
LARGEST = 4096  # bytes of a matrix and its head
PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # what numpy writes
NO_SKEW = 0.05  # pixels a focal length off the axis: what matrices stated with six digits leave of none


def found_in(path: Path) -> list[Path]:
    """The camera file that `path` is, or the first of the two that a folder has."""
    if path.is_file():
        return [path] if path.name in NAMES else []
    return [path / name for name in NAMES if (path / name).is_file()][:1]


def read(files: list[Path]) -> Scene:
    """Scene in world units; near and far are the z-depths of the sphere, where every camera lies outside of it.

    Raises ValueError naming file and key for a broken archive, pickled or missing matrices, a projection without
    inverse, and another number of images or masks than of cameras.
    """
    path = files[0]
    matrices = _matrices(path)
    count = 1 + max((int(key[10:]) for key in matrices if key.startswith("world")), default=-1)
    if count == 0:
        raise ValueError(
            f"{path}: expected matrices world_mat_0, world_mat_1, ..., got {', '.join(sorted(matrices)[:5])}"
        )
    images = _one_each(path, IMAGES, count)
    masks = _one_each(path, MASKS, count) if any(files_in(path.parent / name) for name in MASKS) else [None] * count
    shots = [_shot(matrices, i, path, Frame(images[i], upright=False, mask=masks[i])) for i in range(count)]
    return scene_of(shots, path.parent)


def _matrices(path: Path) -> dict[str, np.ndarray]:
    """The matrices of an archive by name, none of them larger than matrices are."""
    with decoding(path, "cannot be read as an .npz archive of numbers"), zipfile.ZipFile(path) as archive:
        members = [(match[1], info) for info in archive.infolist() if (match := NAMED.fullmatch(info.filename))]
        for key, info in members:
            if info.file_size > LARGEST or info.compress_type not in PACKED:
                raise ValueError(f"{key}: expected a matrix of numbers, got {info.file_size} bytes")
        return {key: npy_array(io.BytesIO(archive.read(info)), info.file_size) for key, info in members}


def _one_each(path: Path, folders: tuple[str, ...], count: int) -> list[Path]:
    """Files of the first folder that has any, one for each camera in the order of their names."""
    found = first_files([path.parent / name for name in folders])
    if len(found) != count:
        folder = found[0].parent if found else path.parent / folders[0]
        raise ValueError(f"{folder}: expected {count} images, one for each world_mat of {path.name}, got {len(found)}")
    return found


def _matrix(matrices: dict[str, np.ndarray], key: str, path: Path) -> np.ndarray:
    value = matrices.get(key)
    if value is None or value.shape not in ((3, 4), (4, 4)) or value.dtype.kind not in "iuf":
        got = "none" if value is None else f"{value.dtype} {value.shape}"
        raise ValueError(f"{path}: {key}: expected a matrix (4, 4), got {got}")
    return finite(value.astype(np.float64), f"{path}: {key}")


def _shot(matrices: dict[str, np.ndarray], index: int, path: Path, frame: Frame) -> Shot:
    label = f"{path}: world_mat_{index}"
    intrinsics, pose = decomposed(_matrix(matrices, f"world_mat_{index}", path), label)
    size, _ = sized(frame.image)
    near = far = None
    if f"scale_mat_{index}" in matrices:
        sphere = _matrix(matrices, f"scale_mat_{index}", path)
        depth = float((sphere[:3, 3] - pose[:3, 3]) @ pose[:3, 2])
        radius = float(np.linalg.norm(sphere[:3, 0]))
        near, far = (depth - radius, depth + radius) if depth > radius > 0 else (None, None)
    return Shot(frame, size, pinhole_of(intrinsics + PIXEL_CENTER, label), pose, near, far)


def decomposed(projection: np.ndarray, label: str) -> tuple[np.ndarray, np.ndarray]:
    """K (3, 3) with K[2, 2] = 1 and world_from_camera (4, 4) of P = s K [R | t], for either sign of the scale s.

    P[:, :3] = K R by the QR decomposition of its rows in reverse order, with the signs that make focal lengths
    positive; the centre is -P[:, :3]^-1 P[:, 3]. Raises ValueError with the label where P[:, :3] has no inverse.
    """
    matrix = projection[:3, :3]
    if np.linalg.cond(matrix) > 1e12:
        raise ValueError(f"{label}: expected a projection K [R | t] with an inverse, got {projection[:3].tolist()}")
    matrix = matrix * np.sign(np.linalg.det(matrix))
    q, r = np.linalg.qr(matrix[::-1].T)
    upper, rotation = r.T[::-1, ::-1], q.T[::-1]
    signs = np.sign(np.diag(upper))
    intrinsics, rotation = upper * signs / np.abs(upper[2, 2]), signs[:, None] * rotation
    if abs(intrinsics[0, 1]) < NO_SKEW:
        intrinsics[0, 1] = 0.0
    pose = np.eye(4)
    pose[:3, :3] = rotation.T
    pose[:3, 3] = -np.linalg.solve(projection[:3, :3], projection[:3, 3])
    return intrinsics, pose
