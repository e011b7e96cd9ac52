"""From source views to renderings: encode once, render cameras or any set of rays, in chunks under a memory bound."""

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from raytrans.data.views import Views
from raytrans.geometry.cameras import Cameras
from raytrans.geometry.rays import Rays
from raytrans.rendering.compositing import Rendering
from raytrans.rendering.renderer import Renderer, TargetRays
from raytrans.rendering.sources import EncodedViews, source_unit
from raytrans.shapes import Float

PRECISIONS = ("float32", "float64", "bfloat16")
EMPTY = 0.05
TOKENS = 40_000  # samples times views in flight: chunks of about 256 rays at 8 views stay in cache


def encode(model: Renderer, views: Views | EncodedViews) -> EncodedViews:
    """Feature maps and depth distributions of the source views, for any number of `render` calls. No gradients.

    The views are kept as `arranged` has them, however they come; not turned where the encoder is not exact.
    """
    if isinstance(views, EncodedViews):
        return views
    if not isinstance(views, Views):
        raise ValueError(f"sources: expected Views or the result of encode, got {type(views).__name__}")
    with torch.no_grad():
        views = arranged(views, turned=model.config.encoder == "turns")
        return model.place(model.encode(views), source_unit(views.cameras))


def arranged(views: Views, turned: bool = True) -> Views:
    """The views in `content_order`, each turned with its camera by `view_turn`: what they show is the same.

    Rounding then is the same to the last digit, whatever the order and the quarter turns in which the views come.
    Not turned where `turned` is False.
    """
    images, cameras, priors = [], [], []
    for i in content_order(views):
        image, camera, prior = views.image(i), views.cameras[i], views.priors[i]
        turns = view_turn(image, camera) if turned else 0
        images.append(torch.rot90(image, turns, (0, 1)))
        cameras.append(camera.quarter_turned(turns))
        priors.append(prior and prior.quarter_turned(turns))
    return Views(images, Cameras.stack(cameras), priors)


def content_order(views: Views) -> list[int]:
    """Indices of the views in an order that depends on the colours of each alone, on quarter turns of it neither."""
    keys = []
    for image in views.images:
        levels = _levels(image)
        keys.append(torch.stack([levels.sum((0, 1)), (levels * levels).sum((0, 1))]).flatten().tolist())
    return sorted(range(len(keys)), key=keys.__getitem__)


def view_turn(image: Float[Tensor, "h w 3"], camera: Cameras) -> int:
    """Quarter turns by which `arranged` turns a view: `content_turn`, none for a skewed camera."""
    return 0 if camera.intrinsics[0, 1] != 0 else content_turn(image)


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
    tell: Callable[[int], None] | None = None,
) -> Rendering:
    """Render one camera from source views: colour (H, W, 3), z-depth, opacity and spread (H, W), in the user's units.

    Deterministic, without gradients, rays in chunks. The result depends on images and cameras only, up to rounding not
    on world frame, scale, order of sources, roll of the camera, or roll of any source by quarter turns. `background`
    shows where no source sees, by default the mean colour of the sources. `precision` "bfloat16" takes the
    layers that see rays in that type. `tell(rays)` is called after every chunk. Raises ValueError for a batch of
    cameras or an unknown precision.
    """
    if not isinstance(camera, Cameras) or camera.intrinsics.ndim != 2:
        got = f"a batch {tuple(camera.shape)}" if isinstance(camera, Cameras) else type(camera).__name__
        raise ValueError(f"camera: expected one camera, got {got}")
    shape = int(camera.height), int(camera.width)

    def pixels(start: int, stop: int) -> Query:
        index = torch.arange(start, stop, dtype=torch.float64)
        row = torch.floor(index / shape[1])
        return Query.of_camera(camera, torch.stack([index - row * shape[1], row], -1) + 0.5)

    return _render(model, sources, shape, pixels, Options(precision, background, chunk), tell)


