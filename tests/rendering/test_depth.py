"""Depth of the source views from each other, and how far it is to be trusted."""

import math

import pytest
import torch

import raytrans
from raytrans.data.generate import generated_scene
from raytrans.data.images import resize_nearest
from raytrans.models.config import model_config
from raytrans.rendering.compositing import Rendering
from raytrans.rendering.depth import confidence, estimate_depth
from raytrans.rendering.renderer import Renderer


@pytest.fixture(scope="module")
def views() -> raytrans.Views:
    drawn = generated_scene(7, "easy", (20, 24), 5)
    return raytrans.Views(drawn.images, drawn.cameras)


@pytest.fixture(scope="module")
def model() -> Renderer:
    torch.manual_seed(0)
    return Renderer(model_config("tiny")).eval()


def test_is_a_rendering_from_the_nearest_others(model, views):
    found = estimate_depth(model, views, sources=3)
    assert found.depth.shape == found.confidence.shape == (5, 20, 24)
    for i in range(5):
        chosen = raytrans.data.selection.nearest(views.cameras, views.cameras[i], 3, exclude=[i])
        out = raytrans.render(model, views[sorted(chosen)], views.cameras[i])
        torch.testing.assert_close(found.depth[i], out.depth, rtol=0, atol=0, equal_nan=True)
    one = estimate_depth(model, views, indices=[3, -1], sources=3)
    torch.testing.assert_close(one.depth, found.depth[[3, 4]], rtol=0, atol=0, equal_nan=True)


def test_the_image_of_a_view_does_not_reach_its_own_depth(model, views):
    images = views.images.clone()
    images[2] = 1 - images[2]
    other = raytrans.Views(images, views.cameras)
    before, after = (estimate_depth(model, v, indices=[2], sources=4).depth for v in (views, other))
    torch.testing.assert_close(before, after, rtol=0, atol=0, equal_nan=True)
    before, after = (estimate_depth(model, v, indices=[1], sources=4).depth for v in (views, other))
    assert not torch.equal(before.nan_to_num(), after.nan_to_num())


def test_depth_follows_the_scale_and_confidence_does_not(model, views):
    turn = raytrans.geometry.rotation_from_axis_angle(torch.tensor([0.4, -1.1, 0.2], dtype=torch.float64))
    moved = views.moved(turn, torch.tensor([50.0, -3.0, 8.0], dtype=torch.float64), 25.0)
    plain, other = (estimate_depth(model, v, indices=[0], sources=4) for v in (views, moved))
    torch.testing.assert_close(25 * plain.depth, other.depth, rtol=1e-4, atol=0, equal_nan=True)
    torch.testing.assert_close(plain.confidence, other.confidence, rtol=0, atol=1e-4)


def test_sizes_may_differ(model, views):
    cameras = [views.cameras[0].resized(10, 12), *views.cameras[1:]]
    images = [views.image(0)[::2, ::2], *(views.image(i) for i in range(1, 5))]
    found = estimate_depth(model, raytrans.Views(images, raytrans.Cameras.stack(cameras)), indices=[0, 1], sources=2)
    assert [tuple(depth.shape) for depth in found.depth] == [(10, 12), (20, 24)]
    assert [tuple(trust.shape) for trust in found.confidence] == [(10, 12), (20, 24)]


def test_confidence_is_its_formula():
    distance = torch.tensor([2.0, 2.0, 2.0, math.nan, 2.0])
    opacity = torch.tensor([1.0, 1.0, 0.4, 0.01, 0.8])
    spread = torch.tensor([0.0, 0.2, 0.4, math.nan, 2.0])
    out = Rendering(torch.zeros(5, 3), distance, distance, opacity, spread)
    # opacity / (1 + (spread / (0.1 distance))^2), by hand
    assert confidence(out).tolist() == pytest.approx([1.0, 0.5, 0.08, 0.0, 0.8 / 101], abs=1e-6)


def test_what_is_trusted_more_is_better():
    drawn = generated_scene(7, "easy", (40, 40), 12)
    found = estimate_depth(raytrans.load(), raytrans.Views(drawn.images, drawn.cameras), indices=[2, 5], sources=6)
    truth = drawn.depth[[2, 5]]
    error = ((found.depth - truth) / truth).abs()
    sure, known = found.confidence >= 0.7, error.isfinite()
    assert (sure & known).sum() > 0.4 * known.sum()
    assert error[sure & known].median() < 0.5 * error[~sure & known].median()


@pytest.mark.slow
def test_depth_of_neighbouring_frames_agrees_with_a_sensor(real_data):
    scene = raytrans.open_scene(real_data("kitchen_rgbd"))
    views, model = scene.views(range(len(scene)), max_size=96), raytrans.load()
    found = estimate_depth(model, views, indices=[4, 28])
    for i, depth in zip((4, 28), found.depth, strict=True):
        truth = resize_nearest(scene.depth(i), *depth.shape)
        both = truth.isfinite() & depth.isfinite()
        assert both.sum() > 0.5 * truth.isfinite().sum()
        assert ((depth - truth).abs() / truth)[both].mean() < 0.3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"indices": [5]}, r"indices: expected one or more from 0 to 4, got \[5\]"),
        ({"indices": []}, "indices: expected one or more"),
        ({"sources": 0}, "sources: expected at least 1, got 0"),
    ],
)
def test_mistakes_are_named(model, views, change, message):
    with pytest.raises(ValueError, match=message):
        estimate_depth(**{"model": model, "views": views, **change})


def test_one_view_is_refused(model, views):
    with pytest.raises(ValueError, match="views: expected at least two"):
        estimate_depth(model, views[0])
