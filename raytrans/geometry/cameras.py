"""Pinhole cameras with lens distortion: intrinsics in pixels, poses as world_from_camera, OpenCV axes, float64."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from raytrans.geometry.distortion import Distortion
from raytrans.geometry.rays import Rays, section_frame
from raytrans.geometry.rigid import project_to_rotation, rigid

Array = Tensor | np.ndarray | Sequence


class Cameras:
    """One camera or a batch of them, each with its own intrinsics and size; indexes and slices like a tensor.

    intrinsics (*batch, 3, 3) in pixels, the centre of the top-left pixel being (0.5, 0.5); world_from_camera
    (*batch, 4, 4) or (*batch, 3, 4), camera axes x right, y down, z forward; size (H, W) for all or (*batch, 2);
    distortion None, a `Distortion`, or OpenCV's (k1, k2, p1, p2[, k3]) as (*batch, 4 or 5) or shared; near, far None or
    z-depths (*batch) or shared. Arrays or tensors of any float dtype, kept in float64.
    `.height`, `.width` are ints for one camera, long tensors (*batch) for a batch.
    Raises ValueError, naming argument, expected and got, for wrong shapes, NaN, focal lengths <= 0, rotations off by more
    than 1e-3 (smaller errors are projected away), left-handed axes, sizes below 1, near <= 0 or near >= far.
    """

    def __init__(self, intrinsics: Array, world_from_camera: Array, size, distortion=None, near=None, far=None):
        self.intrinsics = _matrix("intrinsics", intrinsics, (3, 3))
        batch = self.intrinsics.shape[:-2]
        pose = _matrix("world_from_camera", world_from_camera, (3, 4), (4, 4))
        if pose.shape[:-2] != batch:
            raise ValueError(
                f"world_from_camera: expected batch shape {tuple(batch)} like intrinsics, got {tuple(pose.shape[:-2])}"
            )
        _check_intrinsics(self.intrinsics)
        _check_bottom_row(pose)
        rotation = project_to_rotation(pose[..., :3, :3], name="world_from_camera")
        self.world_from_camera = rigid(rotation, pose[..., :3, 3])
        self.height, self.width = _sizes(size, batch)
        self.distortion = _distortion(distortion, batch)
        self.near, self.far = _bounds(near, far, batch)

    @classmethod
    def _assembled(cls, intrinsics, world_from_camera, height, width, distortion, near, far) -> "Cameras":
        """Parts that were checked before."""
        new = cls.__new__(cls)
        if intrinsics.ndim == 2:
            height, width = int(height), int(width)
        new.intrinsics, new.world_from_camera, new.height, new.width = intrinsics, world_from_camera, height, width
        new.distortion, new.near, new.far = distortion, near, far
        return new

    def _replaced(self, **changes) -> "Cameras":
        names = ("intrinsics", "world_from_camera", "height", "width", "distortion", "near", "far")
        return Cameras._assembled(**{n: changes.get(n, getattr(self, n)) for n in names})

    @property
    def shape(self) -> torch.Size:
        """Batch shape: () for one camera."""
        return self.intrinsics.shape[:-2]

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("one camera has no length")
        return self.shape[0]

    def __iter__(self) -> Iterator["Cameras"]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index) -> "Cameras":
        if not self.shape:
            raise IndexError("one camera cannot be indexed")
        index = torch.as_tensor(index) if isinstance(index, (list, np.ndarray)) else index
        if isinstance(index, Tensor) and index.numel() == 0:
            index = index.long()
        parts = (None if v is None else v[index] for v in (self.distortion, self.near, self.far))
        return Cameras._assembled(
            self.intrinsics[index], self.world_from_camera[index], self.height[index], self.width[index], *parts
        )

    def __repr__(self) -> str:
        if not self.shape:
            return f"Cameras(one of {self.height}x{self.width})"
        sizes = sorted(set(zip(self.height.flatten().tolist(), self.width.flatten().tolist(), strict=True)))
        return f"Cameras({tuple(self.shape)}, sizes={sizes})"

    @staticmethod
    def stack(cameras: Sequence["Cameras"]) -> "Cameras":
        """A batch (N,) of single cameras; bounds are kept where all have them, lenses must be of one model."""
        if not cameras:
            raise ValueError("cameras: expected at least one to stack, got none")
        lenses = [c.distortion for c in cameras]
        models = {d.model for d in lenses if d is not None}
        if len(models) > 1:
            raise ValueError(f"distortion: expected one lens model in a batch, got {', '.join(sorted(models))}")
        lens = None
        if models:
            width = next(d.coefficients.shape[-1] for d in lenses if d is not None)
            zero = torch.zeros(width, dtype=torch.float64)
            # zero coefficients are no distortion only for the polynomial; for the fisheye they are the equidistant lens
            if "fisheye" in models and any(d is None for d in lenses):
                raise ValueError("distortion: expected a lens for every camera of a fisheye batch, got some without")
            lens = Distortion(models.pop(), torch.stack([zero if d is None else d.coefficients for d in lenses]))

        def bound(name: str) -> Tensor | None:
            values = [getattr(c, name) for c in cameras]
            return None if any(v is None for v in values) else torch.stack(values)

        return Cameras._assembled(
            torch.stack([c.intrinsics for c in cameras]),
            torch.stack([c.world_from_camera for c in cameras]),
            torch.tensor([c.height for c in cameras]),
            torch.tensor([c.width for c in cameras]),
            lens,
            bound("near"),
            bound("far"),
        )

    @property
    def centers(self) -> Float[Tensor, "*batch 3"]:
        """Camera centres in the world."""
        return self.world_from_camera[..., :3, 3]

    @property
    def forward(self) -> Float[Tensor, "*batch 3"]:
        """Unit optical axes in the world."""
        return self.world_from_camera[..., :3, 2]

    def moved(self, rotation: Array, translation: Array, scale: float = 1.0) -> "Cameras":
        """Cameras of the world moved by x -> scale R x + t: the same images, near and far scaled."""
        rotation = project_to_rotation(_matrix("rotation", rotation, (3, 3)))
        translation = torch.as_tensor(translation).double()
        if not (float(scale) > 0 and np.isfinite(float(scale))):
            raise ValueError(f"scale: expected a positive number, got {scale}")
        turned = rotation @ self.world_from_camera[..., :3, :3]
        centers = float(scale) * (rotation @ self.centers[..., None])[..., 0] + translation
        near, far = (None if v is None else float(scale) * v for v in (self.near, self.far))
        return self._replaced(world_from_camera=rigid(turned, centers), near=near, far=far)

    def resized(self, height: int, width: int) -> "Cameras":
        """Cameras of images resampled to (height, width): intrinsics scaled by the exact ratio of each axis."""
        if not (height >= 1 and width >= 1):
            raise ValueError(f"size: expected at least 1x1, got {height}x{width}")
        h, w = (torch.as_tensor(v, dtype=torch.float64) for v in (self.height, self.width))
        one = torch.ones_like(h)
        ratio = torch.stack([width / w, height / h, one], -1)
        full = torch.full_like(torch.as_tensor(self.height), 1)
        return self._replaced(intrinsics=ratio[..., :, None] * self.intrinsics, height=full * height, width=full * width)

    def cropped(self, top: int, left: int, height: int, width: int) -> "Cameras":
        """Cameras of the window image[top:top+height, left:left+width]; the window may leave the image."""
        if not (height >= 1 and width >= 1):
            raise ValueError(f"size: expected at least 1x1, got {height}x{width}")
        shift = self.intrinsics.clone()
        shift[..., 0, 2] -= left
        shift[..., 1, 2] -= top
        full = torch.full_like(torch.as_tensor(self.height), 1)
        return self._replaced(intrinsics=shift, height=full * height, width=full * width)

    def quarter_turned(self, k: int = 1) -> "Cameras":
        """Cameras rolled together with their images turned by torch.rot90(image, k, dims=(0, 1)): the same rays.

        For k = 1 the new camera axes are x' = y, y' = -x. Raises ValueError for skewed pixels.
        """
        out = self
        for _ in range(k % 4):
            out = out._turned_once()
        return out

    def _turned_once(self) -> "Cameras":
        k = self.intrinsics
        if bool((k[..., 0, 1] != 0).any()):
            raise ValueError("intrinsics: expected no skew to turn the image by 90 degrees")
        zero, one = torch.zeros_like(k[..., 0, 0]), torch.ones_like(k[..., 0, 0])
        rows = [k[..., 1, 1], zero, k[..., 1, 2], zero, k[..., 0, 0], self.width - k[..., 0, 2], zero, zero, one]
        axes = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]], dtype=torch.float64)
        return self._replaced(
            intrinsics=torch.stack(rows, -1).unflatten(-1, (3, 3)),
            world_from_camera=rigid(self.world_from_camera[..., :3, :3] @ axes, self.centers),
            height=self.width,
            width=self.height,
            distortion=None if self.distortion is None else self.distortion.quarter_turned(),
        )

    def rolled(self, angle: float | Tensor) -> "Cameras":
        """Cameras turned by `angle` radians about their optical axes; pixel grid and intrinsics stay."""
        angle = torch.as_tensor(angle, dtype=torch.float64).expand(self.shape)
        c, s, zero, one = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
        turn = torch.stack([c, -s, zero, s, c, zero, zero, zero, one], -1).unflatten(-1, (3, 3))
        return self._replaced(world_from_camera=rigid(self.world_from_camera[..., :3, :3] @ turn, self.centers))

    def rays(self) -> Rays:
        """Rays (H, W) through the pixel centres of one camera, in its minimal-rotation section, float64."""
        if self.shape:
            raise ValueError(f"rays: expected one camera, got a batch {tuple(self.shape)}; index it first")
        y, x = torch.meshgrid(
            torch.arange(self.height, dtype=torch.float64) + 0.5,
            torch.arange(self.width, dtype=torch.float64) + 0.5,
            indexing="ij",
        )
        return self.pixel_rays(torch.stack([x, y], -1))

    def pixel_rays(self, pixels: Float[Tensor, "... 2"]) -> Rays:
        """Rays through pixel coordinates (x, y): (..., 2) of one camera, (*batch, ..., 2) of a batch."""
        pixels = torch.as_tensor(pixels).double()
        n = len(self.shape)
        if pixels.shape[-1] != 2 or pixels.shape[:n] != self.shape:
            raise ValueError(f"pixels: expected shape {(*self.shape, '...', 2)}, got {tuple(pixels.shape)}")
        between = (1,) * (pixels.ndim - 1 - n)

        def laid(value: Tensor, trailing: int) -> Tensor:
            return value.reshape(*self.shape, *between, *value.shape[value.ndim - trailing :])

        k = laid(self.intrinsics, 2)
        y = (pixels[..., 1] - k[..., 1, 2]) / k[..., 1, 1]
        x = (pixels[..., 0] - k[..., 0, 2] - k[..., 0, 1] * y) / k[..., 0, 0]
        xy = torch.stack([x, y], -1)
        if self.distortion is not None:
            xy = self.distortion.undistort(xy)
        local = torch.cat([xy, torch.ones_like(xy[..., :1])], -1)
        local = local / local.norm(dim=-1, keepdim=True)
        rotation = laid(self.world_from_camera[..., :3, :3].contiguous(), 2)
        direction = (rotation @ local[..., None])[..., 0]
        origin = laid(self.centers.contiguous(), 1).expand_as(direction)
        moment = torch.linalg.cross(origin, direction)
        return Rays(direction, moment, section_frame(rotation, direction), origin)

    def project(self, points: Float[Tensor, "... 3"]) -> tuple[Tensor, Tensor]:
        """Pixels (..., 2) and z-depths (...) of world points, differentiable.

        Points (..., 3) for one camera; for a batch they broadcast against it, as (*batch, ..., 3) or as one (3,) for all.
        Where z <= 0 the pixel is that of the mirrored line and means nothing; check z.
        """
        points = torch.as_tensor(points).double()
        between = (1,) * max(0, points.ndim - 1 - len(self.shape))

        def laid(value: Tensor, trailing: int) -> Tensor:
            return value.reshape(*self.shape, *between, *value.shape[value.ndim - trailing :])

        offset = points - laid(self.centers.contiguous(), 1)
        local = (laid(self.world_from_camera[..., :3, :3].mT.contiguous(), 2) @ offset[..., None])[..., 0]
        z = local[..., 2]
        xy = local[..., :2] / torch.where(z == 0, torch.finfo(z.dtype).tiny, z)[..., None]
        if self.distortion is not None:
            xy = self.distortion.distort(xy)
        k = laid(self.intrinsics, 2)
        u = k[..., 0, 0] * xy[..., 0] + k[..., 0, 1] * xy[..., 1] + k[..., 0, 2]
        v = k[..., 1, 1] * xy[..., 1] + k[..., 1, 2]
        return torch.stack([u, v], -1), z


def _matrix(name: str, value: Array, *shapes: tuple[int, int]) -> Tensor:
    value = torch.as_tensor(value)
    if value.ndim < 2 or tuple(value.shape[-2:]) not in shapes:
        expected = " or ".join(f"(..., {a}, {b})" for a, b in shapes)
        raise ValueError(f"{name}: expected shape {expected}, got {tuple(value.shape)}")
    value = value.detach().double()
    if not bool(torch.isfinite(value).all()):
        raise ValueError(f"{name}: expected finite entries, got NaN or infinity")
    return value


def _check_bottom_row(pose: Tensor) -> None:
    expected = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=torch.float64)
    if pose.shape[-2] == 4 and not bool(((pose[..., 3, :] - expected).abs() < 1e-6).all()):
        raise ValueError("world_from_camera: expected bottom row (0, 0, 0, 1), got another; is the matrix transposed?")


def _check_intrinsics(k: Tensor) -> None:
    focal = torch.stack([k[..., 0, 0], k[..., 1, 1]])
    if not bool((focal > 0).all()):
        raise ValueError(f"intrinsics: expected positive focal lengths, got {focal.min().item():g}")
    rest = torch.stack([k[..., 1, 0], k[..., 2, 0], k[..., 2, 1], k[..., 2, 2] - 1])
    if not bool((rest.abs() < 1e-6).all()):
        raise ValueError("intrinsics: expected [[fx, s, cx], [0, fy, cy], [0, 0, 1]] in pixels, got other entries")


def _sizes(size, batch: torch.Size):
    size = torch.as_tensor(np.asarray(size))
    if size.shape != (2,) and tuple(size.shape) != (*batch, 2):
        raise ValueError(f"size: expected (H, W) or shape {(*batch, 2)}, got shape {tuple(size.shape)}")
    if not bool((size == size.round()).all()) or not bool((size >= 1).all()):
        raise ValueError(f"size: expected whole numbers of at least 1, got {size.tolist()}")
    size = size.long().expand(*batch, 2)
    if not batch:
        return int(size[0]), int(size[1])
    return size[..., 0].clone(), size[..., 1].clone()


def _distortion(value, batch: torch.Size) -> Distortion | None:
    if value is None:
        return None
    lens = value if isinstance(value, Distortion) else Distortion("opencv", torch.as_tensor(value))
    count = lens.coefficients.shape[-1]
    if lens.coefficients.shape[:-1] not in (torch.Size(), batch):
        raise ValueError(
            f"distortion: expected shape {(count,)} or {(*batch, count)}, got {tuple(lens.coefficients.shape)}"
        )
    return Distortion(lens.model, lens.coefficients.double().expand(*batch, count).clone())


def _bounds(near, far, batch: torch.Size) -> tuple[Tensor | None, Tensor | None]:
    values = []
    for name, value in (("near", near), ("far", far)):
        if value is not None:
            value = torch.as_tensor(value).double()
            if value.shape not in (torch.Size(), batch):
                raise ValueError(f"{name}: expected a number or shape {tuple(batch)}, got {tuple(value.shape)}")
            if bool(value.isnan().any()) or not bool((value > 0).all()):
                raise ValueError(f"{name}: expected positive depths, got {value.min().item():g}")
            value = value.expand(batch).clone()
        values.append(value)
    near, far = values
    if near is not None and far is not None and not bool((near < far).all()):
        at = int((near >= far).flatten().float().argmax())
        raise ValueError(
            f"near, far: expected near < far, got near {near.flatten()[at].item():g} and far {far.flatten()[at].item():g}"
        )
    return near, far
