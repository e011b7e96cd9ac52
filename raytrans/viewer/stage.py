"""The frame in which a browser draws, and what its camera is in the world.

A browser draws in float32 with z up, near its origin. The stage is the world turned upright, with the middle of the
cameras in the origin and their distance from what they look at as the unit: it moves with the world, whatever the frame
and the scale of the poses.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from raytrans.data.images import bounded_size
from raytrans.geometry.cameras import Cameras
from raytrans.geometry.conversions import quaternion
from raytrans.geometry.paths import focus, up_direction
from raytrans.geometry.rigid import Similarity, rigid, rotation_from_quaternion
from raytrans.shapes import Float

ROWS = 256  # cameras compared with all others at a time
LARGEST_CANVAS = 16384  # pixels; no browser has more


@dataclass(frozen=True)
class Eye:
    """The camera of a browser: pose in the stage (OpenCV axes), vertical field of view in radians, canvas in pixels.

    Raises ValueError for numbers that make no camera.
    """

    wxyz: tuple[float, ...]
    position: tuple[float, ...]
    fov: float
    width: int
    height: int

    @classmethod
    def of(cls, camera: Cameras, width: int, height: int, fov: float | None = None) -> "Eye":
        """A browser that looks from a camera of the stage, by default with its vertical field of view."""
        wxyz, position = browser_pose(camera)
        fov = field_of_view(camera) if fov is None else fov
        return cls(tuple(wxyz.tolist()), tuple(position.tolist()), fov, width, height)

    def __post_init__(self):
        numbers = [*self.wxyz, *self.position, self.fov]
        if len(self.wxyz) != 4 or len(self.position) != 3 or not all(map(math.isfinite, numbers)):
            raise ValueError(f"eye: expected a quaternion, a position and an angle, got {numbers}")
        if not any(self.wxyz):
            raise ValueError("eye: expected a quaternion of positive length, got length 0")
        if not 0 < self.fov < math.pi:
            raise ValueError(f"eye: expected a field of view between 0 and pi, got {self.fov}")
        if not (0 < self.width <= LARGEST_CANVAS and 0 < self.height <= LARGEST_CANVAS):
            raise ValueError(f"eye: expected a canvas of pixels, got {self.width}x{self.height}")


@dataclass(frozen=True)
class Stage:
    """Where things of the world are drawn; `from_world` takes points of the world there."""

    from_world: Similarity

    @classmethod
    def of(cls, cameras: Cameras) -> "Stage":
        """The stage of a rig: z up, y as the middle camera looks, lengths over the distance of what it looks at."""
        centers = cameras.centers
        middle = centers.mean(0)
        up = up_direction(cameras)
        distance = float((focus(cameras) - centers).norm(dim=-1).median())
        across = _across(cameras, middle_camera(cameras), up)
        rotation = torch.stack([across, torch.linalg.cross(up, across), up])
        unit = Similarity(rotation, torch.zeros(3, dtype=torch.float64), 1 / distance if distance > 0 else 1.0)
        return cls(replace(unit, translation=-unit.linear_apply(middle)))

    @property
    def scale(self) -> float:
        """Lengths of the stage over those of the world."""
        return float(self.from_world.scale)

    def placed(self, cameras: Cameras) -> Cameras:
        """World cameras as the browser draws them."""
        move = self.from_world
        return cameras.moved(move.rotation, move.translation, move.scale)

    def camera(self, eye: Eye, side: int, near: float | None = None, far: float | None = None) -> Cameras:
        """The world camera of a browser, with a long side of at most `side` pixels; bounds of z-depth in the world.

        The canvas is resampled, so that the picture fills it exactly, whatever rounding does to its shape.
        """
        focal = 0.5 * eye.height / math.tan(0.5 * eye.fov)
        intrinsics = [[focal, 0, 0.5 * eye.width], [0, focal, 0.5 * eye.height], [0, 0, 1]]
        wxyz = torch.tensor(eye.wxyz, dtype=torch.float64)
        pose = rigid(rotation_from_quaternion(wxyz / wxyz.norm()), torch.tensor(eye.position, dtype=torch.float64))
        bounds = (None if bound is None else bound * self.scale for bound in (near, far))
        back = self.from_world.inverse()
        whole = Cameras(intrinsics, pose, (eye.height, eye.width), None, *bounds)
        world = whole.moved(back.rotation, back.translation, back.scale)
        return world.resized(*bounded_size(eye.height, eye.width, side))


def distances(cameras: Cameras) -> Iterator[Tensor]:
    """Distances between all places, (n, n), some rows at a time; exactly 0 from a place to itself."""
    for some in cameras.centers.split(ROWS):
        yield torch.cdist(some, cameras.centers, compute_mode="donot_use_mm_for_euclid_dist")


def middle_camera(cameras: Cameras) -> int:
    """Index of the camera nearest to all others, from where most of a scene is seen."""
    return int(torch.cat([apart.sum(-1) for apart in distances(cameras)]).argmin())


def browser_pose(camera: Cameras) -> tuple[Tensor, Tensor]:
    """Quaternion (w, x, y, z) and position of one camera of the stage."""
    return quaternion(camera.world_from_camera[:3, :3]), camera.centers


def field_of_view(camera: Cameras) -> float:
    """Vertical field of view in radians of one camera, as if its axis met the middle of the image."""
    return 2 * math.atan(0.5 * float(camera.height) / float(camera.intrinsics[1, 1]))


def _across(cameras: Cameras, index: int, up: Tensor) -> Float[Tensor, "3"]:
    """The level direction to the right of one camera; where it looks straight up or down that of its x axis."""
    pose = cameras.world_from_camera[index]
    right = torch.linalg.cross(pose[:3, 2], up)
    if float(right.norm()) < 1e-6:
        right = pose[:3, 0] - (pose[:3, 0] @ up) * up
    return right / right.norm()