def render_rays(
    model: Renderer,
    sources: Views | EncodedViews,
    rays: Rays,
    precision: str = "float32",
    background: Sequence[float] | None = None,
    chunk: int | None = None,
) -> Rendering:
    """Render any set of rays (*batch): `.color (*batch, 3)`, `.distance`, `.opacity`, `.spread` (*batch).

    Samples start at `rays.origin`; another section (frame, anchor) changes nothing. Raises ValueError for rays that are
    not finite, no unit directions or no rotations as frames.
    """
    if not isinstance(rays, Rays):
        raise ValueError(f"rays: expected Rays, got {type(rays).__name__}")
    rays.check()
    flat = rays.reshape(-1)
    return _render(model, sources, rays.shape, lambda a, b: Query(flat[a:b]), Options(precision, background, chunk))


def trace(
    model: Renderer,
    sources: Views | EncodedViews,
    rays: Rays,
    background: Sequence[float] | None = None,
    jitter: Float[Tensor, "*batch fine"] | None = None,
) -> Rendering:
    """`render_rays` with gradients, for training: all rays (*batch) at once, the views as they come.

    Colours, opacity, `distance_mean` and `spread` are differentiable in the weights of the model and the colours of the
    views, not in cameras or rays, which get no gradients: the places of samples are constants. `jitter`, uniform in
    [0, 1), draws the `model.config.fine` samples of a ray at random within their strata. Where many rays share the
    views, give the views as `model.place(model.encode(views), source_unit(views.cameras))`.
    """
    if not isinstance(rays, Rays):
        raise ValueError(f"rays: expected Rays, got {type(rays).__name__}")
    rays.check()
    if isinstance(sources, Views):
        sources = model.place(model.encode(sources), source_unit(sources.cameras))
    if jitter is not None and jitter.shape != (*rays.shape, model.config.fine):
        raise ValueError(f"jitter: expected shape {(*rays.shape, model.config.fine)}, got {tuple(jitter.shape)}")
    targets = model.target_rays(sources, rays.reshape(-1))
    jitter = None if jitter is None else jitter.reshape(-1, model.config.fine).to(targets.near)
    out = model(sources, targets, background_color(sources, background), jitter).rendering
    return in_user_units(out, targets.unit).map(lambda v: v.reshape((*rays.shape, *v.shape[1:])))


@dataclass(frozen=True)
class Query:
    """Some target rays (R,) with what a camera knows of them: bounds of their distance and cosine to its axis, (R,)."""

    rays: Rays
    near: Tensor | None = None
    far: Tensor | None = None
    cosine: Tensor | None = None
    axes: Tensor | None = None

    @classmethod
    def of_camera(cls, camera: Cameras, pixels: Float[Tensor, "r 2"]) -> "Query":
        """Rays through pixels; bounds of z-depth say nothing of rays that leave backwards through a wide lens."""
        rays = camera.pixel_rays(pixels)
        cosine = (rays.direction * camera.forward).sum(-1)
        near = None if camera.near is None else torch.where(cosine > 0, camera.near / cosine, 0.0)
        far = None if camera.far is None else torch.where(cosine > 0, camera.far / cosine, torch.inf)
        return cls(rays, near, far, cosine, camera.world_from_camera[:3, :3])

    def targets(self, model: Renderer, encoded: EncodedViews) -> TargetRays:
        """As the renderer takes them."""
        return replace(model.target_rays(encoded, self.rays, self.near, self.far), axes=self.axes)

    def in_depth(self, out: Rendering) -> Rendering:
        """With z-depth beside the distance where the rays are those of a camera."""
        if self.cosine is None:
            return out
        cosine = self.cosine.to(out.distance)
        return replace(out, depth=out.distance * cosine, depth_mean=out.distance_mean * cosine)


