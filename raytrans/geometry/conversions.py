"""Conversions between OpenCV cameras and the conventions of OpenGL, COLMAP, PyTorch3D and kornia.

Inside the package camera axes are x right, y down, z forward and poses are world_from_camera; these functions stand at
its doors. Arrays or tensors of any leading shape come in, float64 tensors go out. Pixels are counted from the corner of
the image, the centre of the first one at (0.5, 0.5), in all these conventions but kornia's, where it is at (0, 0).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raytrans.geometry.cameras import Cameras
from raytrans.geometry.rigid import inverse_rigid, project_to_rotation, rigid
from raytrans.shapes import Float

Array = Tensor | np.ndarray | Sequence

KORNIA_SHIFT = 0.5  # kornia counts pixels from the centre of the first one


def to_opengl(world_from_camera: Array) -> Float[Tensor, "*batch rows 4"]:
    """OpenCV pose to camera axes x right, y up, z backward, as OpenGL, Blender and nerfstudio have it.

    M -> M diag(1, -1, -1, 1), its own inverse; the world frame stays. (..., 4, 4) or (..., 3, 4).
    """
    pose = _expect(world_from_camera, "world_from_camera", (4, 4), (3, 4))
    return pose * pose.new_tensor([1.0, -1.0, -1.0, 1.0])


def from_opengl(world_from_camera: Array) -> Float[Tensor, "*batch rows 4"]:
    """Pose with OpenGL, Blender or nerfstudio camera axes to OpenCV axes; the inverse of `to_opengl`."""
    return to_opengl(world_from_camera)


def to_colmap(world_from_camera: Array) -> tuple[Float[Tensor, "*batch 4"], Float[Tensor, "*batch 3"]]:
    """OpenCV pose to COLMAP's images.txt: qvec = (w, x, y, z) with w >= 0, and tvec, of x_camera = R(q) x_world + t.

    Axes and pixels are those of OpenCV, so intrinsics stay. Raises ValueError for rotations off by more than 1e-3.
    """
    camera_from_world = inverse_rigid(_pose(world_from_camera))
    rotation = camera_from_world[..., :3, :3]
    return quaternion(rotation), camera_from_world[..., :3, 3]


def from_colmap(qvec: Array, tvec: Array) -> Float[Tensor, "*batch 4 4"]:
    """COLMAP's qvec (w, x, y, z), normalised here, and tvec to world_from_camera = [R^T, -R^T t].

    Raises ValueError for a quaternion of length 0.
    """
    qvec, tvec = _expect(qvec, "qvec", (4,)), _expect(tvec, "tvec", (3,))
    length = qvec.norm(dim=-1, keepdim=True)
    if not bool((length > 0).all()):
        raise ValueError("qvec: expected a quaternion (w, x, y, z) of positive length, got length 0")
    w, x, y, z = (qvec / length).unbind(-1)
    rotation = torch.stack(
        [
            torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], -1),
            torch.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], -1),
            torch.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], -1),
        ],
        -2,
    )
    return inverse_rigid(rigid(rotation, tvec))


def to_pytorch3d(intrinsics: Array, world_from_camera: Array, size: Any, in_ndc: bool = True) -> dict[str, Any]:
    """The arguments R, T, focal_length, principal_point, image_size, in_ndc of PyTorch3D's PerspectiveCameras.

    Camera axes are x left, y up, z forward and points are rows: X_camera = X_world R + T, hence with the OpenCV
    camera_from_world (R_c, t_c) and F = diag(-1, -1, 1): R = R_c^T F, T = F t_c. Screen space has focal lengths and
    principal point in pixels as they are; NDC has, with s = min(H, W), f 2/s and -(p - (W, H)/2) 2/s: the shorter
    side spans [-1, 1], x to the left and y up. size (H, W), or (..., 2) with one for each camera, is image_size.
    PyTorch3D wants a leading batch axis. Raises ValueError for skew, which it does not have.
    Source: PyTorch3D, docs/notes/cameras.md.
    """
    k = _expect(intrinsics, "intrinsics", (3, 3))
    camera_from_world = inverse_rigid(_pose(world_from_camera))
    size = _expect(size, "size", (2,)).expand(*k.shape[:-2], 2)
    if not bool((k[..., [0, 1], [1, 0]] == 0).all()):
        raise ValueError("intrinsics: expected no skew, which PyTorch3D's cameras do not have, got a skewed camera")
    focal, principal = k[..., [0, 1], [0, 1]], k[..., [0, 1], [2, 2]]
    if in_ndc:
        focal, principal = _screen_to_ndc(focal, principal, size)
    flip = k.new_tensor([-1.0, -1.0, 1.0])
    return {
        "R": camera_from_world[..., :3, :3].mT * flip,
        "T": camera_from_world[..., :3, 3] * flip,
        "focal_length": focal,
        "principal_point": principal,
        "image_size": size,
        "in_ndc": in_ndc,
    }


def from_pytorch3d(
    R: Array,
    T: Array,
    focal_length: Array,
    principal_point: Array,
    image_size: Any,
    in_ndc: bool = True,
) -> tuple[Float[Tensor, "*batch 3 3"], Float[Tensor, "*batch 4 4"]]:
    """Intrinsics in pixels and OpenCV world_from_camera of a PyTorch3D PerspectiveCameras; inverts `to_pytorch3d`.

    Named like its attributes, so that `from_pytorch3d(**to_pytorch3d(...))` gives back what went in. focal_length
    (..., 2), or (..., 1) for square pixels; image_size (..., 2) as (H, W). Raises ValueError for wrong shapes and
    rotations off by more than 1e-3.
    """
    rotation, translation = _expect(R, "R", (3, 3)), _expect(T, "T", (3,))
    focal = _expect(focal_length, "focal_length", (2,), (1,))
    principal, size = _expect(principal_point, "principal_point", (2,)), _expect(image_size, "image_size", (2,))
    batch = torch.broadcast_shapes(*(v.shape[:-1] for v in (translation, focal, principal, size)))
    focal, principal = focal.expand(*batch, 2), principal.expand(*batch, 2)
    if in_ndc:
        focal, principal = _ndc_to_screen(focal, principal, size)
    flip = rotation.new_tensor([-1.0, -1.0, 1.0])
    turned = project_to_rotation((rotation * flip).mT, name="R").expand(*batch, 3, 3)
    zero, one = torch.zeros_like(focal[..., 0]), torch.ones_like(focal[..., 0])
    rows = [focal[..., 0], zero, principal[..., 0], zero, focal[..., 1], principal[..., 1], zero, zero, one]
    return torch.stack(rows, -1).unflatten(-1, (3, 3)), inverse_rigid(rigid(turned, translation * flip))


def to_pytorch3d_cameras(cameras: Cameras, in_ndc: bool = True, device: Any = "cpu") -> Any:
    """PyTorch3D's PerspectiveCameras, float32 as it has them, of one camera or a batch (N,).

    Its `transform_points_screen` of world points is our `project`. Raises ValueError where PyTorch3D is not installed,
    and for a lens or skew, which it does not have.
    """
    try:
        from pytorch3d.renderer import PerspectiveCameras
    except ImportError as error:
        raise ValueError(f"cameras: PyTorch3D is not installed ({error}); to_pytorch3d needs no library") from error
    cameras = _plain_batch(cameras, "PyTorch3D")
    size = torch.stack([cameras.height, cameras.width], -1)
    arguments = to_pytorch3d(cameras.intrinsics, cameras.world_from_camera, size, in_ndc)
    values = {name: value.float() for name, value in arguments.items() if name != "in_ndc"}
    return PerspectiveCameras(**values, in_ndc=in_ndc, device=device)


def from_pytorch3d_cameras(cameras: Any, image_size: Any = None) -> Cameras:
    """A batch (N,) of cameras from PyTorch3D's PerspectiveCameras, by its attributes; inverts `to_pytorch3d_cameras`.

    image_size: (H, W) where the cameras do not hold it; ValueError where nobody does.
    """
    size = getattr(cameras, "image_size", None) if image_size is None else image_size
    if size is None:
        raise ValueError("image_size: expected (H, W), for these PerspectiveCameras do not hold it, got None")
    names = ("R", "T", "focal_length", "principal_point")
    values = [torch.as_tensor(getattr(cameras, name)).detach().cpu() for name in names]
    count = max(len(value) for value in values)
    size = torch.as_tensor(size).detach().cpu().double().expand(count, 2)
    intrinsics, world_from_camera = from_pytorch3d(*values, size, bool(cameras.in_ndc()))
    return Cameras(intrinsics.expand(count, 3, 3), world_from_camera.expand(count, 4, 4), size=size)


def to_kornia(cameras: Cameras) -> Any:
    """kornia's PinholeCamera, float64, of one camera or a batch (N,).

    Its pixels are counted from the centre of the first one: what it projects is our pixel minus 0.5, and so is its
    principal point. Raises ValueError for cameras with a lens, which it does not know. Source: kornia, conventions.
    """
    from kornia.geometry.camera import PinholeCamera

    cameras = _plain_batch(cameras, "kornia's PinholeCamera")
    intrinsics = torch.eye(4, dtype=torch.float64).repeat(len(cameras), 1, 1)
    intrinsics[:, :3, :3] = cameras.intrinsics
    intrinsics[:, :2, 2] -= KORNIA_SHIFT
    sides = cameras.height.double(), cameras.width.double()
    return PinholeCamera(intrinsics, inverse_rigid(cameras.world_from_camera), *sides)


def from_kornia(camera: Any) -> Cameras:
    """A batch (N,) of cameras from kornia's PinholeCamera; inverts `to_kornia`."""
    intrinsics = camera.intrinsics.detach().cpu().double()[..., :3, :3].clone()
    intrinsics[..., :2, 2] += KORNIA_SHIFT
    pose = inverse_rigid(_pose(camera.extrinsics.detach().cpu()))
    return Cameras(intrinsics, pose, size=torch.stack([camera.height, camera.width], -1).detach().cpu())


