"""The benchmark and demo commands: what they measure is consistent, and what they promise is written."""

import json
import math
from pathlib import Path

import pytest
import torch

from raytrans.apps import benchmark, cli, demo
from raytrans.apps.benchmarks.settings import QUICK
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


def leaves(value: object) -> list:
    """Every value in nested JSON."""
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in leaves(item)]
    return [leaf for item in value for leaf in leaves(item)] if isinstance(value, list) else [value]


def measured(weights: Path, out: Path, *arguments: str) -> dict:
    """Numbers of a quick run."""
    line = ["--quick", "--checkpoint", str(weights), "--json", str(out), *arguments]
    assert cli.run(benchmark.main, benchmark.parser(), line) == 0
    return json.loads(out.read_text())


def test_speeds_are_rays_over_seconds(weights, tmp_path, capsys):
    values = measured(weights, tmp_path / "numbers.json", "--only", "speed")
    speed = values["speed"]
    assert [row["rays"] for row in speed["named"].values()] == [256, 32, 32, 192, 3 * 192]
    rows = [*speed["named"].values()]
    rows += [row for task in ("rendering", "training") for along in speed[task].values() for row in along.values()]
    for row in rows:
        assert row["rays_per_cpu_second"] == pytest.approx(row["rays"] / row["cpu_seconds"])
        assert row["peak_memory_bytes"] > 1e8 and row["flops"] > 0 and row["bytes"] > 0
        assert row["share_memory"] >= row["share_cache"] > 0 or row["precision"] == "bfloat16"
    assert all(math.isfinite(leaf) for leaf in leaves(speed) if isinstance(leaf, float))
    assert [row["sources"] for row in speed["rendering"]["sources"].values()] == list(QUICK.sources)
    assert [row["samples"] for row in speed["training"]["samples"].values()] == list(QUICK.samples)
    printed = capsys.readouterr().out
    assert "rays per CPU-s" in printed and "rendering, 3 sources of 16x16" in printed
    assert values["machine"]["gflops"]["float32"] > 0 and values["machine"]["threads"] == 1 and values["quick"]


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
