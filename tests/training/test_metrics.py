"""Metrics against scikit-image and numbers worked out by hand."""

import math

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from raytrans.training.metrics import depth_abs_rel, depth_errors, depth_median, psnr, ssim


def pair(noise=0.1, size=(37, 43)):
    rng = np.random.default_rng(0)
    truth = rng.random((*size, 3))
    return torch.from_numpy((truth + noise * rng.normal(size=truth.shape)).clip(0, 1)), torch.from_numpy(truth)


def test_psnr_agrees_with_skimage():
    image, truth = pair()
    expected = peak_signal_noise_ratio(truth.numpy(), image.numpy(), data_range=1)
    assert psnr(image, truth) == pytest.approx(expected, abs=1e-9)
    assert psnr(truth, truth) == math.inf


def test_psnr_of_a_constant_offset_inside_a_mask():
    truth = torch.zeros(4, 5, 3)
    image = truth.clone()
    image[:2] = 0.1
    image[2:] = 0.9
    mask = torch.arange(4)[:, None].expand(4, 5) < 2
    assert psnr(image, truth, mask) == pytest.approx(20, abs=1e-4)
    assert math.isnan(psnr(image, truth, torch.zeros(4, 5, dtype=torch.bool)))


@pytest.mark.parametrize("noise", [0.02, 0.3])
def test_ssim_agrees_with_skimage(noise):
    image, truth = pair(noise)
    expected = structural_similarity(
        truth.numpy(), image.numpy(), data_range=1, channel_axis=-1,
        gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
    )  # fmt: skip
    assert ssim(image, truth) == pytest.approx(expected, abs=1e-6)
    assert ssim(truth, truth) == pytest.approx(1, abs=1e-9)


def test_ssim_refuses_images_smaller_than_its_window():
    with pytest.raises(ValueError, match="ssim: expected images of at least 11 pixels"):
        ssim(torch.zeros(10, 40, 3), torch.zeros(10, 40, 3))


def test_depth_errors_count_what_was_not_predicted():
    truth = torch.tensor([[2.0, 4.0, math.nan, 5.0, 0.0]])
    predicted = torch.tensor([[2.2, 3.0, 1.0, math.nan, 1.0]])
    assert depth_errors(predicted, truth).tolist() == pytest.approx([0.1, 0.25, 1.0], abs=1e-6)
    assert depth_abs_rel(predicted, truth) == pytest.approx(0.45, abs=1e-6)
    assert depth_median(predicted, truth) == pytest.approx(0.25, abs=1e-6)


def test_depth_is_compared_without_units():
    truth = torch.rand(7, 9) + 1
    predicted = truth * 1.03
    for scale in (1e-3, 1.0, 1e3):
        assert depth_abs_rel(scale * predicted, scale * truth) == pytest.approx(0.03, abs=1e-6)


def test_nothing_known_is_nan():
    unknown = torch.full((2, 2), math.nan)
    assert math.isnan(depth_abs_rel(torch.ones(2, 2), unknown)) and math.isnan(depth_median(torch.ones(2, 2), unknown))


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"predicted: expected the shape of truth \(4, 4, 3\), got \(4, 5, 3\)"):
        psnr(torch.zeros(4, 5, 3), torch.zeros(4, 4, 3))
    with pytest.raises(ValueError, match=r"mask: expected shape \(4, 4\), got \(5, 4\)"):
        psnr(torch.zeros(4, 4, 3), torch.zeros(4, 4, 3), torch.ones(5, 4, dtype=torch.bool))
