"""The benchmark and demo commands: what they measure is consistent, and what they promise is written."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from raytrans.apps import benchmark, cli, demo
from raytrans.apps.benchmarks import quality, speed
from raytrans.apps.benchmarks.settings import QUICK, Settings, Sizes
from raytrans.apps.benchmarks.workloads import Case
from raytrans.data.generate import generated_scene
from raytrans.data.readers import open_scene
from raytrans.data.views import Views
from raytrans.equivariance import models
from raytrans.rendering.synthesis import render
from raytrans.training.checkpoint import load


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


def test_a_speed_is_rays_over_seconds(weights):
    settings = Settings(weights, repeats=1, sizes=QUICK, alone=False)
    for case, rays in ((Case(sources=2, size=(8, 12)), 96), (Case("training", 2, (8, 8), samples=3, rays=20), 20)):
        row = speed._row(settings, case)
        assert row["rays"] == rays and row["peak_memory_bytes"] > 1e8 and row["flops"] > 0 and row["bytes"] > 0
        assert row["rays_per_cpu_second"] == pytest.approx(rays / row["cpu_seconds"])


def test_one_axis_changes_at_a_time():
    base = Case(sources=8, size=(128, 128), samples=16)
    along = speed._axes(Sizes(), base)
    assert {len({replace(c, sources=8) for c in along["sources"].values()})} == {1}
    assert [c.samples for c in along["samples"].values()] == list(along["samples"])
    for axis, value in (
        ("sources", 8),
        ("samples", 16),
        ("image side", 128),
        ("precision", "float32"),
        ("rays", 128**2),
    ):
        assert along[axis][value] == base, "the base case is measured once"
    assert along["rays"][64**2].target == (64, 64) and along["rays"][64**2].size == (128, 128)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_all_rows_are_finite(weights, tmp_path, capsys):
    values = measured(weights, tmp_path / "numbers.json", "--only", "speed")
    found = values["speed"]
    assert [row["rays"] for row in found["named"].values()] == [256, 32, 32, 192, 3 * 192]
    rows = [*found["named"].values()]
    rows += [row for task in ("rendering", "training") for along in found[task].values() for row in along.values()]
    for row in rows:
        assert row["rays_per_cpu_second"] == pytest.approx(row["rays"] / row["cpu_seconds"])
        assert row["peak_memory_bytes"] > 1e8 and row["flops"] > 0 and row["bytes"] > 0
        assert row["share_memory"] > 0 and row["share_cache"] > 0
    assert all(math.isfinite(leaf) for leaf in leaves(found) if isinstance(leaf, float))
    assert [row["sources"] for row in found["rendering"]["sources"].values()] == list(QUICK.sources)
    assert [row["samples"] for row in found["training"]["samples"].values()] == list(QUICK.samples)
    printed = capsys.readouterr().out
    assert "rays per CPU-s" in printed and "rendering, 3 sources of 16x16" in printed
    assert values["machine"]["gflops"]["float32"] > 0 and values["machine"]["threads"] == 1 and values["quick"]


def test_quality_is_that_of_the_renderings(weights):
    found = quality._renderings(Settings(weights, sizes=QUICK, alone=False))
    model, count = load(weights), QUICK.count
    size = QUICK.side, QUICK.side
    scenes = [generated_scene(quality.FIRST_SEED, kind, size, count + 1) for kind in ("easy", "full")]
    model.config = model.config.with_changes(fine=QUICK.quality_samples[0])
    errors = []
    for scene in scenes:
        views = Views(list(scene.images[1:]), scene.cameras[1:])
        color = render(model, views, scene.cameras[0]).color
        errors.append(-10 * math.log10(float(((color - scene.images[0]).double() ** 2).mean())))
    first = found["samples"][QUICK.quality_samples[0]]
    assert first["psnr"] == pytest.approx(sum(errors) / 2, abs=1e-3)
    assert len(found["between_precisions"]) == 2 and all(20 < value < 200 for value in found["between_precisions"])


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_contracts_are_tabled_in_both_precisions(weights, tmp_path):
    found = measured(weights, tmp_path / "numbers.json", "--only", "quality")["quality"]
    assert set(found["contracts"]) == {"float32", "bfloat16"}
    exact, coarse = (found["contracts"][name] for name in ("float32", "bfloat16"))
    assert 0 < exact["target_roll"] < 1e-4 and exact["target_roll"] < coarse["target_roll"] < 1
    [_, precision] = quality.tables(found)
    assert [row[0] for row in precision.rows[: len(exact)]] == list(exact)


def test_numbers_of_an_earlier_run_are_written_into_a_page(weights, tmp_path, capsys):
    numbers, page = tmp_path / "numbers.json", tmp_path / "page.md"
    measured(weights, numbers, "--only", "gpu", "layers")
    page.write_text("# Page\n<!-- benchmark --><!-- /benchmark -->\n")
    line = ["--read", str(numbers), "--write", str(page)]
    assert cli.run(benchmark.main, benchmark.parser(), line) == 0
    text = page.read_text()
    assert "## Layers alone" in text and "| ray stage |" in text and "weights with SHA-256" in text
    assert cli.run(benchmark.main, benchmark.parser(), [*line, "--quick"]) == 2 and page.read_text() == text
    page.write_text("no marks")
    numbers.write_text("[]")
    capsys.readouterr()
    for wrong in (line, ["--read", str(numbers)]):
        assert cli.run(benchmark.main, benchmark.parser(), wrong) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_the_demo_without_the_repository_says_what_it_needs(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo, "SHIPPED", tmp_path / "scenes/blocks")
    assert cli.run(demo.main, demo.parser(), ["--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("demo: error: --scene: the default needs a clone") and error.count("\n") == 1
    assert cli.run(demo.main, demo.parser(), ["--out", str(tmp_path / "out"), "--scene", str(tmp_path / "a")]) == 2
    assert "clone" not in capsys.readouterr().err


def test_the_demo_writes_one_page_and_an_orbit(weights, tmp_path, monkeypatch, capsys):
    for name, value in {"VIEW_SIZE": 16, "ORBIT_SIZE": 12, "CHECK_SIZE": 12, "FRAMES": 2, "SOURCES": 3}.items():
        monkeypatch.setattr(demo, name, value)
    two = ("world_motion", "source_order")  # the others take their time, and are tested with verify
    monkeypatch.setattr(models, "_CONTRACTS", {name: models._CONTRACTS[name] for name in two})
    arguments = ["--out", str(tmp_path), "--checkpoint", str(weights), "--json", str(tmp_path / "numbers.json")]
    status = cli.run(demo.main, demo.parser(), arguments)
    values = json.loads((tmp_path / "numbers.json").read_text())
    assert status == (0 if values["equivariance"]["passed"] else 1)
    assert set(values["equivariance"]["contracts"]) == set(two)
    page = (tmp_path / "index.html").read_text()
    assert page.count("data:image/png") == 8 and page.count("data:video/mp4") == 1 and "http" not in page
    assert len(open_scene(tmp_path / "orbit")) == 2
    assert str(tmp_path / "index.html") in capsys.readouterr().out
