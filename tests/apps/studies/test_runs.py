"""Runs of a study: arms as planned, budgets, and training that goes on where it was stopped."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from raytrans.apps.studies import runs
from raytrans.apps.studies.arms import EQUAL, STUDIES, Study
from raytrans.training.loop import RunOptions, train
from raytrans.training.samples import POOL

ROOT = Path(__file__).resolve().parents[3]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize("name", list(STUDIES))
def test_every_arm_is_a_configuration_of_its_own(name):
    study = STUDIES[name]
    configs = [runs.arm_config(ROOT / "configs/study.toml", changes, 1, 0) for changes in study.arms.values()]
    assert len({json.dumps(config.to_dict()) for config in configs}) == len(configs)
    counts = [sum(p.numel() for p in runs.Renderer(config.model).parameters()) for config in configs]
    if study.equal:
        assert max(counts) <= (1 + EQUAL) * min(counts)


def test_a_run_that_was_stopped_goes_on_to_the_same_weights(tiny_config, tmp_path):
    config = runs.arm_config(tiny_config, ("model.directions=world",), 4, 1)
    runs.trained(tmp_path / "whole", config, "cpu")
    stopped = tmp_path / "stopped"

    def stop(step, values):
        if step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, RunOptions(stopped), [], report=stop)
    (stopped / runs.SPENT).write_text('{"step": 2, "cpu_seconds": 1000.0}')
    runs.trained(stopped, config, "cpu")
    for name, value in weights(tmp_path / "whole").items():
        torch.testing.assert_close(weights(stopped)[name], value, rtol=0, atol=0)
    assert 1000 < runs.spent_seconds(stopped) < 1100
    assert 0 < runs.spent_seconds(tmp_path / "whole") < 100


def test_a_finished_run_is_left_alone(tiny_config, tmp_path, monkeypatch):
    config = runs.arm_config(tiny_config, (), 1, 0)
    runs.trained(tmp_path / "run", config, "cpu")
    before = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "run").iterdir()}
    monkeypatch.setattr(runs, "train", None)
    runs.trained(tmp_path / "run", config, "cpu")
    assert before == {file.name: file.stat().st_mtime_ns for file in (tmp_path / "run").iterdir()}


def test_minutes_become_steps_once(tiny_config, tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "seconds_per_step", lambda config: 0.5)
    arm = runs.planned_arm(tmp_path / "a", tiny_config, (), runs.Budget(2.0))
    assert arm.steps == 240 and arm.config(tiny_config, 7).optim.steps == 240 and arm.config(tiny_config, 7).seed == 7
    monkeypatch.setattr(runs, "seconds_per_step", lambda config: 5.0)
    assert runs.planned_arm(tmp_path / "a", tiny_config, (), None) == arm == runs.read_arm(tmp_path / "a")
    assert runs.planned_arm(tmp_path / "b", tiny_config, (), runs.Budget(None, 9)).steps == 9


def test_another_arm_or_budget_in_the_same_folder_is_refused(tiny_config, tmp_path):
    runs.planned_arm(tmp_path / "a", tiny_config, (), runs.Budget(None, 3))
    with pytest.raises(ValueError, match=r"other changes.*model\.fine=4"):
        runs.planned_arm(tmp_path / "a", tiny_config, ("model.fine=4",), None)
    with pytest.raises(ValueError, match=r"other budget.*steps=4.*steps=3"):
        runs.planned_arm(tmp_path / "a", tiny_config, (), runs.Budget(None, 4))
    (tmp_path / "a" / runs.ARM).write_text("[]")
    with pytest.raises(ValueError, match="damaged"):
        runs.read_arm(tmp_path / "a")


def test_arms_of_unequal_size_are_refused_where_they_should_be_equal():
    small = runs.Arm("a", (), runs.Budget(), 1, 1000)
    study = Study({"a": (), "b": ()}, equal=True)
    runs.check_equal(study, [small, replace(small, name="b", parameters=1050)])
    larger = replace(small, name="b", parameters=1051)
    with pytest.raises(ValueError, match="'b': 1051"):
        runs.check_equal(study, [small, larger])
    runs.check_equal(replace(study, equal=False), [small, larger])


def test_drawing_a_scene_is_shared_by_the_steps_that_use_it(tiny_config, monkeypatch):
    clock = [0.0]

    def pretend(config, options, folders, report):
        for step in range(config.optim.steps):
            clock[0] += 3.0 if step < POOL else 1.0
            report(step + 1, {})

    monkeypatch.setattr(runs, "train", pretend)
    monkeypatch.setattr(runs.time, "process_time", lambda: clock[0])
    assert runs.seconds_per_step(runs.arm_config(tiny_config, ("data.reuse=4",), 1, 0)) == pytest.approx(
        (3 + 3 * 1) / 4
    )
