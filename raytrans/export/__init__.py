"""What is written to disk: cameras for other programs, images, depth, clouds and meshes."""

from raytrans.export.colmap import write_colmap, write_colmap_scene
from raytrans.export.files import write_transforms
from raytrans.export.transforms import write_transforms_scene

__all__ = ["write_colmap", "write_colmap_scene", "write_transforms", "write_transforms_scene"]
