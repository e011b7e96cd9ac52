"""Rigid motions, rays, cameras and their paths, and the geometry between pairs of rays, points and directions."""

from raytrans.geometry.cameras import Cameras
from raytrans.geometry.conversions import (
    from_colmap,
    from_kornia,
    from_opengl,
    from_pytorch3d,
    from_pytorch3d_cameras,
    to_colmap,
    to_kornia,
    to_opengl,
    to_pytorch3d,
    to_pytorch3d_cameras,
)
from raytrans.geometry.distortion import Distortion
from raytrans.geometry.pairs import RayPairs, angle, distance, feet, reciprocal_product
from raytrans.geometry.paths import focus, interpolate, interpolated, look_at, orbit, spiral, wander
from raytrans.geometry.rays import Rays, section_frame, section_from_axis
from raytrans.geometry.rigid import (
    Similarity,
    minimal_rotation,
    project_to_rotation,
    random_rotation,
    rotation_from_axis_angle,
)

__all__ = [
    "Cameras",
    "Distortion",
    "RayPairs",
    "Rays",
    "Similarity",
    "angle",
    "distance",
    "feet",
    "focus",
    "from_colmap",
    "from_kornia",
    "from_opengl",
    "from_pytorch3d",
    "from_pytorch3d_cameras",
    "interpolate",
    "interpolated",
    "look_at",
    "minimal_rotation",
    "orbit",
    "project_to_rotation",
    "random_rotation",
    "reciprocal_product",
    "rotation_from_axis_angle",
    "section_frame",
    "section_from_axis",
    "spiral",
    "to_colmap",
    "to_kornia",
    "to_opengl",
    "to_pytorch3d",
    "to_pytorch3d_cameras",
    "wander",
]
