"""The whole model: source views in, colour and distance of any set of rays out."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from raytrans.data.priors import DepthPrior
from raytrans.data.views import Views
from raytrans.fields.types import FieldType
from raytrans.geometry.pairs import RayPairs
from raytrans.geometry.rays import Rays
from raytrans.models.config import ModelConfig
from raytrans.models.encoder import Encoder
from raytrans.models.gather import RelativeCameras, Samples, project, read, sample_pairs
from raytrans.models.stages import RayStage, ViewStage, orders, pair_invariants
from raytrans.rendering.compositing import Rendering, composite, weights_from_alpha
from raytrans.rendering.exposure import balanced
from raytrans.rendering.head import Head, log_intervals
from raytrans.rendering.proposal import Agreement, Proposal
from raytrans.rendering.sampling import EXTREME, inverse_edges, near_inverse, resample, uniform_samples
from raytrans.rendering.sources import (
    DepthSweep,
    EncodedViews,
    encode,
    own_units,
    read_volume,
    relative_rays,
    source_unit,
)
from raytrans.shapes import Float

GEOMETRY = 5


@dataclass
class TargetRays:
    """Target rays recentred and counted in the unit: origin (R, 3) and frame (R, 3, 3) in float64, near and far inverse
    distance (R,) in the working dtype.

    unit (R,) is the unit of each in the user's lengths, NaN where there is none. `axes` (3, 3) are the target camera's
    axes, which only the target-canonical control reads.
    """

    origin: Tensor
    frame: Tensor
    near: Tensor
    far: Tensor
    unit: Tensor
    axes: Tensor | None = None


@dataclass
class Shaded:
    """Samples of R target rays: opacity (R, S), colour (R, S, 3), and what of each source (N, R, S) is in them.

    `share` blends the source colours `seen` (N, R, S, 3); over the sources it sums to 1, as the view stage's
    `attention` does. `fade` is 0 where a source does not see the sample, 1 well inside its image.
    """

    alpha: Tensor
    color: Tensor
    share: Tensor
    attention: Tensor
    fade: Tensor
    seen: Tensor


@dataclass
class Traced:
    """A rendering with what training needs besides: proposal edges and weights, and those of the fine samples."""

    rendering: Rendering
    edges: Tensor
    proposal: Tensor
    inverse: Tensor
    weights: Tensor
    shaded: Shaded


class Renderer(nn.Module):
    """Encoder, depth sweep, proposal, view stage, ray stage and head, as `ModelConfig` says."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.fine_type = FieldType(config.fine_type)
        self.encoder = Encoder(
            config.widths, self.fine_type, FieldType(config.match_type), config.context, config.encoder
        )
        self.sweep = DepthSweep(self.encoder, config.groups, config.context, config.volume, config.planes)
        self.agreement = Agreement()
        self.propose = Proposal() if config.proposal == "sweep" else None
        directions = 0 if config.directions == "none" else 6
        tokens = self.fine_type.dim + 3 + GEOMETRY + directions
        if config.scales == 2:
            tokens += self.encoder.match_type.dim
        self.scalars = Agreement.features + 2 + directions
        self.views = ViewStage(tokens, self.scalars, config)
        self.along = RayStage(config.hidden, config.heads, config.ray_layers, config.typed)
        self.head = Head(config.hidden, self.scalars, config.residual)

    @property
    def dtype(self) -> torch.dtype:
        return self.head.hazard.dtype

    @property
    def device(self) -> torch.device:
        return self.head.hazard.device

    def encode(self, views: Views) -> EncodedViews:
        """Feature maps of the views; whatever needs a unit of length comes with `place`."""
        return encode(self.encoder, views, self.dtype, self.device, self.config.color_stride)

    def place(
        self, encoded: EncodedViews, unit: Tensor | None, generator: torch.Generator | None = None
    ) -> EncodedViews:
        """Recentre the cameras, count lengths in `unit` and estimate every source's distribution of depth.

        The unit is None where all sources share one place (see `source_unit`): nothing but near bounds, if there are
        any, has a length there, and every target ray brings a unit of its own. In training a generator draws the views
        that each is compared with (see `DepthSweep`). A view with a prior keeps the distribution that it brings.
        """
        placed = self.sweep(self._recentred(encoded, unit), generator=generator)
        return balanced(placed) if self.config.exposure else placed

    def _recentred(self, encoded: EncodedViews, unit: Tensor | None) -> EncodedViews:
        own = unit
        if unit is None:
            near = encoded.cameras.near
            own = torch.ones((), dtype=torch.float64) if near is None else near.double().mean()
        center = encoded.cameras.centers.mean(0)
        relative = RelativeCameras.of(encoded.cameras, center, own.detach(), self.dtype, self.device)
        return replace(encoded, relative=relative, one_place=unit is None)

    def depth_prior(self, encoded: EncodedViews) -> DepthPrior:
        """What the depth sweep finds along the rays of the first view, compared with all the others."""
        views = self._recentred(encoded, source_unit(encoded.cameras))
        logits, near = self.sweep.logits(views, 0, list(range(1, len(views))))
        return DepthPrior(logits, near / views.relative.unit.to(near))

    def forward(
        self, views: EncodedViews, rays: TargetRays, background: Tensor, jitter: Tensor | None = None
    ) -> Traced:
        """Render R rays against placed views; `jitter` (R, fine) stratifies the samples, lengths come out in units."""
        edges, proposal = self.propose_weights(views, rays)
        if self.propose is None:
            inverse = uniform_samples(rays.near, rays.far, self.config.fine, jitter)
        else:
            inverse = resample(edges, proposal.detach(), self.config.fine, jitter)
        inverse = torch.cat([inverse, torch.zeros_like(inverse[:, :1])], -1)
        shaded = self.shade(views, rays, inverse)
        weights, _ = weights_from_alpha(shaded.alpha)
        rendering = composite(weights, shaded.color, inverse, background)
        return Traced(rendering, edges, proposal, inverse, weights, shaded)

    def propose_weights(self, views: EncodedViews, rays: TargetRays) -> tuple[Tensor, Tensor]:
        """Edges of the coarse bins (R, coarse + 1) and the proposal's weight of each (R, coarse); alike without one."""
        edges = inverse_edges(rays.near, rays.far, self.config.coarse)
        if self.propose is None:
            return edges, torch.full_like(edges[:, 1:], 1 / self.config.coarse)
        samples = project(views.relative, rays.origin, rays.frame[..., 2], (edges[:, 1:] + edges[:, :-1]) / 2, False)
        hazard, visible = read_volume(views, samples)
        pooled = self.agreement(hazard, visible, samples, self._cosine(views, rays, samples))
        # samples move with the last digits of the proposal, so it keeps them where other layers are in bfloat16
        with torch.autocast(self.device.type, enabled=False):
            weights, _ = weights_from_alpha(self.propose(pooled))
        return edges, weights

    @staticmethod
    def _cosine(views: EncodedViews, rays: TargetRays, samples: Samples) -> Tensor:
        d = views.relative.in_axes(rays.frame[..., 2]).to(samples.fade)[..., None]
        return d[0] * samples.toward[0] + d[1] * samples.toward[1] + d[2] * samples.toward[2]

    def shade(self, views: EncodedViews, rays: TargetRays, inverse: Float[Tensor, "r s"]) -> Shaded:
        """Opacity and colour of samples at given inverse distances."""
        samples = project(views.relative, rays.origin, rays.frame[..., 2], inverse)
        pairs = sample_pairs(views.relative, rays.frame, samples)
        features = read(views.fine, samples)
        colors = read(views.colors, samples)
        hazard, visible = read_volume(views, samples)
        logs, interval = log_intervals(inverse)
        pooled = self.agreement(hazard, visible, samples, pairs.cosine)
        y_axis, x_axis = self._directions(views, rays, samples)
        scalars = torch.cat([pooled, logs[..., None], torch.log(interval + 1e-3)[..., None], *x_axis], -1)
        typed = [self._invariants(self.fine_type, features, pairs)]
        if self.config.scales == 2:
            typed.append(self._invariants(self.encoder.match_type, read(views.match, samples), pairs))
        if self.config.visibility == "none":
            hazard, visible = torch.zeros_like(hazard), torch.ones_like(visible)
        geometry = torch.stack(
            [
                torch.sqrt(pairs.sine2_half + 1e-6),
                pairs.cosine,
                torch.tanh(torch.log(samples.ratio)),
                torch.log(hazard + 1e-3),
                visible,
            ],
            -1,
        )
        tokens = torch.cat([*typed, colors, geometry, *y_axis], -1)
        weight = samples.fade * (visible + 0.1)
        x, source, fields, attention = self.views(tokens, weight, scalars, pairs, self._typed_sources(features))
        x = self.along(x, fields, logs)
        seen = 1 - torch.prod(1 - samples.fade, 0)
        alpha = self.head.alpha(x, scalars, interval, seen)
        # the point at infinity takes what is left, as far as anybody sees it
        alpha = torch.cat([alpha[:, :-1], seen[:, -1:]], -1)
        color, share = self.head.color(x, source, colors, weight, pairs.sine2_half)
        return Shaded(alpha, color, share, attention, samples.fade, colors)

    def _invariants(self, field_type: FieldType, features: Tensor, pairs: RayPairs) -> Tensor:
        """What the tokens hold of typed features; the control arms read them as they are."""
        return features if self.config.directions != "none" else pair_invariants(field_type, features, pairs)

    def _typed_sources(self, features: Tensor) -> dict[int, Tensor]:
        parts = {b.n: p for b, p in zip(self.fine_type.blocks, self.fine_type.split(features), strict=True)}
        return {n: parts[n][..., :channels] for n, channels in orders(self.config.typed)}

    def _directions(self, views: EncodedViews, rays: TargetRays, samples: Samples) -> tuple[list[Tensor], list[Tensor]]:
        """Directions that only the control arms read: source rays (N, R, S, 6) and the target ray (R, S, 6)."""
        if self.config.directions == "none":
            return [], []
        y = torch.stack(samples.toward, -1)
        axes = torch.eye(3, dtype=torch.float64, device=y.device)
        if self.config.directions == "target":
            if rays.axes is None:
                raise ValueError("rays: the target-canonical control needs the rays of one camera, got free rays")
            axes = rays.axes.to(axes)
        y = torch.einsum("njk,nrsj->nrsk", (views.relative.camera_from_world @ axes).to(y), y)
        e1, x = (rays.frame[..., i].to(axes) @ axes for i in (0, 2))
        target = torch.cat([x, e1], -1).to(y)[:, None].expand(-1, y.shape[2], -1)
        return [torch.cat([y, y - x[:, None].to(y)], -1)], [target]

    def target_rays(
        self, views: EncodedViews, rays: Rays, near: Tensor | None = None, far: Tensor | None = None
    ) -> TargetRays:
        """Recentre flat `Rays` (R,) and find their range; bounds (R,) in the user's distances only tighten it.

        The rays are constants: they get no gradients.
        """
        origin, frame = relative_rays(rays.map(Tensor.detach), views.relative)
        unit = views.relative.unit.to(origin).expand(len(origin))
        near, far = (None if bound is None else bound.to(origin) for bound in (near, far))
        if views.one_place:
            origin, unit = own_units(views, origin, near)
        first = near_inverse(views.relative, origin, frame[..., 2])
        last = torch.zeros_like(first)
        # without a unit a bound says nothing
        if near is not None:
            first = torch.minimum(first, (unit / near).nan_to_num(EXTREME).clamp_min(1 / EXTREME).to(first))
        if far is not None:
            last = (unit / far).nan_to_num(0.0).clamp_max(EXTREME).to(first)
            # a ray that is first seen beyond `far` keeps a short range before it
            first = torch.maximum(first, 1.05 * last)
        return TargetRays(origin, frame, first, last, unit)
