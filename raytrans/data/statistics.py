"""Statistics in which photographs and drawn pictures may differ: steepness of edges, fall of power with frequency."""

import torch
from torch import Tensor

from raytrans.shapes import Float

LUMINANCE = (0.2126, 0.7152, 0.0722)  # Rec. 709, applied to sRGB values
LOWEST = 2.5  # periods across the short side: the Hann window smears what is below
HIGHEST = 0.5  # periods a pixel along an axis; the corners of the spectrum beyond hold few directions


def luminance(image: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch"]:
    """Luma of sRGB values, 0.2126 R + 0.7152 G + 0.0722 B."""
    return image @ image.new_tensor(LUMINANCE)


def gradient_magnitude(gray: Float[Tensor, "height width"]) -> float:
    """Mean over pixels of sqrt(dx^2 + dy^2), dx and dy being differences of neighbours, per pixel."""
    across, down = gray.diff(dim=1)[:-1], gray.diff(dim=0)[:, :-1]
    return float(torch.hypot(across, down).mean())


def spectrum_slope(gray: Float[Tensor, "height width"]) -> float:
    """Slope b of the radially averaged power spectrum, P(f) ~ f^b, by least squares of log P on log f.

    The mean is taken away and a Hann window applied; rings are one period across the short side wide. NaN where the
    picture is too small (below 8 pixels) or of one colour. Photographs: about -2.
    Source: Field, Relations between the statistics of natural images and the response properties of cortical cells,
    1987.
    """
    gray = gray.double()
    height, width = gray.shape
    window = _hann(height)[:, None] * _hann(width)
    gray = (gray - (gray * window).sum() / window.sum()) * window
    power = torch.fft.fft2(gray).abs().square()
    frequency = torch.hypot(torch.fft.fftfreq(height).double()[:, None], torch.fft.fftfreq(width).double())
    rings = (frequency * min(height, width)).round().long()
    kept = (rings >= LOWEST) & (frequency <= HIGHEST)
    if min(height, width) < 8 or float(power[kept].max()) < 1e-20 * height * width:
        return float("nan")
    count = torch.bincount(rings[kept])
    mean = [torch.bincount(rings[kept], values[kept]) / count for values in (frequency, power)]
    x, y = (values[count > 0].log() for values in mean)
    x = x - x.mean()
    return float((x * y).sum() / (x * x).sum())


def _hann(length: int) -> Float[Tensor, " length"]:
    return torch.hann_window(length, periodic=False, dtype=torch.float64)
