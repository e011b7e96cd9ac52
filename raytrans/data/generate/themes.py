"""The kinds of scene the generator draws; each function fills a `Layout` from its random stream."""

import numpy as np

from raytrans.data.generate.layout import Layout, Material, daylight, haar, lamp, studio, turn
from raytrans.data.generate.solids import BOX, CONE, CYLINDER, PLANE, ROOM, SPHERE

EASY_STYLES = {"noise": 4.0, "leaves": 3.0, "bricks": 1.0, "checker": 0.7, "stripes": 0.8, "dots": 0.7, "cells": 1.0}
STYLES = {**EASY_STYLES, "text": 1.0, "plain": 2.5}
GROUND_STYLES = {"noise": 4.0, "leaves": 3.0, "bricks": 1.5, "cells": 1.0, "checker": 0.5}


def _material(layout: Layout, styles: dict[str, float], size: float, glossy: float = 0.0) -> Material:
    """A fresh material whose texture repeats every two to three and a half times `size`."""
    rng = layout.rng
    gloss, shininess = 0.0, 30.0
    if rng.uniform() < glossy:
        gloss, shininess = rng.uniform(0.1, 0.7), float(np.exp(rng.uniform(np.log(8), np.log(150))))
    return Material(layout.picture(styles), 1 / (size * rng.uniform(1.8, 3.6)), gloss, shininess)


def _ground(layout: Layout, styles: dict[str, float], glossy: float = 0.0) -> None:
    layout.add(PLANE, (0, 0, 0), 1.0, _material(layout, styles, 2.5, glossy), turn(layout.rng))


def _standing_solid(layout: Layout, kinds: list[int], size: float, spread: float, material: Material) -> None:
    """One solid resting on the ground where there is room for it."""
    rng = layout.rng
    kind = int(rng.choice(kinds))
    half = size * rng.uniform(0.55, 1.0, 3)
    if kind in (CYLINDER, CONE):
        half[1] = half[0]
    if kind == SPHERE and rng.uniform() < 0.6:
        half[:] = half[0]
    spot = layout.place(half, spread)
    if spot is None:
        return
    if kind == CYLINDER and rng.uniform() < 0.25:
        lying = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
        layout.add(kind, (*spot, half[0]), half, material, turn(rng) @ lying)
    else:
        layout.add(kind, (*spot, half[2]), half, material, turn(rng))


def easy(layout: Layout) -> None:
    """Three to seven textured solids on a round, textured ground under a sky; nothing is farther than its rim."""
    rng = layout.rng
    layout.light = daylight(rng)
    layout.add(CYLINDER, (0, 0, -0.02), (8, 8, 0.02), _material(layout, GROUND_STYLES, 2.5), turn(rng))
    for _ in range(int(rng.integers(3, 8))):
        size = rng.uniform(0.28, 0.55)
        material = _material(layout, EASY_STYLES, 1.6 * size)
        _standing_solid(layout, [SPHERE, BOX, BOX, CYLINDER], size, 1.0, material)
    layout.target, layout.radius = np.array([0, 0, 0.3]), 1.0


def table(layout: Layout) -> None:
    """Solids of many sizes, some glossy, some stacked, walls behind them now and then."""
    rng = layout.rng
    layout.light = daylight(rng)
    _ground(layout, {**GROUND_STYLES, "plain": 1.0}, 0.2)
    for _ in range(int(rng.integers(4, 11))):
        size = float(np.exp(rng.uniform(np.log(0.12), np.log(0.6))))
        material = _material(layout, STYLES, 1.6 * size, 0.5)
        _standing_solid(layout, [SPHERE, BOX, CYLINDER, CONE], size, 1.1, material)
    _stack(layout)
    if rng.uniform() < 0.4:
        _wall(layout, rng.uniform(1.8, 4.0), 0.0)
    layout.target, layout.radius = np.array([0, 0, 0.3]), 1.1


