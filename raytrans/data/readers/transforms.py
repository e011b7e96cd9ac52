"""Reader of `transforms.json` in its variants: instant-ngp, nerfstudio, NeRF-synthetic.

The files hold OpenGL axes (x right, y up, z backwards); everything handed out has OpenCV axes. Sources of the format:
docs.nerf.studio/quickstart/data_conventions, `load_nerf` of instant-ngp, the loader of the original NeRF.
"""

import difflib
import logging
import math
import os
from collections import ChainMap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from raytrans.data.guards import LARGEST_SIDE, read_json
from raytrans.data.images import WHITE
from raytrans.data.ply import read_ply
from raytrans.data.points import SparsePoints
from raytrans.data.readers.listed import ListedFiles, normal
from raytrans.data.readers.original import assumed_transform, original_of
from raytrans.data.readers.sizes import pixel_size, rescaled
from raytrans.data.scene import Frame, Scene
from raytrans.geometry.cameras import Cameras
from raytrans.geometry.distortion import MODELS as COEFFICIENTS
from raytrans.geometry.distortion import Distortion
from raytrans.geometry.rigid import project_to_rotation

SINGLE = "transforms.json"
SPLIT_FILES = {"train": "transforms_train.json", "val": "transforms_val.json", "test": "transforms_test.json"}
OPENCV_FROM_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])
PERSPECTIVE = ("PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "FULL_OPENCV", "PERSPECTIVE")
FISHEYE = ("OPENCV_FISHEYE", "SIMPLE_FISHEYE", "FISHEYE", "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE")
LENSES = {"FULL_OPENCV": "rational", **dict.fromkeys(FISHEYE, "fisheye")}  # all others: opencv
MILLIMETRE = 1e-3  # nerfstudio's unit of stored depth
NAMED_BACKGROUNDS = {"white": WHITE, "black": (0.0, 0.0, 0.0)}
UNTRUSTED = ", outside of the scene: `trusted` or RAYTRANS_TRUSTED has to name the folder of such files"
UNSUPPORTED = ("equirectangular", "latlong", "ftheta_p0")

log = logging.getLogger(__name__)


def found_in(path: Path) -> list[Path]:
    """The transforms files that `path` (a folder or one such file) stands for; empty where there are none."""
    if path.is_file() and path.suffix.lower() == ".json":
        return [path]
    if (path / SINGLE).is_file():
        return [path / SINGLE]
    return [path / name for name in SPLIT_FILES.values() if (path / name).is_file()]


def read(files: list[Path], trusted: Iterable[str | Path] = ()) -> Scene:
    """Scene of one `transforms.json`, or of the split files of one folder (train, then val, then test).

    Listed images that do not exist are left out, with a warning; views keep the order of the files.
    File paths are absolute or relative to the folder of the json, and lead to files below it or a `trusted` folder; see
    `ListedFiles` for others.
    Poses, depth and the points of `ply_file_path` are in the frame of the original reconstruction, see `Original`.
    Transparent pixels are put on white, or on the `background` that the file names.
    `depth_file_path` is `depth_unit_scale_factor` (0.001 unless the file or frame states it, as in nerfstudio, also for
    .npy) times the stored value; `depth_path` is instant-ngp's, with `integer_depth_scale`.
    Raises ValueError naming the file and frame for whatever is missing, not finite, or contradictory.
    """
    parts = [_Transforms.load(file, trusted) for file in files]
    shots = [shot for part in parts for shot in part.shots()]
    splits: dict[str, list[int]] = {}
    for index, shot in enumerate(shots):
        for name in shot.splits:
            splits.setdefault(name, []).append(index)
    if not shots:
        listed = sum(len(part.meta["frames"]) for part in parts)
        name = str(parts[0].meta["frames"][0].get("file_path", "?"))
        first, where, out = parts[0].files.place(name), "", ""
        if parts[0].files.leads_out(name):
            where, out = " below its folder", f"{UNTRUSTED}, as in RAYTRANS_TRUSTED={first.parent}"
        raise ValueError(f"{files[0]}: none of the {listed} listed images exists{where}; looked for {first} first{out}")
    folder = files[0] if len(files) == 1 and files[0].name != SINGLE else files[0].parent
    points = next((part.points for part in parts if part.cloud is not None), None)
    return Scene(_cameras(shots, files[0]), [shot.frame for shot in shots], splits, folder, points)


def read_cameras(path: Path) -> Cameras:
    """Cameras of a transforms file whose images need not exist, if it states `w` and `h`."""
    part = _Transforms.load(Path(path))
    return _cameras([part.shot(i, need_image=False) for i in range(len(part.meta["frames"]))], part.path)


@dataclass
class _Shot:
    frame: Frame
    splits: list[str]
    intrinsics: np.ndarray
    world_from_camera: np.ndarray
    size: tuple[int, int]
    model: str
    coefficients: list[float]
    bounds: tuple[float | None, float | None]


def _cameras(shots: list[_Shot], path: Path) -> Cameras:
    models = {shot.model for shot in shots}
    if "fisheye" in models and len(models) > 1:
        raise ValueError(f"{path}: camera_model: expected one lens model per scene, got perspective and fisheye frames")
    distortion = None
    # a fisheye without coefficients still bends: theta = r, where a pinhole has tan theta = r
    if models == {"fisheye"} or any(any(shot.coefficients) for shot in shots):
        model = "rational" if "rational" in models else models.pop()
        rows = [shot.coefficients + [0.0] * (len(COEFFICIENTS[model]) - len(shot.coefficients)) for shot in shots]
        distortion = Distortion(model, torch.tensor(rows, dtype=torch.float64))
    return Cameras(
        np.stack([shot.intrinsics for shot in shots]),
        np.stack([shot.world_from_camera for shot in shots]),
        size=np.array([shot.size for shot in shots]),
        distortion=distortion,
        near=_bound(shots, 0),
        far=_bound(shots, 1),
    )


def _bound(shots: list[_Shot], which: int) -> np.ndarray | None:
    values = [shot.bounds[which] for shot in shots]
    stated = [value for value in values if value is not None]
    if 0 < len(stated) < len(values):
        log.warning("%s is stated by %d of %d frames only: left out", ("near", "far")[which], len(stated), len(values))
    return np.array(stated) if len(stated) == len(values) else None


class _Transforms:
    """One json file: shared values, per-frame values that win over them, and paths relative to its folder."""

    def __init__(self, path: Path, meta: dict, trusted: Iterable[str | Path] = ()):
        self.path, self.meta = path, meta
        self.folder = Path(os.path.abspath(path)).parent
        names = (frame.get("file_path") for frame in meta["frames"])
        self.files = ListedFiles(self.folder, (name for name in names if isinstance(name, str)), trusted)
        named = {split: self._names(f"{split}_filenames") for split in SPLIT_FILES}
        self.named_splits = {split: names for split, names in named.items() if names}
        applied = meta["applied_transform"] if "applied_transform" in meta else assumed_transform(path)
        self.original = original_of(applied, meta.get("applied_scale"), path)
        self.unit = 1.0 if self.original is None else self.original.scale
        self.cloud = self._extra(meta.get("ply_file_path"), str(path), "ply_file_path")

    def points(self) -> SparsePoints:
        """Sparse points of `ply_file_path`, in the frame of the poses."""
        points = read_ply(self.cloud)
        return points if self.original is None else self.original.sparse(points)

    @classmethod
    def load(cls, path: Path, trusted: Iterable[str | Path] = ()) -> "_Transforms":
        meta = read_json(path)
        frames = meta.get("frames") if isinstance(meta, dict) else None
        if not isinstance(frames, list) or not frames or not all(isinstance(frame, dict) for frame in frames):
            raise ValueError(f"{path}: expected a non-empty list `frames` of objects, got {str(frames)[:60]}")
        return cls(path, meta, trusted)

    def _names(self, key: str) -> set[str]:
        """File names of a split; a name that no frame has is only warned of, as its frame may be gone."""
        names = self.meta.get(key) or []
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"{self.path}: expected a list of file names {key}, got {str(names)[:60]}")
        listed = {normal(str(frame.get("file_path"))) for frame in self.meta["frames"]}
        found = {normal(name) for name in names}
        if lost := sorted(found - listed):
            log.warning("%s: %d of %d %s name no frame (first: %s)", self.path, len(lost), len(found), key, lost[0])
        return found & listed

    def label(self, index: int) -> str:
        name = str(self.meta["frames"][index].get("file_path", "no file_path"))
        return f"{self.path}: frame {index} ({name if len(name) <= 200 else name[:200] + '...'})"

    def shots(self) -> list[_Shot]:
        self._tell_moved()
        found = [self.shot(i) for i in range(len(self.meta["frames"]))]
        kept = [shot for shot in found if shot is not None]
        if kept and len(kept) < len(found):
            name = self.meta["frames"][next(i for i, shot in enumerate(found) if shot is None)]["file_path"]
            log.warning(
                "%s: %d of %d listed images do not exist and are left out (first: %s%s)", self.path,
                len(found) - len(kept), len(found), name, UNTRUSTED if self.files.leads_out(name) else "",
            )  # fmt: skip
        return kept

    def _tell_moved(self) -> None:
        if moved := sorted(self.files.moved):
            log.warning(
                "%s: %d images are not where they are listed, and taken from below its folder (first: %s, now %s)",
                self.path, len(moved), moved[0], self.files.moved[moved[0]],
            )  # fmt: skip
        if doubtful := sorted(self.files.doubtful):
            log.warning(
                "%s: %d images are not where they are listed, and not told apart by their names below its folder "
                "(first: %s)", self.path, len(doubtful), doubtful[0],
            )  # fmt: skip

    def shot(self, index: int, need_image: bool = True) -> _Shot | None:
        frame, label = self.meta["frames"][index], self.label(index)
        values = _Values(ChainMap(frame, self.meta), label)  # as merging would copy all for each of many frames
        name = frame.get("file_path")
        if need_image and not isinstance(name, str):
            raise ValueError(f"{label}: expected a string file_path, got {name!r}")
        image = _found(self.files.image, name, label) if isinstance(name, str) else None
        if image is None and need_image:
            return None
        stated = values.size()
        size, upright = pixel_size(image, stated, label)
        intrinsics = values.intrinsics(*(have or want for have, want in zip(stated, size, strict=True)))
        model, coefficients = values.distortion()
        pose = values.world_from_camera()
        return _Shot(
            frame=self._frame(image, upright, values, label),
            splits=self._splits(name),
            intrinsics=rescaled(intrinsics, stated, size),
            world_from_camera=pose if self.original is None else self.original.pose(pose),
            size=size,
            model=model,
            coefficients=coefficients,
            bounds=values.bounds(self.unit),
        )

    def _splits(self, name: str | None) -> list[str]:
        if name is None or not self.named_splits:
            return [split for split, file in SPLIT_FILES.items() if file == self.path.name]
        return [split for split, names in self.named_splits.items() if normal(name) in names]

    def _frame(self, image: Path | None, upright: bool, values: "_Values", label: str) -> Frame:
        depth, scale = values.get("depth_file_path"), values.number("depth_unit_scale_factor")
        if depth is None:
            depth, scale = values.get("depth_path"), values.number("integer_depth_scale")
        scale = MILLIMETRE if scale is None else scale
        if depth is not None and not scale > 0:
            raise ValueError(f"{label}: expected a positive depth scale, got {scale}")
        return Frame(
            image=image if image is not None else self.folder,
            upright=upright,
            background=values.background(),
            depth=self._extra(depth, label, "depth"),
            depth_scale=scale * self.unit,
            mask=self._extra(values.get("mask_path"), label, "mask"),
        )

    def _extra(self, text: object, label: str, kind: str) -> Path | None:
        if text is not None and not isinstance(text, str):
            raise ValueError(f"{label}: expected the name of a {kind} file, got {text!r}")
        path = _found(self.files.extra, text, label) if text else None
        if text and path is None:
            out = UNTRUSTED if self.files.leads_out(text) else ""
            log.warning("%s: its %s file %s does not exist%s: left out", label, kind, text, out)
        return path


