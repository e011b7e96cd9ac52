"""The usual mistakes in camera files, each as what cameras would be if it had been made, and what to change then."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import permutations, product

import torch
from torch import Tensor

from raytrans.data.conventions import AXES, Convention
from raytrans.geometry.cameras import Cameras
from raytrans.geometry.conversions import from_colmap, quaternion
from raytrans.geometry.rigid import inverse_rigid, rigid

FACTORS = (0.5, 2.0, 0.25, 4.0, 0.125, 8.0)
NAMES = "xyz"


@dataclass(frozen=True)
class Suspect:
    """One mistake: its key, what is wrong, what to change in the file, and the cameras without it."""

    key: str
    wrong: str
    change: str
    corrected: Callable[[Cameras], Cameras]


def with_poses(cameras: Cameras, poses: Tensor) -> Cameras:
    """The same lenses at other poses, (n, 4, 4) world_from_camera."""
    size = torch.stack([cameras.height, cameras.width], -1)
    return Cameras(cameras.intrinsics, poses, size, cameras.distortion)


def with_lens(cameras: Cameras, intrinsics: Tensor, distortion) -> Cameras:
    """Other lenses at the same poses."""
    return Cameras(intrinsics, cameras.world_from_camera, torch.stack([cameras.height, cameras.width], -1), distortion)


def pose_suspects(file: Convention) -> Iterator[Suspect]:
    """Mistakes of the poses, likely ones first, told in the matrices of a file of this convention."""
    for other in file.others():
        angle = _rolled(AXES[file.axes] @ AXES[other.axes].T)
        or_else = f" (or the images are turned by {angle} degrees against their cameras)" if angle else ""
        yield Suspect(
            "camera_axes",
            f"the poses have {other.axes} camera axes where the format has {file.axes}'s{or_else}",
            _columns(AXES[other.axes].T @ AXES[file.axes], file),
            _as_if(file, other),
        )
    yield from _inverses(file)
    if file.numbers:
        yield _quaternion_order(file)
    yield from _transposed(file)
    yield from _translations(file)
    known = [AXES[other.axes].T @ AXES[file.axes] for other in (file, *file.others())]
    for turn in _cube_rotations():
        if not any(torch.equal(turn, one) for one in known):
            yield _axes_suspect(turn, file)


def _as_if(file: Convention, other: Convention, mend: Callable[[Tensor], Tensor] = lambda m: m):
    """Cameras of what the file holds (n, 4, 4), read by another convention after `mend`."""
    return lambda c: with_poses(c, other.poses(mend(file.stored(c.world_from_camera))))


def _columns(turn: Tensor, file: Convention) -> str:
    """How to turn the camera axes of stored matrices: M -> M T for world_from_camera, T^-1 M for its inverse."""
    name = "column" if file.world_from_camera else "row"
    if torch.equal(turn, torch.diag(turn.diagonal())):
        wrong = [word for word, sign in zip(("first", "second", "third"), turn.diagonal(), strict=True) if sign < 0]
        axes = [axis for axis, sign in zip(NAMES, turn.diagonal(), strict=True) if sign < 0]
        told = f"negate the {' and '.join(wrong)} {name}{'s' * (len(wrong) > 1)} of each {file.direction} matrix"
        return f"{told} ({' and '.join(axes)} of the camera)"
    rows, signs = turn.abs().argmax(0).tolist(), turn.sum(0).tolist()
    new = ", ".join(f"{'-' if sign < 0 else ''}{NAMES[row]}" for row, sign in zip(rows, signs, strict=True))
    return f"replace the {name}s x, y, z of each {file.direction} matrix by ({new})"


def _inverses(file: Convention) -> Iterator[Suspect]:
    """World and camera exchanged, in the axes of the file or in other ones."""
    inverse = file.inverse()
    text = f"the poses are {inverse.direction} where the format has {file.direction}"
    whole = f"write {_row(file)}, the inverse of what is there" if file.numbers else "invert each 4 x 4 matrix"
    yield Suspect("inverse_pose", text, whole, _as_if(file, inverse))
    for other in inverse.others():
        yield Suspect(
            "inverse_pose_and_axes",
            f"{text}, with {other.axes} camera axes",
            f"{whole}, with {file.axes} axes"
            if file.numbers
            else f"invert each matrix and bring it to {file.axes} axes",
            _as_if(file, other),
        )


def _row(file: Convention) -> str:
    """What a line of a file with quaternions holds, and for COLMAP's who computes it."""
    by = "" if file.world_from_camera else " (raytrans.geometry.to_colmap gives both, see docs/conventions.md)"
    return f"{file.numbers} of {file.direction}{by}"


