"""Degenerate rigs, from images to gradients: every number is one. `make torture` tries a thousand, with a table."""

import copy
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch

import raytrans
from raytrans.equivariance.degenerate import KINDS, degenerate_rig
from raytrans.geometry.cameras import Cameras
from raytrans.geometry.rays import Rays
from raytrans.models.config import model_config
from raytrans.rendering.compositing import Rendering
from raytrans.rendering.renderer import Renderer
from raytrans.rendering.synthesis import EMPTY
from raytrans.training.config import OptimConfig
from raytrans.training.loop import sample_losses
from raytrans.training.samples import Sample

SCENES, PART = 1000, 200
LENGTHS = ("distance", "distance_mean", "spread", "depth", "depth_mean")
NO_LENGTH = "sources: expected cameras at different places, got all of them and the target at one"
NO_RANGE = "near: expected near < far"  # what is meant to be a little more is the same number
# what may be refused, and must be said in these words
REFUSED = {
    "all cameras equal": NO_LENGTH,
    "all at one place": NO_LENGTH,
    "nearly one place": NO_LENGTH,
    "very far away": NO_LENGTH,
    "one source": NO_LENGTH,
    "bounds": NO_RANGE,
    "two of these at once": (NO_LENGTH, NO_RANGE),
}


@dataclass
class Verdict:
    """What became of a rig: the words of a refusal, and what is not finite, or NaN where something is known."""

    refused: str = ""
    outputs: list[str] = field(default_factory=list)
    gradients: list[str] = field(default_factory=list)


def wrong_outputs(out: Rendering) -> list[str]:
    """Colours and opacities are numbers; a length is NaN where the opacity is below 0.05, and nowhere else."""
    wrong = [name for name in ("color", "opacity") if not bool(getattr(out, name).isfinite().all())]
    if not bool(((out.opacity >= 0) & (out.opacity <= 1 + 1e-5)).all()):
        wrong.append("range of opacity")
    known = out.opacity >= EMPTY
    lengths = [name for name in LENGTHS if getattr(out, name) is not None]
    return wrong + [name for name in lengths if not torch.equal(getattr(out, name).isfinite(), known)]


def wrong_gradients(model: Renderer, images: list[torch.Tensor]) -> list[str]:
    """Names of weights and numbers of images whose gradient is not finite; images have one."""
    wrong = [name for name, p in model.named_parameters() if p.grad is not None and not bool(p.grad.isfinite().all())]
    return wrong + [f"image {i}" for i, v in enumerate(images) if v.grad is None or not bool(v.grad.isfinite().all())]


def extent(views: raytrans.Views, camera: Cameras) -> float:
    return float((views.cameras.centers - camera.centers).norm(dim=-1).max()) or 1.0


def lengths(rng: np.random.Generator, shape: tuple[int, ...], size: float) -> torch.Tensor:
    """Distances from a hundredth of a size to a hundred of them, and infinite ones."""
    drawn = size * 10 ** rng.uniform(-2, 2, shape)
    return torch.tensor(np.where(rng.random(shape) < 0.2, np.inf, drawn))


def sample(views: raytrans.Views, camera: Cameras, seed: int) -> Sample:
    """A training sample of the pixels of the target, with distances of everything."""
    rng, size, rays = np.random.default_rng(seed), extent(views, camera), camera.rays().reshape(-1)
    color, distance = torch.tensor(rng.random((len(rays), 3))), lengths(rng, (len(rays),), size)
    own = [lengths(rng, (one.height, one.width), size) for one in views.cameras]
    return Sample(views, rays, color, distance, own, camera.world_from_camera[:3, :3])


