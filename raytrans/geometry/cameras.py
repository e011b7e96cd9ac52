"""Cameras: pinholes with a lens, a pose and an image size each, kept in float64.

Camera axes are OpenCV's (x right, y down, z forward), poses are world_from_camera, and the centre of the top-left pixel
is (0.5, 0.5). A point p in camera axes is seen at the pixel K (D(p_x / p_z, p_y / p_z), 1), D being the lens.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raytrans.geometry.distortion import Distortion, divided, normalized
from raytrans.geometry.rays import Rays, section_frame
from raytrans.geometry.rigid import project_to_rotation, rigid
from raytrans.shapes import Float


class Cameras:
    """One camera, or a batch that may mix intrinsics, lenses and sizes; indexes and slices like a tensor.

    intrinsics (*batch, 3, 3) in pixels; world_from_camera (*batch, 4, 4) or (*batch, 3, 4); size (H, W) for all or
    (*batch, 2); distortion None, a `Distortion`, or OpenCV's (k1, k2, p1, p2[, k3]); near, far None or z-depths.
    The matrices give the batch shape, () for one camera; what is given once holds for all. Arrays or tensors of any
    real dtype. `.height` and `.width` are ints for one camera, int64 tensors (*batch) for a batch.
    Raises ValueError naming argument, expected and got: wrong shapes, NaN, focal lengths <= 0, left-handed axes,
    rotations off by more than 1e-3 (smaller errors are projected away), sizes below 1, near <= 0, near >= far.
    """

    def __init__(
        self,
        intrinsics: Any,
        world_from_camera: Any,
        size: Any,
        distortion: Any = None,
        near: Any = None,
        far: Any = None,
    ):
        intrinsics, pose = _intrinsics(intrinsics), _pose(world_from_camera)
        try:
            batch = torch.broadcast_shapes(intrinsics.shape[:-2], pose.shape[:-2])
        except RuntimeError as error:
            raise ValueError(
                f"world_from_camera: expected batch shape {tuple(intrinsics.shape[:-2])} like intrinsics, got "
                f"{tuple(pose.shape[:-2])}"
            ) from error
        if distortion is not None and not isinstance(distortion, Distortion):
            distortion = Distortion("opencv", _float64(distortion, "distortion"))
        self.intrinsics = intrinsics.expand(*batch, 3, 3).clone()
        self.world_from_camera = pose.expand(*batch, 4, 4).clone()
        self.distortion = None if distortion is None else _lens(distortion, batch)
        self.near, self.far = _bounds(near, far, batch)
        self._size = _sizes(size, batch)

    def _replaced(self, **changed: Any) -> "Cameras":
        # parts of checked cameras are neither checked nor projected again: indexing never changes a bit
        other = Cameras.__new__(Cameras)
        other.__dict__.update(self.__dict__, **changed)
        return other

    @property
    def shape(self) -> torch.Size:
        """Batch shape: () for one camera."""
        return self._size.shape[:-1]

    @property
    def height(self) -> Any:
        """Rows of the image: an int, or an int64 tensor (*batch)."""
        return self._size[..., 0] if self.shape else int(self._size[0])

    @property
    def width(self) -> Any:
        """Columns of the image: an int, or an int64 tensor (*batch)."""
        return self._size[..., 1] if self.shape else int(self._size[1])

    @property
    def centers(self) -> Float[Tensor, "*batch 3"]:
        """Camera centres in the world."""
        return self.world_from_camera[..., :3, 3]

    @property
    def forward(self) -> Float[Tensor, "*batch 3"]:
        """Unit optical axes in the world."""
        return self.world_from_camera[..., :3, 2]

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("one camera has no length; Cameras.stack([camera]) makes a batch of it")
        return self.shape[0]

    def __iter__(self) -> Iterator["Cameras"]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: Any) -> "Cameras":
        """Int, slice (also backwards), list, array, mask or tensor of indices on the first batch axis."""
        if not self.shape:
            raise IndexError("one camera cannot be indexed; Cameras.stack([camera]) makes a batch of it")
        if index is None or index is Ellipsis or isinstance(index, tuple):
            raise IndexError(f"cameras: expected an index of the first batch axis, got {index!r}")
        if isinstance(index, slice) and index.step is not None and index.step < 0:
            index = list(range(len(self))[index])
        if isinstance(index, (list, np.ndarray)):
            index = torch.as_tensor(index) if len(index) else torch.zeros(0, dtype=torch.int64)
        return self._replaced(**{name: v[index] for name, v in self.__dict__.items() if v is not None})

    def __repr__(self) -> str:
        sizes = [f"{h}x{w}" for h, w in self._size.reshape(-1, 2).unique(dim=0).tolist()]
        text = ", ".join(sizes[:4]) + (", ..." if len(sizes) > 4 else "")
        lens = "" if self.distortion is None else f", {self.distortion.model}"
        return f"Cameras(shape={tuple(self.shape)}, {text}{lens})"

    @staticmethod
    def stack(cameras: "Sequence[Cameras]") -> "Cameras":
        """Join cameras of one batch shape on a new first axis; sizes may differ.

        near and far are kept where all have them. No lens counts as an opencv lens of zeros. Raises ValueError for no
        cameras, different batch shapes, and for a fisheye among others.
        """
        cameras = list(cameras)
        if not cameras:
            raise ValueError("cameras: expected at least one to stack, got none")
        if len({camera.shape for camera in cameras}) > 1:
            raise ValueError(f"cameras: expected one batch shape, got {[tuple(c.shape) for c in cameras]}")
        joined: dict[str, Any] = {"distortion": Distortion.stack([camera.distortion for camera in cameras])}
        for name in ("intrinsics", "world_from_camera", "_size", "near", "far"):
            parts = [getattr(camera, name) for camera in cameras]
            joined[name] = None if any(part is None for part in parts) else torch.stack(parts)
        return cameras[0]._replaced(**joined)

    def detach(self) -> "Cameras":
        """The same cameras, without the graph that their numbers may come from."""
        return self._replaced(**{name: v.detach() for name, v in self.__dict__.items() if v is not None})

    def moved(self, rotation: Any, translation: Any, scale: Any = 1.0) -> "Cameras":
        """Act by x -> scale R x + t: poses (R R_c, scale R c + t), near and far times scale, images unchanged.

        rotation (3, 3), translation (3,), scale (), or one of each per camera; ValueError for anything else.
        """
        rotation = project_to_rotation(_shaped(_float64(rotation, "rotation"), (3, 3), "rotation"))
        translation = _shaped(_float64(translation, "translation"), (3,), "translation")
        scale = _float64(scale, "scale")
        if not bool((scale > 0).all()):
            raise ValueError(f"scale: expected a positive number, got {scale.tolist()}")
        batches = {"rotation": rotation.shape[:-2], "translation": translation.shape[:-1], "scale": scale.shape}
        for name, batch in batches.items():
            if batch not in ((), self.shape):
                raise ValueError(f"{name}: expected one, or one per camera {tuple(self.shape)}, got {tuple(batch)}")
        centers = scale[..., None] * torch.einsum("...ij,...j->...i", rotation, self.centers) + translation
        near, far = (None if v is None else scale * v for v in (self.near, self.far))
        pose = rigid(rotation @ self.world_from_camera[..., :3, :3], centers)
        return self._replaced(world_from_camera=pose, near=near, far=far)

    def rolled(self, angle: Any) -> "Cameras":
        """Turned about the optical axis by `angle` radians, x axis towards y; pixel grid, lens and centre stay."""
        angle = _float64(angle, "angle")
        c, s, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
        turn = torch.stack([c, -s, zero, s, c, zero, zero, zero, zero + 1], -1).unflatten(-1, (3, 3))
        return self._replaced(world_from_camera=rigid(self.world_from_camera[..., :3, :3] @ turn, self.centers))

    def resized(self, height: Any, width: Any) -> "Cameras":
        """Cameras of the images resampled to (height, width): K -> diag(W'/W, H'/H, 1) K, the exact ratio per axis."""
        size = self._new_size(height, width)
        ratio = (size.double() / self._size).flip(-1)
        rows = torch.cat([ratio, torch.ones_like(ratio[..., :1])], -1)
        return self._replaced(intrinsics=rows[..., None] * self.intrinsics, _size=size)

    def cropped(self, top: Any, left: Any, height: Any, width: Any) -> "Cameras":
        """Cameras of the window image[top:top+height, left:left+width]; it may reach beyond the image."""
        corner = torch.zeros_like(self.intrinsics)
        corner[..., 0, 2], corner[..., 1, 2] = _float64(left, "left"), _float64(top, "top")
        return self._replaced(intrinsics=self.intrinsics - corner, _size=self._new_size(height, width))

    def _new_size(self, height: Any, width: Any) -> Tensor:
        height, width = torch.broadcast_tensors(_float64(height, "height"), _float64(width, "width"))
        return _sizes(torch.stack([height, width], -1), self.shape)

    def quarter_turned(self, k: int = 1) -> "Cameras":
        """Cameras rolled with their images turned by torch.rot90(image, k, dims=(0, 1)): the same rays.

        One turn takes the pixel (u, v) to (v, W - u) and the camera axes (x, y) to (y, -x), lens included; all section
        frames turn by +90 degrees. Raises ValueError for skewed pixels, whose turned K is not upper triangular.
        """
        if k % 4 and bool((self.intrinsics[..., 0, 1] != 0).any()):
            raise ValueError("intrinsics: expected no skew in cameras to be turned, got K[0, 1] other than 0")
        turned = self
        for _ in range(k % 4):
            turned = turned._quarter_turn()
        return turned

    def _quarter_turn(self) -> "Cameras":
        zero, one = torch.zeros_like(self.intrinsics[..., 0, 0]), torch.ones_like(self.intrinsics[..., 0, 0])
        (fx, _, cx), (_, fy, cy), _ = (row.unbind(-1) for row in self.intrinsics.unbind(-2))
        rows = [fy, zero, cy, zero, fx, self._size[..., 1] - cx, zero, zero, one]
        x, y, z = self.world_from_camera[..., :3, :3].unbind(-1)
        return self._replaced(
            intrinsics=torch.stack(rows, -1).unflatten(-1, (3, 3)),
            world_from_camera=rigid(torch.stack([y, -x, z], -1), self.centers),
            distortion=None if self.distortion is None else self.distortion.quarter_turned(),
            _size=self._size.flip(-1),
        )

    def rays(self) -> Rays:
        """Rays (H, W) through the pixel centres of one camera, float64; see `pixel_rays`."""
        if self.shape:
            raise ValueError(f"rays: expected one camera, got a batch {tuple(self.shape)}; index it first")
        y, x = (torch.arange(n, dtype=torch.float64) + 0.5 for n in self._size.tolist())
        return self.pixel_rays(torch.stack(torch.meshgrid(x, y, indexing="xy"), -1))

    def pixel_rays(self, pixels: Any) -> Rays:
        """Rays through pixel coordinates (x, y): (..., 2) of one camera, (*batch, ..., 2) of a batch; float64.

        d = R_c D^-1(K^-1 (x, y, 1)) at unit length, from the camera centre, in the minimal-rotation section.
        """
        pixels = self._leading(_shaped(_float64(pixels, "pixels"), (2,), "pixels"), "pixels")
        k = self._over(self.intrinsics, 2, pixels)
        y = (pixels[..., 1] - k[..., 1, 2]) / k[..., 1, 1]
        x = (pixels[..., 0] - k[..., 0, 2] - k[..., 0, 1] * y) / k[..., 0, 0]
        if self.distortion is None:
            local = normalized(torch.stack([x, y, torch.ones_like(x)], -1))
        else:
            local = self.distortion.unproject(torch.stack([x, y], -1))
        rotation = self._over(self.world_from_camera[..., :3, :3], 2, pixels)
        # the section of the camera's own axes, carried into the world: it moves with the camera behind its back too
        frame = rotation @ section_frame(torch.eye(3, dtype=torch.float64), local)
        direction = torch.einsum("...ij,...j->...i", rotation, local)
        origin = self._over(self.centers, 1, pixels).expand_as(direction)
        return Rays(direction, torch.linalg.cross(origin, direction), frame, origin)

    def project(self, points: Any) -> tuple[Float[Tensor, "*points 2"], Float[Tensor, "*points"]]:
        """Pixels (..., 2) and z-depths (...) of world points, float64 and differentiable, through the lens.

        Points are (..., 3) for one camera; for a batch (*batch, ..., 3), where axes of length 1 serve all cameras, or
        one (3,). Pixels are finite for finite points and mean nothing where z <= 0, unless the lens is a fisheye.
        """
        points = _shaped(_float64(points, "points", finite=False), (3,), "points")
        points = self._leading(points.reshape(*(1,) * len(self.shape), 3) if points.ndim == 1 else points, "points")
        # the difference comes first: far from the world's origin it keeps digits that R^T p - R^T c would lose
        offset = points - self._over(self.centers, 1, points)
        local = torch.einsum("...ji,...j->...i", self._over(self.world_from_camera[..., :3, :3], 2, points), offset)
        xy = divided(local) if self.distortion is None else self.distortion.project(local)
        k = self._over(self.intrinsics, 2, points)
        return torch.einsum("...ij,...j->...i", k[..., :2, :2], xy) + k[..., :2, 2], local[..., 2]

    def _leading(self, values: Tensor, name: str) -> Tensor:
        """Values (*batch or ones, ..., n) with the batch axes of the cameras in front."""
        lead = tuple(values.shape[: len(self.shape)])
        if values.ndim <= len(self.shape) or any(a not in (1, b) for a, b in zip(lead, self.shape, strict=True)):
            expected = (*self.shape, "...", values.shape[-1])
            raise ValueError(f"{name}: expected shape {expected} or 1 for a camera axis, got {tuple(values.shape)}")
        return values.expand(*self.shape, *values.shape[len(self.shape) :])

    def _over(self, values: Tensor, own: int, points: Tensor) -> Tensor:
        """Values (*batch, own axes) with axes of length 1 put in to broadcast over points (*batch, ..., n)."""
        between = (1,) * (points.ndim - 1 - len(self.shape))
        return values.reshape(*self.shape, *between, *values.shape[values.ndim - own :])


def _float64(value: Any, name: str, finite: bool = True) -> Tensor:
    """Anything numeric, also a list of arrays or tensors, as a float64 tensor that keeps its graph."""
    try:
        if isinstance(value, (list, tuple)) and value and all(isinstance(v, Tensor) for v in value):
            value = torch.stack(list(value))
        tensor = torch.as_tensor(value if isinstance(value, Tensor) else np.array(value, dtype=np.float64))
        if tensor.is_complex():
            raise TypeError("complex numbers")
        tensor = tensor.to(dtype=torch.float64, device="cpu")
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name}: expected an array of real numbers, got {type(value).__name__} ({error})") from error
    if finite and not bool(torch.isfinite(tensor).all()):
        raise ValueError(f"{name}: expected finite numbers, got NaN or infinity")
    return tensor


def _shaped(value: Tensor, last: tuple[int, ...], name: str) -> Tensor:
    if tuple(value.shape[-len(last) :]) != last:
        wanted = ", ".join(["...", *map(str, last)])
        raise ValueError(f"{name}: expected shape ({wanted}), got {tuple(value.shape)}")
    return value


def _intrinsics(value: Any) -> Tensor:
    k = _shaped(_float64(value, "intrinsics"), (3, 3), "intrinsics")
    focal = torch.stack([k[..., 0, 0], k[..., 1, 1]])
    if not bool((focal > 0).all()):
        raise ValueError(f"intrinsics: expected positive focal lengths, got {float(focal.min()):g}")
    rest = torch.stack([k[..., 1, 0], k[..., 2, 0], k[..., 2, 1], k[..., 2, 2] - 1])
    if not bool((rest.abs() < 1e-6).all()):
        got = k.reshape(-1, 3, 3)[0].tolist()
        raise ValueError(
            f"intrinsics: expected [[fx, skew, cx], [0, fy, cy], [0, 0, 1]] in pixels, got entries like {got}"
        )
    return k


def _pose(value: Any) -> Tensor:
    pose = _float64(value, "world_from_camera")
    if pose.ndim < 2 or tuple(pose.shape[-2:]) not in ((3, 4), (4, 4)):
        raise ValueError(f"world_from_camera: expected shape (..., 4, 4) or (..., 3, 4), got {tuple(pose.shape)}")
    bottom = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=torch.float64)
    if pose.shape[-2] == 4 and not bool(((pose[..., 3, :] - bottom).abs() < 1e-6).all()):
        got = pose[..., 3, :].reshape(-1, 4)[0].tolist()
        raise ValueError(f"world_from_camera: expected the last row 0 0 0 1, got {got}; is the matrix transposed?")
    return rigid(project_to_rotation(pose[..., :3, :3], name="world_from_camera"), pose[..., :3, 3])


def _sizes(value: Any, batch: torch.Size) -> Tensor:
    size = _float64(value, "size")
    if size.shape != (2,) and tuple(size.shape) != (*batch, 2):
        raise ValueError(f"size: expected (H, W) or shape {(*batch, 2)}, got {tuple(size.shape)}")
    if not bool(((size >= 1) & (size == size.round())).all()):
        raise ValueError(f"size: expected whole numbers of at least 1, got {size.tolist()}")
    return size.long().expand(*batch, 2)


def _lens(lens: Distortion, batch: torch.Size) -> Distortion:
    count = lens.coefficients.shape[-1]
    if lens.shape not in (torch.Size(), batch):
        expected = f"{(count,)} or {(*batch, count)}"
        raise ValueError(f"distortion: expected shape {expected}, got {tuple(lens.coefficients.shape)}")
    return lens.to(torch.float64, "cpu").expand(*batch)


def _bounds(near: Any, far: Any, batch: torch.Size) -> tuple[Tensor | None, Tensor | None]:
    values: list[Tensor | None] = [None, None]
    for i, (name, given) in enumerate((("near", near), ("far", far))):
        if given is None:
            continue
        value = _float64(given, name, finite=False)
        if value.shape not in (torch.Size(), batch):
            raise ValueError(f"{name}: expected one number or shape {tuple(batch)}, got {tuple(value.shape)}")
        # an infinite far is no bound; NaN fails every comparison
        if not bool((value > 0).all()) or (name == "near" and not bool(torch.isfinite(value).all())):
            raise ValueError(f"{name}: expected positive z-depths, got {value.tolist()}")
        values[i] = value.expand(batch).clone()
    if values[0] is not None and values[1] is not None and not bool((values[0] < values[1]).all()):
        raise ValueError(f"near: expected near < far, got near {values[0].tolist()} and far {values[1].tolist()}")
    return values[0], values[1]
