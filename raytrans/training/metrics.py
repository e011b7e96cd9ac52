"""Measures of a rendering against the truth: PSNR, SSIM, relative depth error."""

import torch
from torch import Tensor

from raytrans.shapes import Bool, Float

SSIM_WINDOW = 11


def _checked(predicted: Tensor, truth: Tensor, mask: Tensor | None) -> None:
    if predicted.shape != truth.shape:
        raise ValueError(f"predicted: expected the shape of truth {tuple(truth.shape)}, got {tuple(predicted.shape)}")
    if mask is not None and mask.shape != truth.shape[: mask.ndim]:
        raise ValueError(f"mask: expected shape {tuple(truth.shape[: mask.ndim])}, got {tuple(mask.shape)}")


def psnr(
    predicted: Float[Tensor, "... 3"], truth: Float[Tensor, "... 3"], mask: Bool[Tensor, "..."] | None = None
) -> float:
    """Peak signal-to-noise ratio in decibels, -10 log10(mean squared error), for colours in [0, 1].

    Infinite for equal images. Pixels outside `mask` do not count; NaN where it is empty.
    """
    _checked(predicted, truth, mask)
    error = (predicted.double() - truth.double()).square()
    error = error if mask is None else error[mask]
    return (-10 * torch.log10(error.mean())).item()


def ssim(predicted: Float[Tensor, "... 3"], truth: Float[Tensor, "... 3"]) -> float:
    """Structural similarity, mean over pixels and colours: Gaussian window of 11 pixels, sigma 1.5, range 1.

    The mean leaves out the 5 pixels at the border where the window is not full, as Wang et al. (2004) and scikit-image
    do. Raises ValueError for images smaller than the window.
    """
    from kornia.metrics import ssim as ssim_map

    _checked(predicted, truth, None)
    if min(truth.shape[:2]) < SSIM_WINDOW:
        raise ValueError(f"ssim: expected images of at least {SSIM_WINDOW} pixels a side, got {tuple(truth.shape)}")
    first, second = (image.double().permute(2, 0, 1)[None] for image in (predicted, truth))
    return ssim_map(first, second, SSIM_WINDOW, padding="valid").mean().item()


def depth_errors(predicted: Float[Tensor, "..."], truth: Float[Tensor, "..."]) -> Float[Tensor, " known"]:
    """Relative error |predicted - truth| / truth of every pixel whose depth is known; 1 where none was predicted."""
    _checked(predicted, truth, None)
    known = torch.isfinite(truth) & (truth > 0)
    errors = (predicted[known].double() - truth[known].double()).abs() / truth[known].double()
    return torch.where(torch.isfinite(errors), errors, 1.0)


def depth_abs_rel(predicted: Float[Tensor, "..."], truth: Float[Tensor, "..."]) -> float:
    """Mean relative depth error over pixels whose depth is known; NaN where none is."""
    return depth_errors(predicted, truth).mean().item()


def depth_median(predicted: Float[Tensor, "..."], truth: Float[Tensor, "..."]) -> float:
    """Median relative depth error over pixels whose depth is known; NaN where none is."""
    errors = depth_errors(predicted, truth)
    return errors.median().item() if errors.numel() else float("nan")