def awkward_rays(views: raytrans.Views, camera: Cameras) -> Rays:
    """Some rays of the target and of each source, the latter run backwards too, and those from centre to centre."""
    own = [one.rays().reshape(-1) for one in views.cameras]
    back = [Rays.from_points(rays.point(torch.tensor(extent(views, camera))), -rays.direction) for rays in own]
    centers = torch.cat([views.cameras.centers, camera.centers[None]])
    step = centers.roll(1, 0) - centers
    apart = step.norm(dim=-1) > 0
    between = [Rays.from_points(centers[apart], step[apart])] if bool(apart.any()) else []
    parts = [camera.rays().reshape(-1), *own, *back, *between]
    return Rays.cat([rays[:: max(1, len(rays) // 8)] for rays in parts])


def examined(model: Renderer, kind: str, seed: int, precision: str = "float32") -> Verdict:
    """Render a rig; train on it, and on all that rays of every sort show; look at every number and every gradient."""
    verdict = Verdict()
    try:
        views, camera = degenerate_rig(kind, seed)
    except ValueError as refusal:
        return Verdict(refused=str(refusal))
    rays = awkward_rays(views, camera)
    verdict.outputs += wrong_outputs(raytrans.render(model, views, camera, precision))
    verdict.outputs += wrong_outputs(raytrans.render_rays(model, views, rays, precision))
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        try:
            images = descended(model, views, lambda some: losses(model, some, camera, seed, verdict))
            verdict.gradients += wrong_gradients(model, images)
        except ValueError as refusal:
            verdict.refused = str(refusal)
        images = descended(model, views, lambda some: everything(model, some, rays))
        verdict.gradients += wrong_gradients(model, images)
    return verdict


def descended(model: Renderer, views: raytrans.Views, loss) -> list[torch.Tensor]:
    """The images of the views, with gradients of a loss; those of the weights are in the model."""
    model.zero_grad(set_to_none=True)
    images = [image.clone().requires_grad_() for image in views.images]
    loss(raytrans.Views(images, views.cameras)).backward()
    return images


def losses(model: Renderer, views: raytrans.Views, camera: Cameras, seed: int, verdict: Verdict) -> torch.Tensor:
    optim = OptimConfig(augment_rotation=True)
    terms = sample_losses(model, sample(views, camera, seed), optim, torch.Generator().manual_seed(seed))
    verdict.outputs += [f"loss of {name}" for name, value in terms.items() if not bool(value.isfinite())]
    return terms["total"]


def everything(model: Renderer, views: raytrans.Views, rays: Rays) -> torch.Tensor:
    """Sum of all that is known of some rays, each in the size of the largest."""
    out = raytrans.trace(model, views, rays)
    total = out.color.sum() + out.opacity.sum()
    for name in LENGTHS[:3]:
        known = getattr(out, name)[out.opacity >= EMPTY]
        if len(known):
            total = total + (known / known.detach().abs().max()).sum()
    return total


@pytest.fixture(scope="module")
def models() -> dict[str, Renderer]:
    torch.manual_seed(0)
    released = raytrans.load()
    exact = copy.deepcopy(released).double()
    return {"untrained": Renderer(model_config("tiny")), "released": released, "float64": exact}


def check(verdict: Verdict, kind: str) -> None:
    assert verdict.outputs == [] == verdict.gradients, verdict
    assert not verdict.refused or verdict.refused.startswith(REFUSED[kind]), verdict


@pytest.mark.parametrize("kind", KINDS)
def test_every_number_is_one(models, kind):
    check(examined(models["untrained"], kind, 0), kind)
    check(examined(models["released"], kind, 1), kind)


@pytest.mark.parametrize(("name", "precision"), [("float64", "float64"), ("released", "bfloat16")])
def test_every_number_is_one_in_other_precisions(models, name, precision):
    for kind in ("target is a source", "facing each other", "two of these at once"):
        check(examined(models[name], kind, 2, precision), kind)


ARMS = {
    "untrained, float32": ("untrained", "float32", SCENES),
    "released, float32": ("released", "float32", SCENES),
    "released, float64": ("float64", "float64", PART),
    "released, bfloat16": ("released", "bfloat16", PART),
}


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("arm", ARMS)
def test_every_number_of_a_thousand_rigs_is_one(models, arm, capsys):
    name, precision, count = ARMS[arm]
    kinds = list(KINDS)
    tried = [(kinds[i % len(kinds)], i // len(kinds)) for i in range(count)]
    verdicts = [(kind, examined(models[name], kind, seed, precision)) for kind, seed in tried]
    with capsys.disabled():
        print(f"\n\n{arm}\n\n{table(verdicts)}")
    for kind, verdict in verdicts:
        check(verdict, kind)


def table(verdicts: Iterable[tuple[str, Verdict]]) -> str:
    """A row for every kind of rig: how many, how many refused, with outputs and with gradients that are not finite."""
    rows: dict[str, Counter] = {}
    for kind, verdict in verdicts:
        row = rows.setdefault(kind, Counter())
        row.update(
            scenes=1, refused=bool(verdict.refused), outputs=bool(verdict.outputs), gradients=bool(verdict.gradients)
        )
    rows["together"] = sum(rows.values(), Counter())
    lines = ["| rig | scenes | refused | outputs not finite | gradients not finite |", "|---|--:|--:|--:|--:|"]
    names = ("scenes", "refused", "outputs", "gradients")
    return "\n".join(
        lines + [f"| {kind} | " + " | ".join(str(row[n]) for n in names) + " |" for kind, row in rows.items()]
    )


class DividesByTheBaseline(Renderer):
    """Value: 0/0 where the target stands where a source does."""

    def forward(self, views, rays, background, jitter=None):
        traced = super().forward(views, rays, background, jitter)
        baseline = torch.cdist(rays.origin, views.relative.centers).amin(-1, keepdim=True).to(self.dtype)
        traced.rendering.color = traced.rendering.color * (baseline / baseline)
        return traced


class TakesARoot(Renderer):
    """Gradient: sqrt at 0 where all sources have one colour; values are right."""

    def shade(self, views, rays, inverse):
        shaded = super().shade(views, rays, inverse)
        spread = ((shaded.seen - shaded.seen.mean(0)) ** 2).sum((0, -1))
        return replace(shaded, color=shaded.color + 0 * spread.sqrt()[..., None])


class HidesADepth(Renderer):
    """NaN where the depth is known: the first of the rays."""

    def forward(self, views, rays, background, jitter=None):
        traced = super().forward(views, rays, background, jitter)
        known = (traced.rendering.opacity >= EMPTY).nonzero()[:1]
        traced.rendering.distance[known] = torch.nan
        return traced


@pytest.mark.parametrize(
    ("faulty", "kind", "outputs", "gradients"),
    [
        (DividesByTheBaseline, "target is a source", True, True),
        (TakesARoot, "plain images", False, True),
        (HidesADepth, "collinear", True, True),
    ],
)
def test_a_renderer_with_a_fault_is_noticed(faulty, kind, outputs, gradients):
    torch.manual_seed(0)
    verdicts = [examined(faulty(model_config("tiny")), kind, seed) for seed in range(3)]
    assert any(v.outputs for v in verdicts) == outputs and any(v.gradients for v in verdicts) == gradients, verdicts
    row = table((kind, v) for v in verdicts).splitlines()[2]
    assert row.startswith(f"| {kind} | 3 | 0 |") and (row.split(" | ")[3] != "0") == outputs
    if faulty is TakesARoot:  # elsewhere nothing is wrong with it
        check(examined(faulty(model_config("tiny")), "collinear", 0), "collinear")
