"""Fine-tuning of released weights on a generated scene, judged through the public `render`."""

import copy
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

import raytrans
from raytrans.data.generate import generated_scene
from raytrans.data.priors import DepthPrior
from raytrans.data.selection import nearest
from raytrans.data.views import Views
from raytrans.equivariance import check_model
from raytrans.rendering.renderer import Renderer
from raytrans.rendering.sources import source_unit
from raytrans.training.config import finetune_config
from raytrans.training.finetuning import Material, PreparedViews, evenly, finetune
from raytrans.training.samples import SceneData

SETTINGS = ["rays=128", "sources=3", "drawn=3", "warmup=2", "checks=3", "learning_rate=0.005"]


@pytest.fixture(scope="module")
def data() -> SceneData:
    drawn = generated_scene(11, "easy", (24, 24), 7)
    return SceneData(list(drawn.images), drawn.cameras, None)


def spoiled() -> Renderer:
    """The released model with wrong signs in what blends colours and tells density."""
    model = raytrans.load()
    with torch.no_grad():
        for value in (model.head.blend_out.weight, model.head.blend_sample.weight, model.head.density[2].weight):
            value.mul_(-0.5)
    return model


def seen(model: Renderer, data: SceneData, view: int, priors: list) -> float:
    """PSNR of a view rendered from the three nearest others, by its formula."""
    chosen = sorted(nearest(data.cameras, data.cameras[view], 3, [view]))
    views = Views([data.images[i] for i in chosen], data.cameras[chosen], [priors[i] for i in chosen])
    color = raytrans.render(model, sources=views, camera=data.cameras[view]).color.numpy()
    return -10 * math.log10(np.mean((color.astype(float) - data.images[view].numpy()) ** 2))


def keeping(kept: list) -> Callable:
    return lambda model, priors, step, psnr: kept.append((step, copy.deepcopy(model), copy.deepcopy(priors)))


@pytest.fixture(scope="module")
def tuned(data):
    model, lines, kept = spoiled(), [], []
    before = copy.deepcopy(model)
    material = Material(data, finetune_config([*SETTINGS, "steps=15"]))
    outcome = finetune(model, material, 60, lambda step, values: lines.append((step, values)), keeping(kept))
    assert [step for step, *_ in kept][:2] == [0, 5] and kept[-1][0] == outcome.step
    return before, kept, outcome, lines, material


def test_views_that_are_not_trained_on_get_better(tuned, data):
    _, kept, outcome, lines, material = tuned
    [checked] = material.checked
    assert checked not in material.trained and len(material.trained) == 6
    first, last = (seen(model, data, checked, priors) for _, model, priors in (kept[0], kept[-1]))
    assert outcome.start == pytest.approx(first, abs=1e-3) and outcome.best == pytest.approx(last, abs=1e-3)
    assert last > first + 1
    assert [step for step, _ in lines] == [0, 5, 10, 15] and outcome.end == "all steps are done"
    assert max(values["check/psnr"] for _, values in lines) == outcome.best


def test_priors_and_what_makes_colours_of_them_are_trained(tuned):
    before, kept, _, _, material = tuned
    moved = {}
    for (name, a), b in zip(before.named_parameters(), kept[-1][1].parameters(), strict=True):
        moved.setdefault(name.split(".")[0], []).append(not torch.equal(a, b))
    # encoder and sweep stay as they are, and photographs alone teach the proposal nothing
    assert {part for part, values in moved.items() if any(values)} == {"views", "along", "head"}
    assert kept[0][2] == [None] * 7  # the start is what was given
    for a, b in zip(PreparedViews(before, material).priors(), kept[-1][2], strict=True):
        assert (a.logits - b.logits).abs().max() > 0.01 and torch.equal(a.near, b.near)


def test_priors_start_as_what_the_sweep_finds_and_lie_as_their_images_do(data):
    model, material = raytrans.load(), Material(data, finetune_config(SETTINGS))
    found = PreparedViews(model, material)
    assert set(found.turns) != {0}  # some are turned within
    for i, prior in enumerate(found.priors()):
        chosen = [i, *nearest(data.cameras, data.cameras[i], 3, [i])]
        rig = Views([data.images[k] for k in chosen], data.cameras[chosen])
        with torch.no_grad():
            swept = model.place(model.encode(rig), source_unit(rig.cameras))
        torch.testing.assert_close(prior.logits.softmax(0), swept.volume[0].values[0], rtol=0, atol=2e-3)


