"""What the pictures of a scene say about its cameras, its near and far, and its depth files."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from raytrans.data.conventions import COLMAP, CONVENTIONS, Convention
from raytrans.data.diagnosis import diagnose, fits
from raytrans.data.matching import LEAST, Matches, choose_pairs, match_views
from raytrans.data.scene import Scene
from raytrans.data.scoring import PARALLAX, Finding, Score, both_sights, distances, limit
from raytrans.geometry.cameras import Cameras
from raytrans.geometry.epipolar import meeting

CUT = 0.02  # share of matches outside near and far from which a bound is called wrong
SCALE = 1.1  # factor between depth files and matches from which their unit is called wrong
NEARLY = 0.01  # relative depth error that is not worth a remark
GRID = 48  # pixels along each side of a view that are carried into another


@dataclass(frozen=True)
class Inspection:
    """Results: the matches with their distances, the score, mistakes found, and what to say first."""

    matches: Matches
    distances: Tensor
    score: Score | None
    findings: list[Finding]
    bounds: dict[str, float] | None
    depth: dict[str, float] | None
    usable: bool
    verdict: str
    remarks: list[str]

    def pairs(self) -> list[dict[str, object]]:
        """Views, number of matches and median distance of every matched pair, the worst first."""
        rows = []
        for number, (i, j) in enumerate(self.matches.views):
            own = self.distances[self.matches.pair == number]
            rows.append({"views": [i, j], "matches": len(own), "median": float(own.nanmedian())})
        return sorted(rows, key=lambda row: -row["median"] if row["median"] == row["median"] else 0)


def convention_of(scene: Scene) -> Convention:
    """How the file of a scene stores poses; COLMAP's where it was not read from one."""
    return CONVENTIONS.get(scene.format, COLMAP)


def inspect_scene(scene: Scene, max_size: int = 640, views: int = 12) -> Inspection:
    """Match features between neighbouring views and hold them against cameras, near and far, and depth files.

    Raises ValueError for a scene of one view, and where an image cannot be read.
    """
    if len(scene) < 2:
        raise ValueError(f"{scene.path}: expected at least 2 views to compare, got {len(scene)}")
    matches = match_views(scene, choose_pairs(scene, views), max_size)
    if not matches.views:
        verdict = f"cannot tell: none of {len(matches.tried)} pairs of views has {LEAST} matching features"
        nothing = torch.zeros(0, dtype=torch.float64)
        return Inspection(matches, nothing, None, [], None, None, False, verdict, [])
    ratio = float(matches.cameras[0].width / scene.cameras[0].width)
    score, findings = diagnose(matches, convention_of(scene), ratio)
    usable = fits(score, limit(matches.cameras))
    bounds = depth = None
    remarks = []
    if usable:
        bounds, said = check_bounds(matches)
        remarks += said
        depth, said = check_depth(scene, matches)
        remarks += said
    verdict = told(matches, score, findings, usable)
    return Inspection(
        matches, distances(matches, matches.cameras), score, findings, bounds, depth, usable, verdict, remarks
    )


def told(matches: Matches, score: Score, findings: list[Finding], usable: bool) -> str:
    """The verdict in one sentence."""
    cameras = matches.cameras
    longest = int(torch.maximum(cameras.height, cameras.width).max())
    measured = f"median epipolar distance {score.median:.2f} pixels at {longest} pixels"
    if not score.possible():
        measured += f", {1 - score.front:.0%} of matches behind a camera"
    if not findings:
        return (
            f"the poses fit the pictures: {measured}"
            if usable
            else f"the poses do not fit the pictures ({measured}), and none of the usual mistakes explains it"
        )
    wrong, change = (", and ".join(getattr(one, part) for one in findings) for part in ("wrong", "change"))
    lead = "the poses are usable, but" if usable else "the poses do not fit the pictures:"
    return f"{lead} {wrong} ({measured}); {change}, which gives {findings[-1].score.median:.2f} pixels"


def triangulated(matches: Matches) -> tuple[Tensor, Tensor, Tensor]:
    """Depths (n,) of all matches in their first and second view, and which of them can be trusted."""
    (a, b), poses = matches.sides(), matches.cameras.world_from_camera
    first, second, angle = meeting(*both_sights(matches, matches.cameras), poses[a], poses[b])
    near = distances(matches, matches.cameras) < limit(matches.cameras)
    return first, second, near & (angle > PARALLAX) & (first > 0) & (second > 0)


