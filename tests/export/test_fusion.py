"""Consistency between depth maps against a loop over pixels, with maps that lie."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from raytrans.data.selection import nearest
from raytrans.export.fusion import Agreement, consistent, footprint, inside_box, sampled, without_rim


def test_exact_depth_is_kept_and_does_not_change(sphere):
    kept = consistent(sphere)
    for before, after in zip(sphere.depth, kept.depth, strict=True):
        middle = slice(27, 37), slice(27, 37)
        assert after[middle].isfinite().all()
        both = after.isfinite()
        assert both.sum() > 0.8 * before.isfinite().sum()
        # bilinear depth of a curved surface is off by its curvature; far less than the tolerance
        assert ((after - before)[both].abs() / before[both]).median() < 2e-3
        assert not after[~before.isfinite()].isfinite().any()


def test_a_map_that_lies_is_dropped_and_the_others_stay(sphere):
    lying = [depth.clone() for depth in sphere.depth]
    lying[0] = 1.1 * lying[0]
    lying[3][25:30, 25:30] *= 0.9
    kept = consistent(replace(sphere, depth=lying))
    assert kept.depth[0].isfinite().sum() < 0.1 * sphere.depth[0].isfinite().sum()  # the rim, led to the far side
    assert not kept.depth[3][25:30, 25:30].isfinite().any() and kept.depth[3][32:37, 32:37].isfinite().all()
    assert kept.depth[1][30:35, 30:35].isfinite().all()


def test_no_view_confirms_itself(sphere):
    alone = replace(sphere, cameras=sphere.cameras[:1], depth=sphere.depth[:1])
    assert consistent(alone).known() == 0
    pair = replace(sphere, cameras=sphere.cameras[:2], depth=sphere.depth[:2])
    assert consistent(pair, Agreement(views=2)).known() == 0


def test_a_loop_over_pixels_finds_the_same(sphere):
    noisy = [depth * (1 + 0.02 * torch.randn(depth.shape)) for depth in sphere.depth]
    maps = replace(sphere, depth=noisy)
    rule = Agreement(views=2, depth=0.02, pixels=1.0, compared=5)
    kept = consistent(maps, rule).depth[2]
    others = nearest(maps.cameras, maps.cameras[2], 5, exclude=[2])
    pose, k = (getattr(maps.cameras[2], n).numpy() for n in ("world_from_camera", "intrinsics"))
    checked = 0
    for row in range(12, 52, 3):
        for column in range(12, 52, 3):
            z = float(noisy[2][row, column])
            if math.isnan(z):
                continue
            here = np.array([column + 0.5, row + 0.5])
            point = pose[:3, :3] @ (z * np.linalg.solve(k, [*here, 1])) + pose[:3, 3]
            found = [z]
            for j in others:
                back = there_and_back(point, pose, k, maps.cameras[j], noisy[j].numpy())
                if back is not None and abs(back[2] - z) <= 0.02 * z and np.hypot(*(back[:2] - here)) <= 1.0:
                    found.append(back[2])
            expected = np.mean(found) if len(found) > 2 else math.nan
            assert kept[row, column].item() == pytest.approx(expected, rel=1e-6, nan_ok=True)
            checked += len(found) > 2
    assert checked > 10


def there_and_back(point, pose, k, other, depth):
    """Pixel and z in the first view of what the other one says of a point, by plain pinhole formulas."""
    far, k2 = other.world_from_camera.numpy(), other.intrinsics.numpy()
    local = far[:3, :3].T @ (point - far[:3, 3])
    if local[2] <= 0:
        return None
    u, v = (k2 @ local / local[2])[:2]
    column, row = math.floor(u - 0.5), math.floor(v - 0.5)
    if not (0 <= column < depth.shape[1] - 1 and 0 <= row < depth.shape[0] - 1):
        return None
    a, b = u - 0.5 - column, v - 0.5 - row
    around = depth[row : row + 2, column : column + 2].astype(float)
    z = (1 - b) * ((1 - a) * around[0, 0] + a * around[0, 1]) + b * ((1 - a) * around[1, 0] + a * around[1, 1])
    world = far[:3, :3] @ (z * np.linalg.solve(k2, [u, v, 1])) + far[:3, 3]
    local = pose[:3, :3].T @ (world - pose[:3, 3])
    return None if math.isnan(z) else np.array([*(k @ local / local[2])[:2], local[2]])


def test_sampling_is_bilinear_at_pixel_centres_and_unknown_outside():
    values = torch.arange(12.0).reshape(3, 4)
    pixels = torch.tensor([[0.5, 0.5], [1.0, 0.5], [3.5, 2.5], [2.0, 1.25], [-0.1, 1.0], [1.0, 3.1]])
    found = sampled(values, pixels.double())
    assert found[:4].tolist() == pytest.approx([0.0, 0.5, 11.0, 4.5])
    assert found[4:].isnan().all()
    values[0, 0] = math.nan
    assert sampled(values, pixels.double())[1].isnan() and not sampled(values, pixels.double())[2].isnan()


def test_footprint_is_depth_over_focal_length(sphere):
    flat = replace(sphere, depth=[torch.full((64, 64), 3.0)] * len(sphere))
    assert footprint(flat) == pytest.approx(0.03)
    with pytest.raises(ValueError, match="no pixel is known"):
        footprint(flat.trusted(2.0))


def test_the_rim_is_where_a_neighbour_sees_through():
    generator = torch.Generator().manual_seed(4)
    trust, opacity = torch.rand(9, 7, generator=generator), torch.rand(9, 7, generator=generator)
    found = without_rim(trust, opacity)
    for row in range(9):
        for column in range(7):
            around = opacity[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
            assert found[row, column].item() == pytest.approx(float(trust[row, column] * around.min()), rel=1e-6)
    torch.testing.assert_close(without_rim(trust, torch.ones(9, 7)), trust, rtol=0, atol=0)


def test_the_box_leaves_out_what_lies_far_away():
    points = torch.rand(1000, 3, dtype=torch.float64)
    points[7] = 1e6
    inside = inside_box(points, 0.005)
    assert not inside[7] and 0.9 < inside.double().mean() < 1