def _quaternion_order(file: Convention) -> Suspect:
    """Quaternions written x y z w where the format has w x y z, or the reverse, with the translations right."""
    ours, other = ("w x y z", "x y z w") if file.scalar_first else ("x y z w", "w x y z")

    def reordered(m: Tensor) -> Tensor:
        # read (w, x, y, z) = written numbers 1, 2, 3, 4, or 4, 1, 2, 3
        q = quaternion(m[:, :3, :3]).roll(1 if file.scalar_first else -1, -1)
        return inverse_rigid(from_colmap(q, m[:, :3, 3]))

    return Suspect(
        "quaternion_order",
        f"the quaternions are written {other} where the format has {ours}",
        f"write {_row(file)}, the quaternion as {ours}",
        _as_if(file, file, reordered),
    )


def _transposed(file: Convention) -> Iterator[Suspect]:
    """Rotations transposed in the matrices of the file, or in others before they were brought to its convention."""

    def transpose(convention: Convention) -> Callable[[Cameras], Cameras]:
        def corrected(c: Cameras) -> Cameras:
            m = convention.stored(c.world_from_camera)
            return with_poses(c, convention.poses(rigid(m[:, :3, :3].transpose(-1, -2), m[:, :3, 3])))

        return corrected

    for convention in (file, *file.others(), file.inverse(), *file.inverse().others()):
        kept = "camera centres" if convention.world_from_camera else "translations t of camera_from_world"
        where = (
            "" if convention.axes == file.axes else f", and were so before their {convention.axes} axes were changed"
        )
        yield Suspect(
            "transposed_rotation",
            f"the rotations are transposed while the {kept} are right{where}",
            f"transpose the 3 x 3 rotation of each {convention.direction} matrix"
            f"{'' if convention.axes == file.axes else f' in {convention.axes} axes'} and keep its last column",
            transpose(convention),
        )


def _translations(file: Convention) -> Iterator[Suspect]:
    """Right rotations R with wrong translations, t of the inverse matrix (of any axes) or of wrong signs."""

    def of_inverse(axes: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda m: rigid(m[:, :3, :3], -torch.einsum("nij,nj->ni", m[:, :3, :3] @ axes, m[:, :3, 3]))

    given = file.inverse().direction
    for other in (file, *(file.others() if file.world_from_camera else ())):
        axes = AXES[file.axes].T @ AXES[other.axes]
        same = other is file
        yield Suspect(
            "translation",
            f"the translations are those of {given} while the rotations are {file.direction}",
            f"replace each translation t by -R t, R being {file.direction}{'' if same else f' with {other.axes} axes'}",
            _as_if(file, file, of_inverse(axes)),
        )
    place, vector = ("camera centres", "camera centre") if file.world_from_camera else ("translations", "translation")
    frame = "world" if file.world_from_camera else "camera"
    for signs in list(product((1.0, -1.0), repeat=3))[1:]:
        names = " and ".join(axis for axis, sign in zip(NAMES, signs, strict=True) if sign < 0)
        factors = torch.tensor(signs, dtype=torch.float64)
        yield Suspect(
            "translation_sign",
            f"the {place} have the wrong sign in {names} of the {frame}, while the rotations are right",
            f"negate {names} of each {vector}",
            _as_if(file, file, lambda m, s=factors: rigid(m[:, :3, :3], m[:, :3, 3] * s)),
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


def _rolled(turn: Tensor) -> int:
    """Degrees of a turn about the optical axis; 0 where it is about another one."""
    return int(torch.rad2deg(torch.atan2(turn[1, 0], turn[0, 0])).round()) % 360 if turn[2, 2] == 1 else 0


def _axes_suspect(turn: Tensor, file: Convention) -> Suspect:
    """Camera axes exchanged or turned, `turn` being in the axes of the file."""
    ours = AXES[file.axes] @ turn @ AXES[file.axes].T
    angle = _rolled(ours)
    key, wrong = (
        ("roll", f"the images are turned by {angle} degrees against their cameras")
        if angle
        else (
            "camera_axes_order",
            "the camera axes are in another order or have other signs than the format's",
        )
    )
    return Suspect(
        key,
        wrong,
        _columns(turn, file),
        lambda c: with_poses(c, c.world_from_camera @ rigid(ours, torch.zeros(3, dtype=torch.float64))),
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