def _stack(layout: Layout) -> None:
    """Put a few more solids on top of boxes and upright cylinders that stand there."""
    rng = layout.rng
    for kind, center, half, rotation, _ in list(layout.solids):
        flat = kind in (BOX, CYLINDER) and abs(rotation[2, 2]) > 0.99
        if flat and rng.uniform() < 0.4:
            size = 0.8 * min(half[0], half[1])
            tall = size * rng.uniform(0.6, 1.6)
            top = np.array([*center[:2], center[2] + half[2] + tall])
            layout.add(
                int(rng.choice([SPHERE, BOX, CYLINDER, CONE])),
                top,
                (size, size, tall),
                _material(layout, STYLES, 2 * size, 0.5),
                turn(rng),
            )


def _wall(layout: Layout, away: float, side: float) -> None:
    """A wall behind the objects as seen by cameras that stand on the side of negative x."""
    rng = layout.rng
    tall = rng.uniform(0.5, 2.5)
    layout.add(BOX, (away, side, tall), (0.1, rng.uniform(1.5, 6.0), tall), _material(layout, STYLES, 2.0))


def room(layout: Layout) -> None:
    """An enclosure with furniture, pictures on the walls and a lamp; cameras stand inside."""
    rng = layout.rng
    half = np.array([rng.uniform(2.2, 3.5), rng.uniform(2.0, 3.2), rng.uniform(1.1, 1.6)])
    layout.add(ROOM, (0, 0, half[2]), half, _material(layout, {**STYLES, "plain": 5.0}, 3.0))
    layout.light = lamp(rng, np.array([*rng.uniform(-0.5, 0.5, 2), 1.85 * half[2]]))
    floor = _material(layout, GROUND_STYLES, 2.0, 0.3)
    layout.add(BOX, (0, 0, -0.05), (half[0], half[1], 0.06), floor)
    layout.target = np.array([rng.uniform(0.4, 0.9), 0, rng.uniform(0.25, 0.6)])
    # rigs stand up to four and a third radii away: still inside
    layout.radius = 0.21 * (half[0] + layout.target[0])
    for _ in range(int(rng.integers(2, 5))):
        _picture_on_wall(layout, half)
    for _ in range(int(rng.integers(1, 4))):
        _furniture(layout, half)
    for _ in range(int(rng.integers(4, 9))):
        size = rng.uniform(0.18, 0.5)
        _standing_solid(layout, [SPHERE, BOX, CYLINDER, CONE], size, 1.3, _material(layout, STYLES, 1.6 * size, 0.4))
    _stack(layout)


def _picture_on_wall(layout: Layout, half: np.ndarray) -> None:
    rng = layout.rng
    size, up = rng.uniform(0.25, 0.6, 2), rng.uniform(0.9, 1.4) * half[2]
    material = _material(layout, {"leaves": 3.0, "text": 1.0, "stripes": 1.0}, 1.0, 0.2)
    if rng.uniform() < 0.5:
        layout.add(BOX, (half[0], rng.uniform(-0.6, 0.6) * half[1], up), (0.03, size[0], size[1]), material)
    else:
        side = half[1] * rng.choice([-1, 1])
        layout.add(BOX, (rng.uniform(-0.3, 0.7) * half[0], side, up), (size[0], 0.03, size[1]), material)


def _furniture(layout: Layout, half: np.ndarray) -> None:
    """A box against the far wall or a side wall."""
    rng = layout.rng
    size = rng.uniform([0.25, 0.4, 0.3], [0.5, 1.0, 1.0])
    along = rng.uniform(-0.6, 0.6)
    material = _material(layout, STYLES, 1.5, 0.3)
    if rng.uniform() < 0.5:
        layout.add(BOX, (half[0] - size[0], along * half[1], size[2]), size, material)
    else:
        side = rng.choice([-1, 1]) * (half[1] - size[0])
        layout.add(BOX, (along * half[0] + 0.4, side, size[2]), size[[1, 0, 2]], material)


