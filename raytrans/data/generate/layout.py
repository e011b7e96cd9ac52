"""What a generated scene is made of, in a canonical frame: z up, objects about one unit large, ground at z = 0."""

from dataclasses import dataclass, field

import numpy as np
import torch

from raytrans.data.generate.solids import PLANE, ROOM, SPHERE, Solids
from raytrans.data.generate.textures import draw_texture, random_color


@dataclass(frozen=True)
class Material:
    """Texture by its number in the atlas, periods per unit length, strength and width of the highlight."""

    texture: int
    tiles: float = 0.5
    gloss: float = 0.0
    shininess: float = 30.0


@dataclass(frozen=True)
class Light:
    """One lamp with soft shadows, and light from everywhere; colours are linear.

    A lamp outdoors is far away. `background` is the colour of rays that meet nothing, or None for a sky.
    """

    position: np.ndarray
    color: np.ndarray
    ambient: np.ndarray
    size: float
    zenith: np.ndarray
    horizon: np.ndarray
    background: np.ndarray | None = None


@dataclass
class Layout:
    """A scene under construction: solids, pictures, light, and where cameras should look."""

    rng: np.random.Generator
    light: Light | None = None
    target: np.ndarray = field(default_factory=lambda: np.zeros(3))
    radius: float = 1.0
    pictures: list[np.ndarray] = field(default_factory=list)
    solids: list[tuple] = field(default_factory=list)
    meshes: list[tuple] = field(default_factory=list)
    clouds: int = 0

    def picture(self, styles: dict[str, float]) -> int:
        """Draw a texture of a style chosen by weight; returns its number."""
        names = list(styles)
        weights = np.array([styles[name] for name in names])
        self.pictures.append(draw_texture(self.rng, str(self.rng.choice(names, p=weights / weights.sum()))))
        return len(self.pictures) - 1

    def add(self, kind: int, center, half, material: Material, rotation: np.ndarray | None = None) -> None:
        """Add a solid with world half axes `half`, turned by `rotation`, at `center`."""
        rotation = np.eye(3) if rotation is None else rotation
        half = np.broadcast_to(np.asarray(half, float), 3)
        self.solids.append((kind, np.asarray(center, float), half, rotation, material))

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Centres (n, 3) and bounding radii (n,) of the objects: no ground, room, wall or floor."""
        kept = [s for s in self.solids if s[0] not in (PLANE, ROOM) and s[2].max() < 1.5]
        reach = [s[2].max() if s[0] == SPHERE else np.linalg.norm(s[2]) for s in kept]
        return np.array([s[1] for s in kept]).reshape(-1, 3), np.array(reach)

    def place(
        self, half: np.ndarray, spread: float, rng: np.random.Generator | None = None, tries: int = 30
    ) -> np.ndarray | None:
        """A free place (2,) on the ground near the target for an object of horizontal half axes `half`, or None."""
        rng = rng or self.rng
        centers, reach = self.bounds()
        own = np.hypot(half[0], half[1])
        for _ in range(tries):
            angle, away = rng.uniform(0, 2 * np.pi), spread * np.sqrt(rng.uniform())
            spot = self.target[:2] + away * np.array([np.cos(angle), np.sin(angle)])
            if all(np.linalg.norm(centers[:, :2] - spot, axis=1) > 0.8 * (own + reach)):
                return spot
        return None

    def built(self) -> Solids:
        """All solids as float64 tensors, sorted by kind."""
        ordered = sorted(self.solids, key=lambda solid: solid[0])
        kind, center, half, rotation, material = (list(column) for column in zip(*ordered, strict=True))
        linear = np.stack([r.T / h[:, None] for r, h in zip(rotation, half, strict=True)])
        shift = -np.einsum("pij,pj->pi", linear, np.stack(center))
        offset = np.random.default_rng(len(kind)).uniform(0, 1, (len(kind), 2))
        return Solids(
            kind=torch.tensor(kind),
            linear=torch.from_numpy(linear),
            shift=torch.from_numpy(shift),
            half=torch.from_numpy(np.stack(half)),
            texture=torch.tensor([m.texture for m in material]),
            tiles=torch.tensor([float(m.tiles) for m in material], dtype=torch.float64),
            offset=torch.from_numpy(offset),
            gloss=torch.tensor([float(m.gloss) for m in material], dtype=torch.float64),
            shininess=torch.tensor([float(m.shininess) for m in material], dtype=torch.float64),
            counts=tuple(kind.count(k) for k in range(ROOM + 1)),
        )


def daylight(rng: np.random.Generator) -> Light:
    """Sun and sky."""
    height, angle = np.radians(rng.uniform(30, 70)), rng.uniform(0, 2 * np.pi)
    towards = np.array([np.cos(height) * np.cos(angle), np.cos(height) * np.sin(angle), np.sin(height)])
    share = rng.uniform(0.5, 0.8)
    warmth = np.array([1.0, rng.uniform(0.88, 1.0), rng.uniform(0.75, 1.0)])
    zenith = np.array([0.10, 0.22, 0.55]) * rng.uniform(0.6, 1.4) + rng.uniform(0, 0.15)
    return Light(
        position=40 * towards,
        color=1.25 * share * warmth,
        ambient=(1 - share) * np.array([0.85, 0.95, 1.15]),
        size=rng.uniform(0.5, 3.0),
        zenith=zenith,
        horizon=np.array([0.55, 0.65, 0.8]) * rng.uniform(0.7, 1.2),
    )


def lamp(rng: np.random.Generator, position: np.ndarray) -> Light:
    """A lamp in a room."""
    share = rng.uniform(0.4, 0.65)
    warmth = np.array([1.0, rng.uniform(0.8, 1.0), rng.uniform(0.6, 1.0)])
    wall = 0.3 * random_color(rng)
    return Light(position, 1.5 * share * warmth, 1.2 * (1 - share) * np.ones(3), rng.uniform(0.1, 0.4), wall, wall)


def studio(rng: np.random.Generator) -> Light:
    """Soft light on an object before plain white."""
    light = daylight(rng)
    return Light(light.position, 0.5 * np.ones(3), 0.55 * np.ones(3), 3.0, np.ones(3), 0.9 * np.ones(3), np.ones(3))


def turn(rng: np.random.Generator) -> np.ndarray:
    """A rotation about the vertical, any angle."""
    cos, sin = np.cos(angle := rng.uniform(0, 2 * np.pi)), np.sin(angle)
    return np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])


def haar(rng: np.random.Generator) -> np.ndarray:
    """A rotation matrix, uniform over all rotations (a Gaussian quaternion, normalised)."""
    w, x, y, z = (q := rng.standard_normal(4)) / np.linalg.norm(q)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
