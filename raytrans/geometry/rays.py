"""Oriented lines with a section: the homogeneous space SE(3)/(SO(2)xR) that every feature lives on.

A ray is (d, m) with unit direction d and moment m = p x d for any point p on it; a rigid motion g = (R, t) acts as
(d, m) -> (R d, R m + t x R d). A section adds a frame with columns (e1, e2, d) and an anchor point on the ray.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from raytrans.geometry.rigid import minimal_rotation, project_to_rotation
from raytrans.shapes import Float

SLACK = 1e-3  # what a direction may miss of unit length, and a frame of a rotation


def _vectors(**values: Any) -> list[Tensor]:
    """Broadcast vectors (..., 3) of one floating type; ValueError for another last axis."""
    tensors = {name: torch.as_tensor(value) for name, value in values.items()}
    for name, value in tensors.items():
        if value.ndim == 0 or value.shape[-1] != 3:
            raise ValueError(f"{name}: expected shape (..., 3), got {tuple(value.shape)}")
    dtype = torch.get_default_dtype() if not any(v.is_floating_point() for v in tensors.values()) else None
    for value in tensors.values():
        if value.is_floating_point():
            dtype = value.dtype if dtype is None else torch.promote_types(dtype, value.dtype)
    try:
        return list(torch.broadcast_tensors(*(value.to(dtype) for value in tensors.values())))
    except RuntimeError:
        shapes = ", ".join(f"{name} {tuple(value.shape)}" for name, value in tensors.items())
        raise ValueError(f"expected shapes that broadcast, got {shapes}") from None


def section_frame(
    camera_rotation: Float[Tensor, "*#batch 3 3"], direction: Float[Tensor, "*#batch 3"]
) -> Float[Tensor, "*batch 3 3"]:
    """Minimal-rotation section: R_min(z_c -> d) R_c, so rolling the camera by gamma turns every frame by gamma.

    `camera_rotation` has the camera's axes in the world as columns, the third one being the optical axis z_c.
    """
    return minimal_rotation(camera_rotation[..., :, 2], direction) @ camera_rotation


def section_from_axis(direction: Float[Tensor, "*#batch 3"], axis: Float[Tensor, "*#batch 3"]) -> Tensor:
    """Section whose e1 is `axis` made orthogonal to the ray; where they are parallel a fixed finite choice is made."""
    direction, axis = torch.broadcast_tensors(direction, axis)
    e1 = axis - (axis * direction).sum(-1, keepdim=True) * direction
    norm = e1.norm(dim=-1, keepdim=True)
    scale = axis.norm(dim=-1, keepdim=True)
    spare = torch.eye(3, dtype=direction.dtype, device=direction.device)[direction.abs().argmin(-1)]
    spare = torch.linalg.cross(spare, direction)
    e1 = torch.where(norm > 1e-12 * scale, e1, spare)
    e1 = e1 / e1.norm(dim=-1, keepdim=True)
    return torch.stack([e1, torch.linalg.cross(direction, e1), direction], -1)


class Rays:
    """A set of rays of any batch shape, each with a section.

    direction (*batch, 3), moment (*batch, 3), frame (*batch, 3, 3) with columns (e1, e2, d), anchor (*batch, 3) on the
    ray, origin (*batch, 3) where samples start (the camera centre). Sliding the anchor changes labels, not the origin.
    """

    def __init__(self, direction: Tensor, moment: Tensor, frame: Tensor, anchor: Tensor, origin: Tensor | None = None):
        batch = direction.shape[:-1]
        expected = {"direction": (3,), "moment": (3,), "frame": (3, 3), "anchor": (3,), "origin": (3,)}
        origin = anchor if origin is None else origin
        for name, value in zip(expected, (direction, moment, frame, anchor, origin), strict=True):
            if value.shape != batch + expected[name]:
                raise ValueError(
                    f"rays: {name} must have shape {tuple(batch + expected[name])}, got {tuple(value.shape)}"
                )
        self.direction, self.moment, self.frame, self.anchor, self.origin = direction, moment, frame, anchor, origin

    @classmethod
    def from_points(cls, origin: Any, direction: Any, frame: Tensor | None = None) -> "Rays":
        """Rays from a point on each and a direction of any positive length; `frame` defaults to an arbitrary section.

        Whole numbers are read as floats, and the more precise of two types is kept. Raises ValueError for a direction
        that is zero or not finite, an origin that is not finite, or another last axis than 3.
        """
        origin, direction = _vectors(origin=origin, direction=direction)
        length = direction.norm(dim=-1, keepdim=True)
        if not bool(torch.isfinite(direction).all()) or not bool((length > 0).all()):
            raise ValueError("direction: expected finite vectors of positive length, got zero, NaN or infinity")
        if not bool(torch.isfinite(origin).all()):
            raise ValueError("origin: expected finite points, got NaN or infinity")
        direction = direction / length
        if frame is None:
            frame = section_from_axis(direction, direction.roll(1, -1))
        return cls(direction, torch.linalg.cross(origin, direction), frame, origin)

    @property
    def shape(self) -> torch.Size:
        return self.direction.shape[:-1]

    @property
    def dtype(self) -> torch.dtype:
        return self.direction.dtype

    @property
    def device(self) -> torch.device:
        return self.direction.device

    def map(self, function: Callable[[Tensor], Tensor]) -> "Rays":
        """Apply a function of the batch axes to each of the five tensors."""
        return Rays(*(function(v) for v in (self.direction, self.moment, self.frame, self.anchor, self.origin)))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index) -> "Rays":
        index = index if isinstance(index, tuple) else (index,)
        if not any(i is Ellipsis for i in index):
            index = (*index, Ellipsis)
        # an explicit trailing slice per value axis keeps an ellipsis or a mask on the batch axes only
        vector, matrix = (slice(None),), (slice(None), slice(None))
        return Rays(
            self.direction[index + vector],
            self.moment[index + vector],
            self.frame[index + matrix],
            self.anchor[index + vector],
            self.origin[index + vector],
        )

    def __repr__(self) -> str:
        return f"Rays(shape={tuple(self.shape)}, dtype={self.dtype}, device={self.device})"

    def reshape(self, *batch: int | tuple[int, ...]) -> "Rays":
        shape = batch[0] if len(batch) == 1 and not isinstance(batch[0], int) else batch
        return Rays(
            self.direction.reshape(*shape, 3),
            self.moment.reshape(*shape, 3),
            self.frame.reshape(*shape, 3, 3),
            self.anchor.reshape(*shape, 3),
            self.origin.reshape(*shape, 3),
        )

    def expand(self, *batch: int) -> "Rays":
        return Rays(
            self.direction.expand(*batch, 3),
            self.moment.expand(*batch, 3),
            self.frame.expand(*batch, 3, 3),
            self.anchor.expand(*batch, 3),
            self.origin.expand(*batch, 3),
        )

    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> "Rays":
        return self.map(lambda v: v.to(dtype=dtype or v.dtype, device=device or v.device))

    @staticmethod
    def cat(rays: "list[Rays]", dim: int = 0) -> "Rays":
        """Concatenate along a batch axis `dim` (not negative)."""
        if not rays or dim < 0:
            raise ValueError(f"cat: expected at least one Rays and dim >= 0, got {len(rays)} and dim={dim}")
        return Rays(
            *(
                torch.cat([getattr(r, n) for r in rays], dim)
                for n in ("direction", "moment", "frame", "anchor", "origin")
            )
        )

    def moved(self, rotation: Tensor, translation: Tensor, scale: float = 1.0) -> "Rays":
        """Act by x -> scale R x + t: d -> R d, m -> scale R m + t x R d; the section moves along.

        Raises ValueError for what is no rotation (see `project_to_rotation`), no vector, or not finite.
        """
        rotation = torch.as_tensor(rotation, dtype=self.dtype, device=self.device)
        translation = torch.as_tensor(translation, dtype=self.dtype, device=self.device)
        if rotation.shape != (3, 3) or translation.shape != (3,):
            got = f"{tuple(rotation.shape)}, {tuple(translation.shape)}"
            raise ValueError(f"rotation, translation: expected shapes (3, 3), (3,), got {got}")
        if not bool(torch.isfinite(translation).all()):
            raise ValueError(f"translation: expected finite numbers, got {translation.tolist()}")
        if not 0 < scale < float("inf"):
            raise ValueError(f"scale: expected a positive number, got {scale}")
        rotation = project_to_rotation(rotation)
        direction = self.direction @ rotation.mT
        moment = scale * (self.moment @ rotation.mT) + torch.linalg.cross(translation.expand_as(direction), direction)
        anchor = scale * (self.anchor @ rotation.mT) + translation
        origin = scale * (self.origin @ rotation.mT) + translation
        return Rays(direction, moment, rotation @ self.frame, anchor, origin)

    def check(self, name: str = "rays") -> None:
        """Raise ValueError where a number is not finite, a direction not of unit length, or a frame no rotation with d.

        Rounding and small errors, up to 1e-3, pass.
        """
        for field in ("direction", "moment", "frame", "anchor", "origin"):
            if not bool(torch.isfinite(getattr(self, field)).all()):
                raise ValueError(f"{name}: expected finite numbers, got NaN or infinity in {field}")
        if not self.direction.numel():
            return
        length = self.direction.norm(dim=-1)
        if (length - 1).abs().max() > SLACK:
            off = float(length.flatten()[(length - 1).abs().argmax()])
            raise ValueError(f"{name}: expected directions of unit length, got {off:.4g}")
        if (self.frame[..., 2] - self.direction).abs().max() > SLACK:
            raise ValueError(f"{name}: expected the direction as the last column of every frame")
        identity = torch.eye(3, dtype=self.dtype, device=self.device)
        if (self.frame.mT @ self.frame - identity).abs().max() > SLACK or torch.linalg.det(self.frame).min() < 0:
            raise ValueError(f"{name}: expected frames that are right-handed rotations (e1, e2, d)")

    def point(self, distance: Float[Tensor, "*#batch"]) -> Tensor:
        """Point origin + distance * direction, (*batch, 3)."""
        return self.origin + torch.as_tensor(distance, dtype=self.dtype, device=self.device)[..., None] * self.direction

    def in_section(self, angle: Tensor | float = 0.0, slide: Tensor | float = 0.0) -> "Rays":
        """The same rays with every frame turned by `angle` about d and the anchor slid by `slide` along d."""
        angle = torch.as_tensor(angle, dtype=self.dtype, device=self.device).expand(self.shape)[..., None]
        slide = torch.as_tensor(slide, dtype=self.dtype, device=self.device).expand(self.shape)[..., None]
        e1, e2, d = self.frame.unbind(-1)
        turned = torch.stack([angle.cos() * e1 + angle.sin() * e2, angle.cos() * e2 - angle.sin() * e1, d], -1)
        return Rays(self.direction, self.moment, turned, self.anchor + slide * self.direction, self.origin)
