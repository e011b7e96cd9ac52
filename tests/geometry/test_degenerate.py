"""Gradients by poses and intrinsics where rays coincide, oppose each other or meet in a camera: all are numbers."""

import itertools

import pytest
import torch

from raytrans.equivariance.degenerate import KINDS, degenerate_rig
from raytrans.geometry.cameras import Cameras
from raytrans.geometry.pairs import RayPairs, angle, distance, feet, reciprocal_product

CORNERS = torch.tensor([[0.5, 0.5], [0, 0], [1, 1]], dtype=torch.float64)
PHASES = [p for p in itertools.product((-1, 0, 2), (0, 1), (0.0, 1.0), (0.0, 1.0)) if any(p)]


def functions(cameras: Cameras, unit: torch.Tensor) -> dict[str, torch.Tensor]:
    """Whatever is differentiable of the places of cameras in each other's images, and of all pairs of their rays."""
    centers, axes = cameras.centers.detach(), cameras.world_from_camera.detach()[:, :3, :3].unbind(-1)
    points = torch.cat([centers, *(centers + sign * unit * axis for axis in axes for sign in (1, -1))])
    pixels, depth = cameras.project(points[None].expand(len(cameras), -1, 3))
    rays = cameras.pixel_rays(CORNERS * torch.stack([cameras.width, cameras.height], -1)[:, None]).reshape(-1)
    x, y = (rays.map(lambda v, axis=axis: v.unsqueeze(axis)).expand(len(rays), len(rays)) for axis in (0, 1))
    pairs = RayPairs.of(x, y, unit)
    phases = [torch.view_as_real(pairs.phase(*phase)) for phase in PHASES]
    lengths = [depth, distance(x, y), reciprocal_product(x, y)]
    return {
        "pixels": torch.asinh(pixels),
        "rays": torch.cat([rays.direction, rays.frame.flatten(1)], -1),
        "lengths": torch.cat([v.flatten() / unit for v in lengths]),
        "feet": torch.tanh(torch.stack(feet(x, y)) / unit),
        "pairs": torch.cat([v.flatten() for v in (angle(x, y), pairs.features(), *phases)]),
    }


def slopes(kind: str, seed: int, functions=functions) -> list[str]:
    """Names of functions whose values or gradients are not finite."""
    try:
        views, target = degenerate_rig(kind, seed)
    except ValueError:
        return []
    rig = Cameras.stack([*views.cameras, target])
    unit = (rig.centers - rig.centers[0]).norm(dim=-1).max()
    pose, intrinsics = rig.world_from_camera.clone().requires_grad_(), rig.intrinsics.clone().requires_grad_()
    size = torch.stack([rig.height, rig.width], -1)
    wrong = []
    known = functions(Cameras(intrinsics, pose, size, rig.distortion), torch.where(unit > 0, unit, 1.0))
    for name, value in known.items():
        slope = torch.autograd.grad(value.sum(), (pose, intrinsics), retain_graph=True, materialize_grads=True)
        assert any(bool((s != 0).any()) for s in slope) or name != "rays"
        wrong += [] if all(bool(v.isfinite().all()) for v in (value, *slope)) else [name]
    return wrong


@pytest.mark.parametrize("seeds", [range(2), pytest.param(range(2, 40), marks=pytest.mark.slow)], ids=["some", "all"])
@pytest.mark.timeout(1800)
def test_values_and_slopes_are_numbers(seeds):
    assert {(kind, seed): wrong for kind in KINDS for seed in seeds if (wrong := slopes(kind, seed))} == {}


def test_a_norm_of_what_is_zero_is_noticed():
    def naive(cameras: Cameras, unit: torch.Tensor) -> dict[str, torch.Tensor]:
        rays = cameras.pixel_rays(torch.full((len(cameras), 1, 2), 0.5)).reshape(-1)
        return {"angle": 2 * torch.asin(((rays.direction[:1] - rays.direction).square().sum(-1)).sqrt() / 2)}

    assert slopes("parallel axes", 0, naive) == ["angle"]
