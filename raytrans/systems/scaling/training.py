"""Training of one cell of a grid: any model, any task."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from raytrans.systems.scaling.flops import Rule, nominal_flops
from raytrans.systems.scaling.grid import FRESH, Cell

WARMUP, CLIP, AVERAGED = 20, 1.0, 0.25


@dataclass(frozen=True)
class Task:
    """What a study compares models on.

    build: a model from the name of its arm and its size, weights from torch's global seed. batches: endless training
    batches of an arm from a number of distinct samples and a seed. loss: of a model on a batch. held_out: the batches
    of the loss that is reported, the same for all. rates: learning rate of every arm. rules: as in `nominal_flops`.
    measure: what is reported, if not the loss. flops: counts the training FLOPs of a call, if not `nominal_flops`.
    trivial: what is reported for the best answer that reads nothing, if known.
    """

    build: Callable[[str, int], nn.Module]
    batches: Callable[[str, int, int], Iterator]
    loss: Callable[[nn.Module, object], Tensor]
    held_out: Sequence
    rates: Mapping[str, float]
    rules: Mapping[type, Rule] = field(default_factory=dict)
    measure: Callable[[nn.Module, object], Tensor] | None = None
    flops: Callable[[Callable[[], object]], float] | None = None
    trivial: float | None = None


def train_cell(task: Task, cell: Cell, steps: Sequence[int]) -> dict:
    """Train a cell; its losses at `steps`, nominal FLOPs of a step, and parameters.

    Adam at a constant rate after `WARMUP` steps of a linear rise, gradients clipped at norm 1. The weights at a length
    are the mean of those of its last quarter, which takes the place of a decay of the rate.
    """
    if cell.arm not in task.rates:
        raise ValueError(f"arm: expected one of {', '.join(task.rates)}, got {cell.arm!r}")
    torch.manual_seed(cell.seed)
    model = task.build(cell.arm, cell.size)
    batches = task.batches(cell.arm, cell.data, cell.seed)
    batch = next(batches)
    flops = _flops(task, model, batch)
    weights = list(model.parameters())
    optimizer = torch.optim.Adam(weights, lr=task.rates[cell.arm])
    mean, count, losses = [torch.zeros_like(w) for w in weights], 0, []
    for step in range(1, steps[-1] + 1):
        batch = next(batches) if step > 1 else batch
        for group in optimizer.param_groups:
            group["lr"] = task.rates[cell.arm] * min(1.0, step / WARMUP)
        optimizer.zero_grad(set_to_none=True)
        task.loss(model, batch).backward()
        nn.utils.clip_grad_norm_(weights, CLIP)
        optimizer.step()
        length = steps[len(losses)]
        if step > (1 - AVERAGED) * length:
            count += 1
            with torch.no_grad():
                torch._foreach_lerp_(mean, weights, 1 / count)
        if step == length:
            losses.append(held_out_loss(task, model, mean))
            count = 0
    return {"losses": losses, "flops": flops, "parameters": sum(w.numel() for w in weights)}


def _flops(task: Task, model: nn.Module, batch: object) -> float:
    def run() -> Tensor:
        return task.loss(model, batch)

    return nominal_flops(model, run, task.rules) if task.flops is None else task.flops(run)


def epochs(pool: int, data: int, batch: int, seed: int) -> Iterator[Tensor]:
    """Endless batches (batch,) of numbers of samples: of the first `data` of the pool, shuffled anew each time.

    With `FRESH` every sample of the pool once, in order. Raises ValueError for more samples than the pool has, for
    fewer than a batch, and, when it happens, where a pool of fresh ones is used up.
    """
    if not batch <= (data or pool) <= pool:
        raise ValueError(f"data: expected {batch}, a batch, to {pool}, all that are drawn, got {data or pool}")
    generator = torch.Generator().manual_seed(seed)
    while data != FRESH:
        yield from torch.randperm(data, generator=generator)[: data // batch * batch].split(batch)
    yield from torch.arange(pool // batch * batch).split(batch)
    raise ValueError(f"steps: expected at most {pool // batch}, for which fresh samples are drawn, got more")


@torch.no_grad()
def held_out_loss(task: Task, model: nn.Module, weights: Sequence[Tensor]) -> float:
    """Mean loss of the held-out batches with other weights, which the model has only meanwhile."""
    own = [w.detach().clone() for w in model.parameters()]
    try:
        _put(model, weights)
        measure = task.measure or task.loss
        return sum(measure(model, batch).item() for batch in task.held_out) / len(task.held_out)
    finally:
        _put(model, own)


def _put(model: nn.Module, values: Sequence[Tensor]) -> None:
    for weight, value in zip(model.parameters(), values, strict=True):
        weight.copy_(value)
