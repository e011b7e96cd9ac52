"""Suspects undo the mistakes that a test makes in the matrices of a file, whichever its format, and say so in them."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from raytrans import Cameras
from raytrans.data.conventions import CONVENTIONS
from raytrans.data.readers import READERS
from raytrans.data.suspects import Suspect, pose_suspects
from raytrans.geometry.rigid import random_rotation, rigid

FLIP = np.diag([1.0, -1.0, -1.0, 1.0])
FORMATS = {
    "transforms": (FLIP, True),
    "llff": (np.array([[0.0, 1, 0, 0], [1, 0, 0, 0], [0, 0, -1, 0], [0, 0, 0, 1]]), True),  # down, right, backwards
    "colmap": (np.eye(4), False),
    "rgbd": (np.eye(4), True),
    "tum": (np.eye(4), True),
}


def stored(poses: np.ndarray, kind: str) -> np.ndarray:
    """What a file of the format holds: world_from_camera with its axes as columns, or the inverse of that."""
    axes, world_from_camera = FORMATS[kind]
    matrices = poses @ axes
    return matrices if world_from_camera else np.linalg.inv(matrices)


def read(matrices: np.ndarray, kind: str) -> Cameras:
    """Cameras as a reader of the format takes them from the matrices."""
    axes, world_from_camera = FORMATS[kind]
    poses = (matrices if world_from_camera else np.linalg.inv(matrices)) @ axes.T
    return Cameras(np.broadcast_to([[50.0, 0, 32], [0, 50, 24], [0, 0, 1]], (len(poses), 3, 3)), poses, (48, 64))


@pytest.fixture(scope="module")
def poses() -> np.ndarray:
    generator = torch.Generator().manual_seed(5)
    turns = random_rotation(6, generator=generator)
    return rigid(turns, torch.randn(6, 3, generator=generator, dtype=torch.float64)).numpy()


def turned(rows: list[list[float]], kind: str) -> np.ndarray:
    """Other camera axes in a file of the format: M A, or A^-1 M where M is camera_from_world."""
    axes = np.eye(4)
    axes[:3, :3] = rows
    return (lambda m: m @ axes) if FORMATS[kind][1] else (lambda m: np.linalg.inv(axes) @ m)


ANY_FORMAT = ("inverse_pose", "transposed_rotation", "translation", "translation_sign")


def poses_mistakes(kind: str) -> dict:
    """Those whose matrices depend on the format."""
    flip = turned([[1, 0, 0], [0, -1, 0], [0, 0, -1]], kind)
    return {
        "camera_axes": turned([[0, 1, 0], [1, 0, 0], [0, 0, -1]], kind) if kind == "llff" else flip,
        "inverse_pose_and_axes": lambda m: np.linalg.inv(m @ FORMATS[kind][0].T if kind == "llff" else flip(m)),
        "roll": turned([[-1, 0, 0], [0, -1, 0], [0, 0, 1]], kind),
        "camera_axes_order": turned([[0, 0, 1], [1, 0, 0], [0, 1, 0]], kind),
    }


@pytest.fixture(scope="module")
def first_that_mends(poses, any_format) -> Callable[[str, str], Suspect]:
    """The first suspect that undoes the mistake `key` in a file of the format `kind`."""

    def first(key: str, kind: str) -> Suspect:
        cameras = read((poses_mistakes(kind) | any_format)[key](stored(poses, kind)), kind)
        assert not np.allclose(cameras.world_from_camera, poses, atol=0.1)
        mended = (s for s in pose_suspects(CONVENTIONS[kind]))
        return next(s for s in mended if np.allclose(s.corrected(cameras).world_from_camera, poses, atol=1e-9))

    return first


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("key", [*poses_mistakes("transforms"), *ANY_FORMAT])
def test_the_first_suspect_that_undoes_a_mistake_has_its_name(first_that_mends, key, kind):
    assert first_that_mends(key, kind).key == key


def test_what_nobody_would_write_is_undone_by_none(poses):
    cameras = read(poses[[1, 0, 2, 3, 4, 5]], "rgbd")
    every = [s.corrected(cameras).world_from_camera for s in pose_suspects(CONVENTIONS["rgbd"])]
    assert len(every) > 35 and not any(np.allclose(one, poses, atol=0.1) for one in every)


def test_axes_that_are_a_quarter_turn_of_the_images_are_told_as_either(poses, first_that_mends):
    """LLFF's down, right, backwards is OpenGL's right, up, backwards turned by a quarter about the optical axis."""
    cameras = read(poses @ FORMATS["llff"][0], "transforms")
    mends = (s for s in pose_suspects(CONVENTIONS["transforms"]))
    suspect = next(s for s in mends if np.allclose(s.corrected(cameras).world_from_camera, poses))
    assert suspect.key == "camera_axes" and "LLFF" in suspect.wrong and "or the images are turned by" in suspect.wrong
    assert "turned" not in first_that_mends("camera_axes", "transforms").wrong


WORDS = [
    ("transforms", "camera_axes", "negate the second and third columns of each world_from_camera matrix"),
    ("colmap", "camera_axes", "negate the second and third rows of each camera_from_world matrix"),
    ("llff", "camera_axes", "replace the columns x, y, z of each world_from_camera matrix by (y, x, -z)"),
    ("colmap", "inverse_pose", "the poses are world_from_camera where the format has camera_from_world"),
    ("rgbd", "inverse_pose", "the poses are camera_from_world where the format has world_from_camera"),
    ("colmap", "translation", "the translations are those of world_from_camera while the rotations are camera_from"),
    ("colmap", "camera_axes_order", "replace the rows x, y, z of each camera_from_world matrix by"),
]


@pytest.mark.parametrize(("kind", "key", "words"), WORDS)
def test_what_to_change_is_said_in_the_matrices_of_the_format(first_that_mends, kind, key, words):
    suspect = first_that_mends(key, kind)
    assert words in f"{suspect.wrong}; {suspect.change}"


def test_columns_that_are_told_are_those_to_write(poses, first_that_mends):
    right = stored(poses, "transforms")
    wrong = right[:, :, [1, 2, 0, 3]]
    change = first_that_mends("camera_axes_order", "transforms").change
    order = ["xyz".index(name) for name in change.split("(")[1].rstrip(")").split(", ")]
    np.testing.assert_allclose(wrong[:, :, [*order, 3]], right)


def misread(matrices: np.ndarray, scalar_first: bool) -> np.ndarray:
    """Rotations that a reader takes from quaternions of the other order, by scipy, whose order is x y z w."""
    out, q = matrices.copy(), Rotation.from_matrix(matrices[:, :3, :3]).as_quat()
    written = q if scalar_first else q[:, [3, 0, 1, 2]]
    out[:, :3, :3] = Rotation.from_quat(written[:, [1, 2, 3, 0]] if scalar_first else written).as_matrix()
    return out


@pytest.mark.parametrize(("kind", "order"), [("colmap", "x y z w where"), ("tum", "w x y z where")])
def test_quaternions_in_the_other_order_are_told_in_the_words_of_the_format(poses, kind, order):
    cameras = read(misread(stored(poses, kind), kind == "colmap"), kind)
    mends = [s for s in pose_suspects(CONVENTIONS[kind]) if s.key == "quaternion_order"]
    assert len(mends) == 1 and order in mends[0].wrong and CONVENTIONS[kind].numbers in mends[0].change
    assert not np.allclose(cameras.world_from_camera, poses, atol=0.1)
    np.testing.assert_allclose(mends[0].corrected(cameras).world_from_camera, poses, atol=1e-9)


def test_formats_of_matrices_have_no_order_of_quaternions():
    kinds = [k for k in CONVENTIONS if any(s.key == "quaternion_order" for s in pose_suspects(CONVENTIONS[k]))]
    assert kinds == ["colmap", "tum"]


def test_colmaps_inverse_is_told_in_the_numbers_of_images_txt(poses):
    every = [s for s in pose_suspects(CONVENTIONS["colmap"]) if s.key.startswith("inverse_pose")]
    for one in every:
        assert "QW QX QY QZ TX TY TZ of camera_from_world" in one.change and "4 x 4" not in one.change
        assert "raytrans.geometry.to_colmap" in one.change and "docs/conventions.md" in one.change
    assert len(every) == 3


@pytest.mark.parametrize("kind", FORMATS)
def test_conventions_are_those_of_the_formats(poses, kind):
    written = CONVENTIONS[kind].stored(torch.from_numpy(poses))
    np.testing.assert_allclose(written.numpy(), stored(poses, kind), atol=1e-12)
    np.testing.assert_allclose(CONVENTIONS[kind].poses(written).numpy(), poses, atol=1e-12)


def test_every_reader_has_a_convention():
    assert {reader.__name__.rpartition(".")[2] for reader in READERS.values()} == set(CONVENTIONS)
