"""Nominal compute of a training step: 6 FLOPs per element of a weight matrix and token, dense blocks for algebras.

2 for a multiplication and an addition, once forward and twice backward. Products of activations (attention, geometric
products) count nothing. A linear map of multivectors counts as dense blocks of all 16 components, whatever smaller
number of weights it has or operations it takes. Source: `nominal_flops_per_token` of GATr, 1.4.0.
"""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from raytrans.layers.kernel import RayKernel
from raytrans.layers.linear import TypedLinear
from raytrans.layers.multivectors import MultivectorLinear, MultivectorLogits, MultivectorNorm

PER_ELEMENT = 6
Rule = Callable[[nn.Module, Tensor], float]


def multivector_elements(s_in: int, s_out: int, mv_in: int, mv_out: int, components: int = 16) -> int:
    """Elements of the dense matrix of a linear map of scalars and multivectors of `components` numbers.

    s_in s_out + s_in mv_out + mv_in s_out + components^2 mv_in mv_out: scalars read and write one component.
    """
    return s_in * s_out + s_in * mv_out + mv_in * s_out + components**2 * mv_in * mv_out


def _dense(layer: nn.Linear, out: Tensor) -> float:
    return layer.weight.numel() * (out.numel() / layer.out_features)


def _convolution(layer: nn.Conv2d, out: Tensor) -> float:
    return layer.weight.numel() * (out.numel() / layer.out_channels)


def _typed(layer: TypedLinear, out: Tensor) -> float:
    """A weight between channels of width w is a block of w x w numbers."""
    counts = layer.in_type.counts
    elements = sum(counts[b.key] * b.multiplicity * b.width**2 for b in layer.out_type.blocks)
    return elements * (out.numel() / layer.out_type.dim)


def _kernel(layer: RayKernel, out: Tensor) -> float:
    """Every matrix of the basis acts on every pair; a complex weight is a block of 2 x 2 numbers, or 2 x 1."""
    blocks = [
        1 if w.ndim == 3 else (2 if term.out.real else 4) for term, w in zip(layer.terms, layer.weights, strict=True)
    ]
    elements = sum(math.prod(w.shape[:3]) * block for w, block in zip(layer.weights, blocks, strict=True))
    return elements * (out.numel() / layer.out_type.dim)


def _multivectors(layer: MultivectorLinear, out: Tensor) -> float:
    own, to = layer.in_type, layer.out_type
    elements = multivector_elements(own.scalars, to.scalars, own.multivectors, to.multivectors, own.algebra.dim)
    return elements * (out.numel() / to.dim)


def nothing(layer: nn.Module, out: Tensor) -> float:
    """The rule of layers whose matrices are not multiplied with."""
    return 0.0


RULES: dict[type, Rule] = {
    nn.Linear: _dense,
    nn.Conv2d: _convolution,
    TypedLinear: _typed,
    RayKernel: _kernel,
    MultivectorLinear: _multivectors,
    MultivectorNorm: nothing,
    MultivectorLogits: nothing,
}


def nominal_flops(model: nn.Module, run: Callable[[], object], rules: Mapping[type, Rule] | None = None) -> float:
    """Training FLOPs of the weights of `model` that are used while `run` calls it forward.

    rules: elements of weight matrices times tokens of a layer, from the layer and its output, beside those of `RULES`.
    Raises ValueError for a layer with matrices of its own that has no rule, and for one that was never called: its
    share would be missing. Tables that are added, not multiplied, have the rule `nothing`.
    """
    known, counts, hooks = {**RULES, **(rules or {})}, {}, []

    def hook(name: str, rule: Rule) -> Callable:
        def count(layer: nn.Module, inputs: tuple, out: Tensor) -> None:
            counts[name] = (counts[name] or 0.0) + rule(layer, out)

        return count

    for name, layer in model.named_modules():
        if type(layer) in known:
            counts[name] = None
            hooks.append(layer.register_forward_hook(hook(name, known[type(layer)])))
        elif not isinstance(layer, nn.ParameterList) and any(p.ndim > 1 for p in _own(layer)):
            raise ValueError(f"model: expected a rule for every layer with matrices, got none for {type(layer)}")
    try:
        with torch.no_grad():
            run()
    finally:
        for one in hooks:
            one.remove()
    if missing := [name for name, count in counts.items() if count is None]:
        raise ValueError(f"model: expected every layer to be called, got no call of {', '.join(missing)}")
    return PER_ELEMENT * sum(counts.values())


def _own(layer: nn.Module) -> list[Tensor]:
    """Parameters of a layer itself, also those that it keeps in lists."""
    lists = [child for child in layer.children() if isinstance(child, nn.ParameterList)]
    return [p for part in (layer, *lists) for p in part.parameters(recurse=False)]


def executed_flops(run: Callable[[], object]) -> float:
    """Training FLOPs from the products and convolutions that `run` does forward, 3 times its own.

    For models whose layers have no rules: for dense layers the same as `nominal_flops`, and products of activations on
    top.
    """
    with FlopCounterMode(display=False) as counter:
        run()
    return 3.0 * counter.get_total_flops()
