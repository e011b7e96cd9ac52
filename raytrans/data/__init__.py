"""Images with cameras: views, readers of captures, choice of sources, generated scenes."""

from raytrans.data.selection import nearest
from raytrans.data.views import Views

__all__ = ["Views", "nearest"]
