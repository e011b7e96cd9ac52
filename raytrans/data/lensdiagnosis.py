"""Mistakes of the lens that no list holds: a focal length wrong by any factor, distortion, half a pixel."""

import torch
from torch import Tensor

from raytrans.data.lensfit import corrected, fit_lens
from raytrans.data.matching import Matches
from raytrans.data.scoring import Finding, Score, distances, limit, scored
from raytrans.data.suspects import Suspect, no_distortion
from raytrans.geometry.cameras import Cameras
from raytrans.geometry.epipolar import Sights

TRIED, FITTED = 40, 300  # matches of a pair for the trial of every suspect, and for fits of the lens
ALIKE = 1.25  # scores within 25 % say the same
SIMPLY = 0.7
GAIN, SURE = 0.07, 4.0  # least gain of a fit of the lens, and least correction over its standard error
HALF, NEAR_HALF, CHI = 0.5, 0.4, 16.0
FOCALS = torch.linspace(-1.1, 1.1, 23, dtype=torch.float64)  # logarithms of 1/3 to 3


def tried(suspect: Suspect, matches: Matches, seen: tuple[Sights, Sights] | None = None) -> Finding:
    """A suspect as a finding, with the score on these matches; `seen` where their sights stay."""
    cameras = suspect.corrected(matches.cameras)
    return Finding(suspect.key, suspect.wrong, suspect.change, scored(matches, cameras, seen), cameras)


def with_focal(cameras: Cameras, logarithm: float | Tensor) -> Cameras:
    """Focal lengths multiplied by the exponential of one number."""
    values = torch.zeros(5, dtype=torch.float64)
    values[2] = logarithm
    return corrected(cameras, values)


def focal_scan(matches: Matches) -> Finding | None:
    """A focal length that is wrong by any factor from 1/3 to 3, or distortion, refined together."""
    cameras = matches.cameras
    scores = [scored(matches, with_focal(cameras, value)).median for value in FOCALS]
    start = FOCALS[scores.index(min(scores))]
    both = fit_lens(matches, with_focal(cameras, start), ("focal", "k1", "k2"), rounds=4).values
    score = scored(matches, corrected(with_focal(cameras, start), both))
    if not score.possible() or score.median > limit(cameras):
        return None
    alone = fit_lens(matches, with_focal(cameras, start), ("focal",), rounds=4).values
    plain = with_focal(cameras, start + alone[2])
    enough = scored(matches, plain)
    if not (enough.possible() and enough.median < ALIKE * score.median):
        plain, enough, alone = corrected(with_focal(cameras, start), both), score, both
    factor = float(torch.exp(start + alone[2]))
    if abs(factor - 1) < 0.01:
        return _distortion(cameras, both, score)
    change = f"multiply the focal lengths by {factor:.4g}"
    return Finding("focal", "the focal length is wrong", change, enough, plain)


def _distortion(cameras: Cameras, values: Tensor, score: Score) -> Finding:
    k1, k2 = float(values[3]), float(values[4])
    if cameras.distortion is None or not bool(cameras.distortion.coefficients.abs().max() > 0):
        wrong = "the images have lens distortion that the file does not state"
        change = f"state the distortion of the reconstruction, or about k1 = {k1:.3f}, k2 = {k2:.3f}"
    else:
        wrong = "the stated lens distortion is not that of the images"
        change = f"state the distortion of the reconstruction, or add about {k1:+.3f} to k1 and {k2:+.3f} to k2"
    return Finding("distortion", wrong, change, score, corrected(cameras, values))


def small_mistake(matches: Matches, ratio: float) -> Finding | None:
    """A small mistake of the lens under poses that are right: distortion, focal length, half a pixel."""
    matches = matches.thinned(FITTED)
    cameras, few = matches.cameras, matches.thinned(TRIED * 2)
    seen = distances(matches, cameras)

    def gain(changed: Cameras) -> float:
        """Share by which the mean distance falls, large ones counted as four medians."""
        after, most = distances(matches, changed), 4 * seen.nanmedian()
        return float(1 - after.clamp_max(most).nanmean() / seen.clamp_max(most).nanmean())

    better = []
    if cameras.distortion is not None:
        better.append(tried(no_distortion(), matches))
    for free in (("focal",), ("k1",), ("k1", "k2")):
        fit = fit_lens(few, cameras, free)
        if not bool((fit.values.abs() > SURE * fit.errors).any()):
            continue
        changed = corrected(cameras, fit.values)
        if "k1" in free:
            better.append(_distortion(cameras, fit.values, scored(matches, changed)))
        else:
            change = f"multiply the focal lengths by {float(fit.values[2].exp()):.4g}"
            better.append(
                Finding("focal", "the focal length is slightly wrong", change, scored(matches, changed), changed)
            )
    gains = [gain(finding.cameras) for finding in better]
    if gains and max(gains) > GAIN:
        # no lens at all explains more simply what a fitted one explains a little better
        simply = better[0].key == "undistorted" and gains[0] > max(GAIN, SIMPLY * max(gains))
        return better[0 if simply else gains.index(max(gains))]
    return _half_pixel(matches, ratio)


def _half_pixel(matches: Matches, ratio: float) -> Finding | None:
    """A principal point that half a pixel in x and y makes clearly better."""
    fit = fit_lens(matches, matches.cameras, ("x", "y"), rounds=2)
    shift, error = fit.values[:2] / ratio, fit.errors[:2].clamp_min(0.02) / ratio
    for half in (HALF, -HALF):
        won = float(((shift / error) ** 2).sum() - (((shift - half) / error) ** 2).sum())
        if won > CHI and bool(((shift - half).abs() < NEAR_HALF).all()):
            values = torch.tensor([half * ratio, half * ratio, 0, 0, 0], dtype=torch.float64)
            changed = corrected(matches.cameras, values)
            wrong = (
                "the principal point is off by half a pixel (is the centre of the first pixel (0, 0) or (0.5, 0.5)?)"
            )
            return Finding("half_pixel", wrong, f"add {half:+g} to cx and cy", scored(matches, changed), changed)
    return None
