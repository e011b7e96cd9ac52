"""Operations and memory traffic of a piece of work, counted while it runs, and the roofline they put over it."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

ATEN = torch.ops.aten
# tensors that only get a place or another shape
NOTHING = {
    ATEN.empty.memory_format,
    ATEN.empty_strided.default,
    ATEN.empty_like.default,
    ATEN.new_empty.default,
    ATEN._unsafe_view.default,
}
# the first argument is written, not read
WRITES = {ATEN.copy_.default, ATEN.fill_.Scalar, ATEN.fill_.Tensor, ATEN.zero_.default}


class Traffic(TorchDispatchMode):
    """Sums the bytes of the operands and results of every operation: what would move if nothing stayed in cache.

    A view moves nothing, a broadcast operand counts once, a table that is read in places counts whole.
    """

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if not func.is_view and func not in NOTHING:
            read = args[1:] if func in WRITES else args
            self.bytes += sum(_size(leaf) for leaf in tree_leaves((read, kwargs, out)) if isinstance(leaf, Tensor))
        return out


def _size(tensor: Tensor) -> int:
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())


def _attention_flops(q: Sequence[int], k: Sequence[int], v: Sequence[int], *_, **__) -> int:
    """Two products for every query-key pair, from the shapes (..., tokens, width)."""
    return 2 * math.prod(q[:-1]) * k[-2] * (q[-1] + v[-1])


# torch counts the kernel of GPUs alone
MORE = {ATEN._scaled_dot_product_flash_attention_for_cpu: _attention_flops}


def counted(work: Callable[[], object]) -> dict[str, int]:
    """Floating-point operations of the products and convolutions in `work`, and the bytes of all its operations."""
    with FlopCounterMode(display=False, custom_mapping=MORE) as flops, Traffic() as traffic:
        work()
    return {"flops": flops.get_total_flops(), "bytes": traffic.bytes}


def roofline(flops: int, moved: int, seconds: float, machine: dict, precision: str = "float32") -> dict[str, float]:
    """Share of the bound min(rate, bandwidth x intensity) that was reached, for copies in memory and in cache.

    intensity = flops / bytes; share = max(flops / rate, bytes / bandwidth) / seconds. Above 1 for memory where what is
    moved stays in cache. Source: Williams, Waterman and Patterson, Roofline, 2009.
    """
    product = flops / (1e9 * machine["gflops"][precision])
    out = {"intensity": flops / moved, "gflops": flops / seconds / 1e9, "gb_per_second": moved / seconds / 1e9}
    for place, bandwidth in machine["gb_per_second"].items():
        out[f"share_{place}"] = max(product, moved / (1e9 * bandwidth)) / seconds
    return out
