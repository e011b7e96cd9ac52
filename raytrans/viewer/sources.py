"""The source views of a viewer: which of them render a camera, and what the network makes of them, made once."""

import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from raytrans.data.parallax import nearest_with_parallax
from raytrans.data.selection import nearest
from raytrans.data.views import Views
from raytrans.geometry.cameras import Cameras
from raytrans.rendering.renderer import Renderer
from raytrans.rendering.sources import EncodedViews, joined, source_unit
from raytrans.rendering.synthesis import arranged, content_order

KINDS = ("nearest", "pick", "all")
KEPT_VIEWS, KEPT_SETS = 128, 8  # of which features stay in memory
COMMON = 0.5  # share of the wanted views that an earlier set has to hold to do for a coarse picture
RANGE = re.compile(r"(\d+)(?:-(\d+))?")


@dataclass(frozen=True)
class Choice:
    """Which views render: the `count` nearest to the camera, those `picked`, or all."""

    kind: str = "nearest"
    count: int = 8
    picked: tuple[int, ...] = ()


def parse_views(text: str, usable: Sequence[int]) -> tuple[int, ...]:
    """Views from a text like "0, 3, 8-12"; ValueError for anything else, for none, and for one that is not usable."""
    found: set[int] = set()
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = RANGE.fullmatch(part)
        if match is None:
            raise ValueError(f"views: expected numbers like 0, 3, 8-12, got {part!r}")
        first, last = int(match[1]), int(match[2] or match[1])
        missing = next((i for i in (first, last) if i not in usable), None)
        if missing is not None or last < first:
            known = f"{usable[0]} to {usable[-1]}" if usable else "none"
            raise ValueError(f"views: expected source views of the scene ({known}), got {part!r}")
        found |= set(range(first, last + 1)) & set(usable)
    if not found:
        raise ValueError("views: expected at least one, got none")
    return tuple(sorted(found))


class Sources:
    """Encoded source views of a scene, for one model: each view through the encoder once, each set placed once.

    cameras: those of all views, in pixels of the images that load(indices) gives; usable: the views that may render.
    """

    def __init__(
        self, model: Renderer, cameras: Cameras, usable: Sequence[int], load: Callable[[Sequence[int]], Views]
    ):
        if not usable:
            raise ValueError("sources: expected at least one view to render from, got none")
        self.model, self.cameras, self.usable, self.load = model, cameras, tuple(usable), load
        self._views: OrderedDict[int, tuple[Views, EncodedViews]] = OrderedDict()
        self._sets: OrderedDict[tuple[int, ...], EncodedViews] = OrderedDict()

    def chosen(self, camera: Cameras, choice: Choice) -> tuple[int, ...]:
        """The views that render a camera, in order of index."""
        if choice.kind == "pick" and choice.picked:
            return choice.picked
        if choice.kind == "all":
            return self.usable
        return tuple(sorted(nearest(self.cameras, camera, choice.count, self._others(None))))

    def around(self, index: int, count: int) -> tuple[int, ...]:
        """The views that tell the depth of one of them; ValueError where there is no other."""
        return tuple(sorted(nearest_with_parallax(self.cameras, self.cameras[index], count, self._others(index))))

    def _others(self, own: int | None) -> list[int]:
        return [i for i in range(len(self.cameras)) if i not in self.usable or i == own]

    def at_hand(self, wanted: tuple[int, ...]) -> tuple[int, ...]:
        """A set that is placed already and holds half of the wanted views, the latest used; else the wanted one."""
        if wanted in self._sets:
            return wanted
        alike = (known for known in reversed(self._sets) if len(set(known) & set(wanted)) >= COMMON * len(wanted))
        return next(alike, wanted)

    def placed(self, indices: tuple[int, ...], keep: bool = True) -> EncodedViews:
        """What `raytrans.encode` makes of these views; not kept where they will hardly be asked for again."""
        if indices in self._sets:
            self._sets.move_to_end(indices)
            return self._sets[indices]
        if keep and len(self._sets) >= KEPT_SETS:
            self._sets.popitem(last=False)  # before the new one is made
        parts = [self._encoded(i) for i in indices]
        order = content_order(Views([views.image(0) for views, _ in parts], self.cameras[list(indices)]))
        views = joined([parts[k][1] for k in order])
        with torch.no_grad():
            found = self.model.place(views, source_unit(views.cameras))
        if keep:
            self._sets[indices] = found
        return found

    def _encoded(self, index: int) -> tuple[Views, EncodedViews]:
        """One view as it is, and arranged and encoded."""
        if index not in self._views:
            if len(self._views) >= KEPT_VIEWS:
                self._views.popitem(last=False)
            views = self.load([index])
            with torch.no_grad():
                encoded = self.model.encode(arranged(views, turned=self.model.config.encoder == "turns"))
            self._views[index] = views, encoded
        self._views.move_to_end(index)
        return self._views[index]
