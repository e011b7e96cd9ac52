"""Images with cameras: views, readers of captures, choice of sources, generated scenes."""

from raytrans.data.points import SparsePoints
from raytrans.data.priors import DepthPrior
from raytrans.data.readers import open_scene
from raytrans.data.scene import Frame, Scene
from raytrans.data.selection import nearest
from raytrans.data.views import Views

__all__ = ["DepthPrior", "Frame", "Scene", "SparsePoints", "Views", "nearest", "open_scene"]
