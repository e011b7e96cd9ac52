"""Camera rigs for generated scenes, in the canonical frame of a layout."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from raytrans.data.generate.layout import Layout
from raytrans.data.generate.solids import Solids, intersect
from raytrans.geometry.conversions import axis_angle
from raytrans.geometry.rigid import rigid, rotation_from_axis_angle


@dataclass(frozen=True)
class Shots:
    """Cameras as arrays: intrinsics (n, 3, 3), world_from_camera (n, 4, 4) in OpenCV axes, sizes (n, 2) as H, W."""

    intrinsics: np.ndarray
    world_from_camera: np.ndarray
    sizes: np.ndarray


def facing(center: np.ndarray, target: np.ndarray, roll: float = 0.0) -> np.ndarray:
    """world_from_camera (4, 4) of a camera at `center` that looks at `target`, upright up to `roll` radians."""
    forward = (target - center) / np.linalg.norm(target - center)
    right = np.cross(forward, [0, 0, 1.0])
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    cos, sin = np.cos(roll), np.sin(roll)
    matrix = np.eye(4)
    matrix[:3] = np.stack([cos * right + sin * down, cos * down - sin * right, forward, center], axis=1)
    return matrix


def pinhole(size: Sequence[int] | np.ndarray, focal: float, shift: np.ndarray | None = None) -> np.ndarray:
    """Intrinsics (3, 3) with `focal` counted in geometric mean sides and a principal point off by `shift` sides."""
    height, width = size
    shift = np.zeros(2) if shift is None else shift
    pixels = focal * np.sqrt(height * width)
    return np.array([[pixels, 0, width * (0.5 + shift[0])], [0, pixels, height * (0.5 + shift[1])], [0, 0, 1.0]])


@dataclass(frozen=True)
class Shooting:
    """How the cameras of a rig are changed.

    They are drawn together to a share `baseline` of their way from the first one, as one slow sweep of a hand; rolled
    by up to `roll` radians about their axes; and their focal lengths multiplied by `zoom`.
    """

    baseline: float = 1.0
    roll: float = 0.0
    zoom: float = 1.0

    def __post_init__(self):
        if not 0 < self.baseline <= 1:
            raise ValueError(f"baseline: expected a share above 0 and at most 1, got {self.baseline}")
        if not 0 <= self.roll <= np.pi:
            raise ValueError(f"roll: expected 0 to pi radians, got {self.roll}")
        if not 0 < self.zoom < np.inf:
            raise ValueError(f"zoom: expected a finite number above 0, got {self.zoom}")

    def __call__(self, shots: Shots, rng: np.random.Generator) -> Shots:
        """The changed cameras; `rng` draws the rolls."""
        poses = torch.from_numpy(shots.world_from_camera)
        if self.baseline < 1:
            poses = _narrowed(poses, self.baseline)
        if self.roll:
            axis = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
            angles = torch.from_numpy(rng.uniform(-self.roll, self.roll, len(poses)))
            poses = poses @ rigid(rotation_from_axis_angle(angles[:, None] * axis), torch.zeros(len(poses), 3).double())
        zoom = np.array([self.zoom, self.zoom, 1.0])
        intrinsics = shots.intrinsics * np.where(np.eye(3), zoom, 1.0)
        return replace(shots, intrinsics=intrinsics, world_from_camera=poses.numpy())


def _narrowed(poses: torch.Tensor, baseline: float) -> torch.Tensor:
    first = poses[0]
    turn = axis_angle(first[:3, :3].T @ poses[:, :3, :3])
    rotation = first[:3, :3] @ rotation_from_axis_angle(baseline * turn)
    return rigid(rotation, torch.lerp(first[:3, 3], poses[:, :3, 3], baseline))


def _on_sphere(azimuth: float, elevation: float) -> np.ndarray:
    return np.array([-np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)])


def clear(solids: Solids, matrix: np.ndarray, focal: float, reach: float) -> bool:
    """Whether nothing within `reach` along the axis hides more than a few per cent of what the camera sees."""
    line = (torch.arange(10, dtype=torch.float64) + 0.5) / 10 - 0.5
    x, y = torch.meshgrid(line / focal, line / focal, indexing="xy")
    local = torch.stack([x.reshape(-1), y.reshape(-1), torch.ones(100, dtype=torch.float64)])
    pose = torch.from_numpy(matrix)
    near = intersect(solids, pose[:3, 3:], pose[:3, :3] @ local).amin(0)
    return bool((near < reach).double().mean() <= 0.04) and not _inside(solids, pose[:3, 3])


def _inside(solids: Solids, center: torch.Tensor) -> bool:
    local = solids.linear @ center + solids.shift
    within = (local.abs().amax(1) < 1.15)[: sum(solids.counts[:4])].any()
    return bool(within | (local[len(solids) - solids.counts[5] :].abs() > 0.93).any())


def easy_rig(rng: np.random.Generator, count: int, sizes: np.ndarray, layout: Layout, solids: Solids) -> Shots:
    """An upright arc of one camera within 35 degrees of a middle azimuth, three to five scene radii away."""
    focal = rng.uniform(1.0, 1.5)
    distance, middle, height = rng.uniform(3.2, 4.8), rng.uniform(0, 2 * np.pi), rng.uniform(14, 38)
    azimuths = np.linspace(-1, 1, count) + rng.uniform(-1, 1, count) / max(count, 2)
    matrices = []
    for azimuth in rng.permutation(azimuths):
        for _ in range(20):
            elevation = np.radians(np.clip(height + rng.uniform(-9, 9), 8, 50))
            away = np.clip(distance * rng.uniform(0.9, 1.1), 3, 5) * layout.radius
            center = layout.target + away * _on_sphere(middle + np.radians(30) * azimuth, elevation)
            matrix = facing(center, layout.target + rng.uniform(-0.12, 0.12, 3))
            if clear(solids, matrix, focal, 0.35 * away):
                break
        matrices.append(matrix)
    return Shots(np.stack([pinhole(size, focal) for size in sizes]), np.stack(matrices), sizes)


def full_rig(
    rng: np.random.Generator, count: int, sizes: np.ndarray | None, theme: str, layout: Layout, solids: Solids
) -> Shots | None:
    """Arc, part of a sphere or forward-facing; with roll, several focal lengths and, if `sizes` is None, sizes.

    None where some camera found no place with a clear view.
    """
    centers = _RIGS[_rig_name(rng, theme)](rng, count, layout)
    focal, vary, roll = rng.uniform(0.75, 1.5), rng.uniform() < 0.5, _roll_range(rng)
    sizes = _mixed_sizes(rng, count) if sizes is None else sizes
    off_centre = rng.uniform() < 0.4
    matrices, intrinsics = [], []
    for i in range(count):
        own = focal * (float(np.exp(rng.uniform(-0.25, 0.25))) if vary else 1.0)
        for _ in range(25):
            center = centers()
            matrix = facing(
                center, layout.target + rng.uniform(-0.15, 0.15, 3) * layout.radius, roll * rng.uniform(-1, 1)
            )
            if clear(solids, matrix, own, 0.3 * np.linalg.norm(center - layout.target)):
                break
        else:
            return None
        shift = rng.uniform(-0.06, 0.06, 2) if off_centre else None
        intrinsics.append(pinhole(sizes[i], own, shift))
        matrices.append(matrix)
    return Shots(np.stack(intrinsics), np.stack(matrices), sizes)


def _rig_name(rng: np.random.Generator, theme: str) -> str:
    shares = {"table": (0.5, 0.2, 0.3, 0), "room": (0, 0.45, 0.55, 0), "white": (0.8, 0.2, 0, 0)}
    shares |= {"thin": (0.2, 0.5, 0.3, 0), "layers": (0, 0.3, 0.7, 0), "object": (0.5, 0, 0, 0.5)}
    return str(rng.choice(list(_RIGS), p=shares[theme]))


def _roll_range(rng: np.random.Generator) -> float:
    """Largest roll in radians: none, as from the hand, or any."""
    return float(rng.choice([0.0, 0.2, np.pi], p=[0.4, 0.4, 0.2]))


def _mixed_sizes(rng: np.random.Generator, count: int) -> np.ndarray:
    """Sizes around 64 pixels, landscape and portrait, (count, 2)."""
    sides = np.sort(rng.integers(48, 97, (count, 2)), axis=1)
    return np.where(rng.uniform(size=(count, 1)) < 0.5, sides, sides[:, ::-1])


def _sphere(rng: np.random.Generator, count: int, layout: Layout) -> Callable[[], np.ndarray]:
    """A cap of a sphere around the target, at most half of it; lower on the ground side than a dome's top."""
    spread, middle, distance = rng.uniform(40, 180), rng.uniform(0, 2 * np.pi), rng.uniform(2.4, 4.5) * layout.radius
    azimuths = iter(np.tile(rng.permutation(np.linspace(-0.5, 0.5, count)), 30))

    def center() -> np.ndarray:
        azimuth = middle + np.radians(spread) * (next(azimuths) + rng.uniform(-0.5, 0.5) / count)
        elevation = np.arcsin(rng.uniform(0.12, 0.85))
        return layout.target + distance * rng.uniform(0.85, 1.15) * _on_sphere(azimuth, elevation)

    return center


