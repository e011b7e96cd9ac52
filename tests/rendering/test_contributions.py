"""Weights of samples and sources of one pixel, against the renderings that they have to explain."""

import pytest
import torch

import raytrans
from raytrans.data.generate import generated_scene
from raytrans.models.config import model_config
from raytrans.rendering.contributions import contributions
from raytrans.rendering.renderer import Renderer
from raytrans.rendering.sampling import inverse_edges

PIXELS = ((3.5, 4.5), (12.5, 8.5), (19.5, 15.5))


@pytest.fixture(scope="module")
def scene(textures_once):
    return generated_scene(5, "full", (20, 24), 5)


def random_model(**changes) -> Renderer:
    torch.manual_seed(1)
    model = Renderer(model_config("tiny", **changes))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model


def parts(scene):
    return raytrans.Views(scene.images[1:], scene.cameras[1:]), scene.cameras[0]


@pytest.mark.parametrize("options", [{}, {"pooling": "moments"}, {"typed": ()}, {"exposure": True}])
def test_weights_sum_to_one_and_make_the_colour_of_the_rendering(scene, options):
    model = random_model(**options)
    views, camera = parts(scene)
    encoded = raytrans.encode(model, views)
    whole = raytrans.render(model, encoded, camera)
    for x, y in PIXELS:
        found = contributions(model, views, camera, torch.tensor([x, y]), encoded)
        samples = model.config.fine + 1
        for share in (found.share, found.attention):
            assert share.shape == (len(views), samples) and bool((share >= 0).all())
            torch.testing.assert_close(share.sum(0), torch.ones(samples))
        color = torch.zeros(3)
        for k in range(samples):
            for j in range(len(views)):
                color += found.weight[k] * found.share[j, k] * found.seen[j, k]
        color += (1 - found.weight.sum()) * found.background
        expected = whole.color[int(y), int(x)]
        torch.testing.assert_close(color, expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(found.color(), expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(found.out.depth, whole.depth[int(y), int(x)], rtol=1e-4, atol=0, equal_nan=True)
        torch.testing.assert_close(found.of_sources(found.share).sum(), torch.tensor(1.0))


def test_a_learned_residual_is_what_the_formula_lacks(scene):
    model = random_model(residual=True)
    views, camera = parts(scene)
    found = contributions(model, views, camera, torch.tensor([12.5, 8.5]))
    missing = raytrans.render(model, views, camera).color[8, 12] - found.color()
    assert 1e-4 < float(missing.abs().max()) < 0.1


def test_sources_come_in_the_order_of_the_views(scene):
    model = random_model()
    views, camera = parts(scene)
    pixel, order = torch.tensor([12.5, 8.5]), [2, 0, 3, 1]
    first, second = contributions(model, views, camera, pixel), contributions(model, views[order], camera, pixel)
    for name in ("share", "attention", "fade", "seen"):
        torch.testing.assert_close(getattr(second, name), getattr(first, name)[order], rtol=0, atol=1e-5)
    assert float((first.share - first.share[order]).abs().max()) > 1e-3


def test_a_red_photo_gives_red_as_far_as_it_has_a_share(scene):
    views, camera = parts(scene)
    images = [torch.zeros_like(image) for image in views.images]
    images[2][..., 0] = 1.0
    views = raytrans.Views(images, views.cameras)
    found = contributions(random_model(), views, camera, torch.tensor([12.5, 8.5]))
    seen = (found.fade[2] > 0.99) | (found.weight == 0)
    assert bool(seen.any())
    red = (found.weight * found.share[2]).sum() + (1 - found.weight.sum()) * found.background[0]
    torch.testing.assert_close(found.out.color, torch.tensor([float(red), 0, 0]), rtol=0, atol=1e-5)


def test_a_photo_that_looks_away_has_no_part_and_what_nobody_sees_no_weight(scene):
    views, camera = parts(scene)
    back = torch.diag(torch.tensor([-1.0, 1.0, -1.0, 1.0], dtype=torch.float64))
    cameras = list(views.cameras)
    away = cameras[1]
    cameras[1] = raytrans.Cameras(away.intrinsics, away.world_from_camera @ back, (away.height, away.width))
    turned = raytrans.Views(views.images, raytrans.Cameras.stack(cameras))
    model, pixel = random_model(), torch.tensor([12.5, 8.5])
    found, before = contributions(model, turned, camera, pixel), contributions(model, views, camera, pixel)
    assert bool((found.fade[1] == 0).all()) and float(before.of_sources(before.fade)[1]) > 0.5
    assert float(found.of_sources(found.share)[1]) < 1e-3 < 0.02 < float(before.of_sources(before.share)[1])
    assert float(found.of_sources(found.attention)[1]) < 1e-3
    alone = contributions(model, turned[[1]], camera, pixel)
    assert bool((alone.fade == 0).all()) and bool((alone.weight == 0).all())
    torch.testing.assert_close(alone.out.color, alone.background)


def test_distances_are_those_of_the_samples_in_the_units_of_the_poses(scene):
    model = random_model(proposal="uniform")
    views, camera = parts(scene)
    pixel = torch.tensor([12.5, 8.5])
    found = contributions(model, views, camera, pixel)
    encoded = raytrans.encode(model, views)
    targets = model.target_rays(encoded, camera.pixel_rays(pixel[None]))
    edges = inverse_edges(targets.near, targets.far, model.config.fine)[0]
    between = float(encoded.relative.unit) / found.distance[:-1]
    assert bool(((between <= edges[:-1] * 1.0001) & (between >= edges[1:] * 0.9999)).all())
    assert float(found.distance[-1]) == float("inf")
    large = contributions(
        model,
        views.moved(torch.eye(3).double(), torch.zeros(3).double(), 7.0),
        camera.moved(torch.eye(3).double(), torch.zeros(3).double(), 7.0),
        pixel,
    )
    torch.testing.assert_close(large.distance[:-1], 7 * found.distance[:-1], rtol=1e-4, atol=0)


def test_an_unknown_precision_is_named(scene):
    views, camera = parts(scene)
    with pytest.raises(ValueError, match="precision: expected one of float32, .* got 'half'"):
        contributions(random_model(), views, camera, torch.tensor([1.0, 1.0]), precision="half")