def _found(find: Callable[[str], Path | None], name: str, label: str) -> Path | None:
    try:
        return find(name)
    except ValueError as error:
        raise ValueError(f"{label}: {error}") from None


class _Values:
    """The values of one frame, shared ones included, read with errors that name the frame."""

    def __init__(self, values: Mapping, label: str):
        self.values, self.label = values, label
        self.get = values.get

    def number(self, key: str) -> float | None:
        value = self.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise ValueError(f"{self.label}: expected a finite number {key}, got {value!r}")
        return float(value)

    def size(self) -> tuple[int | None, int | None]:
        """Stated (height, width)."""
        numbers = [self.number("h"), self.number("w")]
        for key, number in zip("hw", numbers, strict=True):
            if number is not None and not (1 <= number <= LARGEST_SIDE and number == int(number)):
                raise ValueError(f"{self.label}: expected a whole positive {key}, got {number}")
        height, width = (None if number is None else int(number) for number in numbers)
        return height, width

    def bounds(self, unit: float) -> tuple[float | None, float | None]:
        """Stated z-depths (near, far), positive and in order, times `unit`."""
        near, far = self.number("near"), self.number("far")
        for key, number in (("near", near), ("far", far)):
            if number is not None and not number > 0:
                raise ValueError(f"{self.label}: expected a positive {key}, got {number}")
        if near is not None and far is not None and not near < far:
            raise ValueError(f"{self.label}: expected near < far, got near {near} and far {far}")
        return tuple(None if number is None else unit * number for number in (near, far))

    def _focal(self, axis: str, pixels: int) -> float | None:
        """Focal length in pixels, 0.5 pixels / tan(0.5 angle) where an angle is given (`x_fov` is in degrees)."""
        focal, angle, degrees = (self.number(key.format(axis)) for key in ("fl_{}", "camera_angle_{}", "{}_fov"))
        if focal is None:
            angle = math.radians(degrees) if angle is None and degrees is not None else angle
            if angle is None:
                return None
            if not 0 < angle < math.pi:
                raise ValueError(f"{self.label}: expected a field of view between 0 and pi, got {angle}")
            focal = 0.5 * pixels / math.tan(0.5 * angle)
        if not focal > 0:
            raise ValueError(f"{self.label}: expected a positive focal length fl_{axis}, got {focal}")
        return focal

    def intrinsics(self, height: int, width: int) -> np.ndarray:
        """(3, 3) in pixels of an image of this size; one focal length stands for both, the centre for cx and cy."""
        focal_x, focal_y = self._focal("x", width), self._focal("y", height)
        if focal_x is None and focal_y is None:
            raise ValueError(f"{self.label}: expected fl_x, camera_angle_x or x_fov, got none of them")
        focal_x, focal_y = focal_x or focal_y, focal_y or focal_x
        center_x, center_y = self.number("cx"), self.number("cy")
        center_x = 0.5 * width if center_x is None else center_x
        center_y = 0.5 * height if center_y is None else center_y
        return np.array([[focal_x, 0.0, center_x], [0.0, focal_y, center_y], [0.0, 0.0, 1.0]])

    def distortion(self) -> tuple[str, list[float]]:
        """Lens model ("opencv", "rational" or "fisheye") and its coefficients, zero where not stated."""
        # instant-ngp takes its flag for a lens only where the file gives coefficients
        bent = self.get("is_fisheye") and any(self.number(key) for key in COEFFICIENTS["fisheye"])
        name = str(self.get("camera_model") or ("OPENCV_FISHEYE" if bent else "OPENCV")).upper()
        other = next((key for key in UNSUPPORTED if self.get(key)), None if name in PERSPECTIVE + FISHEYE else name)
        if other:
            known = ", ".join(PERSPECTIVE + FISHEYE)
            raise ValueError(f"{self.label}: expected a camera_model of {known}; got {other}")
        model = LENSES.get(name, "opencv")
        for key in {"k4", "k5", "k6", "p1", "p2"} - set(COEFFICIENTS[model]):
            if self.number(key):
                raise ValueError(f"{self.label}: {name} has no coefficient {key}, got {self.number(key)}")
        return model, [self.number(key) or 0.0 for key in COEFFICIENTS[model]]

    def world_from_camera(self) -> np.ndarray:
        """(4, 4), OpenCV axes; the rotation must be one within 1e-3 and is projected to the nearest."""
        if self.get("transform_matrix") is None:
            like = difflib.get_close_matches("transform_matrix", self.values, 1)  # not applied_transform
            hint = f" (is it {like[0]}?)" if like and like[0] != "transform_matrix" else ""
            raise ValueError(f"{self.label}: expected a finite transform_matrix (4, 4), got none{hint}")
        try:
            matrix = np.array(self.get("transform_matrix"), dtype=np.float64)
        except (TypeError, ValueError):
            matrix = np.empty(0)
        if matrix.shape not in ((3, 4), (4, 4)) or not np.isfinite(matrix).all():
            got = f"shape {matrix.shape}" if matrix.size == 0 or np.isfinite(matrix).all() else "NaN or infinity"
            raise ValueError(f"{self.label}: expected a finite transform_matrix (4, 4), got {got}")
        if matrix.shape == (4, 4) and not np.allclose(matrix[3], [0, 0, 0, 1], atol=1e-6):
            raise ValueError(f"{self.label}: expected the last row of transform_matrix to be 0 0 0 1, got {matrix[3]}")
        result = np.eye(4)
        result[:3] = matrix[:3] @ OPENCV_FROM_OPENGL
        rotation = torch.from_numpy(result[:3, :3])
        result[:3, :3] = project_to_rotation(rotation, name=f"{self.label}: transform_matrix").numpy()
        return result

    def background(self) -> tuple[float, float, float]:
        value = self.get("background", self.get("background_color", WHITE))
        value = NAMED_BACKGROUNDS.get(value, value) if isinstance(value, str) else value
        numbers = isinstance(value, (list, tuple)) and len(value) == 3
        if not numbers or not all(isinstance(v, (int, float)) and 0 <= v <= 1 for v in value):
            raise ValueError(
                f"{self.label}: expected background white, black or three numbers in [0, 1], got {value!r}"
            )
        return float(value[0]), float(value[1]), float(value[2])
