"""Depth of a ray from rays of known depth: the task, ray attention with its control arms, a plain transformer."""

from raytrans.systems.raydepth.native import ARMS, NativeRayDepth
from raytrans.systems.raydepth.plain import FRAMES, PlainRayDepth
from raytrans.systems.raydepth.task import RayDepths, draw, error, nearest_point

__all__ = [
    "ARMS",
    "FRAMES",
    "NativeRayDepth",
    "PlainRayDepth",
    "RayDepths",
    "draw",
    "error",
    "nearest_point",
]
