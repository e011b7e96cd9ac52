"""What the processes of a training tell each other in every step: gradients, losses and flags in one message."""

from collections.abc import Sequence

import torch
from torch import Tensor

from raytrans.processes import Processes

TERMS = ("color", "opacity", "depth", "proposal", "sweep", "total")


def exchange(
    processes: Processes, parameters: Sequence[Tensor], terms: dict[str, Tensor], flags: Sequence[bool]
) -> tuple[dict[str, Tensor], list[bool]]:
    """Sum gradients, in place, and terms of the loss over all processes; a flag is set where any of them has it set.

    One message, as long as all parameters and some numbers. What no process has, a gradient or a term, stays absent.
    Raises on every process where one of them has put an error off.
    """
    if processes.count == 1:
        return terms, list(flags)
    like = parameters[0].detach()
    known = [*(p.grad is not None for p in parameters), *(name in terms for name in TERMS)]
    signs = like.new_tensor([*known, *flags, processes.trouble is not None])
    values = [terms[name].detach().to(like) if name in terms else like.new_zeros(()) for name in TERMS]
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    sizes = [p.numel() for p in parameters]
    pieces = processes.sum(torch.cat([*(g.flatten() for g in gradients), torch.stack(values), signs]))
    *parts, values, signs = pieces.split([*sizes, len(TERMS), len(signs)])
    *known, failed = (signs > 0).tolist()
    if failed:
        processes.tell()
    for parameter, part, present in zip(parameters, parts, known, strict=False):
        parameter.grad = part.view_as(parameter) if present else None
    found = zip(TERMS, values, known[len(sizes) :], strict=False)
    return {name: value for name, value, present in found if present}, known[len(sizes) + len(TERMS) :]
