"""Mistakes in the pose matrices of a camera file that are the same whichever way the format has its matrices."""

from collections.abc import Callable

import numpy as np
import pytest


def _transposed(matrices: np.ndarray) -> np.ndarray:
    out = matrices.copy()
    out[:, :3, :3] = matrices[:, :3, :3].transpose(0, 2, 1)
    return out


def _with_translation_of_inverse(matrices: np.ndarray) -> np.ndarray:
    out = matrices.copy()
    out[:, :3, 3] = np.linalg.inv(matrices)[:, :3, 3]
    return out


def _negated_yz(matrices: np.ndarray) -> np.ndarray:
    return matrices * np.array([[1.0, 1, 1, 1], [1, 1, 1, -1], [1, 1, 1, -1], [1, 1, 1, 1]])


@pytest.fixture(scope="session")
def any_format() -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Mistakes by the key of the finding that names them, as functions of the matrices (views, 4, 4) of a file."""
    return {
        "inverse_pose": np.linalg.inv,
        "transposed_rotation": _transposed,
        "translation": _with_translation_of_inverse,
        "translation_sign": _negated_yz,
    }
