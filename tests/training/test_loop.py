import math
import os
import signal
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch

from raytrans.rendering.renderer import Renderer
from raytrans.training import loop
from raytrans.training.checkpoint import load_model, read_tensors, write_tensors
from raytrans.training.config import OptimConfig, train_config
from raytrans.training.loop import RunOptions, learning_rate, train
from raytrans.training.samples import SampleStream, scene_of_step

CONFIG = {
    "size": "tiny",
    "data": {"views": 5, "sizes": [24], "sources": [3, 3], "rays": 32, "reuse": 2, "workers": 0},
    "optim": {"steps": 6, "warmup": 2},
    "log": {"checkpoint_every": 3},
}


def losses_of(out, resume=False, stop_at=None, changes=None):
    values = {}

    def report(step, terms):
        values[step] = terms["total"]
        if step == stop_at:
            raise KeyboardInterrupt

    config, model = train_config({**CONFIG, **(changes or {})}), None
    with nullcontext() if stop_at is None else pytest.raises(KeyboardInterrupt, match=f"step {stop_at} of 6"):
        model = train(config, RunOptions(out, resume=resume), [], None, report)
    return values, model


def test_a_resumed_run_repeats_the_uninterrupted_one_bit_for_bit(tmp_path):
    whole, model = losses_of(tmp_path / "whole")
    first, _ = losses_of(tmp_path / "parts", stop_at=4)
    second, resumed = losses_of(tmp_path / "parts", resume=True)
    assert sorted(whole) == [1, 2, 3, 4, 5, 6]
    assert all(math.isfinite(v) for v in whole.values())
    assert {**first, **second} == whole
    assert set(second) == {5, 6}
    for a, b in zip(model.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


def test_training_writes_weights_that_load_and_starts_from_given_ones(tmp_path):
    _, model = losses_of(tmp_path / "a")
    loaded = load_model(tmp_path / "a" / "model.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), loaded.parameters(), strict=True))
    config = train_config({**CONFIG, "optim": {"steps": 1, "learning_rate": 1e-12}})
    options = RunOptions(tmp_path / "b", init=tmp_path / "a" / "model.safetensors")
    warm = train(config, options, [])
    for a, b in zip(model.parameters(), warm.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-9)


def test_resuming_with_another_configuration_is_refused_with_the_difference(tmp_path):
    losses_of(tmp_path, stop_at=3)
    with pytest.raises(ValueError, match="optim.learning_rate: 0.001 -> 0.01"):
        losses_of(tmp_path, resume=True, changes={"optim": {"steps": 6, "warmup": 2, "learning_rate": 0.01}})


def test_weights_may_come_from_the_folder_of_a_run(tmp_path):
    _, model = losses_of(tmp_path / "a")
    config = train_config({**CONFIG, "optim": {"steps": 1, "learning_rate": 1e-12}})
    warm = train(config, RunOptions(tmp_path / "b", init=tmp_path / "a"), [])
    for a, b in zip(model.parameters(), warm.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("bad", "kept"), [(1, None), (4, 3)])
@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_numbers_that_are_not_finite_end_it_with_what_is_kept(tmp_path, monkeypatch, bad, kept, what):
    losses, calls = loop.sample_losses, []

    def spoiled(*arguments):
        calls.append(None)
        terms = losses(*arguments)
        if len(calls) == bad + 1:  # the root of 0 has an infinite slope
            total = terms["total"]
            terms["total"] = total * math.nan if what == "loss" else (total - total.detach()).sqrt()
        return terms

    monkeypatch.setattr(loop, "sample_losses", spoiled)
    with pytest.raises(FloatingPointError, match=f"the {what} is not finite at step {bad}, seed 0") as caught:
        losses_of(tmp_path)
    state = tmp_path / "training.safetensors"
    assert state.exists() == (kept is not None)
    said = "no state was saved" if kept is None else f"the state of step {read_tensors(state)[1]['step']} is kept"
    assert said in str(caught.value) and ("kept" in str(caught.value)) == (kept is not None)


def test_a_second_ctrl_c_while_the_state_is_saved_changes_nothing(tmp_path, monkeypatch):
    save = loop.save_model

    def interrupted(*arguments):
        os.kill(os.getpid(), signal.SIGINT)
        save(*arguments)

    monkeypatch.setattr(loop, "save_model", interrupted)
    losses_of(tmp_path, stop_at=4)
    assert read_tensors(tmp_path / "training.safetensors")[1]["step"] == 4
    assert load_model(tmp_path / "model.safetensors") is not None


def test_a_resumed_run_may_log_otherwise_and_draw_samples_elsewhere(tmp_path):
    whole, _ = losses_of(tmp_path / "whole")
    losses_of(tmp_path / "parts", stop_at=4)
    changes = {"log": {"checkpoint_every": 1}, "data": {**CONFIG["data"], "workers": 1}}
    rest, _ = losses_of(tmp_path / "parts", resume=True, changes=changes)
    assert rest == {step: whole[step] for step in (5, 6)}


def test_a_run_of_a_version_that_knew_fewer_keys_of_the_model_goes_on(tmp_path):
    whole, _ = losses_of(tmp_path / "whole")
    losses_of(tmp_path / "parts", stop_at=4)
    path = tmp_path / "parts" / "training.safetensors"
    tensors, metadata = read_tensors(path)
    del metadata["config"]["model"]["kernel"], metadata["config"]["model"]["moments"]
    write_tensors(path, tensors, metadata)
    rest, _ = losses_of(tmp_path / "parts", resume=True)
    assert rest == {step: whole[step] for step in (5, 6)}


def test_a_time_limit_stops_with_the_state_saved(tmp_path):
    train(train_config(CONFIG), RunOptions(tmp_path, minutes=1e-6), [])
    values, _ = losses_of(tmp_path, resume=True)
    assert min(values) == 2


def test_samples_are_functions_of_seed_step_and_index():
    data = train_config(CONFIG).data
    first, second = SampleStream(data, 0, 9, []), SampleStream(data, 0, 9, [])
    second[7]
    a, b = first[3], second[3]
    assert torch.equal(a.color, b.color) and torch.equal(a.views.images, b.views.images)
    assert not torch.equal(a.color, first[4].color)
    assert not torch.equal(a.color, SampleStream(data, 1, 9, [])[3].color)


def test_every_scene_is_used_as_often_as_asked():
    data = train_config(CONFIG).data
    scenes = [scene_of_step(data, 0, step)[0] for step in range(32)]
    assert sorted(scenes) == sorted(list(range(16)) * 2)


def test_the_scenes_of_a_batch_differ_and_each_is_drawn_for_one_index():
    data = replace(train_config(CONFIG).data, batch=3)
    streams = [[scene_of_step(data, 1, step, index)[0] for step in range(32)] for index in range(3)]
    assert all(len(set(stream)) == 16 for stream in streams) and len(set.union(*map(set, streams))) == 48
    assert max(map(max, streams)) < min(scene_of_step(data, 2, step)[0] for step in range(32))


def test_a_batch_is_the_mean_of_its_samples(tmp_path):
    """Losses and gradient against those of every sample alone, by `sample_losses` itself."""
    config = train_config({**CONFIG, "data": {**CONFIG["data"], "batch": 3}})
    reported, stream = {}, SampleStream(config.data, config.seed, 1, [])
    train(config, RunOptions(tmp_path), [], None, lambda step, values: reported.setdefault(step, values))
    torch.manual_seed(config.seed)
    model, losses = Renderer(config.model), []
    for number in range(3):
        terms = loop.sample_losses(model, stream[number], config.optim, torch.Generator().manual_seed(number))
        losses.append(terms["total"])
    mean = sum(losses) / 3
    mean.backward()
    norm = torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm()
    assert reported[1]["total"] == pytest.approx(mean.item(), rel=1e-5)
    assert reported[1]["gradient"] == pytest.approx(norm.item(), rel=1e-4)
    assert len({loss.item() for loss in losses}) == 3


def test_learning_rate_warms_up_and_decays_to_one_percent():
    optim = OptimConfig(steps=100, warmup=10, learning_rate=1.0)
    assert math.isclose(learning_rate(optim, 0), 0.1) and math.isclose(learning_rate(optim, 10), 1.0)
    assert math.isclose(learning_rate(optim, 100), 0.01)
    assert all(learning_rate(optim, s) >= learning_rate(optim, s + 1) for s in range(10, 100))
