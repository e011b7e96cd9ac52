"""Near and far against sparse points whose depths the test knows, and points in a wrong frame."""

from pathlib import Path

import numpy as np
import pytest
import torch

from raytrans import Cameras
from raytrans.data import Frame, Scene, SparsePoints
from raytrans.data.boundscheck import check_bounds
from raytrans.data.matching import Matches

Z = np.linspace(2.0, 10.0, 200)


def rig(near: float | None = None, far: float | None = None) -> Cameras:
    """Three cameras side by side that look along z."""
    poses = torch.eye(4, dtype=torch.float64).repeat(3, 1, 1)
    poses[:, 0, 3] = torch.tensor([0.0, 0.5, 1.0])
    k = torch.tensor([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]], dtype=torch.float64).expand(3, 3, 3)
    bounds = {name: torch.full((3,), value) for name, value in (("near", near), ("far", far)) if value is not None}
    return Cameras(k, poses, (480, 640), **bounds)


def world() -> np.ndarray:
    return np.stack([0.1 * np.sin(7 * Z), 0.1 * np.cos(11 * Z), Z], 1)


def seen(xyz: np.ndarray, count: int = 3) -> list[np.ndarray]:
    """Pixels (x f / z + c) of points in the three cameras."""
    return [
        np.stack([500 * (xyz[:, 0] - 0.5 * i) / xyz[:, 2] + 320, 500 * xyz[:, 1] / xyz[:, 2] + 240], 1)
        for i in range(count)
    ]


def inspected(cameras: Cameras, points: SparsePoints | None) -> tuple[dict | None, list[str]]:
    """Bounds of a scene with exact matches of the same points."""
    pixels = [torch.from_numpy(pixel) for pixel in seen(world())]
    views = [(0, 1), (1, 2)]
    pairs = torch.cat([torch.stack([pixels[i], pixels[j]], 1) for i, j in views])
    matches = Matches(cameras, views, torch.arange(2).repeat_interleave(len(Z)), pairs, views)
    frames = [Frame(Path(f"{i}.png")) for i in range(3)]
    return check_bounds(Scene(cameras, frames, points=None if points is None else lambda: points), matches)


def cloud(xyz: np.ndarray, observed: bool = True, noise: float = 0.0) -> SparsePoints:
    which = np.arange(len(xyz))
    pixels = [(which, pixel + noise) for pixel in seen(world()[: len(xyz)])] if observed else None
    return SparsePoints(xyz, np.zeros((len(xyz), 3), np.uint8), pixels)


def test_bounds_are_those_of_the_observed_points():
    near_half = world()[:100]  # z from 2 to 6 only: the matches reach 10
    values, remarks = inspected(rig(1.5, 7.0), cloud(near_half))
    assert values["measured_on"] == "sparse points" and remarks == []
    np.testing.assert_allclose([values["nearest"], values["farthest"]], np.quantile(Z[:100], [0.01, 0.99]), atol=0.02)
    assert values["points_error"] < 1e-6


def test_bounds_are_those_of_the_matches_without_points():
    values, remarks = inspected(rig(1.5, 7.0), None)
    assert values["measured_on"] == "matches" and values["farthest"] > 9.5
    assert len(remarks) == 1 and "far is wrong: 3" in remarks[0] and "of matches lie behind it" in remarks[0]


@pytest.mark.parametrize(("near", "far", "words"), [(4.0, 20.0, "near is wrong: 25%"), (1.0, 6.0, "far is wrong: 50%")])
def test_wrong_bounds_are_told_by_the_points(near, far, words):
    values, remarks = inspected(rig(near, far), cloud(world()))
    assert len(remarks) == 1 and words in remarks[0] and "sparse points" in remarks[0]


def test_points_in_another_frame_are_told():
    flipped = world() * [1.0, -1.0, 1.0] + [0.3, 0.0, 0.0]
    values, remarks = inspected(rig(), cloud(flipped))
    assert values["points_error"] > 10 and "do not fit the poses" in remarks[0]
    _, remarks = inspected(rig(), cloud(world() * -1.0, observed=False))
    assert len(remarks) == 1 and "100% of the sparse points lie in no view" in remarks[0]


def test_points_in_the_frame_of_the_poses_have_no_remark():
    values, remarks = inspected(rig(), cloud(world(), noise=0.5))
    assert remarks == []
    np.testing.assert_allclose(values["points_error"], np.hypot(0.5, 0.5), rtol=1e-6)
    values, remarks = inspected(rig(), cloud(world(), observed=False))
    assert remarks == [] and values["points_in_sight"] == 1.0 and values["measured_on"] == "matches"
