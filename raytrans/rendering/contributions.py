"""Which sources and which samples made the colour of one pixel: what the renderer computes anyway, handed out."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from raytrans.data.views import Views
from raytrans.geometry.cameras import Cameras
from raytrans.rendering.compositing import Rendering
from raytrans.rendering.renderer import Renderer
from raytrans.rendering.sources import EncodedViews
from raytrans.rendering.synthesis import (
    PRECISIONS,
    Query,
    arithmetic,
    background_color,
    content_order,
    encode,
    in_user_units,
)
from raytrans.shapes import Float


@dataclass(frozen=True)
class Contributions:
    """One target ray: S samples along it, the last at infinity, N sources in the order of the views.

    distance (S,) along the ray in the user's units, inf at the last, NaN where nothing has a length; weight (S,) of the
    samples in the colour; share (N, S) of the source colours `seen` (N, S, 3) in a sample's, summing to 1 over the
    sources; attention (N, S) of the view stage's last layer, mean of its heads, summing to 1 too; fade (N, S), 0 where
    a source does not see the sample. `out` is the rendering of the ray alone.

    colour = sum_k weight_k sum_j share_jk seen_jk + (1 - sum_k weight_k) background, without the learned residual that
    `ModelConfig.residual` adds.
    """

    distance: Float[Tensor, " s"]
    weight: Float[Tensor, " s"]
    share: Float[Tensor, "n s"]
    attention: Float[Tensor, "n s"]
    fade: Float[Tensor, "n s"]
    seen: Float[Tensor, "n s 3"]
    background: Float[Tensor, "3"]
    out: Rendering

    def of_sources(self, values: Float[Tensor, "n s"]) -> Float[Tensor, " n"]:
        """Mean of something over the ray, by the weights of the samples: sum_k weight_k v_jk / sum_k weight_k."""
        return (values * self.weight).sum(-1) / self.weight.sum().clamp_min(1e-12)

    def color(self) -> Float[Tensor, "3"]:
        """The colour by the formula above."""
        blend = torch.einsum("s,ns,nsc->c", self.weight, self.share, self.seen)
        return blend + (1 - self.weight.sum()) * self.background


def contributions(
    model: Renderer,
    views: Views,
    camera: Cameras,
    pixel: Sequence[float] | Tensor,
    encoded: EncodedViews | None = None,
    precision: str = "float32",
) -> Contributions:
    """What `render` makes of one pixel (x, y) of a camera, the centre of the first being (0.5, 0.5). No gradients.

    encoded: what `encode` made of these views, where it is there already.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision: expected one of {', '.join(PRECISIONS)}, got {precision!r}")
    encoded = encode(model, views) if encoded is None else encoded
    order = torch.tensor(content_order(views)).argsort()
    with torch.no_grad(), arithmetic(model, precision):
        query = Query.of_camera(camera, torch.as_tensor(pixel, dtype=torch.float64)[None])
        targets, background = query.targets(model, encoded), background_color(encoded, None)
        traced = model(encoded, targets, background)
        out = query.in_depth(in_user_units(traced.rendering, targets.unit))
    shaded = traced.shaded
    by_source = (value[:, 0].cpu()[order] for value in (shaded.share, shaded.attention, shaded.fade, shaded.seen))
    distance = (targets.unit[0].to(traced.inverse) / traced.inverse[0]).cpu()
    return Contributions(distance, traced.weights[0].cpu(), *by_source, background.cpu(), out.map(lambda v: v[0].cpu()))
