"""Scenes as training data: what is in memory of one, and those on disk, each read when its turn comes."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from raytrans.data.images import bounded_size, resize_nearest
from raytrans.data.patterns import expanded, is_pattern, paths_of
from raytrans.data.readers import open_scene
from raytrans.data.scene import Scene
from raytrans.data.shards import Shards
from raytrans.geometry.cameras import Cameras
from raytrans.rendering.sources import source_unit
from raytrans.training.config import DataConfig


@dataclass
class SceneData:
    """All views of a scene in memory; depth[i] (H, W) z-depth or None; NaN in it is the sky, or else unknown.

    skipped: numbers of captured scenes whose place it takes, each with the reason why it cannot be read.
    """

    images: list[Tensor]
    cameras: Cameras
    depth: list[Tensor] | None
    sky: bool = True
    skipped: tuple[tuple[int, str], ...] = ()


class Kept:
    """A function of one argument with its last `count` values; it travels to other processes, as lru_cache does not."""

    def __init__(self, function: Callable[[int], Any], count: int):
        self.function, self.count, self.values = function, count, {}

    def __call__(self, key: int) -> Any:
        value = self.values.pop(key) if key in self.values else self.function(key)
        self.values[key] = value  # the latest last
        if len(self.values) > self.count:
            del self.values[next(iter(self.values))]
        return value


class Captured:
    """Scenes on disk by number, folders first: `captured[number]` reads one, unless it is among the last `cache`.

    Folders that are named are opened at once, so that a mistake shows before training; what wildcards find, and shards,
    when their turn comes. Raises ValueError, `captured[number]` too, naming what cannot be read or trained on.
    """

    def __init__(self, config: DataConfig):
        self.max_size, self.broken = config.max_size, {}
        self.folders: list[Path | Scene] = [one for text in config.folders for one in _folders(text)]
        self.shards = Shards.of(config.shards)
        self.load = Kept(self._load, config.cache)

    def __len__(self) -> int:
        return len(self.folders) + len(self.shards)

    def __getitem__(self, number: int) -> SceneData:
        if not 0 <= number < len(self):
            raise IndexError(f"number: expected one from 0 to {len(self) - 1}, got {number}")
        if number in self.broken:
            raise ValueError(self.broken[number])
        try:
            return self.load(number)
        except Exception as error:  # of a file from anywhere; whatever it is, the run goes on without the scene
            known = isinstance(error, (ValueError, OSError))
            self.broken[number] = str(error) if known else f"{self._name(number)}: {type(error).__name__}: {error}"
            raise ValueError(self.broken[number]) from None

    def _name(self, number: int) -> str:
        place = number - len(self.folders)
        return str(self.folders[number] if place < 0 else self.shards.files[self.shards.spans[place, 0]])

    def _load(self, number: int) -> SceneData:
        with _quiet():
            if number >= len(self.folders):
                with self.shards.opened(number - len(self.folders)) as scene:
                    return scene_data(scene, self.max_size, with_depth=True)
            found = self.folders[number]
            return scene_data(open_scene(found) if isinstance(found, Path) else found, self.max_size)


def _folders(text: str) -> list[Path | Scene]:
    """The scenes that an entry of `data.folders` names, opened; or the folders that its wildcards find."""
    found: list[Path | Scene] = []
    for one in expanded(text):
        if is_pattern(one):
            found += [path for path in paths_of(one) if path.is_dir()]
            continue
        scene = open_scene(one)
        try:
            trained_views(scene)
        except ValueError as error:
            raise ValueError(f"data.folders: {error}") from None
        found.append(scene)
    if not found:
        raise ValueError(f"data.folders: {text}: expected folders, found none")
    return found


def trained_views(scene: Scene) -> list[int]:
    """The views that are not held out; ValueError for fewer than two, and for cameras that share one place."""
    train = scene.split("train") or list(range(len(scene)))
    if len(train) < 2:
        held = f"{len(train)} of {len(scene)}"
        raise ValueError(f"{scene.path}: expected at least two views that are not held out, got {held}")
    if not has_length(scene.cameras[train]):
        raise ValueError(f"{scene.path}: expected cameras at different places, got all {len(train)} at one")
    return train


def scene_data(scene: Scene, max_size: int, with_depth: bool = False) -> SceneData:
    """The views of a scene that are trained on, in memory, at most `max_size` pixels on the long side.

    With their depth, NaN where it is unknown, if that is asked for and every view has it. Raises ValueError as
    `trained_views`, and for a file that cannot be read.
    """
    train = trained_views(scene)
    views, depth = scene.views(train, max_size=max_size), None
    if with_depth and all(scene.frames[i].depth is not None for i in train):
        depth = []
        for i in train:
            whole = scene.depth(i)
            depth.append(resize_nearest(whole, *bounded_size(*whole.shape, max_size)))
    return SceneData(list(views.images), views.cameras, depth, sky=False)


def has_length(cameras: Cameras) -> bool:
    """Whether anything says how long a unit is: cameras at different places, or a bound on depth."""
    return cameras.near is not None or source_unit(cameras) is not None


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings of readers, which would come again whenever a scene is read again."""
    readers = logging.getLogger("raytrans.data")
    before = readers.level
    readers.setLevel(logging.ERROR)
    try:
        yield
    finally:
        readers.setLevel(before)
