"""Measures of a rendering against the truth: PSNR, SSIM, depth errors as the multi-view depth literature has them."""

import torch
from torch import Tensor

from raytrans.shapes import Bool, Float

SSIM_WINDOW = 11
DEPTH_METRICS = ("abs_rel", "sq_rel", "rmse", "rmse_log", "delta_1", "delta_2", "delta_3", "coverage")
DELTA = 1.25


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


def depth_metrics(
    predicted: Float[Tensor, "..."], truth: Float[Tensor, "..."], scaled: bool = False
) -> dict[str, float]:
    """The `DEPTH_METRICS` of one depth map p against the truth t, over pixels where both are known and positive:

        abs_rel = mean |p - t| / t, sq_rel = mean (p - t)^2 / t, rmse = sqrt(mean (p - t)^2),
        rmse_log = sqrt(mean (log p - log t)^2), delta_k = share of pixels with max(p/t, t/p) < 1.25^k,

    and coverage, the share of pixels with known truth that were predicted. sq_rel and rmse are in the units of depth.
    `scaled`: p is first multiplied by median(t) / median(p). NaN where no pixel is known.
    Source: "Depth Map Prediction from a Single Image", Eigen et al. 2014; the scaling is that of "Unsupervised Learning
    of Depth and Ego-Motion from Video", Zhou et al. 2017.
    """
    _checked(predicted, truth, None)
    known = torch.isfinite(truth) & (truth > 0)
    both = known & torch.isfinite(predicted) & (predicted > 0)
    if not bool(both.any()):
        return {name: 0.0 if name == "coverage" and bool(known.any()) else float("nan") for name in DEPTH_METRICS}
    p, t = predicted[both].double(), truth[both].double()
    if scaled:
        p = p * (_middle(t) / _middle(p))
    difference, log = p - t, p.log() - t.log()
    values = [(difference.abs() / t).mean(), (difference**2 / t).mean(), (difference**2).mean().sqrt()]
    values += [(log**2).mean().sqrt()]
    ratio = torch.maximum(p / t, t / p)
    values += [(ratio < DELTA**k).double().mean() for k in (1, 2, 3)]
    values += [both.double().sum() / known.double().sum()]
    return dict(zip(DEPTH_METRICS, (float(value) for value in values), strict=True))


def _middle(values: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    """The median, of an even number the mean of the middle two; torch's own quantile refuses many values."""
    order, count = values.sort().values, len(values)
    return 0.5 * (order[(count - 1) // 2] + order[count // 2])
