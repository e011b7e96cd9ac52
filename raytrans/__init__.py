"""SE(3)-equivariant rendering in ray space: posed images in, novel views and depth out.

>>> import raytrans
>>> scene = raytrans.open_scene("scenes/blocks")
>>> camera = scene.cameras[0]
>>> views = scene.views(scene.nearest(camera, 8, exclude=[0]))
>>> out = raytrans.render(raytrans.load(), sources=views, camera=camera)
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from raytrans.api import (
        Cameras,
        DepthPrior,
        FieldType,
        RayAttention,
        RayConvolution,
        Rays,
        Views,
        encode,
        equivariance_error,
        estimate_depth,
        load,
        load_priors,
        open_scene,
        render,
        render_rays,
        save_pretrained,
        trace,
    )

__version__ = "0.1.0"
__all__ = [
    "Cameras",
    "DepthPrior",
    "FieldType",
    "RayAttention",
    "RayConvolution",
    "Rays",
    "Views",
    "encode",
    "equivariance_error",
    "estimate_depth",
    "load",
    "load_priors",
    "open_scene",
    "render",
    "render_rays",
    "save_pretrained",
    "trace",
]


def __getattr__(name: str) -> object:
    """The first name that is asked for brings all of them, and torch, which `raytrans --help` can do without."""
    if not name.startswith("_"):
        public = importlib.import_module("raytrans.api")
        globals().update({one: getattr(public, one) for one in __all__})
    if name not in globals():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
