"""How far matched features lie from where stated cameras allow them to be."""

from dataclasses import dataclass

import torch
from torch import Tensor

from raytrans.data.matching import Matches
from raytrans.geometry.cameras import Cameras
from raytrans.geometry.epipolar import Sights, epipolar_distance, meeting, sights
from raytrans.shapes import Float

LIMIT, REFERENCE = 2.0, 640  # pixels of median distance, at this long side, from which poses are of no use
PARALLAX = 0.02  # radians from which the place where two rays meet can be trusted
TELLING = 0.1  # least share of matches with parallax from which it is asked where they lie
FRONT = 0.7  # least share of matches that must lie before both cameras


@dataclass(frozen=True)
class Score:
    """Median symmetric epipolar distance in pixels, and the share of matches that lie before both cameras."""

    median: float
    front: float

    def possible(self) -> bool:
        return not self.front < FRONT  # NaN: no parallax to tell it by


@dataclass(frozen=True)
class Finding:
    """A mistake that explains the matches clearly better: what is wrong, what to change, score and cameras then."""

    key: str
    wrong: str
    change: str
    score: Score
    cameras: Cameras


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


def triangulated(matches: Matches) -> tuple[Tensor, Tensor, Tensor]:
    """Depths (n,) of all matches in their first and second view, and which of them can be trusted."""
    (a, b), poses = matches.sides(), matches.cameras.world_from_camera
    first, second, angle = meeting(*both_sights(matches, matches.cameras), poses[a], poses[b])
    near = distances(matches, matches.cameras) < limit(matches.cameras)
    return first, second, near & (angle > PARALLAX) & (first > 0) & (second > 0)
