"""The usual mistakes in camera files, each as what cameras would be if it had been made, and what to change then."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import permutations, product

import torch
from torch import Tensor

from raytrans.geometry.cameras import Cameras
from raytrans.geometry.rigid import rigid

OPENGL = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64))
FACTORS = (0.5, 2.0, 0.25, 4.0, 0.125, 8.0)
AXES = "xyz"


@dataclass(frozen=True)
class Suspect:
    """One mistake: its key, what is wrong, what to change in the file, and the cameras without it."""

    key: str
    wrong: str
    change: str
    corrected: Callable[[Cameras], Cameras]


def with_poses(cameras: Cameras, rotation: Tensor, centers: Tensor) -> Cameras:
    """The same lenses at other poses."""
    size = torch.stack([cameras.height, cameras.width], -1)
    return Cameras(cameras.intrinsics, rigid(rotation, centers), size, cameras.distortion)


def with_lens(cameras: Cameras, intrinsics: Tensor, distortion) -> Cameras:
    """Other lenses at the same poses."""
    return Cameras(intrinsics, cameras.world_from_camera, torch.stack([cameras.height, cameras.width], -1), distortion)


def pose_suspects(opengl: bool) -> Iterator[Suspect]:
    """Mistakes of the poses, likely ones first; `opengl` says which camera axes the format of the file has."""
    ours, other = ("OpenGL", "OpenCV") if opengl else ("OpenCV", "OpenGL")
    yield Suspect(
        "camera_axes",
        f"the poses have {other} camera axes where the format has {ours}'s",
        "negate the second and third column of each world_from_camera matrix (y and z of the camera)",
        lambda c: with_poses(c, c.world_from_camera[:, :3, :3] @ OPENGL, c.centers),
    )
    yield from _inverses(opengl, ours, other)
    yield from _translations(OPENGL if opengl else torch.eye(3, dtype=torch.float64))
    for turn in _cube_rotations():
        if not torch.equal(turn, OPENGL):
            yield _axes_suspect(turn, opengl)


def _inverses(opengl: bool, ours: str, other: str) -> Iterator[Suspect]:
    """World and camera exchanged, in the axes of the file or in the other ones."""
    same, flipped = (OPENGL, torch.eye(3, dtype=torch.float64))[:: 1 if opengl else -1]

    def inverse(axes: Tensor) -> Callable[[Cameras], Cameras]:
        def corrected(c: Cameras) -> Cameras:
            back = c.world_from_camera[:, :3, :3].transpose(-1, -2)
            return with_poses(c, back @ axes, -torch.einsum("nij,nj->ni", back, c.centers))

        return corrected

    def transposed(axes: Tensor) -> Callable[[Cameras], Cameras]:
        return lambda c: with_poses(c, (c.world_from_camera[:, :3, :3] @ axes).transpose(-1, -2) @ axes, c.centers)

    wanted, got = ("world_from_camera", "camera_from_world")[:: 1 if opengl else -1]
    text = f"the poses are {got} where the format has {wanted}"
    yield Suspect("inverse_pose", text, "invert each 4 x 4 matrix", inverse(same))
    text = f"the poses are {got} where the format has {wanted}, with {other} camera axes"
    yield Suspect("inverse_pose_and_axes", text, f"invert each matrix and bring it to {ours} axes", inverse(flipped))
    text = "the rotations are transposed (camera_from_world) while the camera centres are right"
    for axes in (same, flipped):
        yield Suspect("transposed_rotation", text, "transpose the 3 x 3 rotation of each pose", transposed(axes))


def _translations(axes: Tensor) -> Iterator[Suspect]:
    """Right rotations with wrong camera centres."""

    def center(c: Cameras) -> Cameras:
        rotation = c.world_from_camera[:, :3, :3]
        return with_poses(c, rotation, -torch.einsum("nij,nj->ni", rotation @ axes, c.centers))

    text = "the translations are those of camera_from_world while the rotations are world_from_camera"
    yield Suspect("translation", text, "replace each translation t by -R t, R being world_from_camera", center)
    for signs in list(product((1.0, -1.0), repeat=3))[1:]:
        names = " and ".join(axis for axis, sign in zip(AXES, signs, strict=True) if sign < 0)
        yield Suspect(
            "translation_sign",
            f"the camera centres have the wrong sign in {names} of the world, while the rotations are right",
            f"negate {names} of each camera centre",
            lambda c, s=signs: with_poses(
                c, c.world_from_camera[:, :3, :3], c.centers * torch.tensor(s, dtype=torch.float64)
            ),
        )


def _cube_rotations() -> list[Tensor]:
    """The 23 rotations but the identity that map axes to axes."""
    found = []
    for order, signs in product(permutations(range(3)), product((1.0, -1.0), repeat=3)):
        turn = torch.zeros(3, 3, dtype=torch.float64)
        for column, (row, sign) in enumerate(zip(order, signs, strict=True)):
            turn[row, column] = sign
        if torch.det(turn) > 0 and not torch.equal(turn, torch.eye(3, dtype=torch.float64)):
            found.append(turn)
    return found


def _axes_suspect(turn: Tensor, opengl: bool) -> Suspect:
    """Camera axes exchanged or turned; the columns are told in the axes of the file."""
    stored = OPENGL @ turn @ OPENGL if opengl else turn
    rows, signs = stored.abs().argmax(0).tolist(), stored.sum(0).tolist()
    columns = ", ".join(f"{'-' if sign < 0 else ''}{AXES[row]}" for row, sign in zip(rows, signs, strict=True))
    rolled = turn[2, 2] == 1
    angle = int(torch.rad2deg(torch.atan2(turn[1, 0], turn[0, 0])).round()) % 360
    key, wrong = (
        ("roll", f"the images are turned by {angle} degrees against their cameras")
        if rolled
        else (
            "camera_axes_order",
            "the camera axes are in another order or have other signs than the format's",
        )
    )
    return Suspect(
        key,
        wrong,
        f"replace the columns x, y, z of each world_from_camera rotation by ({columns})",
        lambda c: with_poses(c, c.world_from_camera[:, :3, :3] @ turn, c.centers),
    )


def lens_suspects(cameras: Cameras) -> Iterator[Suspect]:
    """Mistakes of the intrinsics, likely ones first."""

    def scaled(focal, center) -> Callable[[Cameras], Cameras]:
        def corrected(c: Cameras) -> Cameras:
            k = c.intrinsics.clone()
            k[:, :2, :2] *= torch.as_tensor(focal, dtype=torch.float64).reshape(-1, 1, 1)
            k[:, :2, 2] *= center
            return with_lens(c, k, c.distortion)

        return corrected

    for factor in FACTORS:
        size = f"{1 / factor:g} times"
        wrong = f"focal length and principal point belong to images of {size} this size"
        yield Suspect("intrinsics_size", wrong, f"multiply fx, fy, cx and cy by {factor:g}", scaled(factor, factor))
        wrong = f"the focal length belongs to images of {size} this size"
        yield Suspect("focal_size", wrong, f"multiply the focal lengths fx and fy by {factor:g}", scaled(factor, 1.0))
    aspect = cameras.width / cameras.height
    if bool((aspect != 1).any()):
        for ratio, sides in ((aspect, "the height, not the width"), (1 / aspect, "the width, not the height")):
            wrong = f"the focal length was computed with {sides} (or the field of view is that of the other side)"
            yield Suspect(
                "focal_side", wrong, f"multiply the focal lengths by {float(ratio[0]):.4g}", scaled(ratio, 1.0)
            )
        yield Suspect("swapped_sides", "cx and cy are swapped", "swap cx and cy (and fx and fy)", _swapped)
    if cameras.distortion is not None:
        yield no_distortion()


def no_distortion() -> Suspect:
    """The file states a lens, but the images have none."""
    wrong = "the file states lens distortion, but the images are undistorted already"
    change = "remove the distortion coefficients (k1, k2, p1, p2, ...) or use the original images"
    return Suspect("undistorted", wrong, change, lambda c: with_lens(c, c.intrinsics, None))


def _swapped(c: Cameras) -> Cameras:
    k = c.intrinsics.clone()
    k[:, 0, 0], k[:, 1, 1] = c.intrinsics[:, 1, 1], c.intrinsics[:, 0, 0]
    k[:, 0, 2], k[:, 1, 2] = c.intrinsics[:, 1, 2], c.intrinsics[:, 0, 2]
    return with_lens(c, k, c.distortion)
