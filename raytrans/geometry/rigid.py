"""Rotations, rigid motions and similarities of space.

A rotation acts on columns, x -> R x. A rigid motion is a 4x4 matrix [[R, t], [0, 1]], x -> R x + t. Points and
directions transform differently and have different functions: `apply` and `apply_linear`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from raytrans.shapes import Float


def cross_matrix(vector: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """The matrix K of v with K x = v x x."""
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))


def rotation_from_axis_angle(rotvec: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotation about `rotvec` by its length in radians: I + sin(a)/a K + (1 - cos a)/a^2 K^2 (Rodrigues).

    Value and gradient are finite at the zero vector.
    """
    angle = torch.linalg.vector_norm(rotvec, dim=-1)[..., None, None]
    cross = cross_matrix(rotvec)
    # torch.sinc(x) = sin(pi x) / (pi x), and (1 - cos a) / a^2 = sinc(a/2)^2 / 2 without cancellation
    linear, square = torch.sinc(angle / torch.pi), 0.5 * torch.sinc(0.5 * angle / torch.pi) ** 2
    return torch.eye(3, dtype=rotvec.dtype, device=rotvec.device) + linear * cross + square * (cross @ cross)


def random_rotation(
    *batch: int, generator: torch.Generator | None = None, dtype: torch.dtype = torch.float64
) -> Float[Tensor, "*batch 3 3"]:
    """Rotations drawn from the Haar measure: a normalised Gaussian quaternion is uniform on the sphere S^3.

    Drawn in float64 on the generator's device, so that every dtype sees the same rotations.
    """
    device = generator.device if generator is not None else "cpu"
    quaternion = torch.randn(*batch, 4, generator=generator, dtype=torch.float64, device=device)
    return rotation_from_quaternion(quaternion / quaternion.norm(dim=-1, keepdim=True)).to(dtype)


