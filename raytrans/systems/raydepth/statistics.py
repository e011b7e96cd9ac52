"""Where attention on rays goes: the invariants of a target ray and a source ray beside what passes between them.

Two rays that see one point of a surface meet: their distance is zero, the source ray lies on the epipolar line of the
target. A renderer samples that line and has only to find the place on it; a layer that sees every source ray has to
find the line too.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from raytrans.data.readers import open_scene
from raytrans.data.views import Views
from raytrans.geometry.cameras import Cameras
from raytrans.geometry.pairs import angle, distance
from raytrans.geometry.rays import Rays
from raytrans.layers.attention import RayAttention, attention_weights
from raytrans.layers.neighborhood import Gathered
from raytrans.layers.statistics import attention_statistics, bins
from raytrans.rendering.renderer import Renderer
from raytrans.rendering.synthesis import Query, background_color, encode
from raytrans.shapes import Float
from raytrans.systems.raydepth.native import NativeRayDepth
from raytrans.systems.raydepth.task import RayDepths, draw, error
from raytrans.training.checkpoint import load

PIXELS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
ANGLES = (0.0, 5.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 180.0)
DISTANCES = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5)
"""Limits of pixels in a source view; edges of bins of degrees, and of the distance of two lines over the unit."""
TEST_SEED = 10_000


@dataclass(frozen=True)
class RayPairAttention:
    """Attention of target rays and source rays, pair by pair (P,), over what uniform attention would give.

    angle: of the two rays, degrees. apart: pixels in the source view between the sample and the surface for a renderer,
    the distance of the two lines over the unit for a layer over all source rays.
    """

    attention: Tensor
    angle: Tensor
    apart: Tensor


def renderer_attention(
    model: Renderer, views: Views, camera: Cameras, pixels: Float[Tensor, "r 2"], depth: Float[Tensor, " r"]
) -> tuple[RayPairAttention, RayPairAttention]:
    """What a renderer attends to on the epipolar lines of the pixels of a camera, whose true z-depth is given.

    First the whole: weight of the sample in the colour times attention of the view stage. Then the view stage alone,
    which shares every sample among the sources. Pairs are samples of a target ray times sources that see them; pairs of
    the sample at infinity are left out.
    """
    encoded, query = encode(model, views), Query.of_camera(camera, pixels)
    with torch.no_grad():
        targets = query.targets(model, encoded)
        traced = model(encoded, targets, background_color(encoded, None))
    along = (targets.unit[:, None] / traced.inverse.double())[:, :-1]
    target, reach = query.rays.reshape(-1, 1), depth.double() / query.cosine
    samples, surface = target.point(along), query.rays.point(reach)
    places = zip(encoded.cameras, traced.shaded.fade, traced.shaded.attention, strict=True)
    parts = [_seen_from(c, target, samples, surface, f[:, :-1], a[:, :-1]) for c, f, a in places]
    turn, apart, seen, attention = (torch.stack(values) for values in zip(*parts, strict=True))
    used = seen & reach.isfinite()[:, None]
    weight = traced.weights[:, :-1] * used.shape[2]
    return tuple(
        RayPairAttention(share[used] * len(used), turn[used].to(share), apart[used].to(share))
        for share in (attention * weight, attention)
    )


def _seen_from(
    camera: Cameras, target: Rays, samples: Tensor, surface: Tensor, fade: Tensor, attention: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Angle in degrees, pixels between sample and surface, whether the view sees both, and the attention, (R, S)."""
    source = Rays.from_points(camera.centers.expand_as(samples), samples - camera.centers)
    (place, _), (true, front) = camera.project(samples), camera.project(surface)
    size = torch.tensor([float(camera.width), float(camera.height)], dtype=torch.float64)
    inside = ((true > 0) & (true < size)).all(-1) & (front > 0)
    apart = (place - true[:, None]).norm(dim=-1)
    return angle(target, source).rad2deg(), apart, (fade > 0.5) & inside[:, None], attention