def _arc(rng: np.random.Generator, count: int, layout: Layout) -> Callable[[], np.ndarray]:
    """A walk round the target at nearly one height; inside a room it is short and close."""
    spread, distance = rng.uniform(20, 70), rng.uniform(2.0, 4.0) * layout.radius
    lower, wobble = rng.uniform(0.08, 0.5), rng.uniform(0.02, 0.15)
    azimuths = iter(np.tile(rng.permutation(np.linspace(-0.5, 0.5, count)), 30))

    def center() -> np.ndarray:
        azimuth = np.radians(spread) * (next(azimuths) + rng.uniform(-0.5, 0.5) / count)
        elevation = lower + wobble * rng.uniform(-1, 1)
        return layout.target + distance * rng.uniform(0.92, 1.08) * _on_sphere(azimuth, elevation)

    return center


def _forward(rng: np.random.Generator, count: int, layout: Layout) -> Callable[[], np.ndarray]:
    """Cameras on a patch of a plane, as a hand-held camera moved sideways and up."""
    distance, side, up = rng.uniform(2.0, 3.2) * layout.radius, rng.uniform(0.3, 1.0), rng.uniform(0.1, 0.45)
    lift = rng.uniform(0.15, 0.6)

    def center() -> np.ndarray:
        offset = rng.uniform(-1, 1, 3) * np.array([0.15, side, up])
        return layout.target + np.array([-distance, 0, lift + up]) + offset

    return center


def _ring(rng: np.random.Generator, count: int, layout: Layout) -> Callable[[], np.ndarray]:
    """A third of a circle to all of it, evenly round the target as on a turntable, near or far."""
    spread, middle, elevation = rng.uniform(120, 360), rng.uniform(0, 2 * np.pi), rng.uniform(-0.2, 0.6)
    distance = np.exp(rng.uniform(np.log(2.4), np.log(5.0))) * layout.radius
    azimuths = iter(np.tile(rng.permutation(np.arange(count) / count), 30))

    def center() -> np.ndarray:
        azimuth = middle + np.radians(spread) * (next(azimuths) + rng.uniform(-0.1, 0.1) / count)
        return layout.target + distance * _on_sphere(azimuth, elevation + rng.uniform(-0.05, 0.05))

    return center


_RIGS = {"sphere": _sphere, "arc": _arc, "forward": _forward, "ring": _ring}
