"""Every mistake that docs/photographs.md names, put into copies of two real captures on disk."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

import raytrans
from raytrans.data.inspection import inspect_scene

GL = np.diag([1.0, -1.0, -1.0, 1.0])  # x right, y up, z backwards, in OpenCV's axes
LLFF = np.array([[0.0, 1, 0, 0], [1, 0, 0, 0], [0, 0, -1, 0], [0, 0, 0, 1]])  # down, right, backwards
CV = np.eye(4)


@dataclass(frozen=True)
class Capture:
    """What the files of a capture say: world_from_camera (n, 4, 4) in their own axes, one lens, images."""

    matrices: np.ndarray
    axes: np.ndarray
    lens: dict[str, float]
    images: list[Path]
    bounds: np.ndarray | None = field(default=None)

    def posed(self, change: Callable[[np.ndarray], np.ndarray]) -> "Capture":
        return replace(self, matrices=np.stack([change(matrix) for matrix in self.matrices]))

    def with_lens(self, **values: float) -> "Capture":
        return replace(self, lens={**self.lens, **values})


def fox(folder: Path) -> Capture:
    values = json.loads((folder / "transforms.json").read_text())
    lens = {name: values[name] for name in ("fl_x", "fl_y", "cx", "cy", "w", "h", "k1", "k2", "p1", "p2")}
    images = [folder / frame["file_path"] for frame in values["frames"]]
    return Capture(np.array([frame["transform_matrix"] for frame in values["frames"]]), GL, lens, images)


def milk(folder: Path) -> Capture:
    rows = np.load(folder / "poses_bounds.npy")
    hwf = rows[:, :15].reshape(-1, 3, 5)[:, :, 4]
    assert np.ptp(hwf, axis=0).max() == 0
    height, width, focal = hwf[0]
    matrices = np.tile(np.eye(4), (len(rows), 1, 1))
    matrices[:, :3] = rows[:, :15].reshape(-1, 3, 5)[:, :, :4]
    lens = {"fl_x": focal, "fl_y": focal, "cx": width / 2, "cy": height / 2, "w": width, "h": height}
    return Capture(matrices, LLFF, lens, sorted((folder / "images").iterdir()), rows[:, 15:])


CAPTURES = {"fox": fox, "milk": milk}


def write_transforms(capture: Capture, folder: Path) -> None:
    """transforms.json as instant-ngp has it, whatever the matrices' axes are called."""
    frames = [
        {"file_path": str(image), "transform_matrix": matrix.tolist()}
        for image, matrix in zip(capture.images, capture.matrices, strict=True)
    ]
    (folder / "transforms.json").write_text(json.dumps({**capture.lens, "frames": frames}))


def write_llff(capture: Capture, folder: Path) -> None:
    """poses_bounds.npy, which knows one focal length and the centre as principal point."""
    lens = capture.lens
    (folder / "images").mkdir()
    for image in capture.images:
        (folder / "images" / image.name).symlink_to(image)
    hwf = np.tile([[[lens["h"]], [lens["w"]], [lens["fl_x"]]]], (len(capture.images), 1, 1))
    rows = np.concatenate([capture.matrices[:, :3], hwf], 2).reshape(-1, 15)
    np.save(folder / "poses_bounds.npy", np.concatenate([rows, capture.bounds], 1))


def distorted(rays: np.ndarray, k1: float, k2: float, p1: float, p2: float) -> np.ndarray:
    """OpenCV's lens: x (1 + k1 r^2 + k2 r^4) + (2 p1 x y + p2 (r^2 + 2 x^2), p1 (r^2 + 2 y^2) + 2 p2 x y)."""
    x, y = rays[..., 0], rays[..., 1]
    square = x * x + y * y
    radial = 1 + k1 * square + k2 * square**2
    sideways = [2 * p1 * x * y + p2 * (square + 2 * x * x), p1 * (square + 2 * y * y) + 2 * p2 * x * y]
    return np.stack([x * radial, y * radial], -1) + np.stack(sideways, -1)


