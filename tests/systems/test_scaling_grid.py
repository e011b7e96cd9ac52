"""Grids that go on where they ended, and training of their cells."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from raytrans.systems.scaling.grid import FRESH, Cell, Grid, Row, data_curve, run_grid, table
from raytrans.systems.scaling.training import Task, epochs, held_out_loss, train_cell

GRID = Grid(arms=("a", "b"), sizes=(2, 4), steps=(4, 8, 16), seeds=(0, 1), data=(FRESH, 8))


def counting(cell, steps):
    calls.append(cell)
    return {"losses": [1.0 / s for s in steps], "flops": 10.0 * cell.size, "parameters": cell.size}


@pytest.fixture(autouse=True)
def calls():
    globals()["calls"] = []
    return calls


def test_a_grid_has_every_combination_once():
    cells = list(GRID.cells())
    assert len(cells) == len(set(cells)) == 16 and cells[0] == Cell("a", 2, FRESH, 0)
    assert [cell.seed for cell in cells] == [0] * 8 + [1] * 8
    assert len({cell.name for cell in cells}) == 16


def test_what_is_finished_is_not_run_again(tmp_path):
    def until_seven(cell, steps):
        if len(calls) == 7:
            raise KeyboardInterrupt
        return counting(cell, steps)

    with pytest.raises(KeyboardInterrupt):
        run_grid(tmp_path, GRID, until_seven, {"rate": 1})
    first, told = list(calls), []
    rows = run_grid(tmp_path, GRID, counting, {"rate": 1}, lambda row, new: told.append(new))
    assert len(first) == 7 and len(calls) == 16 and set(calls) == set(GRID.cells())
    assert told == [False] * 7 + [True] * 9
    assert [row.cell for row in rows] == list(GRID.cells()) and rows[2].losses == (0.25, 0.125, 0.0625)
    assert run_grid(tmp_path, GRID, counting, {"rate": 1}) == rows and len(calls) == 16


def test_results_of_other_settings_are_refused(tmp_path):
    run_grid(tmp_path, GRID, counting, {"rate": 1})
    with pytest.raises(ValueError, match="expected settings {'rate': 2}, got {'rate': 1}"):
        run_grid(tmp_path, GRID, counting, {"rate": 2})
    other = Grid(("a",), (2,), (4, 8), (0,))
    with pytest.raises(ValueError, match=r"expected steps \[4, 8\], got \[4, 8, 16\]"):
        run_grid(tmp_path, other, counting, {"rate": 1})


def test_damaged_results_are_refused(tmp_path):
    grid = Grid(("a",), (2,), (4, 8), (0,))
    file = tmp_path / "a-2-fresh-0.json"
    run_grid(tmp_path, grid, counting, {})
    good = json.loads(file.read_text())
    for text in ("{", "[]", json.dumps({**good, "result": {}}), json.dumps({**good, "cell": {"arm": "a"}})):
        file.write_text(text)
        with pytest.raises(ValueError, match="a-2-fresh-0.json: "):
            run_grid(tmp_path, grid, counting, {})


def test_losses_that_are_not_finite_are_not_kept(tmp_path):
    grid = Grid(("a",), (2,), (4, 8), (0,))
    with pytest.raises(FloatingPointError, match="a-2-fresh-0"):
        run_grid(tmp_path, grid, lambda c, s: {"losses": [1.0, np.nan], "flops": 1, "parameters": 1}, {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"arms": ()}, "arms: expected at least one value"),
        ({"sizes": (2, 2)}, "sizes: expected at least one value and none twice"),
        ({"sizes": (0,)}, "sizes: expected whole numbers of at least 1"),
        ({"steps": (8, 4)}, "steps: expected rising"),
        ({"steps": (0, 4)}, "steps: expected whole numbers of at least 1"),
        ({"seeds": (-1,)}, "seeds: expected whole numbers of at least 0"),
        ({"arms": ("../a",)}, "arms: expected names of letters"),
    ],
)
def test_bad_grids_are_refused(changes, words):
    values = {"arms": ("a",), "sizes": (2,), "steps": (4,), "seeds": (0,)}
    with pytest.raises(ValueError, match=words):
        Grid(**{**values, **changes})


def test_tables_are_sorted_and_whole():
    rows = [
        Row(Cell("a", size, data, seed), (float(size), float(seed)), 10.0 * size, 1, 0.0)
        for seed in (1, 0)
        for data in (8, FRESH)
        for size in (4, 2)
    ]
    flops, losses = table(rows, "a")
    assert flops.tolist() == [20, 40] and losses.shape == (2, 2, 2)
    assert losses[:, :, 0].tolist() == [[2, 4], [2, 4]] and losses[:, 0, 1].tolist() == [0, 1]
    counts, ends = data_curve(rows, "a", 4)
    assert counts.tolist() == [8, np.inf] and ends.tolist() == [[0, 0], [1, 1]]
    with pytest.raises(ValueError, match="every seed and size of arm 'a'"):
        table(rows[:-1], "a")
    with pytest.raises(ValueError, match="arm 'b'"):
        data_curve(rows, "b", 4)


def line_task(rate=0.05):
    """y = 3 x by one weight from 0: everything has a closed form."""
    x = torch.linspace(-1, 1, 33)[:, None]

    def build(arm, size):
        model = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(model.weight)
        return model

    def batches(arm, data, seed):
        while True:
            yield x

    return Task(build, batches, lambda model, x: (model(x) - 3 * x).square().mean(), [x], {"a": rate})


def test_a_cell_is_trained_as_by_hand():
    """Adam written out, the mean of the last quarter of the weights at every length."""
    got = train_cell(line_task(), Cell("a", 1, FRESH, 0), (8, 40))
    second = torch.linspace(-1, 1, 33).double().square().mean().item()
    w = m = v = 0.0
    weights = []
    for step in range(1, 41):
        gradient = 2 * second * (w - 3)
        gradient = max(-1.0, min(1.0, gradient))
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        w -= 0.05 * min(1, step / 20) * (m / (1 - 0.9**step)) / ((v / (1 - 0.999**step)) ** 0.5 + 1e-8)
        weights.append(w)
    expected = [second * (np.mean(weights[6:8]) - 3) ** 2, second * (np.mean(weights[30:40]) - 3) ** 2]
    assert got["losses"] == pytest.approx(expected, rel=1e-4)
    assert got["parameters"] == 1 and got["flops"] == 6 * 33


def test_held_out_weights_are_only_borrowed():
    task, model = line_task(), nn.Linear(1, 1, bias=False)
    before = model.weight.detach().clone()
    assert held_out_loss(task, model, [torch.full((1, 1), 3.0)]) == pytest.approx(0.0, abs=1e-12)
    assert torch.equal(model.weight, before)


def test_an_unknown_arm_is_refused():
    with pytest.raises(ValueError, match="arm: expected one of a, got 'z'"):
        train_cell(line_task(), Cell("z", 1, FRESH, 0), (4,))


def test_epochs_show_every_sample_once_before_any_twice():
    stream = epochs(64, 12, 4, seed=0)
    rounds = [torch.cat([next(stream) for _ in range(3)]) for _ in range(3)]
    assert all(sorted(r.tolist()) == list(range(12)) for r in rounds)
    assert not torch.equal(rounds[0], rounds[1])
    fresh = epochs(10, FRESH, 4, seed=0)
    assert [next(fresh).tolist() for _ in range(2)] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    with pytest.raises(ValueError, match="steps: expected at most 2, .* got more"):
        next(fresh)
    for data in (3, 65):
        with pytest.raises(ValueError, match=f"data: expected 4, .* got {data}"):
            next(epochs(64, data, 4, seed=0))
