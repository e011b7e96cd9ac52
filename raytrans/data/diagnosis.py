"""Whether matched features agree with stated cameras, and which of the usual mistakes would explain it if not."""

import math
from collections.abc import Iterable
from dataclasses import replace

from raytrans.data.conventions import Convention
from raytrans.data.lensdiagnosis import ALIKE, FOCALS, TRIED, focal_scan, small_mistake, tried, with_focal
from raytrans.data.matching import Matches
from raytrans.data.scoring import Finding, Score, both_sights, limit, scored
from raytrans.data.suspects import lens_suspects, pose_suspects
from raytrans.geometry.cameras import Cameras
from raytrans.geometry.epipolar import Sights

CLEAR = 0.5  # a mistake must halve the median, and so must a second one
SURE = 4  # a median this many times below the limit needs no other explanation
SLIGHT = 0.05  # logarithm of a focal length's correction beyond which it is no slight one, whatever the pixels say
NO_MORE = {"distortion", "undistorted"}
FAINT = "half_pixel"  # told by the best pairs only, and wrong poses chose others
ROUGHLY = 2  # and so far above the limit it may be where a focal length within 10 % was tried
GLANCE, PROMISING = 12, 6  # matches of a pair for the ranking of poses with any lens, and poses tried in earnest


def diagnose(matches: Matches, file: Convention, ratio: float = 1.0) -> tuple[Score, list[Finding]]:
    """Score of the stated cameras, and the mistakes that explain the matches clearly better, each after those before.

    At most one of the poses and one of the lens, or a small one of the lens. ratio: pixels of the matches per pixel of
    the full images.
    """
    cameras = matches.cameras
    stated = scored(matches, cameras)
    if fits(stated, limit(cameras)):
        small = small_mistake(matches, ratio)
        if small and is_grave(small, stated, cameras):
            small = _named(small, matches)
        return stated, [small] if small else []
    few = matches.thinned(TRIED)
    findings = _one(few, stated, file)
    if not findings or not _surely(findings[-1]):
        most = CLEAR * min([limit(cameras), *(finding.score.median for finding in findings)])
        findings = _two(few, file, most) or findings
    findings = [replace(one, score=scored(matches, one.cameras)) for one in findings]
    return stated, findings + _after(findings, matches, ratio)


def _after(findings: list[Finding], matches: Matches, ratio: float) -> list[Finding]:
    """A small mistake that is left when those found are undone, but half a pixel; not asked where a lens was fitted."""
    keys = {finding.key for finding in findings}
    if not findings or keys & NO_MORE:
        return []
    small = small_mistake(replace(matches, cameras=findings[-1].cameras), ratio)
    return [small] if small and small.key not in {*keys, FAINT} else []


def fits(score: Score, most: float) -> bool:
    """Whether poses of this score are of use."""
    return score.possible() and score.median <= most


def is_grave(finding: Finding, stated: Score, cameras: Cameras) -> bool:
    """Whether undoing a mistake changes the focal length by more than 5 %, or distortion makes the median a quarter.

    Views close together fit within the limit under a focal length that is wrong by half.
    """
    focal = finding.cameras.intrinsics[:, (0, 1), (0, 1)] / cameras.intrinsics[:, (0, 1), (0, 1)]
    bent = finding.key in NO_MORE and finding.score.median < stated.median / SURE
    return bent or bool((focal.log().abs() > SLIGHT).any())


def usable(stated: Score, findings: list[Finding], cameras: Cameras) -> bool:
    """Whether stated cameras fit, and no mistake is named that is more than slight."""
    return fits(stated, limit(cameras)) and not any(is_grave(one, stated, cameras) for one in findings)


def _named(small: Finding, matches: Matches) -> Finding:
    """The listed mistake of the lens, or the focal length of any factor, that explains what a grave small one does."""
    few = matches.thinned(TRIED)
    most = ALIKE * scored(few, small.cameras).median
    better = _first_of_the_best(_of_lens(few), most) or focal_scan(few)
    if better is None or not fits(better.score, most):
        return replace(small, wrong=small.wrong.replace("slightly ", ""))
    return replace(better, score=scored(matches, better.cameras))


def _one(matches: Matches, stated: Score, file: Convention) -> list[Finding]:
    """The first of the mistakes that explain the matches about as well as the best one does."""
    most = limit(matches.cameras)
    most = min(most, CLEAR * stated.median) if stated.possible() else most
    poses = _of_poses(matches, file)
    listed = _first_of_the_best(poses, most)
    if listed and _surely(listed):
        return [listed]
    listed = _first_of_the_best([*poses, *_of_lens(matches)], most)
    return [listed] if listed and _surely(listed) else _best([listed, focal_scan(matches)])


def _two(matches: Matches, file: Convention, most: float) -> list[Finding]:
    """A mistake of the poses and one of the lens that leave together a median of `most`."""
    few = matches.thinned(GLANCE)
    lenses = [suspect.corrected(matches.cameras) for suspect in lens_suspects(matches.cameras)]
    seen = [both_sights(few, one) for one in (*lenses, *(with_focal(matches.cameras, f) for f in FOCALS[::2]))]
    poses = _of_poses(matches, file)
    medians = [min(_possible_median(few, pose, one) for one in seen) for pose in poses]
    pairs = []
    best = sorted(range(len(poses)), key=medians.__getitem__)[:PROMISING]
    for pose in [poses[k] for k in sorted(best) if medians[k] < ROUGHLY * limit(matches.cameras)]:
        rest = replace(matches, cameras=pose.cameras)
        listed = _first_of_the_best(_of_lens(rest), most)
        lens = [listed] if listed and _surely(listed) else _best([listed, focal_scan(rest)])
        pairs += [(pose, one) for one in lens]
    second = _first_of_the_best([lens for _, lens in pairs], most)
    return next(([pose, lens] for pose, lens in pairs if lens is second), [])


def _possible_median(matches: Matches, pose: Finding, seen: tuple[Sights, Sights]) -> float:
    score = scored(matches, pose.cameras, seen)
    return score.median if score.possible() else math.inf


def _surely(finding: Finding) -> bool:
    """Whether the matches ask for no further mistake that is not small."""
    return finding.score.median < limit(finding.cameras) / SURE


def _of_poses(matches: Matches, file: Convention) -> list[Finding]:
    """Every mistake of the poses with its score."""
    seen = both_sights(matches, matches.cameras)
    return [tried(suspect, matches, seen) for suspect in pose_suspects(file)]


def _of_lens(matches: Matches) -> list[Finding]:
    """Every listed mistake of the lens with its score."""
    return [tried(suspect, matches) for suspect in lens_suspects(matches.cameras)]


def _best(findings: Iterable[Finding | None]) -> list[Finding]:
    """The one with the lowest median; none of none."""
    return sorted((one for one in findings if one is not None), key=lambda one: one.score.median)[:1]


def _first_of_the_best(findings: Iterable[Finding], most: float) -> Finding | None:
    """The first whose median is about the lowest, where that is at most `most`."""
    fitting = [one for one in findings if fits(one.score, most)]
    best = min((one.score.median for one in fitting), default=math.inf)
    return next((one for one in fitting if one.score.median <= ALIKE * best), None)
