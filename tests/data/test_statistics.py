"""Gradient magnitude and spectral slope of pictures with known ones."""

import math

import numpy as np
import pytest
import torch

from raytrans.data.statistics import gradient_magnitude, luminance, spectrum_slope


def _coloured_noise(exponent, height, width, seed):
    """Noise of amplitude |f|^-exponent: power |f|^-2 exponent. Cut from twice its size, so that it is not periodic."""
    rng = np.random.default_rng(seed)
    v, u = np.fft.fftfreq(2 * height)[:, None], np.fft.fftfreq(2 * width)[None]
    frequency = np.sqrt(v**2 + u**2)
    frequency[0, 0] = 1
    spectrum = np.fft.fft2(rng.standard_normal((2 * height, 2 * width))) / frequency**exponent
    spectrum[0, 0] = 0
    return torch.from_numpy(np.fft.ifft2(spectrum).real[:height, :width].copy())


@pytest.mark.parametrize(("across", "down"), [(0.01, 0.0), (0.0, -0.02), (0.003, 0.004)])
def test_a_ramp_has_the_length_of_its_slope(across, down):
    rows, columns = torch.meshgrid(torch.arange(12.0), torch.arange(19.0), indexing="ij")
    assert gradient_magnitude(0.3 + across * columns + down * rows) == pytest.approx(math.hypot(across, down), rel=1e-4)


def test_a_step_is_its_height_over_the_width():
    step = (torch.arange(21) > 9).float().expand(8, 21)
    assert gradient_magnitude(0.6 * step) == pytest.approx(0.6 / 20)


@pytest.mark.parametrize("shape", [(64, 64), (48, 96), (96, 48)])
@pytest.mark.parametrize("exponent", [0.0, 0.75, 1.0, 1.5])
def test_noise_has_the_slope_it_was_made_with(exponent, shape):
    slopes = [spectrum_slope(_coloured_noise(exponent, *shape, seed)) for seed in range(12)]
    assert np.mean(slopes) == pytest.approx(-2 * exponent, abs=0.1)


def test_slope_ignores_brightness_contrast_and_transposition():
    noise = _coloured_noise(1.0, 40, 60, 3)
    slope = spectrum_slope(noise)
    assert spectrum_slope(5 + 0.1 * noise) == pytest.approx(slope, abs=1e-6)
    assert spectrum_slope(noise.T.contiguous()) == pytest.approx(slope, abs=1e-9)
    assert abs(spectrum_slope(noise.cumsum(0)) - slope) > 0.3  # another picture has another slope


def test_slope_agrees_with_a_slow_loop():
    """Rings, sums and the straight line by loops and numpy.polyfit."""
    height, width = 18, 14
    gray = _coloured_noise(1.0, height, width, 5).numpy()
    window = np.outer(*(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / (n - 1)) for n in (height, width)))
    power = np.abs(np.fft.fft2((gray - (gray * window).sum() / window.sum()) * window)) ** 2
    rings = {}
    for i in range(height):
        for j in range(width):
            f = math.hypot(min(i, height - i) / height, min(j, width - j) / width)
            if round(f * width) >= 3 and f <= 0.5:
                rings.setdefault(round(f * width), []).append((f, power[i, j]))
    means = np.log([np.mean(ring, axis=0) for ring in rings.values()])
    assert len(means) > 3
    assert spectrum_slope(torch.from_numpy(gray)) == pytest.approx(np.polyfit(*means.T, 1)[0], abs=1e-9)


def test_plain_and_tiny_pictures_have_no_slope():
    assert math.isnan(spectrum_slope(torch.full((32, 32), 0.4))) and gradient_magnitude(torch.full((9, 9), 0.4)) == 0
    assert math.isnan(spectrum_slope(torch.rand(7, 64)))


def test_luminance_is_rec_709():
    colors = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]])
    assert luminance(colors).tolist() == pytest.approx([0.2126, 0.7152, 0.0722, 1.0])
