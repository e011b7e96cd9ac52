"""The work that is measured is the work that is named."""

import pytest
import torch

from raytrans.apps.benchmarks import workloads
from raytrans.apps.benchmarks.settings import Sizes
from raytrans.apps.benchmarks.workloads import Case, prepared
from raytrans.models.config import model_config
from raytrans.rendering.renderer import Renderer
from raytrans.training.checkpoint import save_model


@pytest.fixture
def weights(tmp_path):
    save_model(tmp_path / "tiny.safetensors", Renderer(model_config("tiny")))
    return tmp_path / "tiny.safetensors"


def test_a_rendering_has_the_size_samples_and_sources_of_its_case(weights, monkeypatch):
    seen = []
    original = workloads.render

    def watched(model, encoded, camera, precision):
        seen.append((model.config.fine, len(encoded), encoded.colors[0].shape, precision, model.dtype))
        return original(model, encoded, camera, precision)

    monkeypatch.setattr(workloads, "render", watched)
    work = prepared(Case("rendering", 3, (16, 24), (10, 12), 5, "float64"), weights)
    assert work.rays == 120 and work.run().color.shape == (10, 12, 3)
    [(fine, sources, shape, precision, dtype)] = seen
    assert (fine, sources, precision, dtype) == (5, 3, "float64", torch.float64)
    assert sorted(shape) == [3, 16, 24]


def test_a_training_step_changes_the_weights_it_trains(weights, monkeypatch):
    models = []
    original = workloads.sample_losses

    def watched(model, sample, optim, generator):
        models.append(model)
        assert len(sample.rays) == 20 and len(sample.views) == 3
        return original(model, sample, optim, generator)

    monkeypatch.setattr(workloads, "sample_losses", watched)
    work = prepared(Case("training", 3, (16, 16), samples=4, rays=20), weights)
    before = [p.clone() for p in workloads.load(weights).parameters()]
    work.run()
    changed = [not torch.equal(a, b) for a, b in zip(before, models[0].parameters(), strict=True)]
    assert work.rays == 20 and sum(changed) > len(changed) / 2
    assert all(torch.equal(a, b) for a, b in zip(before, workloads.load(weights).parameters(), strict=True))


def test_an_encoding_is_counted_in_pixels_of_the_sources(weights):
    work = prepared(Case("encoding", 2, (16, 24)), weights)
    assert work.rays == 2 * 16 * 24 and len(work.run()) == 2


def test_every_number_of_sources_that_is_measured_can_be_trained_from(weights, monkeypatch):
    seen = []

    def counted(model, sample, optim, generator):
        seen.append(len(sample.views))
        return {"total": model.head.hazard * 1.0}

    monkeypatch.setattr(workloads, "sample_losses", counted)
    for count in Sizes().sources:
        prepared(Case("training", count, (8, 8), samples=4, rays=4), weights).run()
    assert seen == list(Sizes().sources)