def _plain_batch(cameras: Cameras, whose: str) -> Cameras:
    if len(cameras.shape) > 1:
        raise ValueError(f"cameras: expected one camera or a batch (N,), got batch {tuple(cameras.shape)}")
    if cameras.distortion is not None:
        raise ValueError(f"cameras: expected no lens, which {whose} does not know, got {cameras.distortion.model}")
    return cameras if cameras.shape else Cameras.stack([cameras])


def _screen_to_ndc(focal: Tensor, principal: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
    half = 0.5 * size.amin(-1, keepdim=True)
    return focal / half, -(principal - 0.5 * size.flip(-1)) / half


def _ndc_to_screen(focal: Tensor, principal: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
    half = 0.5 * size.amin(-1, keepdim=True)
    return focal * half, 0.5 * size.flip(-1) - principal * half


def quaternion(rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 4"]:
    """The unit (w, x, y, z) of R with w >= 0: the row of 4 q q^T, sums and differences of R's entries, that is longest.

    Accurate at every angle. At a half turn q and -q both have w = 0 and rounding chooses.
    """
    m = rotation
    a, b, c = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    xw, yw, zw = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    xy, xz, yz = m[..., 1, 0] + m[..., 0, 1], m[..., 0, 2] + m[..., 2, 0], m[..., 2, 1] + m[..., 1, 2]
    outer = torch.stack(
        [
            torch.stack([1 + a + b + c, xw, yw, zw], -1),
            torch.stack([xw, 1 + a - b - c, xy, xz], -1),
            torch.stack([yw, xy, 1 - a + b - c, yz], -1),
            torch.stack([zw, xz, yz, 1 - a - b + c], -1),
        ],
        -2,
    )
    largest = outer.diagonal(dim1=-2, dim2=-1).argmax(-1)
    row = outer.gather(-2, largest[..., None, None].expand(*largest.shape, 1, 4))[..., 0, :]
    row = row / row.norm(dim=-1, keepdim=True)
    return torch.where(row[..., :1] < 0, -row, row)


def _pose(world_from_camera: Array) -> Float[Tensor, "*batch 4 4"]:
    pose = _expect(world_from_camera, "world_from_camera", (4, 4), (3, 4))
    return rigid(project_to_rotation(pose[..., :3, :3], name="world_from_camera"), pose[..., :3, 3])


def _expect(value: Any, name: str, *shapes: tuple[int, ...]) -> Tensor:
    """Float64 tensor whose last axes have one of the shapes."""
    value = torch.as_tensor(value).double()
    if all(tuple(value.shape[value.ndim - len(shape) :]) != shape for shape in shapes):
        wanted = " or ".join(f"(..., {', '.join(map(str, shape))})" for shape in shapes)
        raise ValueError(f"{name}: expected shape {wanted}, got {tuple(value.shape)}")
    return value


def axis_angle(rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3"]:
    """log R, of length at most pi; of the two axes of a half turn, the one whose first large component is positive."""
    w, v = quaternion(rotation).split([1, 3], -1)
    large = v.gather(-1, (v.abs() > 0.3).double().argmax(-1, keepdim=True))
    v = torch.where((w < 1e-9) & (large < 0), -v, v)
    sine = v.norm(dim=-1, keepdim=True)
    return v * torch.where(sine > 0, 2 * torch.atan2(sine, w) / sine.clamp_min(1e-300), 2.0)
