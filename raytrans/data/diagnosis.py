"""Whether matched features agree with stated cameras, and which of the usual mistakes would explain it if not."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from raytrans.data.lensfit import corrected, fit_lens
from raytrans.data.matching import Matches
from raytrans.data.suspects import Suspect, lens_suspects, no_distortion, pose_suspects
from raytrans.geometry.cameras import Cameras
from raytrans.geometry.epipolar import Sights, epipolar_distance, meeting, sights
from raytrans.shapes import Float

LIMIT, REFERENCE = 2.0, 640  # pixels of median distance, at this long side, from which poses are of no use
PARALLAX = 0.02  # radians from which the place where two rays meet can be trusted
TELLING = 0.1  # least share of matches with parallax from which it is asked where they lie
FRONT = 0.7  # least share of matches that must lie before both cameras
TRIED, FITTED = 40, 300  # matches of a pair for the trial of every suspect, and for fits of the lens
CLEAR, ALIKE = 0.5, 1.25  # a suspect must halve the median; among those within 25 % of the best the first is named
GAIN, SURE = 0.07, 4.0  # least gain of a fit of the lens, and least correction over its standard error
HALF, NEAR_HALF, CHI = 0.5, 0.4, 16.0


@dataclass(frozen=True)
class Score:
    """Median symmetric epipolar distance in pixels, and the share of matches that lie before both cameras."""

    median: float
    front: float

    def possible(self) -> bool:
        return not self.front < FRONT  # NaN: no parallax to tell it by


@dataclass(frozen=True)
class Finding:
    """A mistake that explains the matches clearly better: what is wrong, what to change, and the score after that."""

    key: str
    wrong: str
    change: str
    score: Score


def limit(cameras: Cameras) -> float:
    """Median distance in pixels of these cameras beyond which their poses are unusable."""
    longest = float(torch.maximum(cameras.height, cameras.width).double().median())
    return LIMIT * max(longest / REFERENCE, 0.4)


def distances(matches: Matches, cameras: Cameras, seen: tuple[Sights, Sights] | None = None) -> Float[Tensor, " n"]:
    """Symmetric epipolar distance of every match in pixels."""
    (a, b), poses = matches.sides(), cameras.world_from_camera
    return epipolar_distance(*(seen or both_sights(matches, cameras)), poses[a], poses[b])


def both_sights(matches: Matches, cameras: Cameras) -> tuple[Sights, Sights]:
    """Sights of the first and second pixels of all matches."""
    a, b = matches.sides()
    return sights(cameras[a], matches.pixels[:, 0]), sights(cameras[b], matches.pixels[:, 1])


def scored(matches: Matches, cameras: Cameras, seen: tuple[Sights, Sights] | None = None) -> Score:
    """Score of some cameras on matches."""
    seen = seen or both_sights(matches, cameras)
    (a, b), poses = matches.sides(), cameras.world_from_camera
    first, second, angle = meeting(*seen, poses[a], poses[b])
    distance = distances(matches, cameras, seen)
    # where nearly all views stand close together, what parallax there is comes from false matches
    apart = (angle > PARALLAX) & (angle < torch.pi - PARALLAX) & (distance <= limit(cameras))
    enough = int(apart.sum()) >= max(20, TELLING * len(apart))
    front = ((first > 0) & (second > 0))[apart].double().mean() if enough else torch.tensor(torch.nan)
    return Score(float(distance.nanmedian()), float(front))


def diagnose(matches: Matches, opengl: bool, ratio: float = 1.0) -> tuple[Score, Finding | None]:
    """Score of the stated cameras, and the mistake that explains the matches clearly better, if any.

    opengl: the format of the file has OpenGL camera axes. ratio: pixels of the matches per pixel of the full images.
    """
    cameras, few = matches.cameras, matches.thinned(TRIED)
    stated = scored(matches, cameras)
    if stated.median <= limit(cameras) and stated.possible():
        return stated, _fine(matches.thinned(FITTED), stated, ratio)
    usual = _coarse(few, cameras, scored(few, cameras), opengl)
    if usual is not None and usual.score.median < limit(cameras) / 4:
        return stated, usual
    found = [finding for finding in (usual, _focal_scan(few, cameras)) if finding is not None]
    return stated, min(found, key=lambda finding: finding.score.median, default=None)


def _coarse(matches: Matches, cameras: Cameras, stated: Score, opengl: bool) -> Finding | None:
    """The first of the suspects that explain the matches about as well as the best one does."""
    seen = both_sights(matches, cameras)
    tried = [(s, scored(matches, s.corrected(cameras), seen)) for s in pose_suspects(opengl)]
    tried += [(s, scored(matches, s.corrected(cameras))) for s in lens_suspects(cameras)]
    return _first_of_the_best(tried, cameras, stated)


def _first_of_the_best(tried: Iterable[tuple[Suspect, Score]], cameras: Cameras, stated: Score) -> Finding | None:
    most = limit(cameras) if not stated.possible() else min(limit(cameras), CLEAR * stated.median)
    fitting = [(suspect, score) for suspect, score in tried if score.possible() and score.median <= most]
    if not fitting:
        return None
    best = min(score.median for _, score in fitting)
    suspect, score = next(one for one in fitting if one[1].median <= ALIKE * best)
    return Finding(suspect.key, suspect.wrong, suspect.change, score)


def _focal_scan(matches: Matches, cameras: Cameras) -> Finding | None:
    """A focal length that is wrong by any factor from 1/3 to 3, refined together with the distortion."""
    grid = torch.linspace(-1.1, 1.1, 23, dtype=torch.float64)
    values = torch.zeros(23, 5, dtype=torch.float64)
    values[:, 2] = grid
    scores = [scored(matches, corrected(cameras, value)).median for value in values]
    start = corrected(cameras, values[scores.index(min(scores))])
    fit = fit_lens(matches, start, ("focal", "k1", "k2"), rounds=4)
    score = scored(matches, corrected(start, fit.values))
    if not score.possible() or score.median > limit(cameras):
        return None
    factor = float(torch.exp(grid[scores.index(min(scores))] + fit.values[2]))
    if abs(factor - 1) < 0.01:
        return _distortion(cameras, fit.values, score)
    return Finding("focal", "the focal length is wrong", f"multiply the focal lengths by {factor:.4g}", score)


def _distortion(cameras: Cameras, values: Tensor, score: Score) -> Finding:
    k1, k2 = float(values[3]), float(values[4])
    if cameras.distortion is None or not bool(cameras.distortion.coefficients.abs().max() > 0):
        wrong = "the images have lens distortion that the file does not state"
        change = f"state the distortion of the reconstruction, or about k1 = {k1:.3f}, k2 = {k2:.3f}"
    else:
        wrong = "the stated lens distortion is not that of the images"
        change = f"state the distortion of the reconstruction, or add about {k1:+.3f} to k1 and {k2:+.3f} to k2"
    return Finding("distortion", wrong, change, score)


def _fine(matches: Matches, stated: Score, ratio: float) -> Finding | None:
    """Small mistakes of the lens under poses that are right: distortion, focal length, half a pixel."""
    cameras = matches.cameras
    seen = distances(matches, cameras)
    few = matches.thinned(TRIED * 2)

    def gain(changed: Cameras) -> float:
        """Share by which the mean distance falls, large ones counted as four medians."""
        after, most = distances(matches, changed), 4 * seen.nanmedian()
        return float(1 - after.clamp_max(most).nanmean() / seen.clamp_max(most).nanmean())

    found = []
    if cameras.distortion is not None and (better := gain(no_distortion().corrected(cameras))) > GAIN:
        plain = no_distortion()
        score = scored(matches, plain.corrected(cameras))
        found.append((better, Finding(plain.key, plain.wrong, plain.change, score)))
    for free in (("focal",), ("k1", "k2")):
        fit = fit_lens(few, cameras, free)
        changed = corrected(cameras, fit.values)
        if bool((fit.values.abs() > SURE * fit.errors).any()) and (better := gain(changed)) > GAIN:
            score = scored(matches, changed)
            focal = f"multiply the focal lengths by {float(fit.values[2].exp()):.4g}"
            slightly = Finding("focal", "the focal length is slightly wrong", focal, score)
            found.append((better, _distortion(cameras, fit.values, score) if "k1" in free else slightly))
    if found:
        return max(found, key=lambda one: one[0])[1]
    return _half_pixel(matches, ratio)


def _half_pixel(matches: Matches, ratio: float) -> Finding | None:
    """A principal point that half a pixel in x and y makes clearly better."""
    fit = fit_lens(matches, matches.cameras, ("x", "y"), rounds=2)
    shift, error = fit.values[:2] / ratio, fit.errors[:2].clamp_min(0.02) / ratio
    for half in (HALF, -HALF):
        won = float(((shift / error) ** 2).sum() - (((shift - half) / error) ** 2).sum())
        if won > CHI and bool(((shift - half).abs() < NEAR_HALF).all()):
            values = torch.tensor([half * ratio, half * ratio, 0, 0, 0], dtype=torch.float64)
            score = scored(matches, corrected(matches.cameras, values))
            wrong = (
                "the principal point is off by half a pixel (is the centre of the first pixel (0, 0) or (0.5, 0.5)?)"
            )
            return Finding("half_pixel", wrong, f"add {half:+g} to cx and cy", score)
    return None