def check_bounds(matches: Matches) -> tuple[dict[str, float] | None, list[str]]:
    """Depths of matches (1st and 99th percentile) beside the stated near and far, and what is wrong with those."""
    first, second, sure = triangulated(matches)
    if int(sure.sum()) < LEAST:
        return None, []
    depth = torch.cat([first[sure], second[sure]])
    view = torch.cat([side[sure] for side in matches.sides()])
    values = {"nearest": float(depth.quantile(0.01)), "farthest": float(depth.quantile(0.99))}
    remarks = []
    for name, outside in (("near", torch.lt), ("far", torch.gt)):
        bound = getattr(matches.cameras, name)
        if bound is None:
            continue
        values[name] = float(bound.median())
        values[f"beyond_{name}"] = share = float(outside(depth, bound[view]).double().mean())
        if share > CUT:
            end = values["nearest" if name == "near" else "farthest"]
            word = "before" if name == "near" else "behind"
            remarks.append(
                f"{name} is wrong: {share:.0%} of matches lie {word} it; stated {values[name]:.4g}, the matches "
                f"ask for {end:.4g}"
            )
    return values, remarks


def check_depth(scene: Scene, matches: Matches) -> tuple[dict[str, float] | None, list[str]]:
    """Depth files against triangulated matches and, carried from view to view, against each other."""
    stated, found, slant = sampled_depth(scene, matches)
    if len(stated) < LEAST:
        return None, []
    factor, error = _agreement(stated / found)
    slanted, along = _agreement(stated / slant / found)
    values = {"factor": factor, "error": error}
    crossed = cross_view_errors(scene, matches.views[:: max(1, len(matches.views) // 8)])
    values["cross_view_error"] = float(crossed.median()) if len(crossed) else float("nan")
    remarks = []
    if along < 0.5 * error and error > NEARLY:
        values |= {"along_the_ray_error": along}
        remarks.append(
            "the depth files hold the distance along the ray, not z-depth: divide by the length of (x, y, 1)"
        )
        factor = slanted
    if not 1 / SCALE < factor < SCALE:
        remarks.append(
            f"the depth files are {factor:.4g} times what the poses say: divide the depth scale "
            f"(depth_unit_scale_factor) by {factor:.4g}"
        )
    elif not remarks and max(error, values["cross_view_error"]) > 5 * NEARLY:
        text = f"{error:.1%} from the matches, {values['cross_view_error']:.1%} from view to view"
        remarks.append(f"the depth files do not fit the poses: median error {text}")
    return values, remarks


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
            x, y = (matches.pixels[own, side] * scale).long().unbind(-1)
            at = values[y.clamp(0, values.shape[0] - 1), x.clamp(0, values.shape[1] - 1)].double()
            known = torch.isfinite(at)
            stated.append(at[known])
            found.append(depth[own][known])
            slant.append(seen[side].direction[own].norm(dim=-1)[known])
    nothing = torch.zeros(0, dtype=torch.float64)
    return torch.cat([nothing, *stated]), torch.cat([nothing, *found]), torch.cat([nothing, *slant])


def cross_view_errors(scene: Scene, pairs: Sequence[tuple[int, int]]) -> Tensor:
    """|z - z'| / z of points from the depth of one view, z in another and z' being the depth stored there."""
    errors = [torch.zeros(0, dtype=torch.float64)]
    for i, j in pairs:
        here, there = scene.depth(i), scene.depth(j)
        if here is not None and there is not None:
            errors.append(carried(here, there, scene.cameras[i], scene.cameras[j]))
    return torch.cat(errors)


def carried(here: Tensor, there: Tensor, a: Cameras, b: Cameras) -> Tensor:
    """Relative errors of a grid of points of view a that fall on known depth of view b."""
    rows, columns = (torch.linspace(0, n - 1, min(n, GRID)).round().long() for n in here.shape)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    depth = here[y, x].double().reshape(-1)
    rays = a.pixel_rays((torch.stack([x, y], -1).double() + 0.5).reshape(-1, 2))
    points = a.centers + rays.direction * (depth / (rays.direction @ a.forward))[:, None]
    pixels, z = b.project(points.nan_to_num(0.0))
    column, row = pixels.floor().unbind(-1)
    inside = (column >= 0) & (row >= 0) & (column < b.width) & (row < b.height) & (z > 0) & torch.isfinite(depth)
    stored = there[row[inside].long(), column[inside].long()].double()
    return ((stored - z[inside]) / z[inside]).abs()[torch.isfinite(stored)]
