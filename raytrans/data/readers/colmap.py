"""Reader of COLMAP reconstructions: `sparse/0`, `sparse`, `colmap/sparse/0` or the folder of the model itself.

Camera axes and pixels are those of COLMAP, x right, y down, z forward, the centre of the top-left pixel at (0.5, 0.5).
Source: colmap.github.io/format.html and colmap.github.io/cameras.html.
"""

import logging
import os
import re
from pathlib import Path

import numpy as np
import torch

from raytrans.data.guards import below
from raytrans.data.points import SparsePoints
from raytrans.data.readers import colmap_files as files_of
from raytrans.data.readers.sizes import pixel_size, rescaled
from raytrans.data.scene import Frame, Scene
from raytrans.geometry.cameras import Cameras
from raytrans.geometry.conversions import from_colmap
from raytrans.geometry.distortion import MODELS as LENS_COEFFICIENTS
from raytrans.geometry.distortion import Distortion

MODEL_FOLDERS = ("", "sparse", "colmap/sparse", "colmap")
PARTS = ("cameras", "images", "points3D")
CHOSEN = re.compile(r"images(_\d+)?")
INNER = re.compile(r"sparse|colmap")  # folders of a capture in which models lie, each in a numbered one
IMAGE_FOLDERS = ("images", "images_2", "images_4", "images_8")
ONE, TWO = ("f", "cx", "cy"), ("fx", "fy", "cx", "cy")
LENSES = {  # lens and names of the parameters
    "SIMPLE_PINHOLE": ("opencv", ONE),
    "PINHOLE": ("opencv", TWO),
    "SIMPLE_RADIAL": ("opencv", (*ONE, "k1")),
    "RADIAL": ("opencv", (*ONE, "k1", "k2")),
    "OPENCV": ("opencv", (*TWO, "k1", "k2", "p1", "p2")),
    "FULL_OPENCV": ("rational", (*TWO, *LENS_COEFFICIENTS["rational"])),
    "OPENCV_FISHEYE": ("fisheye", (*TWO, *LENS_COEFFICIENTS["fisheye"])),
    "SIMPLE_FISHEYE": ("fisheye", ONE),
    "FISHEYE": ("fisheye", TWO),
    "SIMPLE_RADIAL_FISHEYE": ("fisheye", (*ONE, "k1")),
    "RADIAL_FISHEYE": ("fisheye", (*ONE, "k1", "k2")),
}

log = logging.getLogger(__name__)


def found_in(path: Path) -> list[Path]:
    """Folders of the models that `path` (a capture, a model, or a file of one) holds; empty where there are none.

    After them the capture, where that is what `path` is; or, for an image folder of a capture, like `images_4`, that.
    """
    if path.is_file():
        names = {f"{part}{kind}" for part in PARTS for kind in (".bin", ".txt")}
        return [path.parent] if path.name in names and _is_model(path.parent) else []
    for place in [path / name for name in MODEL_FOLDERS]:
        inside = sorted(place.iterdir()) if place.is_dir() else []
        # the capture itself may hold anything, so that of its folders only those with COLMAP's numbers are models
        inside = [folder for folder in inside if place != path or folder.name.isdigit()]
        if models := [folder for folder in (place, *inside) if _is_model(folder)]:
            return models if path in models else [*models, path]
    if path.is_dir() and CHOSEN.fullmatch(path.name) and (files := found_in(path.parent)):
        return [*filter(_is_model, files), path]
    return []


def _is_model(folder: Path) -> bool:
    """Whether it holds cameras and images, or one of them in the binary form that no other format shares."""
    there = {kind: [(folder / f"{part}{kind}").is_file() for part in PARTS[:2]] for kind in (".bin", ".txt")}
    return any(there[".bin"]) or all(there[".txt"])


