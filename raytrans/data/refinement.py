"""Cameras of an RGB-D capture, refined by bundle adjustment of matched features with their measured depth.

Fits with more and more freedom are tried: the poses alone; a factor of the focal lengths and k1 as well, shared by all
views; and depth maps that are those of a camera of their own at the same place, with the stated lens. Each is judged
by matches that it was not fitted to: either half of them is fitted and measured by the other. It is taken only where
the median error is 5 % smaller than that of the best before it, the stated cameras first: cameras that were right stay
as they are. Depth gives the scale. Where the cameras as a whole stand cannot be seen: they are put back onto
the stated ones, by the mean rotation and the mean centre, and so is every group of views that shares no matches with
the others. The fit itself: `raytrans.data.bundle`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from raytrans.data.bundle import FLOOR, LENS, Sightings, adjusted, cost, errors_of, median, posed
from raytrans.data.images import values_at
from raytrans.data.lensfit import corrected
from raytrans.data.matching import LEAST, Matches
from raytrans.data.scene import Scene
from raytrans.data.scoring import limit
from raytrans.geometry.cameras import Cameras
from raytrans.shapes import Float, Int

GAPS = (1, 2, 3, 5, 8, 13, 21, 34)  # in the order of the files, as a video has it
NEAREST = 6
LOOKUPS, AGAIN = 20, 1 - 1e-4  # rounds at most; times the mean that a further round has to reach
CLEARLY = 0.95  # times the error of less free cameras: what a fit has to reach on other matches to be taken
MOST_VIEWS = 1000
MOST_MATCHES = 200_000  # of all pairs together; more say the same again
TIED = 10  # matches of known depth that tie two views together
WORSE = 3.0  # times the median error of all: what a view that does not fit the others is off by at least
MEASURED = 0.5  # least share of views that must have been moved


@dataclass(frozen=True)
class Refinement:
    """Cameras (N,) at full size, and what the fit says.

    before, after: median reprojection error in pixels of the matched pictures. separate: whether the depth maps fit
    better as those of a camera of their own, with the stated lens, than as pixels of the pictures. groups: views that
    matches tie to each other; kept: those tied to no other, whose poses stay as stated; doubtful: those whose own
    median error is more than thrice that of all, and beyond what cameras that fit stay below. moved: median distance of
    the views in groups from their stated centres, in units of the poses.
    """

    cameras: Cameras
    before: float
    after: float
    separate: bool
    groups: list[list[int]]
    kept: list[int]
    doubtful: list[int]
    moved: float

    def depth(self, scene: Scene, index: int) -> Float[Tensor, "height width"] | None:
        """z-depth of a view of the scene at the pixels of its refined camera, NaN where unknown; None without depth."""
        values, camera = scene.depth(index), self.cameras[index]
        if values is None or not self.separate:
            return values
        rows, columns = (torch.arange(int(n), dtype=torch.float64) + 0.5 for n in (camera.height, camera.width))
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        return _read(values, torch.stack([x, y], -1), camera, scene.cameras[index]).float()


DepthOf = Callable[[int], Tensor | None]


def pairs_to_match(scene: Scene) -> list[tuple[int, int]]:
    """Pairs that may show the same: every view with its 6 nearest and those 1, 2, 3, 5, ... 34 files later.

    Raises ValueError for a scene of one view, or of more than 1000.
    """
    _check_count(scene)
    count = len(scene)
    partners = {(i, i + gap) for gap in GAPS for i in range(count - gap)}
    for i in range(count):
        partners |= {(min(i, j), max(i, j)) for j in scene.nearest(scene.cameras[i], NEAREST, exclude=[i])}
    return sorted(partners)


def refine_cameras(
    scene: Scene,
    matches: Matches,
    keep_lens: bool = False,
    tell: Callable[[str, int, int], None] = lambda what, done, count: None,
) -> Refinement:
    """Cameras of a scene with depth maps that fit matched features best; `keep_lens` leaves all but the poses.

    tell("fitting cameras", done, count) is called before each fit. Matches where a view is masked do not count. Where
    there are more than 200,000 matches, every pair gives an even part of its own, at most 200,000 over the number of
    pairs and 20 at least.

    See `Refinement`. Raises ValueError for a scene of one view or of more than 1000, for matches of another number of
    views, and where fewer than half of the views share 10 matches of known depth with another.
    """
    _check_count(scene)
    if len(matches.cameras) != len(scene):
        raise ValueError(f"matches: expected those of {len(scene)} views, got those of {len(matches.cameras)}")
    matches = _unmasked(matches, scene)
    if len(matches.pair) > MOST_MATCHES:
        matches = matches.thinned(max(LEAST, MOST_MATCHES // len(matches.views)))
    matches, groups = _tied(matches, scene.depth)
    used = sorted(i for group in groups for i in group)
    if len(used) < max(2, MEASURED * len(scene)):
        raise ValueError(
            f"{scene.path}: expected at least half of the views to share {TIED} matches of known depth with another, "
            f"got {len(used)} of {len(scene)}"
        )
    stated = matches.cameras
    best = as_stated = _looked_up(matches, scene.depth, False, stated)
    least, chosen = as_stated.after, None
    freedom = [((), False)] if keep_lens else [((), False), (LENS, False), (LENS, True)]
    for done, (free, separate) in enumerate(freedom):
        tell("fitting cameras", done, len(freedom) + 1)
        error = _judged(matches, scene.depth, separate, free)
        if error < CLEARLY * least:
            least, chosen = error, (separate, free)
    poses, cameras = stated.world_from_camera, scene.cameras
    if chosen is not None:
        tell("fitting cameras", len(freedom), len(freedom) + 1)
        best = _fitted(matches, scene.depth, *chosen)
        poses = put_back(best.cameras.world_from_camera, poses, groups)
        cameras = _at_full_size(scene.cameras, best.cameras, poses)
    return Refinement(
        cameras,
        as_stated.after,
        best.after,
        best.separate,
        groups,
        [i for i in range(len(scene)) if i not in set(used)],
        _doubtful(best, max(limit(stated), WORSE * best.after)),
        float((poses[used, :3, 3] - stated.centers[used]).norm(dim=-1).median()),
    )


def _check_count(scene: Scene) -> None:
    if not 2 <= len(scene) <= MOST_VIEWS:
        raise ValueError(f"{scene.path}: expected 2 to {MOST_VIEWS} views, got {len(scene)}")


def put_back(
    poses: Float[Tensor, "n 4 4"], stated: Float[Tensor, "n 4 4"], groups: Sequence[Sequence[int]]
) -> Float[Tensor, "n 4 4"]:
    """Poses, each group moved onto its stated ones by the mean rotation and the mean centre; all others as stated.

    The mean rotation is the one nearest to the sum of R_stated R^T, the chordal L2 mean (Hartley et al., Rotation
    Averaging, 2013).
    """
    out = stated.clone()
    for group in groups:
        own, target = poses[list(group)], stated[list(group)]
        left, _, right = torch.linalg.svd((target[:, :3, :3] @ own[:, :3, :3].transpose(-1, -2)).sum(0))
        sign = torch.ones(3, dtype=left.dtype).index_fill(0, torch.tensor(2), float(torch.linalg.det(left @ right)))
        turn = left @ sign.diag() @ right
        out[list(group), :3, :3] = turn @ own[:, :3, :3]
        out[list(group), :3, 3] = (own[:, :3, 3] - own[:, :3, 3].mean(0)) @ turn.T + target[:, :3, 3].mean(0)
    return out


@dataclass(frozen=True)
class _Fit:
    cameras: Cameras
    seen: Sightings
    after: float
    mean: float  # of what is minimised, at the least width
    separate: bool


def _looked_up(matches: Matches, depth_of: DepthOf, separate: bool, cameras: Cameras) -> _Fit:
    seen = sightings(matches, depth_of, cameras if separate else matches.cameras)
    errors = errors_of(cameras, seen)
    mean = cost(errors, FLOOR) / len(errors) if len(errors) else float("inf")
    return _Fit(cameras, seen, median(errors), mean, separate)


def _fitted(matches: Matches, depth_of: DepthOf, separate: bool, free: Sequence[int]) -> _Fit:
    """The best round: where depth is read moves with the lens, so rounds go on while depth read anew fits better."""
    stated, lens = matches.cameras, torch.zeros(5, dtype=torch.float64)
    poses, best = stated.world_from_camera, _looked_up(matches, depth_of, separate, stated)
    for _ in range(LOOKUPS if separate else 1):
        poses, lens = adjusted(stated, best.seen, poses, lens, free)
        found = _looked_up(matches, depth_of, separate, posed(corrected(stated, lens), poses))
        if not found.mean < best.mean:
            break
        again, best = found.mean < AGAIN * best.mean, found
        if not again:
            break
    return best


def _judged(matches: Matches, depth_of: DepthOf, separate: bool, free: Sequence[int]) -> float:
    """Median error of either half of the matches with the cameras that fit the other half."""
    even = torch.arange(len(matches.pair)) % 2 == 0
    halves = [replace(matches, pair=matches.pair[half], pixels=matches.pixels[half]) for half in (even, ~even)]
    errors = []
    for half, other in (halves, halves[::-1]):
        cameras = _fitted(half, depth_of, separate, free).cameras
        errors.append(errors_of(cameras, _looked_up(other, depth_of, separate, cameras).seen))
    return median(torch.cat(errors))


def _doubtful(fit: _Fit, most: float) -> list[int]:
    """Views in which the median of their own matches is off by more than `most` pixels."""
    errors, seen = errors_of(fit.cameras, fit.seen), fit.seen
    views = torch.cat([seen.first, seen.second]).unique().tolist()
    return [i for i in views if median(errors[(seen.first == i) | (seen.second == i)]) > most]


def sightings(matches: Matches, depth_of: DepthOf, cameras: Cameras) -> Sightings:
    """Matches with the depth that one of both views has there, each view in turn the first.

    cameras: those of the pictures; the depth maps (H, W), NaN where unknown, belong to the cameras of `matches`, at the
    same places.
    """
    sides, depth = torch.stack(matches.sides()), _depths(matches, depth_of, cameras)
    own, row = torch.isfinite(depth).nonzero(as_tuple=True)
    order = (sides[own, row] * len(matches.cameras) + sides[1 - own, row]).argsort(stable=True)
    own, row = own[order], row[order]
    pixels = torch.stack([matches.pixels[row, own], matches.pixels[row, 1 - own]], 1)
    return Sightings(sides[own, row], sides[1 - own, row], pixels, depth[own, row])


def _depths(matches: Matches, depth_of: DepthOf, cameras: Cameras) -> Float[Tensor, "2 n"]:
    """z-depth of either view at every match, NaN where unknown."""
    sides = torch.stack(matches.sides())
    depth = torch.full(sides.shape, torch.nan, dtype=torch.float64)
    for view in sides.unique().tolist():
        values = depth_of(view)
        if values is not None:
            own, row = (sides == view).nonzero(as_tuple=True)
            depth[own, row] = _read(values, matches.pixels[row, own], cameras[view], matches.cameras[view])
    return torch.where(torch.isfinite(depth) & (depth > 0), depth, torch.nan)


def _unmasked(matches: Matches, scene: Scene) -> Matches:
    """Matches of which neither pixel is masked."""
    sides = torch.stack(matches.sides())
    kept = torch.ones(len(matches.pair), dtype=torch.bool)
    for view in sides.unique().tolist():
        mask = scene.mask(view)
        if mask is not None:
            own, row = (sides == view).nonzero(as_tuple=True)
            camera = matches.cameras[view]
            kept[row[~(_read(mask, matches.pixels[row, own], camera, camera) == 1)]] = False
    return replace(matches, pair=matches.pair[kept], pixels=matches.pixels[kept])


def _tied(matches: Matches, depth_of: DepthOf) -> tuple[Matches, list[list[int]]]:
    """Matches of the pairs of views that at least 10 of known depth tie together, and the groups these make."""
    known = torch.isfinite(_depths(matches, depth_of, matches.cameras)).any(0)
    count, (first, second) = len(matches.cameras), matches.sides()
    both = torch.minimum(first, second) * count + torch.maximum(first, second)
    ties = torch.bincount(both[known], minlength=count**2)
    strong = (ties >= TIED).nonzero()[:, 0]
    kept = torch.isin(both, strong)
    tied = replace(matches, pair=matches.pair[kept], pixels=matches.pixels[kept])
    return tied, connected(count, strong // count, strong % count)


def connected(count: int, first: Int[Tensor, " n"], second: Int[Tensor, " n"]) -> list[list[int]]:
    """Groups of two or more of `count` views that pairs tie together, directly or through others, each rising."""
    ends, lowest = torch.cat([first, second]), torch.arange(count)
    while True:
        low = torch.minimum(lowest[first], lowest[second])
        spread = lowest.scatter_reduce(0, ends, torch.cat([low, low]), "amin")
        if torch.equal(spread, lowest):
            break
        lowest = spread
    groups = [(lowest == label).nonzero()[:, 0].tolist() for label in lowest.unique()]
    return [group for group in groups if len(group) > 1]


def relensed(camera: Cameras, pixels: Float[Tensor, "*n 2"], other: Cameras) -> Float[Tensor, "*n 2"]:
    """Pixels of one camera as those of another lens at the same place that look the same way."""
    here = posed(camera, torch.eye(4, dtype=torch.float64))
    return posed(other, torch.eye(4, dtype=torch.float64)).project(here.pixel_rays(pixels).direction)[0]


def _read(values: Tensor, pixels: Float[Tensor, "*n 2"], camera: Cameras, of_map: Cameras) -> Float[Tensor, "*n"]:
    scale = torch.tensor([values.shape[1] / of_map.width, values.shape[0] / of_map.height], dtype=torch.float64)
    return values_at(values, relensed(camera, pixels, of_map) * scale).double()


def _at_full_size(stated: Cameras, fitted: Cameras, poses: Tensor) -> Cameras:
    out = [small.resized(int(one.height), int(one.width)) for one, small in zip(stated, fitted, strict=True)]
    lenses = Cameras.stack(out)
    size = torch.stack([stated.height, stated.width], -1)
    return Cameras(lenses.intrinsics, poses, size, lenses.distortion, stated.near, stated.far)
