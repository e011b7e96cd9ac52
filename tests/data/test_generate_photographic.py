"""Generated scenes with the look of photographs: the same geometry, wider tones, one camera for all views."""

import numpy as np
import pytest
import torch
from scipy.ndimage import convolve

from raytrans.data.generate import generated_scene
from raytrans.data.generate.layout import Layout
from raytrans.data.generate.photographic import DARKEST, LIGHTEST, Development, retone
from raytrans.data.generate.themes import table, white
from raytrans.data.statistics import gradient_magnitude, luminance

NONE = dict(gain=np.ones(3), contrast=0.0, vignette=0.0, softness=0.0, noise=0.0)


@pytest.fixture
def image():
    return torch.rand(21, 15, 3)


def developed(image, **changes):
    return Development(**{**NONE, **changes})(image, np.random.default_rng(0))


@pytest.mark.parametrize("kind", ["easy", "full"])
def test_the_look_changes_neither_depth_nor_cameras(kind):
    plain, first, second = (generated_scene(21, kind, (16, 14), 2, photographic=look) for look in (False, True, True))
    assert torch.equal(first.images, second.images)
    assert torch.equal(plain.depth.nan_to_num(-1), first.depth.nan_to_num(-1))
    assert torch.equal(plain.cameras.world_from_camera, first.cameras.world_from_camera)
    assert float((plain.images - first.images).abs().mean()) > 0.02
    assert float(first.images.min()) >= 0 and float(first.images.max()) <= 1


def test_photographic_scenes_have_more_contrast():
    spread = {}
    for look in (False, True):
        scenes = [generated_scene(500_200 + i, "easy", (32, 32), 1, photographic=look) for i in range(8)]
        grays = [luminance(image) for scene in scenes for image in scene.images]
        spread[look] = np.mean([[float(gray.std()), gradient_magnitude(gray)] for gray in grays], axis=0)
    assert (spread[True] > 1.15 * spread[False]).all()


def test_a_camera_without_faults_changes_nothing(image):
    torch.testing.assert_close(developed(image), image)


def test_gain_contrast_and_vignette_follow_their_formulas(image):
    gain = np.array([0.5, 1.0, 2.0])
    np.testing.assert_allclose(developed(image, gain=gain), (image.numpy() * gain).clip(0, 1), atol=1e-6)
    np.testing.assert_allclose(
        developed(image, contrast=1.0), 3 * image.numpy() ** 2 - 2 * image.numpy() ** 3, atol=1e-6
    )
    loss = developed(torch.ones(21, 15, 3), vignette=0.2)[..., 0]
    assert [float(loss[i, j]) for i, j in ((10, 7), (0, 0), (20, 14), (0, 7))] == pytest.approx([1, 0.8, 0.8, 0.9])


def test_softness_is_a_binomial_blur_with_repeated_edges(image):
    kernel = np.outer([1, 2, 1], [1, 2, 1])[..., None] / 16
    blurred = convolve(image.numpy(), kernel, mode="nearest")
    np.testing.assert_allclose(developed(image, softness=1.0), blurred, atol=1e-6)
    np.testing.assert_allclose(developed(image, softness=0.25), 0.75 * image.numpy() + 0.25 * blurred, atol=1e-6)


def test_noise_has_its_spread_and_differs_between_photos():
    camera, rng = Development(**{**NONE, "noise": 0.01}), np.random.default_rng(4)
    first, second = (camera(torch.full((60, 60, 3), 0.5), rng) for _ in range(2))
    assert float(first.std()) == pytest.approx(0.01, rel=0.05) and float(first.mean()) == pytest.approx(0.5, abs=1e-3)
    assert abs(float(torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1])) < 0.05


def test_tones_spread_and_clouds_and_meshes_keep_theirs():
    levels = {False: [], True: []}
    for seed in range(12):
        layout = Layout(np.random.default_rng(seed))
        table(layout)
        layout.clouds = layout.picture({"noise": 1.0})
        mesh = layout.picture({"noise": 1.0})
        layout.meshes.append((None, None, mesh))
        before, light = list(layout.pictures), layout.light
        retone(layout, np.random.default_rng([seed, 1]))
        assert all(np.array_equal(layout.pictures[i], before[i]) for i in (layout.clouds, mesh))
        assert not np.array_equal(layout.pictures[0], before[0]) and layout.light.position is light.position
        for look, pictures in ((False, before), (True, layout.pictures)):
            levels[look] += [picture.mean() for picture in pictures[: layout.clouds]]
            assert all(DARKEST <= p.min() and p.max() <= LIGHTEST and p.dtype == np.float32 for p in pictures)
    assert np.std(levels[True]) > 1.3 * np.std(levels[False])


def test_backgrounds_are_white_black_and_grey():
    found = []
    for seed in range(40):
        layout = Layout(np.random.default_rng(seed))
        white(layout)
        layout.clouds = layout.picture({"noise": 1.0})
        retone(layout, np.random.default_rng([seed, 1]))
        found.append(tuple(layout.light.background))
    assert all(len(set(color)) == 1 for color in found)
    assert {(0, 0, 0), (1, 1, 1)} < set(found) and 3 < len(set(found)) < 30