def read(files: list[Path]) -> Scene:
    """Scene of the model with most images; views sorted by name, images that do not exist left out with a warning.

    Images lie in `images`, `images_2`, `images_4` or `images_8`, beside the model or above it, up to the capture (see
    `_bases`): in the first of those that hold most of them, or in the image folder that `files` names. Names that lead
    out of there are none of an image. Intrinsics are scaled by the exact ratio of each axis. Pixels are taken as
    stored, as COLMAP takes them.
    Raises ValueError naming file and image or camera for what is cut, contradictory, or a lens that has no equal here.
    """
    folder = _largest([file for file in files if _is_model(file)])
    opened = next((file for file in files if not _is_model(file)), None)
    camera_file, image_file = _part(folder, "cameras"), _part(folder, "images")
    cameras = files_of.read_cameras(camera_file)
    listed = sorted(files_of.read_images(image_file), key=lambda image: image.name)
    for image in listed:
        if image.camera not in cameras:
            raise ValueError(
                f"{image_file}: image {image.name}: expected a camera of {camera_file.name}, got id {image.camera}"
            )
    root, paths = _located(folder, opened, image_file, listed)
    kept = [image for image in listed if image.name in paths]
    sizes = [_size(paths[image.name], image, cameras, image_file) for image in kept]
    ratios = [np.divide(size, cameras[image.camera].size)[::-1] for image, (size, _) in zip(kept, sizes, strict=True)]
    return Scene(
        _cameras([cameras[image.camera] for image in kept], kept, [size for size, _ in sizes], camera_file),
        [Frame(paths[image.name], upright) for image, (_, upright) in zip(kept, sizes, strict=True)],
        path=root,
        points=_points(folder, image_file, kept, ratios),
    )


def _largest(folders: list[Path]) -> Path:
    """The model with most images, the first of equals; says so where there are others."""
    if len(folders) == 1:
        return folders[0]
    counts = [files_of.count_images(_part(folder, "images")) for folder in folders]
    best = int(np.argmax(counts))
    others = ", ".join(
        f"{folder.name} has {n}" for folder, n in zip(folders, counts, strict=True) if folder != folders[best]
    )
    log.warning(
        "%s: taken among %d models, as it has most images, %d (%s)", folders[best], len(folders), counts[best], others
    )
    return folders[best]


def _part(folder: Path, part: str, needed: bool = True) -> Path | None:
    """The binary file of a model, else its text; both of one kind, as COLMAP writes them."""
    kinds = [kind for kind in (".bin", ".txt") if (folder / f"{part}{kind}").is_file()]
    if kinds:
        return folder / f"{part}{kinds[0]}"
    if needed:
        raise ValueError(
            f"{folder}: expected {part}.bin or {part}.txt beside the other files of the model, got neither"
        )
    return None


def _bases(folder: Path, capture: Path | None) -> list[Path]:
    """The folder of a model and those above it, up to the capture, the first the nearest.

    That is what was opened; for a model or folder of models, what holds its number, `sparse` and `colmap`.
    """
    above = [folder, *folder.parents]
    top = 1 if capture is None else above.index(capture)
    while top < len(above) - 1 and INNER.fullmatch(above[top].name):
        top += 1
    return above[: top + 1]


def _located(
    folder: Path, opened: Path | None, image_file: Path, listed: list[files_of.Image]
) -> tuple[Path, dict[str, Path]]:
    """Root of the capture, and the image files that exist by name, in the chosen folder or the first with most."""
    folder, opened = Path(os.path.abspath(folder)), None if opened is None else Path(os.path.abspath(opened))
    chosen = opened if opened is not None and not folder.is_relative_to(opened) else None
    bases = _bases(folder, None if chosen else opened)
    places = [(base, base / name) for name in (*IMAGE_FOLDERS, "") for base in bases]
    if chosen is not None:
        places = [(chosen.parent, chosen)]
    root, place, there = bases[0], bases[0], {}
    for base, candidate in places:
        found = _existing(candidate, listed)
        if len(found) > len(there):
            root, place, there = base, candidate, found
        if len(there) == len(listed):
            return root, there
    if not there:
        above = f"{', '.join(IMAGE_FOLDERS)} of {bases[0]} and of the folders above it up to {bases[-1]}"
        raise ValueError(
            f"{image_file}: none of its {len(listed)} images exists; looked for {listed[0].name} first, in "
            f"{above if chosen is None else chosen}"
        )
    lost = [image.name for image in listed if image.name not in there]
    log.warning(
        "%s: %d of %d images do not exist in %s and are left out (first: %s)",
        image_file, len(lost), len(listed), place, lost[0],
    )  # fmt: skip
    return root, there