def white(layout: Layout) -> None:
    """One object made of several solids before plain white."""
    rng = layout.rng
    layout.light = studio(rng)
    styles = [_material(layout, STYLES, 1.0, 0.6) for _ in range(3)]
    for _ in range(int(rng.integers(4, 10))):
        half = 0.65 * rng.uniform(0.2, 1.0, 3)
        kind = int(rng.choice([SPHERE, BOX, CYLINDER, CONE]))
        if kind in (CYLINDER, CONE):
            half[1] = half[0]
        center = rng.uniform(-0.5, 0.5, 3)
        layout.add(kind, center, half, styles[int(rng.integers(3))], haar(rng) if rng.uniform() < 0.4 else turn(rng))
    layout.radius = 1.0


def thin(layout: Layout) -> None:
    """Rods, plates and a grid of poles in front of and among solids."""
    rng = layout.rng
    layout.light = daylight(rng)
    _ground(layout, {**GROUND_STYLES, "plain": 1.0})
    if rng.uniform() < 0.6:
        _poles(layout)
    for _ in range(int(rng.integers(2, 7))):
        half = (rng.uniform(0.015, 0.04),) * 2 + (rng.uniform(0.4, 1.2),)
        center = rng.uniform([-0.9, -0.9, 0.3], [0.9, 0.9, 0.9])
        layout.add(CYLINDER, center, half, _material(layout, STYLES, 0.5), haar(rng))
    for _ in range(int(rng.integers(1, 4))):
        half = (0.015, *rng.uniform(0.2, 0.7, 2))
        center = (*rng.uniform(-0.9, 0.9, 2), half[2])
        layout.add(BOX, center, half, _material(layout, STYLES, 0.8, 0.3), turn(rng))
    for _ in range(int(rng.integers(1, 4))):
        size = rng.uniform(0.2, 0.45)
        _standing_solid(layout, [SPHERE, BOX, CYLINDER], size, 1.0, _material(layout, STYLES, 1.6 * size, 0.3))
    layout.target, layout.radius = np.array([0, 0, 0.4]), 1.1


def _poles(layout: Layout) -> None:
    """A fence of poles, with rails, or a lattice of them."""
    rng = layout.rng
    material = _material(layout, STYLES, 0.5)
    count, thickness, gap = int(rng.integers(4, 9)), rng.uniform(0.015, 0.035), rng.uniform(0.18, 0.4)
    x, tall = rng.uniform(-0.8, 0.8), rng.uniform(0.4, 1.0)
    for i in range(count):
        y = (i - (count - 1) / 2) * gap
        layout.add(CYLINDER, (x, y, tall / 1), (thickness, thickness, tall), material)
    for z in rng.uniform(0.3, 1.8, int(rng.integers(1, 4))) * tall:
        layout.add(BOX, (x, 0, z), (0.7 * thickness, 0.5 * count * gap, thickness), material)


def layers(layout: Layout) -> None:
    """Upright cards and solids at several depths that hide each other, a far wall at the end."""
    rng = layout.rng
    layout.light = daylight(rng)
    _ground(layout, {**GROUND_STYLES, "plain": 1.0})
    for depth in np.linspace(-0.8, 2.2, int(rng.integers(3, 6))) + rng.uniform(-0.15, 0.15):
        for _ in range(int(rng.integers(1, 4))):
            half = np.array([rng.uniform(0.01, 0.15), rng.uniform(0.12, 0.45), rng.uniform(0.2, 0.8)])
            spread = 0.9 + 0.25 * (depth + 0.8)
            kind = int(rng.choice([BOX, BOX, SPHERE, CYLINDER]))
            if kind != BOX:
                half[0] = half[1]
            center = (depth + rng.uniform(-0.2, 0.2), rng.uniform(-spread, spread), half[2])
            layout.add(
                kind, center, half, _material(layout, STYLES, 1.2 * half.max(), 0.3), turn(rng) if kind else None
            )
    _wall(layout, rng.uniform(3.0, 6.0), 0.0)
    layout.target, layout.radius = np.array([0.3, 0, 0.45]), 1.0


THEMES = {
    "table": (table, 0.3),
    "room": (room, 0.22),
    "white": (white, 0.13),
    "thin": (thin, 0.17),
    "layers": (layers, 0.18),
    "object": (white, 0.0),
}
"""Theme -> (function, share of the full mixture); `object`, `white` with other cameras, is a kind of its own."""
