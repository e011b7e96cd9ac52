"""What the pictures of a scene say about its cameras, its near and far, and its depth files."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from raytrans.data.boundscheck import check_bounds
from raytrans.data.conventions import COLMAP, CONVENTIONS, Convention
from raytrans.data.depthcheck import check_depth
from raytrans.data.diagnosis import diagnose
from raytrans.data.diagnosis import usable as is_usable
from raytrans.data.matching import LEAST, Matches, choose_pairs, match_views
from raytrans.data.scene import Scene
from raytrans.data.scoring import Finding, Score, distances


@dataclass(frozen=True)
class Inspection:
    """Results: the matches with their distances, the score, mistakes found, and what to say first."""

    matches: Matches
    distances: Tensor
    score: Score | None
    findings: list[Finding]
    bounds: dict[str, float | str] | None
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


def inspect_scene(
    scene: Scene,
    max_size: int = 640,
    views: int = 12,
    tell: Callable[[str, int, int], None] = lambda what, done, count: None,
) -> Inspection:
    """Match features between neighbouring views and hold them against cameras, near and far, and depth files.

    `tell(stage, done, count)` is called with how many steps of a stage are over. Raises ValueError for a scene of one
    view, and where an image cannot be read.
    """
    if len(scene) < 2:
        raise ValueError(f"{scene.path}: expected at least 2 views to compare, got {len(scene)}")
    matches = match_views(scene, choose_pairs(scene, views), max_size, tell)
    if not matches.views:
        verdict = f"cannot tell: none of {len(matches.tried)} pairs of views has {LEAST} matching features"
        nothing = torch.zeros(0, dtype=torch.float64)
        depth, remarks = check_depth(scene, matches)
        return Inspection(matches, nothing, None, [], None, depth, False, verdict, remarks)
    ratio = float(matches.cameras[0].width / scene.cameras[0].width)
    tell("trying mistakes", 0, 1)
    score, findings = diagnose(matches, convention_of(scene), ratio)
    usable = is_usable(score, findings, matches.cameras)
    tell("comparing depth", 0, 1)
    bounds = depth = None
    remarks = []
    if usable:
        bounds, said = check_bounds(scene, matches)
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
