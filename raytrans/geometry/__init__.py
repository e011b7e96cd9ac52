"""Rigid motions, rays, cameras and their paths, and the geometry between pairs of rays, points and directions."""

from raytrans.geometry.conversions import (
    from_colmap,
    from_opengl,
    from_pytorch3d,
    to_colmap,
    to_opengl,
    to_pytorch3d,
)
from raytrans.geometry.paths import focus, interpolated, look_at, orbit, spiral

__all__ = [
    "focus",
    "from_colmap",
    "from_opengl",
    "from_pytorch3d",
    "interpolated",
    "look_at",
    "orbit",
    "spiral",
    "to_colmap",
    "to_opengl",
    "to_pytorch3d",
]