def test_priors_of_earlier_fine_tuning_are_where_it_starts(data):
    torch.manual_seed(0)
    given = DepthPrior(torch.randn(7, 6, 6), torch.rand(6, 6) + 0.5)
    material = Material(data, finetune_config(SETTINGS), [None, None, given, *[None] * 4])
    found = PreparedViews(raytrans.load(), material).priors()
    assert torch.equal(found[2].logits, given.logits) and torch.equal(found[2].near, given.near)
    assert found[1].logits.shape[0] == raytrans.load().config.planes


@pytest.mark.slow
def test_the_contracts_hold_on_what_comes_out(tuned, data):
    _, better, priors = tuned[1][-1]
    views = Views(data.images[1:4], data.cameras[1:4], priors[1:4])
    report = check_model(better, views, data.cameras[0], torch.float32, 0)
    assert report.passed, str(report)


@pytest.mark.parametrize("rate", ["1e3", "1e30"])
def test_an_absurd_learning_rate_leaves_the_start(data, rate):
    model = raytrans.load()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    material = Material(data, finetune_config([*SETTINGS, "steps=4", f"learning_rate={rate}"]))
    kept = []
    outcome = finetune(model, material, 60, lambda step, values: None, keeping(kept))
    assert outcome.step == 0 and outcome.best == outcome.start
    [(step, start, _)] = kept
    assert step == 0 and all(torch.equal(value, before[name]) for name, value in start.state_dict().items())


def test_what_is_kept_only_ever_rises_where_training_does_harm(data):
    material = Material(data, finetune_config([*SETTINGS, "steps=6", "checks=6", "learning_rate=0.05"]))
    lines, kept, model = [], [], raytrans.load()
    outcome = finetune(model, material, 60, lambda step, values: lines.append(values["check/psnr"]), keeping(kept))
    assert len(lines) == 7 and min(lines[1:]) < lines[0] - 1  # it did harm, in finite numbers
    rises = [k for k, value in enumerate(lines) if value > max(lines[:k], default=-math.inf)]
    assert [step for step, *_ in kept] == rises and outcome.best == max(lines) and outcome.step == rises[-1]


def test_time_ends_it(data):
    material = Material(data, finetune_config([*SETTINGS, "sources=2"]))
    outcome = finetune(raytrans.load(), material, 1e-6, lambda step, values: None, keeping([]))
    assert (outcome.steps, outcome.end) == (1, "time is over")


def test_known_depth_is_learned_and_unknown_depth_is_not(data):
    drawn = generated_scene(11, "easy", (24, 24), 7)
    half = [depth.clone() for depth in drawn.depth]
    for depth in half:
        depth[:, :12] = torch.nan
    material = Material(SceneData(data.images, data.cameras, half), finetune_config(SETTINGS))
    sample = material.sample(2, torch.Generator().manual_seed(0), 24 * 24)
    truth, camera = half[2].flatten(), data.cameras[2]
    order = torch.randperm(24 * 24, generator=torch.Generator().manual_seed(0))
    points = camera.centers + sample.rays.direction * sample.distance[:, None]
    depth = (points - camera.centers) @ camera.forward
    torch.testing.assert_close(depth.float(), truth[order], equal_nan=True, rtol=1e-5, atol=0)
    assert sample.distance.isnan().sum() >= 12 * 24


@pytest.mark.parametrize(("length", "count"), [(5, 9), (40, 6), (7, 7), (3, 1)])
def test_evenly_spaced_values_are_distinct_and_spread(length, count):
    chosen = evenly(list(range(length)), count)
    assert len(set(chosen)) == len(chosen) == min(length, count) and chosen == sorted(chosen)
    if count > 1:
        gaps = np.diff(chosen)
        assert gaps.max() - gaps.min() <= 1


def test_too_few_views_are_refused(data):
    few = SceneData(data.images[:3], data.cameras[:3], None)
    with pytest.raises(ValueError, match="views: expected at least 4 that are not held out, got 3"):
        Material(few, finetune_config())
