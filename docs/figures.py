"""Draw figures of the pages with the package's own cameras, rays and pairs.

`.venv/bin/python docs/figures.py` writes them into docs/images; a test says whether they are up to date.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from raytrans import Cameras, Rays
from raytrans.export.files import write_text
from raytrans.geometry import RayPairs, feet, look_at

FOLDER = Path(__file__).resolve().parent / "images"
WIDTH, HEIGHT = 420, 320  # of a panel
# colours that people with any colour vision tell apart (Okabe and Ito, 2008; Tol, 2021)
RED, GREEN, BLUE, PINK, INK, FAINT = "#d55e00", "#009e73", "#0072b2", "#aa4499", "#222222", "#aaaaaa"

Point = tuple[float, float]
Show = Callable[[Tensor], Point]


def line(a: Point, b: Point, color: str = FAINT, width: float = 1.0, dash: str = "none") -> str:
    ends = f'x1="{a[0]:.1f}" y1="{a[1]:.1f}" x2="{b[0]:.1f}" y2="{b[1]:.1f}"'
    return f'<line {ends} stroke="{color}" stroke-width="{width}" stroke-dasharray="{dash}"/>'


def curve(points: list[Point], color: str, width: float = 2.0) -> str:
    places = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{places}" fill="none" stroke="{color}" stroke-width="{width}"/>'


def arrow(a: Point, b: Point, color: str) -> str:
    """A line whose head is 9 pixels long."""
    start, end = torch.tensor(a), torch.tensor(b)
    along = (end - start) / (end - start).norm()
    side = torch.stack([-along[1], along[0]])
    corners = [end, end - 9 * along + 4 * side, end - 9 * along - 4 * side]
    head = " ".join(f"{x:.1f},{y:.1f}" for x, y in (corner.tolist() for corner in corners))
    return line(a, tuple((end - 8 * along).tolist()), color, 2) + f'<polygon points="{head}" fill="{color}"/>'


def dot(at: Point, color: str = INK, radius: float = 2.5) -> str:
    return f'<circle cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="{radius}" fill="{color}"/>'


def label(at: Point, text: str, color: str = INK, shift: Point = (0, 0), anchor: str = "start") -> str:
    place = f'x="{at[0] + shift[0]:.1f}" y="{at[1] + shift[1]:.1f}"'
    return f'<text {place} fill="{color}" text-anchor="{anchor}">{text}</text>'


def vector(show: Show, start: Tensor, along: Tensor, color: str, text: str, shift: Point) -> str:
    """An arrow in space with its name at the head."""
    tip = show(start + along)
    return arrow(show(start), tip, color) + label(tip, text, color, shift)


def seen_from(center: list[float], target: list[float], focal: float) -> Show:
    """Where a camera that looks from `center` at `target`, its y axis down, sees a point in a panel."""
    pose = look_at(torch.tensor(center), target=target, up=[0.0, -1.0, 0.0])
    intrinsics = [[focal, 0, WIDTH / 2], [0, focal, HEIGHT / 2], [0, 0, 1]]
    camera = Cameras(intrinsics, pose, size=(HEIGHT, WIDTH))
    return lambda point: tuple(camera.project(point.double())[0].tolist())


ORIGIN, (X, Y, Z) = torch.zeros(3).double(), torch.eye(3).double()
CAMERA = Cameras([[2.0, 0, 2], [0, 2.0, 1.5], [0, 0, 1]], torch.eye(4), size=(3, 4))


def on_plane(x: float, y: float, depth: float = 1.0) -> Tensor:
    """The point that the camera of the figure sees at a pixel and a depth."""
    direction = CAMERA.pixel_rays(torch.tensor([x, y]).double()).direction
    return depth * direction / direction[2]


def axes_and_section() -> list[str]:
    """Axes of a camera of 4 x 3 pixels, their centres, and the ray of one in its section."""
    show = seen_from([2.9, -1.15, -1.7], [0.2, -0.1, 1.0], focal=500)
    corners = [on_plane(x, y) for x, y in ((0, 0), (4, 0), (4, 3), (0, 3))]
    out = [line(show(ORIGIN), show(corner), dash="4 3") for corner in corners]
    out += [line(show(on_plane(x, 0)), show(on_plane(x, 3))) for x in range(5)]
    out += [line(show(on_plane(0, y)), show(on_plane(4, y))) for y in range(4)]
    out += [dot(show(on_plane(column + 0.5, row + 0.5))) for row in range(3) for column in range(4)]
    ray = CAMERA.rays()[0, 3].in_section(slide=1.9)
    e1, e2, d = 0.55 * ray.frame.mT
    out += [line(show(ORIGIN), show(ray.anchor), PINK, 2), dot(show(ray.anchor), PINK, 3)]
    out += [vector(show, ORIGIN, 0.65 * X, RED, "x right", (-14, 18))]
    out += [vector(show, ORIGIN, 0.6 * Y, GREEN, "y down", (-24, 18))]
    out += [vector(show, ORIGIN, 0.6 * Z, BLUE, "z forward", (-14, 20))]
    out += [vector(show, ray.anchor, e1, RED, "e1", (6, 10)), vector(show, ray.anchor, e2, GREEN, "e2", (-8, 18))]
    out += [vector(show, ray.anchor, d, PINK, "d", (6, 2)), dot(show(ORIGIN), radius=4)]
    return [*out, label(show(ORIGIN), "centre", shift=(-10, -6), anchor="end")]


def pixels() -> list[str]:
    """The image of the same camera, flat."""
    side = 72

    def place(x: float, y: float) -> Point:
        return 50 + side * x, 68 + side * y

    out = [line(place(x, 0), place(x, 3)) for x in range(5)] + [line(place(0, y), place(4, y)) for y in range(4)]
    out += [dot(place(x + 0.5, y + 0.5)) for y in range(3) for x in range(4)]
    out += [arrow(place(0, 0), place(4.5, 0), RED), label(place(4.5, 0), "x, columns", RED, (0, -9), "end")]
    out += [arrow(place(0, 0), place(0, 3.3), GREEN), label(place(0, 3.3), "y, rows", GREEN, (8, 4))]
    out += [label(place(0, 0), "(0, 0)", shift=(0, -9), anchor="middle")]
    out += [label(place(0.5, 0.5), "(0.5, 0.5)", shift=(2, 20), anchor="middle")]
    out += [dot(place(3.5, 0.5), PINK, 4), label(place(3.5, 0.5), "(3.5, 0.5)", PINK, (0, 20), "middle")]
    out += [dot(place(2, 1.5), BLUE, 4), label(place(2, 1.5), "(cx, cy)", BLUE, (0, 20), "middle")]
    return [*out, label(place(4, 3), "(width, height) = (4, 3)", shift=(0, 20), anchor="end")]


def depth_and_distance() -> list[str]:
    """A surface point from the side: its depth along z, its distance along the ray, and near and far as depths."""
    show = seen_from([40.0, -0.35, 1.3], [0.0, -0.35, 1.3], focal=4900)
    ray = CAMERA.pixel_rays(torch.tensor([2.0, 0.6]).double())
    point = ray.point(torch.tensor(2.1))
    depth = CAMERA.project(point)[1]
    out = [line(show(ORIGIN), show(2.75 * Z), dash="4 3"), label(show(2.75 * Z), "z", shift=(4, 5))]
    for name, bound in (("near", 0.9), ("far", 2.5)):
        top, bottom = show(bound * Z - 1.35 * Y), show(bound * Z + 0.35 * Y)
        out += [line(top, bottom, INK, 1, "2 4"), label(bottom, name, shift=(0, 16), anchor="middle")]
    bulge = [point + offset * Y + 0.35 * offset**2 * Z for offset in torch.linspace(-0.4, 0.4, 13)]
    out += [curve([show(one) for one in bulge], INK, 3)]
    out += [arrow(show(ORIGIN), show(point), PINK), arrow(show(ORIGIN), show(depth * Z), BLUE)]
    out += [line(show(depth * Z), show(point)), dot(show(point), PINK, 4), dot(show(ORIGIN), radius=4)]
    out += [label(show(ray.point(torch.tensor(1.75))), "distance", PINK, (-8, -8), "end")]
    out += [label(show(1.4 * Z), "depth", BLUE, (0, 20), "middle")]
    return [*out, label(show(ORIGIN), "centre", shift=(0, 20), anchor="middle")]


def moment() -> list[str]:
    """A ray, a point p on it, the moment at the origin of the world, and the plane that holds ray and origin."""
    ray = Rays.from_points(torch.tensor([1.0, 0.0, 0.0]).double(), torch.tensor([-0.45, 0.0, 1.0]).double())
    show = seen_from([-0.3, -1.9, -3.2], [0.5, -0.25, 0.3], focal=560)
    foot = torch.linalg.cross(ray.direction, ray.moment)
    plane = [torch.tensor([x, 0.0, z]).double() for x, z in ((-0.4, -0.5), (1.5, -0.5), (1.5, 1.5), (-0.4, 1.5))]
    out = [line(show(a), show(b)) for a, b in zip(plane, [*plane[1:], plane[0]], strict=True)]
    out += [line(show(ray.point(torch.tensor(-0.45))), show(ray.point(torch.tensor(1.55))), PINK, 2)]
    out += [line(show(ORIGIN), show(foot), INK, 1, "4 3"), dot(show(foot), PINK, 3)]
    out += [label(show(foot), "d × m", PINK, (10, 2)), vector(show, ORIGIN, ray.anchor, INK, "p", (-8, 20))]
    out += [vector(show, ORIGIN, ray.moment, BLUE, "m = p × d", (8, 4))]
    out += [vector(show, ray.point(torch.tensor(0.75)), 0.5 * ray.direction, PINK, "d", (10, 2))]
    return [
        *out,
        dot(show(ORIGIN), radius=4),
        label(show(ORIGIN), "origin of the world", shift=(-8, 22), anchor="middle"),
    ]


def pair() -> list[str]:
    """Two rays, their anchors and the common perpendicular with its feet."""
    x = Rays.from_points(torch.tensor([-1.0, 0.45, 0.0]).double(), torch.tensor([1.0, 0.0, 0.3]).double())
    y = Rays.from_points(torch.tensor([0.75, -0.5, -0.65]).double(), torch.tensor([-0.55, 0.0, 0.9]).double())
    show = seen_from([0.6, -1.5, -3.6], [0.1, 0.0, 0.2], focal=560)
    t_x, t_y = feet(x, y)
    foot_x, foot_y = x.point(t_x), y.point(t_y)
    normal = torch.linalg.cross(x.direction, y.direction)
    out = []
    for ray, foot, name, length, color in ((x, foot_x, "x", 2.1, PINK), (y, foot_y, "y", 2.2, BLUE)):
        out += [line(show(ray.point(torch.tensor(-0.25))), show(ray.point(torch.tensor(length))), color, 2)]
        out += [vector(show, ray.point(torch.tensor(length - 0.4)), 0.4 * ray.direction, color, f"d_{name}", (-8, -10))]
        out += [dot(show(ray.anchor), color, 4), dot(show(foot), color, 4)]
        out += [label(show(ray.anchor), f"anchor of {name}", color, (4, 22), "middle")]
        out += [label(show((ray.anchor + foot) / 2), f"t_{name}", color, (0, -9), "middle")]
    out += [
        line(show(foot_x), show(foot_y), INK, 1, "4 3"),
        label(show((foot_x + 2 * foot_y) / 3), "distance", shift=(-8, 4), anchor="end"),
    ]
    return [*out, vector(show, foot_x, 0.4 * normal / normal.norm(), INK, "n", (8, 8))]


def entries() -> list[str]:
    """Size of entries E(n_out, n_in) of the kernel against the angle of two rays that pass each other."""
    left, right, top, bottom, low, high = 60, 400, 60, 260, -4.0, 0.0
    exponents = torch.linspace(low, high, 120).double()
    angles = 10**exponents
    along = torch.stack([angles.sin(), torch.zeros_like(angles), angles.cos()], -1)
    x = Rays.from_points(ORIGIN, Z)
    pairs = RayPairs.of(x, Rays.from_points(torch.tensor([0.3, 0.2, 0.0]).double().expand(120, 3), along))

    def place(exponent: float, size: float) -> Point:
        return left + (right - left) * (exponent - low) / (high - low), bottom + (top - bottom) * size

    out = [line(place(low, 0), place(high, 0), INK), line(place(low, 0), place(low, 1), INK)]
    for exponent, text in ((-4, "0.0001"), (-2, "0.01"), (0, "1")):
        out += [
            line(place(exponent, 0), place(exponent, 1)),
            label(place(exponent, 0), text, shift=(0, 18), anchor="middle"),
        ]
    out += [label(place(low, size), str(size), shift=(-8, 5), anchor="end") for size in (0, 1)]
    out += [label(((left + right) / 2, bottom), "angle of the rays in radians", shift=(0, 38), anchor="middle")]
    shown = ((1, 1, PINK, 20, (0, 20)), (1, 0, BLUE, 56, (-58, 0)), (1, -1, RED, 72, (12, 10)))
    for n_out, n_in, color, at, shift in shown:
        points = [place(*one) for one in zip(exponents.tolist(), pairs.phase(n_out, n_in).abs().tolist(), strict=True)]
        out += [curve(points, color), label(points[at], f"E({n_out}, {n_in})".replace("-", "−"), color, shift)]
    return out


def figure(*panels: tuple[str, Callable[[], list[str]]]) -> str:
    """SVG of panels with their titles, two in a row."""
    width, height = 2 * WIDTH, HEIGHT * (len(panels) // 2)
    style = 'font-family="sans-serif" font-size="14" stroke-linecap="round"'
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" {style}>']
    # letters have a white border, so that lines behind them do not cross them
    out += ["<style>text { paint-order: stroke; stroke: white; stroke-width: 4px; stroke-linejoin: round }</style>"]
    out += [f'<rect width="{width}" height="{height}" fill="white"/>']
    for number, (title, panel) in enumerate(panels):
        out += [f'<g transform="translate({WIDTH * (number % 2)} {HEIGHT * (number // 2)})">']
        out += [label((WIDTH / 2, 24), title, anchor="middle"), *panel(), "</g>"]
    return "\n".join([*out, "</svg>", ""])


def conventions() -> str:
    """The figure of docs/conventions.md."""
    return figure(
        ("Camera axes, and a ray in its section", axes_and_section),
        ("Pixels", pixels),
        ("Depth and distance", depth_and_distance),
        ("Plücker coordinates (d, m)", moment),
    )


def pairs() -> str:
    """The figure of docs/mathematics.md."""
    return figure(("Two rays and their common perpendicular", pair), ("Size of entries of the kernel", entries))


FIGURES = {"conventions.svg": conventions, "pairs.svg": pairs}

if __name__ == "__main__":
    for name, draw in FIGURES.items():
        write_text(FOLDER / name, draw())
