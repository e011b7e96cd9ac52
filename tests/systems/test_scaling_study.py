"""The summary of a study whose law is known, the rendering task, and the script on its smallest grid."""

import importlib.util
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from raytrans.apps import cli
from raytrans.systems.scaling import falling, rendering
from raytrans.systems.scaling.flops import executed_flops
from raytrans.systems.scaling.grid import FRESH, Cell, Row
from raytrans.systems.scaling.rendering import rendering_task, samples
from raytrans.systems.scaling.summary import arm_summary, comparison, data_summary
from raytrans.systems.scaling.training import train_cell
from raytrans.training.config import read_config

ROOT = Path(__file__).resolve().parents[2]
STEPS, BATCH = tuple(8 * 2**k for k in range(8)), 16


def study():
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("scaling_study", ROOT / "docs" / "studies" / "scaling.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rows(arm, alpha, beta, seeds=3, noise=0.01):
    """Runs of L = (work/10^5)^-alpha + (samples/100)^-beta."""
    rng = np.random.default_rng(len(arm))
    out = []
    for seed in range(seeds):
        for size in (2, 4, 8):
            flops = 1e6 * size**2 * BATCH
            exact = (size**2 * 10.0) ** -alpha + (np.array(STEPS) * BATCH / 100) ** -beta
            losses = tuple((exact * np.exp(noise * rng.standard_normal())).tolist())
            out.append(Row(Cell(arm, size, FRESH, seed), losses, flops, size**2, 1.0))
    return out


def test_a_summary_finds_exponents_and_split_and_tells_arms_apart():
    arms = {"slow": (0.3, 0.3), "fast": (0.8, 0.8)}
    found = {arm: arm_summary(rows(arm, *powers), arm, STEPS, BATCH) for arm, powers in arms.items()}
    for arm, (alpha, beta) in arms.items():
        assert found[arm]["law"]["exponent"] == pytest.approx(alpha * beta / (alpha + beta), rel=0.25)
        assert found[arm]["surface"]["share"] == pytest.approx(beta / (alpha + beta), abs=0.1)
        assert found[arm]["decades"] == pytest.approx(math.log10(16 * 128))
    pair = comparison(found)[0]
    assert pair["arms"] == ["slow", "fast"] and pair["overlap"] is False and pair["ratio"][1] > pair["ratio"][0] > 1
    again = {"slow": found["slow"], "copy": found["slow"]}
    assert comparison(again)[0]["overlap"] is True and comparison(again)[0]["ratio"] == [1.0, 1.0]
    json.dumps({"arms": found, "comparison": comparison(found)}, allow_nan=False)


def test_an_arm_that_learns_nothing_has_no_exponent():
    flat = [Row(Cell("a", size, FRESH, 0), (1.0,) * 8, 10.0, 1, 1.0) for size in (2, 4, 8)]
    found = arm_summary(flat, "a", STEPS, BATCH)
    assert found["law"] is None and found["surface"] is None and comparison({"a": found, "b": found}) == []


def test_data_curves_are_means_over_seeds():
    some = [Row(Cell("a", 4, n, s), (9.0, n + s), 10.0, 1, 1.0) for n in (FRESH, 32) for s in (0, 1)]
    found = data_summary(some, "a", 4, 16)
    assert found["counts"] == [32, None] and found["losses"] == [32.5, 0.5] and found["flops"] == 160
    assert found["deviations"] == pytest.approx([math.sqrt(0.5)] * 2)


@pytest.mark.slow
def test_renderers_are_trained_and_measured_by_their_colours(monkeypatch):
    monkeypatch.setattr(rendering, "HELD_OUT", 2)
    base = ROOT / "configs" / "tiny.toml"
    small = ["data.rays=16", "data.sizes=[16]", "model.planes=4", "model.coarse=6", "model.fine=4"]
    configs = {
        (arm, 16): read_config(base, [*small, *changes])
        for arm, changes in {"equivariant": [], "augmented": ["optim.augment_rotation=true"]}.items()
    }
    task = rendering_task(configs, 3)
    torch.manual_seed(0)
    model = task.build("equivariant", 16)
    batch = next(task.batches("equivariant", FRESH, 0))
    assert task.loss(model, batch) > task.measure(model, batch) > 0
    assert executed_flops(lambda: task.loss(model, batch)) > 1e6
    with torch.no_grad():
        assert 0 < task.measure(model, task.held_out[0]) < 1
    poses = samples(configs["augmented", 16].data, 3, 0)[0].views.cameras.world_from_camera.clone()
    task.loss(task.build("augmented", 16), batch)
    assert torch.equal(samples(configs["augmented", 16].data, 3, 0)[0].views.cameras.world_from_camera, poses)
    got = train_cell(task, Cell("augmented", 16, FRESH, 0), (1, 2))
    assert len(got["losses"]) == 2 and all(math.isfinite(loss) for loss in got["losses"])
    with pytest.raises(ValueError, match="size: expected one of"):
        task.build("equivariant", 99)


def test_the_script_writes_what_the_page_shows(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(falling, "HELD_OUT", 64)
    module = study()
    monkeypatch.setattr(module, "SHORTEST", 6)
    tiny = {"sizes": {"plain": (8, 12, 16)}, "compared": {"plain": 8, "augmented": 8}, "counts": (32,)}
    monkeypatch.setitem(module.STUDIES, "bodies", module.replace(module.STUDIES["bodies"], **tiny))
    command = ["--task", "bodies", "--minutes", "0.0001", "--seeds", "0", "1", "--out", str(tmp_path)]
    assert cli.run(module.main, module.parser(), command) == 0
    values = json.loads((tmp_path / "scaling.json").read_text())
    bodies = values["bodies"]
    assert values["seeds"] == [0, 1] and bodies["arms"]["plain"]["steps"] == [6, 12, 24, 48]
    assert np.shape(bodies["arms"]["plain"]["losses"]) == (3, 4)
    assert bodies["arms"]["plain"]["law"]["exponent"] > 0
    assert bodies["data"]["augmented"]["counts"] == [32] and bodies["data"]["plain"]["counts"] == [32, None]
    assert (tmp_path / "scaling.png").stat().st_size > 1000
    first = capsys.readouterr().out
    assert "| plain |" in first and "from before" not in first
    assert cli.run(module.main, module.parser(), command) == 0
    assert capsys.readouterr().out.count("from before") == 10
    assert json.loads((tmp_path / "scaling.json").read_text())["bodies"] == bodies


def test_mistakes_are_one_line(tmp_path, monkeypatch, capsys):
    module = study()
    monkeypatch.setattr(module, "train_cell", lambda *_: pytest.fail("trained in spite of a damaged file"))
    assert cli.run(module.main, module.parser(), ["--task", "chess"]) == 2
    (tmp_path / "runs" / "bodies").mkdir(parents=True)
    (tmp_path / "runs" / "bodies" / "algebra-2-fresh-0.json").write_text("{")
    assert cli.run(module.main, module.parser(), ["--minutes", "0.0001", "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 2 and "chess" in error and "algebra-2-fresh-0.json" in error
