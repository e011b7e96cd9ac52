"""Pictures of camera rigs and of epipolar curves, drawn with OpenCV."""

import numpy as np
import torch
from torch import Tensor

from raytrans.export.files import palette_colors
from raytrans.geometry.cameras import Cameras

SIDE, MARGIN = 520, 30
REACH = 0.12  # length of a drawn camera over the size of the rig
CURVE = 200
AGREED = 0.5  # length of the mean of the cameras' unit vectors from which they agree on what is up
FEW, OUTER = 50, 0.02  # fewer points show nothing; share at each end of an axis that would only shrink the picture


def color_of(share: float) -> tuple[int, int, int]:
    """A colour for a share in [0, 1], from dark blue over green to yellow: lighter for everybody."""
    return tuple(palette_colors(np.full((1, 1), share), "VIRIDIS")[0, 0].tolist())


def rig_views(cameras: Cameras, points: Tensor) -> dict[str, np.ndarray]:
    """The rig from the top and from two sides; cameras dark blue to yellow by index.

    points (n, 3) of the scene are drawn grey; those far outside are left out. Pictures are (SIDE, SIDE, 3) uint8.
    """
    up = upwards(cameras)
    offset = cameras.centers - cameras.centers.mean(0)
    flat = offset - (offset @ up)[:, None] * up
    along = torch.linalg.svd(flat, full_matrices=False)[2][0] if len(cameras) > 1 else torch.zeros(3).double()
    along = along - (along @ up) * up
    along = along / along.norm() if along.norm() > 1e-6 else torch.linalg.svd(up[None])[2][1]
    across = torch.linalg.cross(up, along)
    frames = {"from the top": (along, across), "from the side": (along, up), "from the other side": (across, up)}
    return {name: _drawn(cameras, points, torch.stack(axes)) for name, axes in frames.items()}


def upwards(cameras: Cameras) -> Tensor:
    """The mean up of the cameras; where they do not agree, as if lying on their side, what they spread along least."""
    up = -cameras.world_from_camera[:, :3, 1].mean(0)
    if up.norm() > AGREED:
        return up / up.norm()
    least = torch.linalg.svd(cameras.centers - cameras.centers.mean(0), full_matrices=True)[2][2]
    return least if least @ up >= 0 else -least


def _usual(points: Tensor) -> Tensor:
    """Points (m, 3) without those that are among the outermost of any axis."""
    if len(points) < FEW:
        return points[:0]
    low, high = points.quantile(torch.tensor([OUTER, 1 - OUTER], dtype=torch.float64), dim=0)
    return points[((points >= low) & (points <= high)).all(-1)]


def _drawn(cameras: Cameras, points: Tensor, axes: Tensor) -> np.ndarray:
    """Cameras as triangles and points as dots, seen along the normal of two axes (2, 3)."""
    import cv2

    centers = cameras.centers
    middle = centers.median(0).values
    size = (centers - middle).norm(dim=-1).max().clamp_min(1e-12)
    close = _usual(points[(points - middle).norm(dim=-1) < 4 * size])
    corners = _corners(cameras, REACH * size)
    everything = torch.cat([centers, close, corners.reshape(-1, 3)]) @ axes.T
    low, high = everything.min(0).values, everything.max(0).values
    scale = (SIDE - 2 * MARGIN) / (high - low).max().clamp_min(1e-12)
    start = (low + high) / 2

    def place(world: Tensor) -> np.ndarray:
        flat = (world @ axes.T - start) * scale * torch.tensor([1.0, -1.0], dtype=torch.float64) + SIDE / 2
        return flat.round().int().numpy()

    picture = np.full((SIDE, SIDE, 3), 255, np.uint8)
    for x, y in place(close).tolist():
        cv2.circle(picture, (x, y), 1, (170, 170, 170), -1)
    for index in range(len(cameras)):
        color = color_of(index / max(1, len(cameras) - 1))
        center, rim = place(centers[index]), place(corners[index])
        for corner in rim:
            cv2.line(picture, center.tolist(), corner.tolist(), color, 1, cv2.LINE_AA)
        cv2.polylines(picture, [rim.reshape(-1, 1, 2)], True, color, 1, cv2.LINE_AA)
        cv2.circle(picture, center.tolist(), 2, color, -1, cv2.LINE_AA)
    return picture


def _corners(cameras: Cameras, reach: Tensor) -> Tensor:
    """Corners (n, 4, 3) of what cameras see, at a distance."""
    width, height = cameras.width.double(), cameras.height.double()
    zero = torch.zeros_like(width)
    pixels = torch.stack([zero, zero, width, zero, width, height, zero, height], -1).reshape(-1, 4, 2)
    return cameras.centers[:, None] + reach * cameras.pixel_rays(pixels).direction


def epipolar_picture(images: tuple[Tensor, Tensor], cameras: Cameras, pixels: Tensor, depth: Tensor) -> np.ndarray:
    """Two views side by side: matches (n, 2, 2) as dots in both, and in the second the curves of the first's rays.

    cameras: the two; depth (n,): where each match lies along its first ray, so that curves cover what is around it.
    """
    import cv2

    pictures = [(image.numpy() * 255).round().astype(np.uint8).copy() for image in images]
    factors = torch.logspace(-1.5, 1.5, CURVE, dtype=torch.float64)
    rays = cameras[0].pixel_rays(pixels[:, 0])
    for number in range(len(pixels)):
        color = color_of(number / max(1, len(pixels) - 1))
        reach = depth[number].abs() / (rays.direction[number] @ cameras[0].forward).abs().clamp_min(1e-3)
        points = cameras[0].centers + rays.direction[number] * (factors * reach)[:, None]
        curve, z = cameras[1].project(points)
        curve = curve[(z > 0) & (curve.abs() < 4 * max(pictures[1].shape)).all(-1)]
        line = (curve - 0.5).round().int().numpy().reshape(-1, 1, 2)
        if len(line) > 1:
            cv2.polylines(pictures[1], [line], False, color, 1, cv2.LINE_AA)
        for side in (0, 1):
            at = (pixels[number, side] - 0.5).round().int().tolist()
            cv2.circle(pictures[side], at, 5, (255, 255, 255), 2, cv2.LINE_AA)
            cv2.circle(pictures[side], at, 4, color, 2, cv2.LINE_AA)
    height = max(picture.shape[0] for picture in pictures)
    padded = [np.pad(p, ((0, height - p.shape[0]), (0, 4), (0, 0)), constant_values=255) for p in pictures]
    return np.concatenate(padded, axis=1)
