"""Rigs of degenerate geometry, by kind and seed: where a formula would divide by zero, if one does."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from raytrans.data.views import Views
from raytrans.geometry.cameras import Cameras
from raytrans.geometry.distortion import Distortion
from raytrans.geometry.paths import look_at

TURNED = np.diag([-1.0, 1.0, -1.0])  # a half turn about the y axis: a camera that looks the other way


@dataclass
class _Draft:
    """What a kind changes: N sources and, last, the target; lengths in the size of the rig, focal lengths in images."""

    pose: np.ndarray
    focal: np.ndarray
    middle: np.ndarray
    size: np.ndarray
    image: Callable[[tuple[int, int, int]], np.ndarray]
    lens: Distortion | None = None
    near: np.ndarray | None = None
    far: np.ndarray | None = None

    @property
    def center(self) -> np.ndarray:
        return self.pose[:, :3, 3]

    def keep(self, count: int) -> None:
        """Only the first sources, and the target."""
        rows = [*range(count), len(self.pose) - 1]
        for name in ("pose", "focal", "middle", "size"):
            setattr(self, name, getattr(self, name)[rows])

    def scale(self, factor: float) -> None:
        self.center[:] *= factor
        self.near, self.far = (None if bound is None else bound * factor for bound in (self.near, self.far))


def _generic(rng: np.random.Generator) -> _Draft:
    """Two to five sources and a target, three or four away from what they look at."""
    count = int(rng.integers(2, 6)) + 1
    place = _directions(rng, count) * rng.uniform(3, 4, (count, 1))
    pose = look_at(place, 0.3 * rng.standard_normal((count, 3)), _directions(rng, count)).numpy()
    size = np.tile(rng.integers(6, 13, 2), (count, 1))
    focal = np.tile(rng.uniform(0.8, 1.5), (count, 2))
    return _Draft(pose, focal, np.full((count, 2), 0.5), size, rng.random)


def _directions(rng: np.random.Generator, count: int) -> np.ndarray:
    vector = rng.standard_normal((count, 3))
    return vector / np.linalg.norm(vector, axis=1, keepdims=True)


def _power(rng: np.random.Generator, low: float, high: float) -> float:
    """Ten to a power between two numbers, or to minus that."""
    return float(10 ** (rng.choice([-1, 1]) * rng.uniform(low, high)))


def _cameras_equal(rng: np.random.Generator, rig: _Draft) -> None:
    rig.pose[:] = rig.pose[0]


def _one_place(rng: np.random.Generator, rig: _Draft) -> None:
    rig.center[:] = rig.center[0]


def _sources_at_one_place(rng: np.random.Generator, rig: _Draft) -> None:
    rig.center[:-1] = rig.center[0]


def _one_place_with_bounds(rng: np.random.Generator, rig: _Draft) -> None:
    rig.center[: len(rig.center) - int(rng.integers(2))] = rig.center[0]
    rig.near = np.full(len(rig.pose), rng.uniform(0.1, 1))


def _nearly_one_place(rng: np.random.Generator, rig: _Draft) -> None:
    rig.center[:] = rig.center[0] + 10 ** rng.uniform(-17, -5) * rng.standard_normal(rig.center.shape)


def _collinear(rng: np.random.Generator, rig: _Draft) -> None:
    rig.center[:] = rig.center[0] + rng.standard_normal((len(rig.pose), 1)) * _directions(rng, 1)


def _along_the_axis(rng: np.random.Generator, rig: _Draft) -> None:
    """Middle rays coincide, and each camera but the last is in the middle of the image of another."""
    rig.pose[:, :3, :3] = rig.pose[0, :3, :3]
    rig.center[:] = rig.center[0] + np.arange(len(rig.pose))[:, None] * rig.pose[0, :3, 2]
    rig.middle[:], rig.size[:] = 0.5, 9


def _parallel_axes(rng: np.random.Generator, rig: _Draft) -> None:
    rig.pose[:, :3, :3] = rig.pose[0, :3, :3]


def _target_is_a_source(rng: np.random.Generator, rig: _Draft) -> None:
    rig.pose[-1] = rig.pose[int(rng.integers(len(rig.pose) - 1))]
    if rng.random() < 0.5:  # rolled by a half turn
        rig.pose[-1, :3, :2] *= -1


def _facing(rng: np.random.Generator, rig: _Draft) -> None:
    """Pairs of cameras, each in the middle of the image of the other: middle rays run against each other."""
    rig.pose[:, :3, :3] = rig.pose[0, :3, :3]
    rig.pose[1::2, :3, :3] = rig.pose[0, :3, :3] @ TURNED
    rig.center[:] = rig.center[0] + (np.arange(len(rig.pose)) % 2)[:, None] * 6 * rig.pose[0, :3, 2]
    rig.middle[:], rig.size[:] = 0.5, 9


def _back_to_back(rng: np.random.Generator, rig: _Draft) -> None:
    rig.pose[:, :3, :3] = rig.pose[:, :3, :3] @ TURNED


def _target_behind(rng: np.random.Generator, rig: _Draft) -> None:
    """No source sees what the target looks at."""
    rig.pose[:, :3, :3] = rig.pose[0, :3, :3]
    rig.pose[-1, :3, :3] = rig.pose[0, :3, :3] @ TURNED
    rig.center[-1] -= rng.uniform(0, 20) * rig.pose[0, :3, 2]


def _no_overlap(rng: np.random.Generator, rig: _Draft) -> None:
    rig.pose[:, :3, :3] = rig.pose[0, :3, :3]
    rig.middle[:] += 50.0 * np.arange(len(rig.pose))[:, None]


def _tiny_or_huge(rng: np.random.Generator, rig: _Draft) -> None:
    rig.scale(_power(rng, 3, 30))


def _far_away(rng: np.random.Generator, rig: _Draft) -> None:
    rig.center[:] += 10 ** rng.uniform(3, 6) * 4 * _directions(rng, 1)


def _very_far_away(rng: np.random.Generator, rig: _Draft) -> None:
    rig.center[:] += 10 ** rng.uniform(6, 12) * _directions(rng, 1)


def _one_source(rng: np.random.Generator, rig: _Draft) -> None:
    rig.keep(1)
    if rng.random() < 0.5:
        rig.pose[-1] = rig.pose[0]


def _twins(rng: np.random.Generator, rig: _Draft) -> None:
    """Views given twice."""
    rig.pose[1:-1:2] = rig.pose[0:-2:2]


def _uneven(rng: np.random.Generator, rig: _Draft) -> None:
    """Two sources close together, others far away."""
    rig.center[0] = rig.center[1] + 10 ** rng.uniform(-12, -3) * rng.standard_normal(3)
    rig.center[2:-1] *= 10 ** rng.uniform(2, 8)


def _plain(rng: np.random.Generator, rig: _Draft) -> None:
    value = rng.choice([0.0, 0.5, 1.0])
    rig.image = lambda shape: np.full(shape, value)


def _focal(rng: np.random.Generator, rig: _Draft) -> None:
    rig.focal[:] *= [[_power(rng, 1, 20)] for _ in rig.pose]


def _sizes(rng: np.random.Generator, rig: _Draft) -> None:
    rig.size[:] = rng.integers(1, 40, rig.size.shape)
    rig.size[rng.random(rig.size.shape) < 0.3] = 1


def _bounds(rng: np.random.Generator, rig: _Draft) -> None:
    rig.near = np.full(len(rig.pose), _power(rng, 0, 30))
    rig.far = rig.near * (1 + 10 ** rng.uniform(-14, 14))


def _lens(rng: np.random.Generator, rig: _Draft) -> None:
    model, spread, count = (("fisheye", 0.1, 4), ("opencv", 0.5, 5), ("rational", 0.5, 8))[int(rng.integers(3))]
    rig.lens = Distortion(model, torch.tensor(rng.normal(0, spread, count)))
    rig.focal[:] *= rng.uniform(0.1, 1)


def _lens_and_bounds(rng: np.random.Generator, rig: _Draft) -> None:
    """Some rays leave backwards through the lens, where a z-depth is negative."""
    rig.lens = Distortion("fisheye", torch.tensor(rng.normal(0, 0.01, 4)))
    rig.focal[:] = rng.uniform(0.15, 0.3)
    rig.near = rng.uniform(0.1, 2, len(rig.pose))
    rig.far = rig.near * rng.uniform(2, 100) if rng.random() < 0.5 else None


def _two_at_once(rng: np.random.Generator, rig: _Draft) -> None:
    for kind in rng.choice([kind for kind in KINDS if kind != "two of these at once"], 2, replace=False):
        KINDS[kind](rng, rig)


KINDS: dict[str, Callable[[np.random.Generator, _Draft], None]] = {
    "all cameras equal": _cameras_equal,
    "all at one place": _one_place,
    "sources at one place": _sources_at_one_place,
    "one place, with bounds": _one_place_with_bounds,
    "nearly one place": _nearly_one_place,
    "collinear": _collinear,
    "one behind the other": _along_the_axis,
    "parallel axes": _parallel_axes,
    "target is a source": _target_is_a_source,
    "facing each other": _facing,
    "looking away": _back_to_back,
    "target looks behind": _target_behind,
    "no overlap": _no_overlap,
    "tiny or huge": _tiny_or_huge,
    "far away": _far_away,
    "very far away": _very_far_away,
    "one source": _one_source,
    "views twice": _twins,
    "uneven distances": _uneven,
    "plain images": _plain,
    "focal lengths": _focal,
    "image sizes": _sizes,
    "bounds": _bounds,
    "bent lenses": _lens,
    "wide lenses, with bounds": _lens_and_bounds,
    "two of these at once": _two_at_once,
}


def degenerate_rig(kind: str, seed: int) -> tuple[Views, Cameras]:
    """Source views, of random colours and few pixels, and a target camera of one of `KINDS`.

    The same for the same kind and seed. Raises ValueError for an unknown kind.
    """
    if kind not in KINDS:
        raise ValueError(f"kind: expected one of {', '.join(KINDS)}, got {kind!r}")
    rng = np.random.default_rng([seed, *kind.encode()])
    rig = _generic(rng)
    KINDS[kind](rng, rig)
    extent = rig.size[:, ::-1]  # width and height
    intrinsics = np.tile(np.eye(3), (len(rig.pose), 1, 1))
    intrinsics[:, (0, 1), (0, 1)] = rig.focal * extent
    intrinsics[:, :2, 2] = rig.middle * extent
    cameras = Cameras(intrinsics, rig.pose, rig.size, _batch(rig.lens, len(rig.pose)), rig.near, rig.far)
    return Views([rig.image((*size, 3)) for size in rig.size[:-1]], cameras[:-1]), cameras[-1]


def _batch(lens: Distortion | None, count: int) -> Distortion | None:
    return None if lens is None else lens.expand(count)