@dataclass(frozen=True)
class Options:
    """How to render; the arguments of `render` of the same names."""

    precision: str
    background: Sequence[float] | None
    chunk: int | None

    def __post_init__(self):
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision: expected one of {', '.join(PRECISIONS)}, got {self.precision!r}")
        if self.chunk is not None and self.chunk < 1:
            raise ValueError(f"chunk: expected at least 1 ray, got {self.chunk}")

    @property
    def dtype(self) -> torch.dtype:
        return torch.float64 if self.precision == "float64" else torch.float32


def _render(
    model: Renderer,
    sources: Views | EncodedViews,
    shape: tuple[int, ...],
    query: Callable[[int, int], Query],
    options: Options,
    tell: Callable[[int], None] | None = None,
) -> Rendering:
    """Render rays of a batch shape; `query(a, b)` makes the a-th to the b-th when their turn has come."""
    if not isinstance(model, Renderer):
        raise ValueError(f"model: expected a Renderer, as raytrans.load gives, got {type(model).__name__}")
    if model.dtype != options.dtype:
        raise ValueError(
            f"precision: {options.precision!r} needs a model in {options.dtype}, got {model.dtype}; "
            f"use model.to({options.dtype})"
        )
    count = math.prod(shape)
    with torch.no_grad():
        encoded = encode(model, sources)
        colour = background_color(encoded, options.background)
    step, whole = options.chunk or chunk_size(model, encoded), None
    with torch.no_grad(), arithmetic(model, options.precision):
        for start in range(0, max(count, 1), step):
            part = _part(model, encoded, query(start, min(start + step, count)), colour)
            # made first: results kept between the passing tensors of the chunks would scatter the heap
            whole = part.map(lambda v: v.new_empty((count, *v.shape[1:]), dtype=options.dtype)) if start == 0 else whole
            whole.write(start, part)
            if tell is not None:
                tell(len(part.color))
    return whole.map(lambda v: v.reshape((*shape, *v.shape[1:])))


def _part(model: Renderer, encoded: EncodedViews, query: Query, background: Tensor) -> Rendering:
    targets = query.targets(model, encoded)
    return query.in_depth(in_user_units(model(encoded, targets, background).rendering, targets.unit))


def background_color(encoded: EncodedViews, given: Sequence[float] | None) -> Tensor:
    """The colour where no source sees: the given one, or the mean over the pixels of the sources, every view alike."""
    if given is None:
        return torch.stack([color.mean((1, 2)) for color in encoded.colors]).mean(0)
    colour = torch.as_tensor(given).to(encoded.colors[0])
    if colour.shape != (3,) or not bool(torch.isfinite(colour).all()):
        raise ValueError(f"background: expected three finite numbers, got {given}")
    return colour


def arithmetic(model: Renderer, precision: str):
    """A block in which layers that see rays compute in a precision."""
    if precision == "bfloat16":
        return torch.autocast(model.device.type, torch.bfloat16)
    return contextlib.nullcontext()


def chunk_size(model: Renderer, encoded: EncodedViews) -> int:
    """Rays a chunk: as many as keep `TOKENS` samples times views in flight."""
    return max(16, TOKENS // (len(encoded) * (model.config.fine + 1)))


def in_user_units(out: Rendering, unit: Float[Tensor, " r"]) -> Rendering:
    """Distances times the unit of each ray, NaN where opacity is below 0.05.

    Where the unit is NaN no length has a meaning: nothing is told from what is infinitely far, so opacity is 0.
    """
    unit = unit.to(out.distance)
    opacity = torch.where(unit.isnan(), 0.0, out.opacity)
    empty = opacity < EMPTY
    unit = torch.where(empty, 1.0, unit)  # a factor of NaN would make the gradients of all rays NaN

    def length(value: Tensor) -> Tensor:
        return torch.where(empty, torch.nan, value * unit)

    return replace(
        out,
        opacity=opacity,
        distance=length(out.distance),
        distance_mean=length(out.distance_mean),
        spread=length(out.spread),
    )