def resampled(capture: Capture, folder: Path, k1: float, k2: float, put_on: bool) -> Capture:
    """Copies of the images with the lens (k1, k2, and p1, p2 of the capture) put on or taken off."""
    import cv2

    lens = capture.lens
    focal, center = np.array([lens["fl_x"], lens["fl_y"]]), np.array([lens["cx"], lens["cy"]]) - 0.5
    coefficients = (k1, k2, lens.get("p1", 0.0), lens.get("p2", 0.0))
    rays = (np.stack(np.meshgrid(np.arange(lens["w"]), np.arange(lens["h"])), -1) - center) / focal
    source = rays if put_on else distorted(rays, *coefficients)
    for _ in range(30 if put_on else 0):  # the inverse of the lens as a fixed point
        source = source + rays - distorted(source, *coefficients)
    source = (source * focal + center).astype(np.float32)
    images = []
    for image in capture.images:
        pixels = cv2.imread(str(image), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        images.append(folder / image.with_suffix(".png").name)
        cv2.imwrite(str(images[-1]), cv2.remap(pixels, source, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE))
    return replace(capture, images=images)


def opencv(capture: Capture) -> np.ndarray:
    return capture.matrices @ np.linalg.inv(capture.axes)


def transposed(matrix: np.ndarray) -> np.ndarray:
    out = matrix.copy()
    out[:3, :3] = matrix[:3, :3].T
    return out


def with_translation(matrix: np.ndarray, translation: np.ndarray) -> np.ndarray:
    out = matrix.copy()
    out[:3, 3] = translation
    return out


def scaled(capture: Capture, names: str, factor: float) -> Capture:
    return capture.with_lens(**{name: factor * capture.lens[name] for name in names.split()})


def swapped(capture: Capture) -> Capture:
    old = capture.lens
    return capture.with_lens(cx=old["cy"], cy=old["cx"], fl_x=old["fl_y"], fl_y=old["fl_x"])


def without_lens(capture: Capture) -> Capture:
    return replace(capture, lens={name: value for name, value in capture.lens.items() if name[0] not in "kp"})


def axes(capture: Capture, written: np.ndarray) -> Capture:
    return replace(capture, matrices=opencv(capture) @ written)


def inverse(capture: Capture) -> Capture:
    return capture.posed(np.linalg.inv)


FOCAL, ALL = "fl_x fl_y", "fl_x fl_y cx cy"
SIGNS = np.diag([1.0, -1, -1, 1])
POSES = {
    "camera_axes": lambda c: axes(c, CV),
    "inverse_pose": inverse,
    "inverse_pose_and_axes": lambda c: inverse(axes(c, CV)),
    "transposed_rotation": lambda c: c.posed(transposed),
    "translation": lambda c: c.posed(lambda m: with_translation(m, np.linalg.inv(m)[:3, 3])),
    "translation of COLMAP": lambda c: c.posed(
        lambda m: with_translation(m, np.linalg.inv(m @ np.linalg.inv(c.axes))[:3, 3])
    ),
    "translation_sign": lambda c: c.posed(lambda m: with_translation(m, SIGNS[:3, :3] @ m[:3, 3])),
    "roll by half a turn": lambda c: c.posed(lambda m: m @ np.diag([-1.0, -1, 1, 1])),
    "camera_axes_order": lambda c: c.posed(lambda m: m[:, [1, 2, 0, 3]]),
}
# of the lens: those that LLFF's one focal length can say, and those that need the fields of transforms.json
FOCALS = {
    "focal_size of images of half the size": lambda c: scaled(c, FOCAL, 0.5),
    "focal_size of images of twice the size": lambda c: scaled(c, FOCAL, 2.0),
    "focal_side": lambda c: scaled(c, FOCAL, c.lens["h"] / c.lens["w"]),
    "focal by a third": lambda c: scaled(c, FOCAL, 1.3),
    "focal by 2 %": lambda c: scaled(c, FOCAL, 1.02),
}
LENSES = {
    "intrinsics_size of images of half the size": lambda c: scaled(c, ALL, 0.5),
    "intrinsics_size of images of twice the size": lambda c: scaled(c, ALL, 2.0),
    "swapped_sides": swapped,
    "half_pixel more": lambda c: c.with_lens(cx=c.lens["cx"] + 0.5, cy=c.lens["cy"] + 0.5),
    "half_pixel less": lambda c: c.with_lens(cx=c.lens["cx"] - 0.5, cy=c.lens["cy"] - 0.5),
    "undistorted": None,
    "distortion": None,
}
TWO = {
    "camera_axes, focal_size": lambda c: scaled(axes(c, CV), FOCAL, 0.5),
    "inverse_pose, focal": lambda c: scaled(inverse(c), FOCAL, 1.3),
    "inverse_pose_and_axes, focal_size": lambda c: scaled(inverse(axes(c, CV)), FOCAL, 2.0),
    "transposed_rotation, focal": lambda c: scaled(c.posed(transposed), FOCAL, 1.05),
}


# LLFF takes the centre of the image as principal point. On milk the matches of two sets of pairs put it (1.3, 1.7) and
# (2.0, 1.3) pixels from there: half a pixel more or less cannot be told, and nothing else may be named
HIDDEN = {("milk", "half_pixel more"), ("milk", "half_pixel less")}
LENS = (-0.15, 0.05)  # put on milk, whose carton fills the middle of the pictures only


def written(name: str, source: Path, folder: Path, mistake: str) -> None:
    """A copy of a capture in a folder with one mistake of the tables above."""
    capture = CAPTURES[name](source)
    table = next(table for table in (POSES, FOCALS, LENSES, TWO, {"none": lambda c: c}) if mistake in table)
    as_llff = name == "milk" and (table is not LENSES or mistake == "distortion")
    if mistake == "undistorted" and name == "milk":
        capture = capture.with_lens(k1=LENS[0], k2=LENS[1])
    elif mistake == "undistorted":
        capture = resampled(capture, folder, capture.lens["k1"], capture.lens["k2"], put_on=False)
    elif mistake == "distortion" and name == "milk":
        (folder / "bent").mkdir()
        capture = resampled(capture, folder / "bent", *LENS, put_on=True)
    elif mistake == "distortion":
        capture = without_lens(capture)
    else:
        capture = table[mistake](capture)
    if as_llff:
        write_llff(capture, folder)
    else:
        write_transforms(capture if name == "fox" else replace(capture, matrices=opencv(capture) @ GL), folder)


@pytest.mark.slow
@pytest.mark.parametrize("mistake", ["none", *POSES, *FOCALS, *LENSES, *TWO])
@pytest.mark.parametrize("name", CAPTURES)
def test_a_mistake_put_into_a_real_capture_is_named(real_data, tmp_path, name, mistake):
    written(name, real_data(name), tmp_path, mistake)
    done = inspect_scene(raytrans.open_scene(tmp_path, trusted=[real_data(name)]))
    keys = [] if mistake == "none" or (name, mistake) in HIDDEN else [one.split()[0] for one in mistake.split(", ")]
    assert [finding.key for finding in done.findings] == keys, done.verdict
    most = (1.0 if done.usable else 0.5) * done.score.median
    # half a pixel moves the median by less than its last digit
    assert not keys or "half_pixel" in keys or done.findings[-1].score.median < most
