"""Attention on rays beside angles, distances and reprojections, against what the models use and formulas by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch

import raytrans
from raytrans.layers import attention as layers
from raytrans.models.config import model_config
from raytrans.rendering.contributions import contributions
from raytrans.rendering.renderer import Renderer
from raytrans.systems.raydepth.native import NativeRayDepth
from raytrans.systems.raydepth.plain import PlainRayDepth
from raytrans.systems.raydepth.statistics import layer_attention, native_structure, renderer_attention, within
from raytrans.systems.raydepth.task import draw

BLOCKS = Path(__file__).resolve().parents[2] / "scenes" / "blocks"
SOURCES, TARGET = [0, 4, 12], 8


@pytest.fixture(scope="module")
def scenes():
    return draw(3, torch.Generator().manual_seed(0), cameras=2, rays=5, targets=4)


def test_recorded_attention_is_what_the_layers_use(scenes, monkeypatch):
    torch.manual_seed(0)
    model, used = NativeRayDepth(width=8, heads=2).double(), []

    def spy(logits, values, heads, neighborhood, *rest):
        used.append(torch.softmax(logits, -2))
        return original(logits, values, heads, neighborhood, *rest)

    original = layers.attend
    monkeypatch.setattr(layers, "attend", spy)
    found = layer_attention(model, scenes)
    expected = torch.stack(used).mean((0, -1)) * 10
    torch.testing.assert_close(found.attention, expected.detach().flatten())
    torch.testing.assert_close(found.attention.reshape(3, 4, 10).mean(-1), torch.ones(3, 4, dtype=torch.float64))
    assert found.attention.std() > 1e-3


def test_angles_and_distances_of_rays_are_those_by_hand(scenes):
    torch.manual_seed(0)
    found = layer_attention(NativeRayDepth(width=8, heads=2).double(), scenes)
    angle, apart = (value.reshape(3, 4, 10) for value in (found.angle, found.apart))
    for b in range(3):
        for i in range(4):
            for j in range(10):
                u, v = scenes.targets.direction[b, i].numpy(), scenes.sources.direction[b, j].numpy()
                gap = (scenes.sources.origin[b, j] - scenes.targets.origin[b, i]).numpy()
                normal = np.cross(u, v)
                assert angle[b, i, j].item() == pytest.approx(np.degrees(np.arccos(u @ v)), abs=1e-6)
                expected = abs(gap @ normal) / np.linalg.norm(normal) / scenes.depth[b].mean().item()
                assert apart[b, i, j].item() == pytest.approx(expected, abs=1e-9)


def test_a_model_without_ray_attention_has_no_statistics(scenes):
    with pytest.raises(ValueError, match="expected layers of RayAttention, got none"):
        layer_attention(PlainRayDepth().double(), scenes)


@pytest.fixture(scope="module")
def blocks():
    """Views, camera, pixels and their true depth."""
    scene = raytrans.open_scene(BLOCKS)
    views = raytrans.Views([scene.image(i) for i in SOURCES], scene.cameras[torch.tensor(SOURCES)])
    pixels = (torch.rand(60, 2, generator=torch.Generator().manual_seed(0)) * 128).long()
    depth = scene.depth(TARGET)[pixels[:, 1], pixels[:, 0]]
    return views, scene.cameras[TARGET], pixels + 0.5, torch.where(depth > 0, depth, torch.nan)


def test_the_attention_of_a_renderer_is_that_of_its_pixels(blocks):
    views, camera, pixels, depth = blocks
    chosen = int(depth.isfinite().nonzero()[0])
    model, own = raytrans.load(), slice(chosen, chosen + 1)
    whole, stage = renderer_attention(model, views, camera, pixels[own], depth[own])
    one = contributions(model, views, camera, pixels[chosen])
    origin, direction = camera.centers.numpy(), camera.pixel_rays(pixels[chosen]).direction.numpy()
    surface = origin + direction * depth[chosen].item() / (direction @ camera.forward.numpy())
    rows = []
    for j in range(len(SOURCES)):
        for k in range(len(one.weight) - 1):
            point = origin + direction * one.distance[k].item()
            places = [by_hand(views.cameras[j], p) for p in (point, surface)]
            if one.fade[j, k] > 0.5 and (places[1] > 0).all() and (places[1] < 128).all():
                toward = point - views.cameras[j].centers.numpy()
                cosine = direction @ toward / np.linalg.norm(toward)
                share = 3 * one.attention[j, k].item()
                product = share * (len(one.weight) - 1) * one.weight[k].item()
                apart = np.linalg.norm(places[0] - places[1])
                rows.append((apart, np.degrees(np.arccos(min(cosine, 1.0))), share, product))
    found = torch.stack([whole.apart, whole.angle, stage.attention, whole.attention], -1)
    found = found[found[:, 0].argsort()].double().numpy()
    np.testing.assert_allclose(found, np.array(sorted(rows)), rtol=1e-3, atol=2e-3)


def by_hand(camera, point):
    """Pixel of a world point in a pinhole camera."""
    pose = camera.world_from_camera.numpy()
    x, y, z = pose[:3, :3].T @ (point - pose[:3, 3])
    k = camera.intrinsics.numpy()
    return np.array([k[0, 0] * x / z + k[0, 2], k[1, 1] * y / z + k[1, 2]])


def test_released_weights_attend_to_the_surface_and_random_ones_do_not(blocks):
    views, camera, pixels, depth = blocks
    shares = []
    torch.manual_seed(0)
    for model in (raytrans.load(), Renderer(model_config("tiny"))):
        whole, _ = renderer_attention(model, views, camera, pixels, depth)
        shares.append(within(whole.apart, whole.attention, (1.0, 200.0)))
    assert shares[0][0] > 0.5 and shares[1][0] < 0.3 and shares[0][1] == pytest.approx(1)


def test_a_training_of_the_depth_task_leaves_curves():
    found = native_structure(0, 0.05)
    assert set(found) == {"all source rays", "untrained"}
    for curves in found.values():
        assert len(curves["apart"]) == 7 and np.nanmean(curves["apart"]) == pytest.approx(1, abs=0.3)
    assert found["all source rays"]["apart"] != found["untrained"]["apart"] and found["all source rays"]["error"][0] > 0
