"""Three renderers that learn nothing: what any trained model must beat."""

import torch
from torch import Tensor
from torch.nn import functional as F

from raytrans.data.selection import nearest
from raytrans.data.views import Views
from raytrans.geometry.cameras import Cameras
from raytrans.shapes import Float

PLANES = 96
WINDOW = 5
FARTHEST = 1e4  # the last plane, in nearest depths: a stand-in for infinity
SEEN_SHARE = 0.5  # of the target's pixels, by half of the sources, at the nearest plane
NEAREST = 0.05  # of the median distance between sources


def _resampled(image: Tensor, height: int, width: int) -> Float[Tensor, "height width 3"]:
    if tuple(image.shape[:2]) == (height, width):
        return image
    image = F.interpolate(image.permute(2, 0, 1)[None], (height, width), mode="bilinear", antialias=True)
    return image[0].permute(1, 2, 0).clamp(0, 1)


def nearest_view(views: Views, camera: Cameras) -> Float[Tensor, "height width 3"]:
    """Colours of the source view that `raytrans.data.nearest` puts first, as they are, at the target's size."""
    return _resampled(views.image(nearest(views.cameras, camera, 1)[0]), int(camera.height), int(camera.width))


def mean_of_sources(views: Views, camera: Cameras) -> Float[Tensor, "height width 3"]:
    """Mean of the source images, each at the target's size."""
    size = int(camera.height), int(camera.width)
    return torch.stack([_resampled(views.image(i), *size) for i in range(len(views))]).mean(0)


def plane_sweep(
    views: Views, camera: Cameras, planes: int = PLANES
) -> tuple[Float[Tensor, "height width 3"], Float[Tensor, "height width"]]:
    """Colour and z-depth by the plane at which source colours agree best.

    For planes of constant z, uniform in 1/z from the nearest depth that the sources see together to (almost) infinity:
    the unbiased variance of the colours of all sources that see the pixel, averaged over 5x5 pixels. Among planes seen
    by at least half as many sources as the pixel's best-seen plane, and by two, the least variance gives the depth and
    the mean colour (few sources agree by chance). Where there is none: mean of the source images, depth NaN.
    """
    rays = camera.rays()
    step = rays.direction / (rays.direction @ camera.forward)[..., None]
    nearest_depth = _nearest_depth(views, camera, step)
    depths = nearest_depth / torch.linspace(1, 0, planes, dtype=torch.float64).clamp_min(1 / FARTHEST)
    swept = [_agreement(views, camera.centers + z * step) for z in depths]
    cost, count = torch.stack([plane[0] for plane in swept]), torch.stack([plane[1] for plane in swept])
    enough = (count >= 2) & (2 * count >= count.amax(0))
    best = torch.where(enough, cost, torch.inf).argmin(0)
    known = enough.any(0)
    color = _agreement(views, camera.centers + depths[best][..., None] * step)[2]
    color = torch.where(known[..., None], color, mean_of_sources(views, camera))
    return color, torch.where(known, depths[best].float(), torch.nan)


def _read(image: Tensor, camera: Cameras, points: Tensor) -> tuple[Tensor, Tensor]:
    """Colours (..., 3) at the projections of points, and whether they lie inside the image and before the camera."""
    size = torch.tensor([int(camera.width), int(camera.height)], dtype=torch.float64)
    pixels, z = camera.project(points)
    seen = (z > 0) & (pixels >= 0).all(-1) & (pixels <= size).all(-1)
    grid = torch.where(seen[..., None], 2 * pixels / size - 1, 0.0).to(image.dtype)
    colors = F.grid_sample(image.permute(2, 0, 1)[None], grid[None], padding_mode="border", align_corners=False)
    return colors[0].permute(1, 2, 0), seen


def _agreement(views: Views, points: Float[Tensor, "height width 3"]) -> tuple[Tensor, Tensor, Tensor]:
    """Cost and number of sources that see the points (height, width), and their mean colour (height, width, 3)."""
    count = torch.zeros(points.shape[:2])
    total, squares = torch.zeros(points.shape), torch.zeros(points.shape)
    for image, camera in views:
        colors, seen = _read(image, camera, points)
        colors = colors * seen[..., None]
        count += seen
        total += colors
        squares += colors**2
    mean = total / count.clamp_min(1)[..., None]
    variance = (squares - mean * total).sum(-1).clamp_min(0) / (count - 1).clamp_min(1)
    known = (count >= 2).float()
    return _box(variance * known) / _box(known).clamp_min(1e-12), count, mean


def _box(values: Float[Tensor, "height width"]) -> Float[Tensor, "height width"]:
    return F.avg_pool2d(values[None], WINDOW, stride=1, padding=WINDOW // 2)[0]


def _nearest_depth(views: Views, camera: Cameras, step: Float[Tensor, "height width 3"]) -> float:
    """The camera's own near, else the least depth at which half of the sources, at least two, see half the pixels."""
    if camera.near is not None:
        return float(camera.near)
    centers = views.cameras.centers
    between = torch.pdist(centers)
    unit = float(between.median()) if len(between) else 0.0
    unit = unit or float((centers - camera.centers).norm(dim=-1).median()) or 1.0
    few = step.reshape(-1, 3)
    few = few[:: max(1, len(few) // 256)]
    for z in (NEAREST * unit * 1.1 ** torch.arange(120.0)).tolist():
        seen = sum(_read(image, source, camera.centers + z * few[None])[1] for image, source in views)
        if bool((seen >= max(2, len(views) / 2)).float().mean() >= SEEN_SHARE):
            return z
    return NEAREST * unit
