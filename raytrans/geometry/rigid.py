"""Rotations, rigid motions and similarities on column vectors: x -> s R x + t, any leading batch shape.

Points and directions move differently: `apply` translates, `apply_linear` does not.
"""

import torch
from jaxtyping import Float
from torch import Tensor

TOLERANCE = 1e-3


def _matvec(matrix: Tensor, vector: Tensor) -> Tensor:
    return torch.einsum("...ij,...j->...i", matrix, vector)


def cross_matrix(v: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Matrix [v] with [v] x = v cross x."""
    x, y, z = v.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))


def rotation_from_axis_angle(rotvec: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotation by |v| radians about v: I + sin(a)/a [v] + (1 - cos(a))/a^2 [v]^2, smooth at v = 0.

    Source: Rodrigues' formula.
    """
    square = (rotvec * rotvec).sum(-1)[..., None, None]
    small = square < 1e-6
    angle = torch.where(small, 1.0, square).sqrt()
    first = torch.where(small, 1 - square / 6 + square**2 / 120, angle.sin() / angle)
    second = torch.where(small, 0.5 - square / 24 + square**2 / 720, 2 * ((angle / 2).sin() / angle) ** 2)
    cross = cross_matrix(rotvec)
    return torch.eye(3, dtype=rotvec.dtype, device=rotvec.device) + first * cross + second * (cross @ cross)


def random_rotation(
    *batch: int, generator: torch.Generator | None = None, dtype: torch.dtype = torch.float64
) -> Float[Tensor, "*batch 3 3"]:
    """Rotations uniform in the Haar measure, (*batch, 3, 3): unit quaternions (w, x, y, z) of normal variates."""
    device = None if generator is None else generator.device
    q = torch.randn(*batch, 4, generator=generator, dtype=torch.float64, device=device)
    w, v = q[..., 0, None, None], q[..., 1:]
    # the square of the norm divides out, so the quaternion need not be normalised first
    square = (q * q).sum(-1)[..., None, None]
    cross = cross_matrix(v)
    return (torch.eye(3, dtype=q.dtype, device=device) + 2 * (w * cross + cross @ cross) / square).to(dtype)


def minimal_rotation(a: Float[Tensor, "*#batch 3"], b: Float[Tensor, "*#batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Smallest rotation with R a = b, for unit vectors: the half turn about a, then the half turn about s = a + b.

    R = I - 2 s s^T / |s|^2 + 2 b a^T. Smooth but at antiparallel vectors, where no continuous choice exists:
    there it is a half turn about an axis that depends on a only, and gradients stay finite.
    """
    a, b = torch.broadcast_tensors(a, b)
    s = a + b
    square = (s * s).sum(-1, keepdim=True)
    opposite = square <= (4 * torch.finfo(a.dtype).eps) ** 2
    spare = torch.eye(3, dtype=a.dtype, device=a.device)[a.detach().abs().argmin(-1)]
    spare = torch.linalg.cross(a, spare)
    bisector = torch.where(opposite, spare, s)
    bisector = bisector / torch.where(opposite, (spare * spare).sum(-1, keepdim=True), square).sqrt()
    outer = bisector[..., :, None] * bisector[..., None, :] - b[..., :, None] * a[..., None, :]
    return torch.eye(3, dtype=a.dtype, device=a.device) - 2 * outer


def project_to_rotation(
    matrix: Float[Tensor, "*batch 3 3"], tolerance: float = TOLERANCE, name: str = "rotation"
) -> Float[Tensor, "*batch 3 3"]:
    """Nearest rotation in the Frobenius norm, U diag(1, 1, det(U V^T)) V^T; what is exact to rounding stays bitwise.

    Gradients pass straight through. Raises ValueError, beginning with `name`, where an entry is not finite, the matrix
    is left-handed, or an entry is off by more than `tolerance`.
    """
    fixed = matrix.detach()
    if not bool(torch.isfinite(fixed).all()):
        raise ValueError(f"{name}: expected finite numbers, got NaN or infinity{_where(~torch.isfinite(fixed))}")
    left, singular, right = torch.linalg.svd(fixed)
    mirrored = torch.linalg.det(left @ right) < 0
    flipped = mirrored & ((singular - 1).abs().amax(-1) < 0.5)
    if bool(flipped.any()):
        raise ValueError(
            f"{name}: expected right-handed axes (determinant +1), got left-handed ones (determinant -1)"
            f"{_where(flipped[..., None, None])}; an odd number of axes is flipped: to pass from OpenGL to OpenCV axes "
            "negate two columns, y and z"
        )
    nearest = torch.cat([left[..., :2], torch.where(mirrored[..., None, None], -1, 1) * left[..., 2:]], -1) @ right
    error = (fixed - nearest).abs()
    if not bool((error <= tolerance).all()):
        worst = f"{float(error.max()):.3g}{_where(error > tolerance)}"
        raise ValueError(f"{name}: expected a rotation within {tolerance:g} per entry, got one off by {worst}")
    rounding = error.amax((-2, -1), keepdim=True) <= 8 * torch.finfo(fixed.dtype).eps
    return torch.where(rounding, matrix, matrix + (nearest - fixed))


def _where(bad: Tensor) -> str:
    """' at index (3,)' of the first bad matrix of a batch, '' for one matrix."""
    if bad.ndim == 2:
        return ""
    return f" at index {tuple(bad.flatten(-2).any(-1).nonzero()[0].tolist())}"


def rigid(
    rotation: Float[Tensor, "*#batch 3 3"], translation: Float[Tensor, "*#batch 3"]
) -> Float[Tensor, "*batch 4 4"]:
    """Homogeneous matrix of x -> R x + t."""
    batch = torch.broadcast_shapes(rotation.shape[:-2], translation.shape[:-1])
    top = torch.cat([rotation.expand(*batch, 3, 3), translation.expand(*batch, 3)[..., None]], -1)
    bottom = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=top.dtype, device=top.device).expand(*batch, 1, 4)
    return torch.cat([top, bottom], -2)


def inverse_rigid(matrix: Float[Tensor, "*batch 4 4"]) -> Float[Tensor, "*batch 4 4"]:
    """Inverse of a rigid motion, x -> R^T (x - t)."""
    rotation = matrix[..., :3, :3].mT
    return rigid(rotation, -_matvec(rotation, matrix[..., :3, 3]))


def apply(matrix: Float[Tensor, "*#batch 4 4"], points: Float[Tensor, "*#batch 3"]) -> Float[Tensor, "*batch 3"]:
    """Act on points: R x + t."""
    return _matvec(matrix[..., :3, :3], points) + matrix[..., :3, 3]


def apply_linear(
    matrix: Float[Tensor, "*#batch 4 4"], directions: Float[Tensor, "*#batch 3"]
) -> Float[Tensor, "*batch 3"]:
    """Act on directions: R x, without the translation."""
    return _matvec(matrix[..., :3, :3], directions)


class Similarity:
    """x -> scale R x + t with rotation (*batch, 3, 3), translation (*batch, 3) and scale (*batch), broadcast.

    Raises ValueError for shapes that do not fit, a matrix that is no rotation, a scale that is not positive.
    """

    def __init__(self, rotation: Tensor, translation: Tensor, scale: Tensor | float = 1.0):
        if rotation.shape[-2:] != (3, 3) or translation.shape[-1:] != (3,):
            raise ValueError(
                "similarity: expected rotation (..., 3, 3) and translation (..., 3), got "
                f"{tuple(rotation.shape)} and {tuple(translation.shape)}"
            )
        self.rotation = project_to_rotation(rotation)
        self.translation = translation
        self.scale = torch.as_tensor(scale, dtype=rotation.dtype, device=rotation.device)
        if not bool((self.scale > 0).all() and torch.isfinite(self.scale).all()):
            raise ValueError(f"scale: expected a positive number, got {scale}")

    @classmethod
    def random(
        cls, *batch: int, generator: torch.Generator | None = None, dtype: torch.dtype = torch.float64
    ) -> "Similarity":
        """Haar rotation, normal translation, scale log-uniform in [0.1, 10]."""
        device = None if generator is None else generator.device
        rotation = random_rotation(*batch, generator=generator, dtype=dtype)
        translation = torch.randn(*batch, 3, generator=generator, dtype=dtype, device=device)
        exponent = 2 * torch.rand(batch, generator=generator, dtype=dtype, device=device) - 1
        return cls(rotation, translation, 10**exponent)

    def apply(self, points: Float[Tensor, "*b 3"]) -> Tensor:
        """Act on points: scale R x + t."""
        return self.linear_apply(points) + self.translation

    def linear_apply(self, vectors: Float[Tensor, "*b 3"]) -> Tensor:
        """Act on displacements: scale R x."""
        return self.scale[..., None] * _matvec(self.rotation, vectors)

    def compose(self, other: "Similarity") -> "Similarity":
        """The map that acts by `other` first: x -> self(other(x))."""
        return Similarity(self.rotation @ other.rotation, self.apply(other.translation), self.scale * other.scale)

    def inverse(self) -> "Similarity":
        """x -> R^T (x - t) / scale."""
        rotation, scale = self.rotation.mT, 1 / self.scale
        return Similarity(rotation, -scale[..., None] * _matvec(rotation, self.translation), scale)

    def __repr__(self) -> str:
        return f"Similarity(shape={tuple(self.rotation.shape[:-2])}, dtype={self.rotation.dtype})"
