"""Metrics against scikit-image and numbers worked out by hand."""

import math

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from raytrans.training.metrics import depth_abs_rel, depth_errors, depth_median, depth_metrics, psnr, ssim


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


def loop_metrics(predicted, truth, scaled):
    """The formulas of Eigen et al., pixel by pixel."""
    pairs = [(p, t) for p, t in zip(predicted, truth, strict=True) if t > 0 and math.isfinite(t)]
    both = [(p, t) for p, t in pairs if math.isfinite(p) and p > 0]
    factor = np.median([t for _, t in both]) / np.median([p for p, _ in both]) if scaled else 1.0
    total = dict.fromkeys(("abs_rel", "sq_rel", "rmse", "rmse_log", "delta_1", "delta_2", "delta_3"), 0.0)
    for p, t in both:
        p = factor * p
        total["abs_rel"] += abs(p - t) / t
        total["sq_rel"] += (p - t) ** 2 / t
        total["rmse"] += (p - t) ** 2
        total["rmse_log"] += (math.log(p) - math.log(t)) ** 2
        for k in (1, 2, 3):
            total[f"delta_{k}"] += max(p / t, t / p) < 1.25**k
    mean = {name: value / len(both) for name, value in total.items()}
    return mean | {n: math.sqrt(mean[n]) for n in ("rmse", "rmse_log")} | {"coverage": len(both) / len(pairs)}


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("size", [(7, 9), (1, 2), (10, 10)])
def test_depth_metrics_are_those_of_a_loop(size, scaled):
    truth = 1 + 5 * torch.rand(size, dtype=torch.float64)
    predicted = 1.4 * truth * (0.3 * torch.randn(size, dtype=torch.float64)).exp()
    if truth.numel() > 10:
        truth.view(-1)[:3] = torch.tensor([math.nan, 0.0, math.inf])
        predicted.view(-1)[2:6] = torch.tensor([1.0, math.nan, math.inf, -1.0])
    expected = loop_metrics(predicted.flatten().tolist(), truth.flatten().tolist(), scaled)
    assert depth_metrics(predicted, truth, scaled) == pytest.approx(expected, rel=1e-12)


def test_median_scaling_forgives_a_factor_and_nothing_else():
    truth = 1 + torch.rand(8, 9)
    perfect = depth_metrics(3 * truth, truth, scaled=True)
    assert perfect["abs_rel"] < 1e-6 and perfect["delta_1"] == 1
    plain = depth_metrics(3 * truth, truth)
    assert plain["abs_rel"] == pytest.approx(2, rel=1e-6) and plain["delta_3"] == 0
    assert plain["rmse_log"] == pytest.approx(math.log(3), rel=1e-6)
    assert depth_metrics(truth + 1, truth, scaled=True)["abs_rel"] > 0.01


def test_depth_metrics_of_nothing():
    nothing = depth_metrics(torch.full((2, 2), math.nan), torch.ones(2, 2))
    assert nothing["coverage"] == 0 and math.isnan(nothing["abs_rel"])
    assert all(math.isnan(v) for v in depth_metrics(torch.ones(2, 2), torch.full((2, 2), math.nan)).values())
