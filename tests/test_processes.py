"""Several processes against one: losses and weights alike, and what is refused where they meet.

They are forked from this one and find each other through a file.
"""

import os
import re
import runpy
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from raytrans.data.generate import generated_scene
from raytrans.processes import ALONE, LAUNCHER, Processes, joined
from raytrans.training import loop
from raytrans.training.checkpoint import read_tensors
from raytrans.training.config import train_config
from raytrans.training.exchange import exchange
from raytrans.training.loop import STATE, RunOptions, train
from raytrans.training.samples import SampleStream, SceneData, sky_is_infinite

EXAMPLE = SimpleNamespace(**runpy.run_path(Path(__file__).resolve().parents[1] / "docs" / "exchange.py"))
STEPS = 20
CONFIG = {
    "size": "tiny",
    "data": {
        "folders": ["three scenes"],
        "folder_share": 1.0,
        "sources": [2, 3],
        "rays": 8,
        "batch": 2,
        "reuse": 1,
        "workers": 0,
    },
    "optim": {"steps": STEPS, "warmup": 1, "learning_rate": 0.003, "clip": 0.03},
    "log": {"checkpoint_every": 4},
}


@pytest.fixture(scope="module")
def scenes() -> list[SceneData]:
    """Three scenes of small views, one of them with depth, so that a batch may have all terms of the loss or few."""
    drawn = [generated_scene(5 + i, "easy", (12, 12), 4 + i) for i in range(3)]
    depths = [[sky_is_infinite(depth) for depth in drawn[0].depth], None, None]
    return [SceneData(list(d.images), d.cameras, depth) for d, depth in zip(drawn, depths, strict=True)]


def trained(crew: Processes, out: Path, scenes: list[SceneData], stop_at: int | None = None, **options) -> dict:
    """Everything a run in float64 reports, by step, with its weights and how it ended; interrupted after a step."""
    torch.set_default_dtype(torch.float64)
    lines, end = {}, "done"

    def report(step: int, values: dict[str, float]) -> None:
        lines[step] = {name: value for name, value in values.items() if name != "waited"}
        if step == stop_at:
            os.kill(os.getpid(), signal.SIGINT)

    try:
        train(train_config(CONFIG), RunOptions(out, **options), scenes, None, report if crew.first else None, crew)
    except KeyboardInterrupt as stop:
        end = str(stop)
    weights = read_tensors(out / STATE)[0] if crew.first else {}
    torch.set_default_dtype(torch.float32)
    return {"lines": lines, "weights": weights, "end": end}


def together(out: Path, scenes: list[SceneData], **options) -> Callable[[], dict]:
    def work() -> dict:
        with joined("cpu") as crew:
            return trained(crew, out, scenes, **options)

    return work


@pytest.fixture(scope="module")
def whole(tmp_path_factory, scenes) -> dict:
    """What one process alone reports of its run of twenty steps."""
    torch.set_num_threads(1)
    return trained(ALONE, tmp_path_factory.mktemp("whole"), scenes)


def largest_difference(lines: dict, others: dict) -> float:
    """Over all terms of all steps that both know; infinite where one has a term that the other lacks."""
    pairs = [(lines[step], others[step]) for step in lines.keys() & others.keys()]
    assert pairs
    if any(one.keys() != other.keys() for one, other in pairs):
        return float("inf")
    return max(abs(one[name] - other[name]) for one, other in pairs for name in one)


def same_weights(some: dict, others: dict) -> bool:
    return some.keys() == others.keys() and all(
        torch.allclose(some[name].double(), others[name].double(), rtol=0, atol=1e-9) for name in some
    )


def test_one_and_two_processes_have_the_same_losses_and_weights(ran, tmp_path, scenes, whole):
    first, second = ran(tmp_path, together(tmp_path / "out", scenes))
    assert sorted(first["lines"]) == sorted(whole["lines"]) == list(range(1, STEPS + 1))
    assert largest_difference(first["lines"], whole["lines"]) < 1e-9
    assert same_weights(first["weights"], whole["weights"])
    assert second["lines"] == {} and first["end"] == second["end"] == "done"
    named = [set(values) for values in whole["lines"].values()]
    assert any("sweep" in names for names in named) and any("sweep" not in names for names in named)
    losses = [values["total"] for values in whole["lines"].values()]
    assert len(set(losses)) == STEPS and any(values["gradient"] > 0.03 for values in whole["lines"].values())


def same_draws(model, samples, config):
    """Random draws that are those of the step, for every sample of it."""
    return DESCENT(model, ((number - number % 2, sample) for number, sample in samples), config)


def own_gradients(crew, parameters, terms, flags):
    """Gradients that stay with their process."""
    kept = [None if p.grad is None else p.grad.clone() for p in parameters]
    told = EXCHANGE(crew, parameters, terms, flags)
    for parameter, gradient in zip(parameters, kept, strict=True):
        parameter.grad = gradient
    return told


def own_numbers(stream, position):
    """Samples that are counted by every process for itself."""
    return SAMPLE(stream, position - position % 2)


