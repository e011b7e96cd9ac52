"""Sparse points of a reconstruction: where they are, their colours, and which view saw them where."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Observations = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class SparsePoints:
    """Points of a scene, in the frame and the units of its poses.

    xyz (M, 3) float64; rgb (M, 3) uint8; observations: for every view the indices (K,) of the points that it saw and
    the pixels (K, 2) where it saw them, in the pixels of its camera; None where the file does not say.
    """

    xyz: np.ndarray
    rgb: np.ndarray
    observations: Sequence[Observations] | None = None

    def __len__(self) -> int:
        return len(self.xyz)