def rotation_from_quaternion(wxyz: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 3 3"]:
    """R = (2 w^2 - 1) I + 2 v v^T + 2 w K(v) of a unit quaternion (w, v)."""
    w, v = wxyz[..., :1, None], wxyz[..., 1:]
    eye = torch.eye(3, dtype=wxyz.dtype, device=wxyz.device)
    return (2 * w * w - 1) * eye + 2 * v[..., :, None] * v[..., None, :] + 2 * w * cross_matrix(v)


def minimal_rotation(a: Float[Tensor, "*#batch 3"], b: Float[Tensor, "*#batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """The smallest rotation with R a = b for directions a and b: R = (I - 2 h h^T)(I - 2 a a^T), h = (a+b)/|a+b|.

    The two reflections keep R orthogonal to rounding however close a and b are to antiparallel; it is smooth but there.
    At exactly antiparallel directions the axis is undefined: one of the half turns is returned, with finite gradient.
    """
    a, b = torch.broadcast_tensors(a, b)
    a, b = a / a.norm(dim=-1, keepdim=True), b / b.norm(dim=-1, keepdim=True)
    total = a + b
    # a.(a+b) = |a+b|^2 / 2 holds exactly; enforcing it stops rounding along a from dominating a short a+b
    total = total - a * ((a * total).sum(-1, keepdim=True) - 0.5 * (total * total).sum(-1, keepdim=True))
    opposite = (total * total).sum(-1, keepdim=True) <= (4 * torch.finfo(a.dtype).eps) ** 2
    spare = torch.eye(3, dtype=a.dtype, device=a.device)[a.detach().abs().argmin(-1)]
    spare = torch.linalg.cross(a.detach(), spare)
    half = torch.where(opposite, spare, total)
    half = half / half.norm(dim=-1, keepdim=True)
    return _reflection(half) @ _reflection(a)


def _reflection(unit: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    eye = torch.eye(3, dtype=unit.dtype, device=unit.device)
    return eye - 2 * unit[..., :, None] * unit[..., None, :]


def project_to_rotation(
    m: Float[Tensor, "*batch 3 3"], tolerance: float = 1e-3, name: str = "rotation"
) -> Float[Tensor, "*batch 3 3"]:
    """The nearest rotation U V^T of m = U S V^T, for matrices that are rotations up to `tolerance` in every entry.

    Matrices that are rotations to rounding come back unchanged. The gradient is that of the projection,
    R skew(R^T dm), also where the singular values coincide. Raises ValueError, naming `name` and the entry of a batch,
    for NaN or infinity, left-handed matrices and larger errors.
    """
    with torch.no_grad():
        if not bool(torch.isfinite(m).all()):
            raise ValueError(
                f"{name}{_where(~torch.isfinite(m).flatten(-2).all(-1))}: expected finite numbers, got NaN"
            )
        u, _, vt = torch.linalg.svd(m)
        nearest = u @ vt
        error = (m - nearest).abs().amax((-2, -1))
        if bool((wrong := error > tolerance).any()):
            worst = float(error.max())
            raise ValueError(
                f"{name}{_where(wrong)}: expected a rotation within {tolerance:g}, got one off by {worst:.3g}"
            )
        if bool((mirrored := torch.linalg.det(m) < 0).any()):
            raise ValueError(
                f"{name}{_where(mirrored)}: expected a right-handed frame (determinant +1), got a left-handed one (-1);"
                " an axis was flipped alone: OpenGL and Blender axes become OpenCV axes by flipping two, y and z"
            )
        exact = error <= 4 * torch.finfo(m.dtype).eps
        nearest = torch.where(exact[..., None, None], m, nearest)
    if not m.requires_grad:
        return nearest
    turn = nearest.mT @ (m - m.detach())
    return nearest + nearest @ (0.5 * (turn - turn.mT))


def _where(wrong: Tensor) -> str:
    """Index of the first wrong entry of a batch as text, empty for a single matrix."""
    return "" if wrong.ndim == 0 else f"{wrong.nonzero()[0].tolist()}"


def rigid(
    rotation: Float[Tensor, "*#batch 3 3"], translation: Float[Tensor, "*#batch 3"]
) -> Float[Tensor, "*batch 4 4"]:
    """The matrix [[R, t], [0, 1]]."""
    batch = torch.broadcast_shapes(rotation.shape[:-2], translation.shape[:-1])
    top = torch.cat([rotation.expand(*batch, 3, 3), translation.expand(*batch, 3)[..., None]], -1)
    return torch.cat([top, top.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(*batch, 1, 4)], -2)


def inverse_rigid(m: Float[Tensor, "*batch 4 4"]) -> Float[Tensor, "*batch 4 4"]:
    """[[R^T, -R^T t], [0, 1]], exact where a general inverse would round."""
    rotation = m[..., :3, :3].mT
    return rigid(rotation, -(rotation @ m[..., :3, 3:])[..., 0])


def apply(m: Float[Tensor, "*#batch 4 4"], points: Float[Tensor, "*#batch 3"]) -> Float[Tensor, "*batch 3"]:
    """R p + t; the batch of the motions broadcasts with that of the points."""
    return apply_linear(m, points) + m[..., :3, 3]


def apply_linear(m: Float[Tensor, "*#batch 4 4"], directions: Float[Tensor, "*#batch 3"]) -> Float[Tensor, "*batch 3"]:
    """R d: directions turn and are not translated."""
    return torch.einsum("...ij,...j->...i", m[..., :3, :3], directions)


@dataclass(frozen=True)
class Similarity:
    """x -> scale R x + t; rotation (*batch, 3, 3), translation (*batch, 3), scale (*batch) > 0.

    The three fields are what `Rays.moved` and `Cameras.moved` take. Raises ValueError for a scale that is not positive.
    """

    rotation: Tensor
    translation: Tensor
    scale: Tensor | float = 1.0

    def __post_init__(self):
        scale = torch.as_tensor(self.scale, dtype=self.rotation.dtype, device=self.rotation.device)
        if not bool((scale > 0).all()) or not bool(torch.isfinite(scale).all()):
            raise ValueError(f"scale: expected a positive finite number, got {self.scale}")
        object.__setattr__(self, "scale", scale)

    @classmethod
    def random(
        cls, *batch: int, generator: torch.Generator | None = None, extent: float = 1.0, octaves: float = 2.0
    ) -> "Similarity":
        """Haar rotation, Gaussian translation of standard deviation `extent`, scale 2^u with |u| <= `octaves`."""
        rotation = random_rotation(*batch, generator=generator)
        translation = extent * torch.randn(*batch, 3, generator=generator, dtype=torch.float64, device=rotation.device)
        draw = torch.rand(batch, generator=generator, dtype=torch.float64, device=rotation.device)
        return cls(rotation, translation, 2 ** (octaves * (2 * draw - 1)))

    def compose(self, first: "Similarity") -> "Similarity":
        """The similarity that acts as `first` and then as this one."""
        rotation, scale = self.rotation @ first.rotation, self.scale * first.scale
        return Similarity(rotation, self.apply(first.translation), scale)

    def inverse(self) -> "Similarity":
        """x -> R^T (x - t) / scale."""
        rotation = self.rotation.mT
        shift = torch.einsum("...ij,...j->...i", rotation, self.translation)
        return Similarity(rotation, -shift / self.scale[..., None], 1 / self.scale)

    def apply(self, points: Float[Tensor, "*#batch 3"]) -> Tensor:
        """scale R p + t."""
        return self.linear_apply(points) + self.translation

    def linear_apply(self, vectors: Float[Tensor, "*#batch 3"]) -> Tensor:
        """scale R v: differences of points."""
        return self.scale[..., None] * torch.einsum("...ij,...j->...i", self.rotation, vectors)
