"""The benchmark and demo commands: what they measure is consistent, and what they promise is written."""

import json
from pathlib import Path

import pytest
import torch

from raytrans.apps import benchmark, cli, demo
from raytrans.data.readers import open_scene
from raytrans.models.config import model_config
from raytrans.rendering.renderer import Renderer
from raytrans.training.checkpoint import save_model


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    torch.manual_seed(0)
    save_model(file, Renderer(model_config("tiny")))
    return file


def test_speeds_are_rays_over_seconds(weights, tmp_path, capsys):
    out = tmp_path / "numbers.json"
    arguments = ["--quick", "--checkpoint", str(weights), "--json", str(out)]
    assert cli.run(benchmark.main, benchmark.parser(), arguments) == 0
    values = json.loads(out.read_text())
    assert [speed["rays"] for speed in values["speed"].values()] == [32 * 32, 1024, 1024]
    for speed in values["speed"].values():
        assert speed["rays_per_cpu_second"] == pytest.approx(speed["rays"] / speed["cpu_seconds"])
        assert speed["peak_memory_bytes"] > 1e8
    for layer in values["layers"].values():
        assert all(seconds > 0 for seconds in layer["cpu_seconds"]) and layer["pairs"][-1] == 16 * layer["pairs"][0]
    assert values["machine"]["matmul_gflops"] > 0 and values["machine"]["copy_gb_per_second"] > 0
    assert "rays per CPU-second" in capsys.readouterr().out


def test_a_step_of_the_benchmark_leaves_the_model_alone(weights):
    model = Renderer(model_config("tiny")).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    benchmark.training(model, 16, 2, 1)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not model.training


def test_the_demo_writes_one_page_and_an_orbit(weights, tmp_path, monkeypatch, capsys):
    for name, value in {"VIEW_SIZE": 16, "ORBIT_SIZE": 12, "CHECK_SIZE": 12, "FRAMES": 2, "SOURCES": 3}.items():
        monkeypatch.setattr(demo, name, value)
    arguments = ["--out", str(tmp_path), "--checkpoint", str(weights), "--json", str(tmp_path / "numbers.json")]
    status = cli.run(demo.main, demo.parser(), arguments)
    values = json.loads((tmp_path / "numbers.json").read_text())
    assert status == (0 if values["equivariance"]["passed"] else 1)
    assert {"world_motion", "source_order"} <= set(values["equivariance"]["contracts"])
    page = (tmp_path / "index.html").read_text()
    assert page.count("data:image/png") == 8 and page.count("data:video/mp4") == 1 and "http" not in page
    assert len(open_scene(tmp_path / "orbit")) == 2
    assert str(tmp_path / "index.html") in capsys.readouterr().out
