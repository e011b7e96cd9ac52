"""From source views to renderings: encode once, render cameras or any set of rays, in chunks under a memory bound."""

import contextlib
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from raytrans.data.views import Views
from raytrans.geometry.cameras import Cameras
from raytrans.geometry.rays import Rays
from raytrans.rendering.compositing import Rendering
from raytrans.rendering.renderer import Renderer
from raytrans.rendering.sources import EncodedViews, source_unit
from raytrans.shapes import Float

PRECISIONS = ("float32", "float64", "bfloat16")
EMPTY = 0.05
TOKENS = 40_000  # samples times views in flight: chunks of about 256 rays at 8 views stay in cache


def encode(model: Renderer, views: Views | EncodedViews) -> EncodedViews:
    """Feature maps and depth distributions of the source views, for any number of `render` calls. No gradients.

    The views are kept as `arranged` has them, however they come. Where all source centres coincide there is no unit of
    length yet; `render` then takes it from the target.
    """
    if isinstance(views, EncodedViews):
        return views
    if not isinstance(views, Views):
        raise ValueError(f"sources: expected Views or the result of encode, got {type(views).__name__}")
    with torch.no_grad():
        views = arranged(views)
        encoded = model.encode(views)
        unit = source_unit(views.cameras)
        return encoded if unit is None else model.place(encoded, unit)


def arranged(views: Views) -> Views:
    """The views in `content_order`, each turned with its camera by `content_turn`: what they show is the same.

    Rounding then is the same to the last digit, whatever the order and the quarter turns in which the views come.
    Skewed cameras are not turned.
    """
    images, cameras = [], []
    for i in content_order(views):
        image, camera = views.image(i), views.cameras[i]
        turns = 0 if camera.intrinsics[0, 1] != 0 else content_turn(image)
        images.append(torch.rot90(image, turns, (0, 1)))
        cameras.append(camera.quarter_turned(turns))
    return Views(images, Cameras.stack(cameras))


def content_order(views: Views) -> list[int]:
    """Indices of the views in an order that depends on the colours of each alone, on quarter turns of it neither."""
    keys = []
    for image in views.images:
        levels = _levels(image)
        keys.append(torch.stack([levels.sum((0, 1)), (levels * levels).sum((0, 1))]).flatten().tolist())
    return sorted(range(len(keys)), key=keys.__getitem__)


def content_turn(image: Float[Tensor, "h w 3"]) -> int:
    """Quarter turns (torch.rot90) after which an image is brighter on the right, and not brighter above than below.

    Decided by whole numbers, so that it turns exactly with the image; 0 where brightness is balanced both ways.
    """
    levels = _levels(image).sum(-1)
    right, down = (
        int((levels.sum(axis) * (2 * torch.arange(side, device=levels.device) - (side - 1))).sum())
        for axis, side in ((0, levels.shape[1]), (1, levels.shape[0]))
    )
    for turns in range(4):
        if right > 0 and down >= 0:
            return turns
        right, down = down, -right
    return 0


def _levels(image: Tensor) -> Tensor:
    return (image.double() * 2**16).round().long()


def render(
    model: Renderer,
    sources: Views | EncodedViews,
    camera: Cameras,
    precision: str = "float32",
    background: Sequence[float] | None = None,
    chunk: int | None = None,
) -> Rendering:
    """Render one camera from source views: colour (H, W, 3), z-depth, opacity and spread (H, W), in the user's units.

    Deterministic, without gradients, rays in chunks. The result depends on images and cameras only, up to rounding not
    on world frame, scale, order of sources, roll of the camera, or roll of any source by quarter turns. `background`
    shows where no source sees, by default the mean colour of the sources. `precision` "bfloat16" is faster and less
    exact. Raises ValueError for a batch of cameras or an unknown precision.
    """
    if not isinstance(camera, Cameras) or camera.intrinsics.ndim != 2:
        got = f"a batch {tuple(camera.shape)}" if isinstance(camera, Cameras) else type(camera).__name__
        raise ValueError(f"camera: expected one camera, got {got}")
    rays = camera.rays()
    cosine = (rays.direction * camera.forward).sum(-1)
    near = None if camera.near is None else camera.near / cosine
    far = None if camera.far is None else camera.far / cosine
    axes = camera.world_from_camera[:3, :3]
    out = _render(model, sources, rays, precision, background, chunk, bounds=(near, far), axes=axes)
    cosine = cosine.to(out.distance)
    return replace(out, depth=out.distance * cosine, depth_mean=out.distance_mean * cosine)


