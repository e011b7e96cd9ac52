"""Source views prepared for rendering: encoded once, used for any number of target rays.

`encode` runs the image encoder; `place` adds what needs a unit of length: recentred cameras and, for every source, the
distribution of depth along its rays (a plane sweep against the other sources, regularised by a small CNN).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from raytrans.data.priors import DepthPrior
from raytrans.data.views import Views
from raytrans.geometry.cameras import Cameras
from raytrans.geometry.rays import Rays
from raytrans.models.encoder import Encoder, FeatureMaps
from raytrans.models.gather import RelativeCameras, Samples, project, read, read_planes, sample_turn
from raytrans.models.reading import PlaneVolume, read_map
from raytrans.models.volume import VolumeRegularizer
from raytrans.rendering.sampling import EXTREME, inverse_edges, near_inverse, plane_position
from raytrans.shapes import Float

COINCIDENT = 1e-9
BLOCK = 2048  # pixels of a source compared with the others at a time
DRAWN = 5  # other views that a source is compared with in training
BATCH = 2**18  # pixels in the encoder at a time


@dataclass
class EncodedViews:
    """Source views with their feature maps; `placed` parts are None until a unit of length is known.

    colors[i] (3, H, W); fine[i], match[i], context[i]: feature maps; volume[i] of (2, D, h, w): probability of the
    surface at each plane and share of light that reaches it; near[i] (1, h, w): inverse distance of the first plane.
    priors[i]: what is known of the depth of a view, which then is not swept.
    one_place: all cameras share one centre, so that the unit of `relative` means nothing to a target elsewhere.
    """

    cameras: Cameras
    colors: list[Tensor]
    fine: list[Tensor]
    match: list[Tensor]
    context: list[Tensor]
    priors: list[DepthPrior | None]
    relative: RelativeCameras | None = None
    volume: list[PlaneVolume] | None = None
    logits: list[Tensor] | None = None
    near: list[Tensor] | None = None
    one_place: bool = False

    def __len__(self) -> int:
        return len(self.colors)


def source_unit(cameras: Cameras) -> Tensor | None:
    """Median distance between source centres (float64 scalar), or None where all centres coincide."""
    centers = cameras.centers
    distances = torch.pdist(centers - centers.mean(0))
    spread = distances.max() if distances.numel() else torch.zeros(())
    scale = centers.abs().max()
    # below the rounding of the stated coordinates two centres are one
    if not spread > COINCIDENT * scale:
        return None
    positive = distances[distances > 1e-6 * spread]
    return positive.quantile(0.5)


def encode(
    encoder: Encoder, views: Views, dtype: torch.dtype, device: torch.device, color_stride: int = 1
) -> EncodedViews:
    """Feature maps of every view; views of equal size go through the encoder together.

    The colours that are kept are averaged down by `color_stride`. The cameras are constants: they get no gradients.
    """
    colors = [image.to(dtype=dtype, device=device).permute(2, 0, 1) for image in views.images]
    maps: list[FeatureMaps | None] = [None] * len(colors)
    for size in sorted({tuple(c.shape) for c in colors}):
        members = [i for i, c in enumerate(colors) if tuple(c.shape) == size]
        step = max(1, BATCH // (size[1] * size[2]))
        for batch in (members[k : k + step] for k in range(0, len(members), step)):
            out = encoder(torch.stack([colors[i] for i in batch]).contiguous())
            # the layout that `read_map` reads fastest
            fine, match = (m.contiguous(memory_format=torch.channels_last) for m in (out.fine, out.match))
            for k, i in enumerate(batch):
                maps[i] = FeatureMaps(fine[k], match[k], out.context[k])
    if color_stride > 1:
        colors = [_averaged(color, color_stride) for color in colors]
    cameras = views.cameras.detach()
    fine, match, context = ([getattr(m, name) for m in maps] for name in ("fine", "match", "context"))
    return EncodedViews(cameras, colors, fine, match, context, list(views.priors))


def joined(parts: Sequence[EncodedViews]) -> EncodedViews:
    """Views that were encoded one by one, not placed yet, as one set."""
    lists = {
        name: [value for part in parts for value in getattr(part, name)]
        for name in ("colors", "fine", "match", "context", "priors")
    }
    return EncodedViews(Cameras.stack([camera for part in parts for camera in part.cameras]), **lists)


def _averaged(image: Float[Tensor, "c h w"], stride: int) -> Tensor:
    """Means over blocks of pixels, the same after turns of an image whose sides are no multiples of `stride`."""
    return F.adaptive_avg_pool2d(image, [max(1, -(-side // stride)) for side in image.shape[-2:]])


class DepthSweep(nn.Module):
    """Distribution of depth along every source ray: ray attention from each source to the others, plane by plane."""

    def __init__(self, encoder: Encoder, groups: int, context: int, channels: int, planes: int):
        super().__init__()
        self.match_type, self.groups, self.planes = encoder.match_type, groups, planes
        self.similarities = groups + (1 if self.match_type.count(1) else 0)
        self.sharpness = nn.Parameter(torch.full((self.similarities,), 2.0))
        self.regularize = VolumeRegularizer(2 * self.similarities + 2, context, channels)

    def forward(
        self, views: EncodedViews, planes: int | None = None, generator: torch.Generator | None = None
    ) -> EncodedViews:
        """Add volumes to placed views, of their priors where they have one; logits, which only training reads, where
        gradients are recorded.

        With a generator, every view is compared with `DRAWN` of the others at most, drawn at random.
        """
        volumes, nears, logits = [], [], []
        for i, prior in enumerate(views.priors):
            if prior is None:
                logit, near = self.logits(views, i, _others(len(views), i, generator), planes)
            else:
                like = views.match[i]
                logit, near = prior.logits.to(like), (prior.near * views.relative.unit.to(prior.near)).to(like)
            volumes.append(PlaneVolume(surface_volume(logit)))
            nears.append(near[None])
            logits.append(logit)
        return replace(views, volume=volumes, near=nears, logits=logits if torch.is_grad_enabled() else None)

    def logits(
        self, views: EncodedViews, i: int, others: list[int], planes: int | None = None
    ) -> tuple[Float[Tensor, "d h w"], Float[Tensor, "h w"]]:
        """Logits of the planes of placed view i, compared with others, and inverse distance of the first plane."""
        size = views.match[i].shape[-2:]
        value, near = self._statistics(views, i, others, planes or self.planes)
        value = value.unflatten(0, size).permute(3, 2, 0, 1)
        return self.regularize(value[None], views.context[i][None])[0], near.reshape(size)

    def _statistics(self, views: EncodedViews, i: int, others: list[int], planes: int) -> tuple[Tensor, Tensor]:
        """Agreement of view i with others at every pixel and plane, (h w, C, D), and near (h w,)."""
        origin, frame, near, inverse = plane_samples(views, i, planes)
        position = (inverse / near[:, None])[:, None]
        if not others:
            unknown = near.new_zeros(len(near), 2 * self.similarities + 1, planes)
            return torch.cat([unknown, position], 1), near
        parts = []
        for rows in torch.arange(len(near), device=near.device).split(BLOCK):
            parts.append(self._agreement(views, i, others, rows, (origin[rows], frame[rows], inverse[rows])))
        return torch.cat([torch.cat(parts), position], 1), near

    def _agreement(self, views: EncodedViews, i: int, others: list[int], rows: Tensor, rays: tuple) -> Tensor:
        """Mean and best similarity of some pixels of view i with others, and how many see them, (rows, C - 1, D)."""
        origin, frame, inverse = rays
        cameras = [_only(views.relative, j) for j in others]
        samples = [project(camera, origin, frame[..., 2], inverse) for camera in cameras]
        turns = [None] * len(others)
        if self.match_type.count(1):
            turns = [sample_turn(camera, frame, s)[0] for camera, s in zip(cameras, samples, strict=True)]
        fade = torch.cat([s.fade for s in samples])[:, :, None]

        def pooled(own: Tensor, *theirs: Tensor) -> tuple[Tensor, Tensor]:
            queries = self._queries(own.flatten(1).T[rows]).mT.contiguous()
            pairs = zip(theirs, samples, turns, strict=True)
            score = torch.stack([self._similarity(queries, read_map(m, s.grid[0]), turn) for m, s, turn in pairs])
            focus = fade * torch.exp((self.sharpness[:, None] * score).clamp(-8, 8))
            mean = (fade * score).sum(0) / (fade.sum(0) + 1e-3)
            return mean, (focus * score).sum(0) / (focus.sum(0) + 1e-3)

        # made again in the backward pass: what it keeps would be most of the memory of a training step
        maps = [views.match[j] for j in (i, *others)]
        mean, best = checkpoint(pooled, *maps, use_reentrant=False, preserve_rng_state=False)
        return torch.cat([mean, best, torch.tanh(fade.sum(0) / 2)], 1)

    def _queries(self, own: Tensor) -> Tensor:
        """Features (h w, C) as matrices (h w, C, groups + 2) whose product with other features is their correlation.

        A column for the mean product of each group of invariants, then real and imaginary part of <own, theirs>.
        """
        split, count = self.match_type.count(0), self.match_type.count(1)
        width = split // self.groups
        group = torch.arange(split, device=own.device) // width == torch.arange(self.groups, device=own.device)[:, None]
        invariant = own[:, :split, None] * (group.T.to(own) / width)
        if not count:
            return invariant
        real, imaginary = own[:, split:].unflatten(1, (-1, 2)).unbind(-1)
        typed = torch.stack([torch.stack([real, -imaginary], -1), torch.stack([imaginary, real], -1)], 2) / count
        invariant = F.pad(invariant, (0, 2, 0, 2 * count))
        return torch.cat([invariant[:, :split], F.pad(typed.flatten(1, 2), (self.groups, 0))], 1)

    def _similarity(self, queries: Tensor, theirs: Tensor, turn: Tensor | None) -> Tensor:
        """Group-wise correlation of invariants and Re<own, transported theirs> of type 1, (h w, groups + 1, D).

        queries (h w, groups + 2, C) from `_queries`, theirs (h w, D, C), turn (h w, D).
        """
        score = queries @ theirs.mT
        if turn is None:
            return score
        typed = score[:, -2] * turn.real - score[:, -1] * turn.imag
        return torch.cat([score[:, :-2], typed[:, None]], 1)


def _others(count: int, i: int, generator: torch.Generator | None) -> list[int]:
    others = [j for j in range(count) if j != i]
    if generator is None or len(others) <= DRAWN:
        return others
    return [others[k] for k in sorted(torch.randperm(len(others), generator=generator)[:DRAWN].tolist())]


def _only(cameras: RelativeCameras, j: int) -> RelativeCameras:
    one = slice(j, j + 1)
    return replace(
        cameras,
        camera_from_world=cameras.camera_from_world[one],
        centers=cameras.centers[one],
        grid_from_camera=cameras.grid_from_camera[one],
        size=cameras.size[one],
        reach=cameras.reach[one],
        distortion=None if cameras.distortion is None else cameras.distortion[one],
    )


def matching_rays(views: EncodedViews, i: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rays through the matching pixels of source i: origin, frame, cosine to the optical axis, all (h w, ...)."""
    h, w = views.match[i].shape[-2:]
    camera = views.cameras[i]
    y, x = torch.meshgrid(*(torch.arange(side, dtype=torch.float64) + 0.5 for side in (h, w)), indexing="ij")
    pixels = torch.stack([x * camera.width / w, y * camera.height / h], -1).reshape(-1, 2)
    rays = camera.pixel_rays(pixels)
    return *relative_rays(rays, views.relative), (rays.direction * camera.forward).sum(-1)


