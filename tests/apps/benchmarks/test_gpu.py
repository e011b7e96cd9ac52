"""The rows of a GPU, tried on the CPU at a tiny size."""

import pytest
import torch

from raytrans.apps.benchmarks import gpu
from raytrans.apps.benchmarks.settings import QUICK, Settings
from raytrans.models.config import model_config
from raytrans.rendering.renderer import Renderer
from raytrans.training.checkpoint import save_model


@pytest.fixture
def settings(tmp_path):
    save_model(tmp_path / "tiny.safetensors", Renderer(model_config("tiny")))
    return Settings(tmp_path / "tiny.safetensors", repeats=1, sizes=QUICK, alone=False)


def test_frames_are_timed_in_both_precisions_as_they_are_and_compiled(settings, monkeypatch):
    compiled = []
    monkeypatch.setattr(Renderer, "compile", lambda model, **options: compiled.append(options["backend"]))
    rows = gpu.frames(settings, "cpu", (12, 16), "some backend")
    assert [(row["precision"], row["compiled"]) for row in rows] == [
        ("float32", False),
        ("float32", True),
        ("bfloat16", False),
        ("bfloat16", True),
    ]
    assert compiled == ["some backend"] * 2
    for row in rows:
        assert row["frames_per_second"] == pytest.approx(1 / row["seconds"]) and row["first_seconds"] > 0
    [table] = gpu.tables({"device": "a device", "frames": rows})
    assert [row[:3] for row in table.rows][1] == ("16x12", "float32", "yes")


@pytest.mark.slow
def test_a_compiled_model_renders_the_same(settings):
    from raytrans.apps.benchmarks.workloads import Case, sources_and_target
    from raytrans.rendering.synthesis import encode, render
    from raytrans.training.checkpoint import load

    views, camera = sources_and_target(Case(sources=3, size=(12, 16)))
    plain, compiled = load(settings.checkpoint), load(settings.checkpoint)
    compiled.compile(backend="eager", dynamic=True)
    encoded = encode(plain, views)
    torch.testing.assert_close(render(compiled, encoded, camera).color, render(plain, encoded, camera).color)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_there_are_no_rows(settings):
    found = gpu.measured(settings, {})
    assert found == {"device": None, "frames": []} and gpu.tables(found) == []
