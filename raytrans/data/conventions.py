"""How camera files store poses: which of the two matrices, and along which axes of the camera."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from raytrans.geometry.rigid import inverse_rigid
from raytrans.shapes import Float

# columns: the axes of the file in OpenCV's, x right, y down, z forward
AXES = {
    "OpenCV": torch.eye(3, dtype=torch.float64),
    "OpenGL": torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64)),
    "LLFF": torch.tensor([[0.0, 1, 0], [1, 0, 0], [0, 0, -1]], dtype=torch.float64),
}
DIRECTIONS = ("camera_from_world", "world_from_camera")


@dataclass(frozen=True)
class Convention:
    """Camera axes, a key of AXES, whether the stored matrix is world_from_camera or else its inverse, its numbers.

    numbers: names of quaternion and translation in the order of the file where it holds these; else empty.
    """

    axes: str
    world_from_camera: bool
    numbers: str = ""

    @property
    def direction(self) -> str:
        return DIRECTIONS[self.world_from_camera]

    def stored(self, poses: Float[Tensor, "n 4 4"]) -> Float[Tensor, "n 4 4"]:
        """What a file holds for world_from_camera with OpenCV axes: W A, or (W A)^-1."""
        turned = poses @ self._turn()
        return turned if self.world_from_camera else inverse_rigid(turned)

    def poses(self, stored: Float[Tensor, "n 4 4"]) -> Float[Tensor, "n 4 4"]:
        """The inverse of `stored`."""
        return (stored if self.world_from_camera else inverse_rigid(stored)) @ self._turn().T

    @property
    def scalar_first(self) -> bool:
        """Whether quaternions are written w x y z, not x y z w."""
        names = self.numbers.lower().split()
        return "qw" in names and names.index("qw") < names.index("qx")

    def others(self) -> list["Convention"]:
        """The same direction with the other axes, those of the three that are met most often first."""
        return [replace(self, axes=axes) for axes in AXES if axes != self.axes]

    def inverse(self) -> "Convention":
        return replace(self, world_from_camera=not self.world_from_camera)

    def _turn(self) -> Tensor:
        return torch.block_diag(AXES[self.axes], torch.ones(1, 1, dtype=torch.float64))


COLMAP = Convention("OpenCV", world_from_camera=False)
RGBD = Convention("OpenCV", world_from_camera=True)
# by the module that reads the format
CONVENTIONS = {
    "transforms": Convention("OpenGL", world_from_camera=True),
    "llff": Convention("LLFF", world_from_camera=True),
    "colmap": replace(COLMAP, numbers="QW QX QY QZ TX TY TZ"),
    "idr": COLMAP,
    "mvsnet": COLMAP,
    "middlebury": COLMAP,
    "realestate": COLMAP,
    "rgbd": RGBD,
    "scannet": RGBD,
    "tum": replace(RGBD, numbers="tx ty tz qx qy qz qw"),
}