DESCENT, EXCHANGE, SAMPLE = loop._descent, loop.exchange, SampleStream.__getitem__
FAULTS = {"draws": (loop, "_descent", same_draws), "gradients": (loop, "exchange", own_gradients)}
FAULTS["samples"] = (SampleStream, "__getitem__", own_numbers)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_seeds_or_gradients_would_be_noticed(ran, tmp_path, scenes, whole, monkeypatch, fault):
    monkeypatch.setattr(*FAULTS[fault])
    first, _ = ran(tmp_path, together(tmp_path / "out", scenes, stop_at=2))
    assert largest_difference(first["lines"], whole["lines"]) > 1e-6


def test_a_run_of_two_processes_goes_on_in_one_and_the_other_way_round(ran, tmp_path, scenes, whole):
    """An interrupt that reaches one process stops both at the same step, with the state saved."""
    first, second = ran(tmp_path / "two", together(tmp_path / "out", scenes, stop_at=6))
    assert 6 <= max(first["lines"]) <= 7 and largest_difference(first["lines"], whole["lines"]) < 1e-9
    stopped = read_tensors(tmp_path / "out" / STATE)[1]["step"]
    assert stopped == max(first["lines"]) and first["end"] == second["end"]
    assert first["end"].startswith(f"interrupted at step {stopped} of {STEPS}; the state is saved")
    alone = trained(ALONE, tmp_path / "out", scenes, resume=True, stop_at=14)
    assert sorted(alone["lines"]) == list(range(stopped + 1, 15))
    last, _ = ran(tmp_path / "again", together(tmp_path / "out", scenes, resume=True))
    assert sorted(last["lines"]) == list(range(15, STEPS + 1))
    for part in (alone, last):
        assert largest_difference(part["lines"], whole["lines"]) < 1e-9
    assert same_weights(last["weights"], whole["weights"])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".running", "model.safetensors", STATE]


def exchanges() -> dict:
    """What the third of three processes, or any, gets of numbers that a table says beforehand."""
    with joined("cpu") as crew:
        parameters = [torch.nn.Parameter(torch.zeros(2, 3)), torch.nn.Parameter(torch.zeros(()))]
        parameters += [torch.nn.Parameter(torch.zeros(1))]
        parameters[0].grad = torch.arange(6.0).view(2, 3) * 10**crew.rank
        if crew.rank == 1:
            parameters[1].grad = torch.tensor(5.0)
        terms = {"color": torch.tensor(crew.rank + 1.0)} | ({"sweep": torch.tensor(4.0)} if crew.rank == 2 else {})
        terms, flags = exchange(crew, parameters, terms, [crew.rank == 1, False])
        return {
            "gradients": [None if p.grad is None else p.grad.tolist() for p in parameters],
            "terms": {name: value.item() for name, value in terms.items()},
            "flags": flags,
            "told": crew.tell(crew.rank**2),
            "first": crew.from_first(lambda: f"of {crew.rank}"),
            "shared": [list(crew.interleaved(range(crew.rank, total, crew.count))) for total in (0, 1, 5, 6)],
            "line": EXAMPLE.exchanged(crew, "tiny"),
        }


def test_what_three_processes_tell_each_other(ran, tmp_path):
    """The sum is 111 times what the first has, as each has ten times what the one before has."""
    found = ran(tmp_path, exchanges, count=3)
    for rank, one in enumerate(found):
        assert one["gradients"] == [[[0.0, 111.0, 222.0], [333.0, 444.0, 555.0]], 5.0, None]
        assert one["terms"] == {"color": 6.0, "sweep": 4.0} and one["flags"] == [True, False]
        assert one["told"] == [0, 1, 4] and one["first"] == "of 0"
        assert one["shared"] == ([[], [0], [0, 1, 2, 3, 4], [0, 1, 2, 3, 4, 5]] if rank == 0 else [[]] * 4)
        assert re.fullmatch(r"tiny: 18,385 parameters, 0.07 MB, [\d.]+ s, [\d.]+ CPU-seconds", one["line"])


@pytest.fixture
def two(monkeypatch):
    """As torchrun has it for the first of two processes."""
    numbers = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "GROUP_WORLD_SIZE": 1}
    for name, value in {LAUNCHER: "test", **numbers}.items():
        monkeypatch.setenv(name, str(value))


def test_without_lightning_fabric_the_extra_is_named(two, monkeypatch):
    monkeypatch.setitem(sys.modules, "lightning_fabric", None)
    with pytest.raises(ValueError, match=r"2 processes.*pip install --editable '.\[processes\]'"), joined("cpu"):
        pass


def test_machines_with_different_numbers_of_processes_are_refused(two, monkeypatch):
    monkeypatch.setenv("GROUP_WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="as many processes on each of 2 machines, got 2 in all"), joined("cpu"):
        pass


def test_every_process_of_a_machine_needs_its_own_gpu(two, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match="--device: expected a CUDA device for each of 2 processes, found 1"):
        with joined("cuda"):
            pass


def test_one_process_is_alone_with_torchrun_and_without(two, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "1")
    with joined("cuda") as crew:
        assert crew is ALONE and crew.count == 1 and crew.tell(5) == [5] and list(crew.interleaved([3, 4])) == [3, 4]
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv(LAUNCHER)
    with joined("cpu") as crew, pytest.raises(ValueError, match="at once"), crew.attempt():
        raise ValueError("at once")
