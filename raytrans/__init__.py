"""SE(3)-equivariant rendering in ray space: posed images in, novel views and depth out.

>>> import raytrans
>>> scene = raytrans.open_scene("scenes/blocks")
>>> camera = scene.cameras[0]
>>> views = scene.views(scene.nearest(camera, 8, exclude=[0]))
>>> out = raytrans.render(raytrans.load(), sources=views, camera=camera)
"""

from raytrans.data.readers import open_scene
from raytrans.data.views import Views
from raytrans.equivariance import equivariance_error
from raytrans.fields.types import FieldType
from raytrans.geometry.cameras import Cameras
from raytrans.geometry.rays import Rays
from raytrans.layers.attention import RayAttention
from raytrans.layers.convolution import RayConvolution
from raytrans.rendering.depth import estimate_depth
from raytrans.rendering.synthesis import encode, render, render_rays, trace
from raytrans.training.checkpoint import load

__version__ = "0.1.0"
__all__ = [
    "Cameras",
    "FieldType",
    "RayAttention",
    "RayConvolution",
    "Rays",
    "Views",
    "encode",
    "equivariance_error",
    "estimate_depth",
    "load",
    "open_scene",
    "render",
    "render_rays",
    "trace",
]