@contextmanager
def recorded(model: nn.Module) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Logits and their bias, one pair of tensors for every call of a `RayAttention` of the model in the block."""
    found, hooks = [], []
    for module in model.modules():
        if isinstance(module, RayAttention):
            own = {}

            def keep(_, __, out: Tensor, own: dict = own, name: str = "logits") -> None:
                own[name] = out.detach()

            def finish(_, __, out: Tensor, own: dict = own) -> None:
                found.append((own["logits"], out.detach()))

            hooks += [module.logits.register_forward_hook(keep), module.logit_bias.register_forward_hook(finish)]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def layer_attention(model: nn.Module, scenes: RayDepths) -> RayPairAttention:
    """What the ray attention of a model of the depth task gives to every pair of a target and a source ray.

    The mean over its layers and heads, times the number of sources. Raises ValueError for a model that has none.
    """
    with torch.no_grad(), recorded(model) as logits:
        model(scenes)
    if not logits:
        raise ValueError("model: expected layers of RayAttention, got none")
    x, y = scenes.targets, scenes.sources
    neighborhood = Gathered.dense(x.shape, y.shape, batch=1)
    shares = torch.stack([attention_weights(own + bias, neighborhood).mean(-1) for own, bias in logits]).mean(0)
    target, source = x.reshape(*x.shape, 1), y.reshape(len(y.direction), 1, -1)
    apart = distance(target, source) / scenes.unit[:, None, None]
    parts = (shares * neighborhood.size, angle(target, source).rad2deg(), apart)
    return RayPairAttention(*(value.flatten().to(shares) for value in parts))


def curve(values: Tensor, attention: Tensor, edges: Sequence[float]) -> list[float]:
    """Mean attention in bins of something; NaN where a bin has no pairs."""
    found = attention_statistics(attention[:, None], [bins(values, edges)], [len(edges) - 1])
    return found.mean[:, 0].tolist()


def within(values: Tensor, attention: Tensor, limits: Sequence[float]) -> list[float]:
    """Share of all attention where something is less than each limit."""
    return [(attention[values < limit].sum() / attention.sum()).item() for limit in limits]


def renderer_structure(folder: Path, rays: int = 600, held_out: int = 8) -> dict[str, dict[str, list[float]]]:
    """Curves of the released weights, and of as many untrained ones, on seven views of a scene with depth, for pixels
    of one more: the share of the attention within some pixels of the surface, and what the view stage gives a source,
    over what it would get if all had alike, by the angle of its ray.
    """
    model, scene = load(), open_scene(folder)
    chosen = [i for i in range(0, len(scene), 2) if i != held_out]
    views, camera = (
        Views([scene.image(i) for i in chosen], scene.cameras[torch.tensor(chosen)]),
        scene.cameras[held_out],
    )
    size = torch.tensor([int(camera.width), int(camera.height)])
    pixels = (torch.rand(rays, 2, generator=torch.Generator().manual_seed(0)) * size).long()
    depth = scene.depth(held_out)
    if depth is None:
        raise ValueError(f"{folder}: expected a scene with depth, got none for view {held_out}")
    depth = depth[pixels[:, 1], pixels[:, 0]]
    depth, found = torch.where(depth > 0, depth, torch.nan), {}
    torch.manual_seed(0)
    for name, one in (("released weights", model), ("untrained renderer", Renderer(model.config))):
        whole, stage = renderer_attention(one, views, camera, pixels + 0.5, depth)
        found[name] = {
            "within": within(whole.apart, whole.attention, PIXELS),
            "angle": curve(stage.angle, stage.attention, ANGLES),
        }
    return found


def native_structure(seed: int, cpu_seconds: float) -> dict[str, dict[str, list[float]]]:
    """Curves of ray attention over all source rays of the depth task, before and after a training."""
    torch.manual_seed(seed)
    model, generator = NativeRayDepth(), torch.Generator().manual_seed(seed)
    test = draw(60, torch.Generator().manual_seed(TEST_SEED))
    found = {"untrained": _layer_curves(model, test)}
    optimizer, start = torch.optim.Adam(model.parameters(), 3e-3), time.process_time()
    while time.process_time() - start < cpu_seconds:
        scenes = draw(16, generator)
        optimizer.zero_grad()
        error(model(scenes), scenes).backward()
        optimizer.step()
    with torch.no_grad():
        after = error(model(test), test).item()
    return {"all source rays": {**_layer_curves(model, test), "error": [after]}, **found}


def _layer_curves(model: nn.Module, scenes: RayDepths) -> dict[str, list[float]]:
    pairs = layer_attention(model, scenes)
    return {
        "apart": curve(pairs.apart, pairs.attention, DISTANCES),
        "angle": curve(pairs.angle, pairs.attention, ANGLES),
    }