def render_rays(
    model: Renderer,
    sources: Views | EncodedViews,
    rays: Rays,
    precision: str = "float32",
    background: Sequence[float] | None = None,
    chunk: int | None = None,
) -> Rendering:
    """Render any set of rays (*batch): `.color (*batch, 3)`, `.distance`, `.opacity`, `.spread` (*batch).

    Samples start at `rays.origin`; another section (frame, anchor) changes nothing.
    """
    if not isinstance(rays, Rays):
        raise ValueError(f"rays: expected Rays, got {type(rays).__name__}")
    return _render(model, sources, rays, precision, background, chunk)


def _render(model, sources, rays, precision, background, chunk, bounds=(None, None), axes=None) -> Rendering:
    if precision not in PRECISIONS:
        raise ValueError(f"precision: expected one of {', '.join(PRECISIONS)}, got {precision!r}")
    wanted = torch.float64 if precision == "float64" else torch.float32
    if model.dtype != wanted:
        raise ValueError(
            f"precision: {precision!r} needs a model in {wanted}, got {model.dtype}; use model.to({wanted})"
        )
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk: expected at least 1 ray, got {chunk}")
    shape, flat = rays.shape, rays.reshape(-1)
    with torch.no_grad(), _arithmetic(model, precision):
        encoded, known = _placed(model, encode(model, sources), flat)
        targets = model.target_rays(encoded, flat, *(None if b is None else b.reshape(-1) for b in bounds))
        targets.axes = axes
        colour = _background(encoded, background)
        step = chunk or chunk_size(model, encoded)
        parts = [model(encoded, targets[k : k + step], colour).rendering for k in range(0, len(flat), step)]
    parts = parts or [_nothing(targets.near)]
    out = in_user_units(Rendering.cat(parts), encoded.relative.unit, known)
    return out.map(lambda v: v.to(wanted).reshape((*shape, *v.shape[1:])))


def _background(encoded: EncodedViews, given: Sequence[float] | None) -> Tensor:
    """The colour where no source sees: the given one, or the mean over the pixels of the sources, every view alike."""
    if given is None:
        return torch.stack([color.mean((1, 2)) for color in encoded.colors]).mean(0)
    colour = torch.as_tensor(given).to(encoded.colors[0])
    if colour.shape != (3,) or not bool(torch.isfinite(colour).all()):
        raise ValueError(f"background: expected three finite numbers, got {given}")
    return colour


def _arithmetic(model: Renderer, precision: str):
    if precision == "bfloat16":
        return torch.autocast(model.device.type, torch.bfloat16)
    return contextlib.nullcontext()


def _nothing(like: Tensor) -> Rendering:
    """The rendering of no rays."""
    empty = like.new_zeros(0)
    return Rendering(empty.reshape(0, 3), empty, empty, empty, empty)


def chunk_size(model: Renderer, encoded: EncodedViews) -> int:
    """Rays a chunk: as many as keep `TOKENS` samples times views in flight."""
    return max(16, TOKENS // (len(encoded) * (model.config.fine + 1)))


def _placed(model: Renderer, encoded: EncodedViews, rays: Rays) -> tuple[EncodedViews, bool]:
    """Views with a unit of length, and whether it means anything.

    Coinciding sources take the distance to the target as the unit. If the target is there too, nothing has a scale:
    colours are those of a turned camera, and distances are unknown.
    """
    if encoded.relative is not None:
        return encoded, True
    center = encoded.cameras.centers.mean(0)
    distance = (rays.origin - center).norm(dim=-1).mean() if len(rays) else torch.zeros((), dtype=torch.float64)
    if encoded.cameras.near is not None and not distance > 1e-9 * center.abs().max():
        return model.place(encoded, encoded.cameras.near.double().mean()), True
    if distance > 1e-9 * center.abs().max():
        return model.place(encoded, distance.double()), True
    return model.place(encoded, torch.ones((), dtype=torch.float64)), False


def in_user_units(out: Rendering, unit: Tensor, known: bool = True) -> Rendering:
    """Distances times the unit, NaN where opacity is below 0.05 (or the unit means nothing)."""
    scale = unit.to(out.distance) if known else torch.nan
    empty = out.opacity < EMPTY

    def length(value: Tensor) -> Tensor:
        return torch.where(empty, torch.nan, value * scale)

    return replace(
        out, distance=length(out.distance), distance_mean=length(out.distance_mean), spread=length(out.spread)
    )
