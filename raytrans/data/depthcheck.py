"""Depth files against triangulated matches and, carried from view to view, against each other."""

from collections.abc import Sequence

import torch
from torch import Tensor

from raytrans.data.images import values_at
from raytrans.data.matching import LEAST, Matches
from raytrans.data.scene import Scene
from raytrans.data.scoring import both_sights, triangulated
from raytrans.geometry.cameras import Cameras

SCALE = 1.1  # factor between depth files and matches from which their unit is called wrong
NEARLY = 0.01  # relative depth error that is not worth a remark
GRID = 48  # pixels along each side of a view that are carried into another
PAIRS = 8
UNITS = torch.logspace(-4, 4, 33, dtype=torch.float64)  # factors tried where matches have no parallax
ADVICE = "divide the depth scale (depth_unit_scale_factor, or the stored values) by"


def check_depth(scene: Scene, matches: Matches) -> tuple[dict[str, float] | None, list[str]]:
    """What depth files say beside the poses, and what is wrong with them; None without depth files.

    factor: median of stated over triangulated depth; error: median relative deviation from it; cross_view_error: median
    of |z - z'| / z between views. The first two are left out where matches have too little parallax.
    """
    if not any(frame.depth for frame in scene.frames):
        return None, []
    pairs = (matches.views or matches.tried)[:: max(1, len(matches.views or matches.tried) // PAIRS)]
    crossed = cross_view_errors(read_pairs(scene, pairs))
    values = {"cross_view_error": float(crossed.median()) if len(crossed) else float("nan")}
    stated, found, slant = sampled_depth(scene, matches)
    if len(stated) < LEAST:
        return _without_parallax(scene, values)
    factor, error = _agreement(stated / found)
    slanted, along = _agreement(stated / slant / found)
    values = {"factor": factor, "error": error, **values}
    remarks = []
    if along < 0.5 * error and error > NEARLY:
        values |= {"along_the_ray_error": along}
        remarks.append(
            "the depth files hold the distance along the ray, not z-depth: divide by the length of (x, y, 1)"
        )
        factor = slanted
    if not 1 / SCALE < factor < SCALE:
        remarks.append(f"the depth files are {factor:.4g} times what the poses say: {ADVICE} {factor:.4g}")
    elif not remarks and max(error, values["cross_view_error"]) > 5 * NEARLY:
        text = f"{error:.1%} from the matches, {values['cross_view_error']:.1%} from view to view"
        remarks.append(f"the depth files do not fit the poses: median error {text}")
    return values, remarks


def _without_parallax(scene: Scene, values: dict[str, float]) -> tuple[dict[str, float], list[str]]:
    """The unit from views far apart in the order of the files: the one with which depth maps agree best."""
    step = max(1, len(scene) // 4)
    pairs = read_pairs(scene, [(i, i + step) for i in range(0, len(scene) - step, max(1, step // 2))])
    errors = [cross_view_errors(pairs, float(factor)) for factor in UNITS]
    medians = [float(one.median()) if len(one) >= LEAST else float("inf") for one in errors]
    best, stated = min(medians), medians[len(UNITS) // 2]
    if 2 * best < stated:
        factor = float(f"{1 / UNITS[medians.index(best)]:.2g}")
        return values, [
            f"the depth files are about {factor:g} times what the poses say, as they agree to {best:.1%} from view to "
            f"view then: {ADVICE} that"
        ]
    if values["cross_view_error"] > 5 * NEARLY:
        text = f"median error {values['cross_view_error']:.1%} from view to view"
        return values, [f"the depth files do not fit the poses: {text}"]
    return values, []


def _agreement(ratio: Tensor) -> tuple[float, float]:
    """Median ratio, and the median relative deviation from it."""
    middle = ratio.median()
    return float(middle), float((ratio / middle - 1).abs().median())


def sampled_depth(scene: Scene, matches: Matches) -> tuple[Tensor, Tensor, Tensor]:
    """Stated depth, triangulated depth and |(x, y, 1)| at the matches of views that have depth files."""
    first, second, sure = triangulated(matches)
    seen = both_sights(matches, matches.cameras)
    stated, found, slant = [], [], []
    for side, (index, depth) in enumerate(zip(matches.sides(), (first, second), strict=True)):
        for view in index[sure].unique().tolist():
            values = scene.depth(view)
            if values is None:
                continue
            own = sure & (index == view)
            small = matches.cameras[view]
            scale = torch.tensor([values.shape[1] / small.width, values.shape[0] / small.height], dtype=torch.float64)
            at = values_at(values, matches.pixels[own, side] * scale).double()
            known = torch.isfinite(at)
            stated.append(at[known])
            found.append(depth[own][known])
            slant.append(seen[side].direction[own].norm(dim=-1)[known])
    nothing = torch.zeros(0, dtype=torch.float64)
    return torch.cat([nothing, *stated]), torch.cat([nothing, *found]), torch.cat([nothing, *slant])


def read_pairs(scene: Scene, pairs: Sequence[tuple[int, int]]) -> list[tuple[Tensor, Tensor, Cameras, Cameras]]:
    """Depth maps and cameras of pairs of views that both have depth."""
    wanted = sorted({index for pair in pairs for index in pair})
    depth = {index: values for index in wanted if (values := scene.depth(index)) is not None}
    return [(depth[i], depth[j], scene.cameras[i], scene.cameras[j]) for i, j in pairs if i in depth and j in depth]


def cross_view_errors(pairs: Sequence[tuple[Tensor, Tensor, Cameras, Cameras]], factor: float = 1.0) -> Tensor:
    """|z - z'| / z of points from the depth of one view, z in another and z' being the depth stored there.

    All depth is multiplied by `factor` first.
    """
    errors = [carried(factor * here, factor * there, a, b) for here, there, a, b in pairs]
    return torch.cat([torch.zeros(0, dtype=torch.float64), *errors])


def carried(here: Tensor, there: Tensor, a: Cameras, b: Cameras) -> Tensor:
    """Relative errors of a grid of points of view a that fall on known depth of view b."""
    rows, columns = (torch.linspace(0, n - 1, min(n, GRID)).round().long() for n in here.shape)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    depth = here[y, x].double().reshape(-1)
    rays = a.pixel_rays((torch.stack([x, y], -1).double() + 0.5).reshape(-1, 2))
    points = a.centers + rays.direction * (depth / (rays.direction @ a.forward))[:, None]
    pixels, z = b.project(points.nan_to_num(0.0))
    before = (z > 0) & torch.isfinite(depth)
    stored, z = values_at(there, pixels[before]).double(), z[before]
    return ((stored - z) / z).abs()[torch.isfinite(stored)]
