"""Linear maps that commute with a group, as a null space: Clebsch-Gordan coefficients, maps of multivectors.

Both are the matrices M with M A = B M for some pairs of matrices (A, B), group elements or generators of the group; the
equation is the same. Kernels of rays have a closed form, which tests hold against this null space where a ray meets
itself.
"""

from collections.abc import Sequence

import numpy as np

TOLERANCE = 1e-9  # of singular values, over the largest


def null_space(matrix: np.ndarray) -> np.ndarray:
    """Orthonormal basis (k, n) of the v with matrix (m, n) v = 0.

    Raises ValueError where the matrix is not finite, or where its singular values do not tell zero from the rest.
    """
    if matrix.ndim != 2 or not np.isfinite(matrix).all():
        raise ValueError(f"matrix: expected a finite matrix (m, n), got shape {matrix.shape} with or without NaN")
    if matrix.shape[1] == 0:
        return np.zeros((0, 0))
    # of the triangular factor, which has the same null space and is never taller than wide
    _, values, rows = np.linalg.svd(np.linalg.qr(matrix, mode="r"))
    values = np.concatenate([values, np.zeros(matrix.shape[1] - len(values))])
    largest = max(values[0], np.finfo(float).tiny)
    small = values < TOLERANCE * largest
    if (small != (values < 1e3 * TOLERANCE * largest)).any():
        raise ValueError(f"matrix: expected singular values apart from zero or equal to it, got {values[-8:]}")
    return rows[small]


def intertwiners(source: Sequence[np.ndarray], target: Sequence[np.ndarray]) -> np.ndarray:
    """Orthonormal basis (k, out, in), float64, of all M with M A = B M for every A (in, in), B (out, out) of the lists.

    Raises ValueError for lists of different or no length, or matrices that are not square or not of one size.
    """
    source, target = ([np.asarray(m, dtype=np.float64) for m in side] for side in (source, target))
    if not source or len(source) != len(target):
        raise ValueError(f"source, target: expected lists of one length, got {len(source)}, {len(target)}")
    for name, side in (("source", source), ("target", target)):
        if any(m.ndim != 2 or m.shape != (len(side[0]), len(side[0])) for m in side):
            raise ValueError(f"{name}: expected square matrices of one size, got {[m.shape for m in side]}")
    inside, outside = np.eye(len(source[0])), np.eye(len(target[0]))
    # rows of M one after the other: M A is (1 x A^T) vec M, B M is (B x 1) vec M
    rows = [np.kron(outside, a.T) - np.kron(b, inside) for a, b in zip(source, target, strict=True)]
    basis = null_space(np.concatenate(rows))
    return basis.reshape(len(basis), len(outside), len(inside))