def _existing(place: Path, listed: list[files_of.Image]) -> dict[str, Path]:
    """Those of the images that lie in a folder, by name."""
    if not place.is_dir():
        return {}
    paths = {image.name: below(place, image.name) for image in listed}
    return {name: path for name, path in paths.items() if path is not None and path.is_file()}


def _size(
    path: Path, image: files_of.Image, cameras: dict[int, files_of.Camera], file: Path
) -> tuple[tuple[int, int], bool]:
    return pixel_size(path, cameras[image.camera].size, f"{file}: image {image.name}", as_stored=True)


def _cameras(entries: list, images: list[files_of.Image], sizes: list[tuple[int, int]], file: Path) -> Cameras:
    lenses = {_lens(entry, file)[0] for entry in entries}
    if "fisheye" in lenses and len(lenses) > 1:
        raise ValueError(f"{file}: expected one kind of lens per scene, got perspective and fisheye cameras")
    lens = "rational" if "rational" in lenses else lenses.pop()
    values = [dict(zip(_lens(entry, file)[1], entry.parameters, strict=True)) for entry in entries]
    rows = torch.tensor([[v.get(name, 0.0) for name in LENS_COEFFICIENTS[lens]] for v in values], dtype=torch.float64)
    intrinsics = [
        rescaled(_intrinsics(v, entry, file), entry.size, size)
        for v, entry, size in zip(values, entries, sizes, strict=True)
    ]
    poses = from_colmap(np.array([image.qvec for image in images]), np.array([image.tvec for image in images]))
    # a fisheye without coefficients still bends
    distortion = Distortion(lens, rows) if lens == "fisheye" or bool(rows.any()) else None
    return Cameras(np.stack(intrinsics), poses, size=np.array(sizes), distortion=distortion)


def _lens(camera: files_of.Camera, file: Path) -> tuple[str, tuple[str, ...]]:
    if camera.model not in LENSES:
        raise ValueError(f"{file}: expected cameras of {', '.join(LENSES)}; got {camera.model}")
    return LENSES[camera.model]


def _intrinsics(values: dict[str, float], camera: files_of.Camera, file: Path) -> np.ndarray:
    fx, fy = (values.get(name, values.get("f")) for name in ("fx", "fy"))
    if not min(fx, fy) > 0:
        raise ValueError(f"{file}: {camera.model}: expected positive focal lengths, got {fx} and {fy}")
    return np.array([[fx, 0.0, values["cx"]], [0.0, fy, values["cy"]], [0.0, 0.0, 1.0]])


def _points(folder: Path, image_file: Path, images: list[files_of.Image], ratios: list[np.ndarray]):
    """Function that reads the sparse points; None where the model has none. Pixels are scaled like the images."""
    file = _part(folder, "points3D", needed=False)
    if file is None:
        return None

    def points() -> SparsePoints:
        ids, xyz, rgb = files_of.read_points(file)
        seen = []
        for image, ratio in zip(images, ratios, strict=True):
            pixels, which = files_of.observations(image_file, image)
            index = np.searchsorted(ids, which)
            # points may have been thinned out without their observations
            known = np.append(ids, -1)[index] == which
            seen.append((index[known], pixels[known] * ratio))
        return SparsePoints(xyz, rgb, seen)

    return points