def plane_samples(views: EncodedViews, i: int, planes: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rays through the matching pixels of source i: origin, frame, near (all (h w, ...)), inverse distances (h w, D).

    The planes run from `near` to 0 inclusive, uniform in the root of inverse distance.
    """
    origin, frame, cosine = matching_rays(views, i)
    near = near_inverse(views.relative, origin, frame[..., 2])
    bound = views.cameras[i].near
    if bound is not None:
        # a bound of z-depth says nothing of rays that leave backwards through a wide lens
        most = torch.where(cosine > 0, cosine * (views.relative.unit / bound).to(cosine), torch.inf)
        near = torch.minimum(near, most.clamp_min(1 / EXTREME).to(near))
    return origin, frame, near, inverse_edges(near, torch.zeros_like(near), planes - 1)


def relative_rays(rays: Rays, relative: RelativeCameras) -> tuple[Tensor, Tensor]:
    """Origins (recentred, in units) and frames of rays, both in float64."""
    device = relative.centers.device
    origin = (rays.origin.double() - relative.center.to(rays.origin.device)) / relative.unit.to(rays.origin.device)
    return origin.to(device), rays.frame.double().to(device)


def own_units(views: EncodedViews, origin: Tensor, near: Tensor | None) -> tuple[Tensor, Tensor]:
    """Origins (R, 3) and units (R,) of target rays where all sources share one place.

    The unit is the distance of the ray's origin from there; where it starts there too the near bound of the sources,
    else its own, else NaN: nothing has a length.
    """
    length, reference = origin.norm(dim=-1), views.relative.unit.to(origin)
    apart = length > COINCIDENT * views.cameras.centers.abs().max().to(origin) / reference
    given = torch.full_like(length, torch.nan) if near is None else torch.where(near > 0, near, torch.nan)
    fallback = given if views.cameras.near is None else reference.expand_as(length)
    scale = torch.where(apart, length, 1.0)
    return origin / scale[:, None], torch.where(apart, reference * length, fallback)


def surface_volume(logits: Tensor) -> Tensor:
    """Probability of the surface at each plane and share of light that reaches it, (2, D, h, w).

    p = softmax(logits), visible_k = 1 - sum_{j<k} p_j - p_k / 2.
    """
    p = F.softmax(logits, 0)
    return torch.stack([p, 1 - p.cumsum(0) + p / 2])


def read_volume(views: EncodedViews, samples: Samples) -> tuple[Tensor, Tensor]:
    """Hazard (probability over remaining light) and visibility at samples, each (N, R, S)."""
    near = read(views.near, samples)[..., 0]
    probability, visible = read_planes(views.volume, samples, plane_position(samples.inverse, near))
    visible = visible.clamp(0, 1)
    return probability / (visible + 0.05), visible
