"""The same numbers again: from one thread and from two, from one seed twice, with deterministic algorithms alone."""

import pytest
import torch

import raytrans
from raytrans.data.generate import generated_scene
from raytrans.models.config import model_config
from raytrans.rendering.renderer import Renderer
from raytrans.training.config import OptimConfig, train_config
from raytrans.training.loop import RunOptions, sample_losses, train
from raytrans.training.samples import Sample, seen_through
from raytrans.training.scenes import SceneData

CONFIG = {
    "size": "tiny",
    "data": {"folders": ["a scene"], "folder_share": 1.0, "sources": [2, 2], "rays": 16, "workers": 0},
    "optim": {"steps": 3, "warmup": 1},
    "log": {"checkpoint_every": 100},
}


@pytest.fixture(scope="module")
def scene() -> SceneData:
    drawn = generated_scene(5, "easy", (32, 40), 4)
    return SceneData(list(drawn.images), drawn.cameras, list(drawn.depth))


def of_threads(count: int, model: Renderer, scene: SceneData) -> list[torch.Tensor]:
    """A rendering's colours, opacity and depth, losses, and gradients of all weights in a row, by so many threads."""
    torch.set_num_threads(count)
    assert torch.get_num_threads() == count
    views = raytrans.Views(scene.images[1:3], scene.cameras[1:3])
    out = raytrans.render(model, views, scene.cameras[0].resized(12, 15))
    pixels = torch.arange(0, 32 * 40, 10)
    sample = Sample(views, *seen_through(scene, 0, pixels), [depth.nan_to_num(torch.inf) for depth in scene.depth[1:3]])
    sample.distance = sample.distance.nan_to_num(torch.inf)
    model.zero_grad()
    terms = sample_losses(model, sample, OptimConfig(augment_rotation=False), torch.Generator().manual_seed(0))
    terms["total"].backward()
    # some are zero in exact arithmetic, such as that of a bias before a softmax: their size says nothing
    gradients = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    return [out.color, out.opacity, out.depth_mean.nan_to_num(0), torch.stack([*terms.values()]).detach(), gradients]


@pytest.mark.parametrize("name", ["untrained", "released"])
def test_one_and_two_threads_agree(scene, name):
    torch.manual_seed(0)
    model = raytrans.load() if name == "released" else Renderer(model_config("tiny"))
    one, two = (of_threads(count, model, scene) for count in (1, 2))
    errors = [float((a - b).abs().max() / a.abs().max()) for a, b in zip(one, two, strict=True)]
    assert all(error <= 1e-5 for error in errors), errors


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_one_and_two_threads_agree_on_twenty_scenes(capsys):
    """Values of all, gradients of nearly all: a rounding may take a sample to the other side of a kink."""
    model, errors = raytrans.load(), []
    for seed in range(20):
        drawn = generated_scene(700_000 + seed, ("easy", "full")[seed % 2], (32, 40), 4)
        one, two = (
            of_threads(n, model, SceneData(list(drawn.images), drawn.cameras, list(drawn.depth))) for n in (1, 2)
        )
        errors.append([float((a - b).abs().max() / a.abs().max()) for a, b in zip(one, two, strict=True)])
    largest = torch.tensor(errors).amax(0).tolist()
    names = ("colour", "opacity", "depth", "loss", "gradient")
    with capsys.disabled():
        print("\n\n1 against 2 threads:", ", ".join(f"{n} {v:.1e}" for n, v in zip(names, largest, strict=True)))
    assert all(value <= 1e-5 for value in largest[:4]) and torch.tensor(errors)[:, 4].median() <= 1e-5


def run(scene: SceneData, out, seed: int) -> tuple[list[float], bytes]:
    """Losses of every step and the file of weights of a short training."""
    losses = []
    config = train_config(CONFIG | {"seed": seed})
    train(config, RunOptions(out), [scene], report=lambda step, terms: losses.append(terms["total"]))
    return losses, (out / "model.safetensors").read_bytes()


def test_a_seed_gives_the_same_bits_and_another_one_others(scene, tmp_path):
    """With nothing but deterministic algorithms, which torch would refuse to leave."""
    torch.use_deterministic_algorithms(True)
    try:
        first, again, other = (run(scene, tmp_path / name, seed) for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    finally:
        torch.use_deterministic_algorithms(False)
    assert first == again and len(first[0]) == 3
    assert all(a != b for a, b in zip(first[0], other[0], strict=True)) and first[1] != other[1]
    assert run(scene, tmp_path / "d", 1) == first  # as without them
