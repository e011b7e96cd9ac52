"""Norm, gate and products: the formula by loops, and the change of frame."""

import numpy as np
import pytest
import torch

from raytrans.fields.types import FieldType
from raytrans.layers.nonlinear import Gate, TensorProduct, TypedNorm

TYPE = FieldType("3x0 + 2x1 + 2x(1,0.5) + 1x(0,0.3) + 1x2")
OUT = FieldType("2x0 + 2x1 + 1x3 + 1x(2,0.5) + 1x(0,0.5) + 1x(1,0.2)")
LAYERS = {
    "norm": lambda: TypedNorm(TYPE),
    "gate": lambda: Gate(TYPE),
    "gate without invariants": lambda: Gate("2x1 + 1x2"),
    "product": lambda: TensorProduct(TYPE, TYPE, OUT),
}


@pytest.mark.parametrize("name", list(LAYERS))
@pytest.mark.parametrize("batch", [(), (7, 9)])
def test_commutes_with_changes_of_frame(name, batch):
    layer = LAYERS[name]()
    for parameter in layer.parameters():
        parameter.data.normal_()
    in_type = layer.in_type if name != "product" else layer.in_type1
    inputs = [torch.randn(*batch, in_type.dim) for _ in range(2 if name == "product" else 1)]
    turn, slide = torch.randn(batch), torch.randn(batch)
    out = layer(*inputs)
    changed = layer(*(in_type.transform(f, turn, slide) for f in inputs))
    assert out.std() > 1e-2
    torch.testing.assert_close(changed, layer.out_type.transform(out, turn, slide), rtol=0, atol=1e-11)


def test_norm_has_unit_size_and_finite_gradient_at_zero():
    layer, features = TypedNorm(TYPE), 100 * torch.randn(50, TYPE.dim)
    for block, part in zip(TYPE.blocks, TYPE.split(layer(features)), strict=True):
        torch.testing.assert_close(part.abs().square().mean(-1), torch.ones(50), rtol=0, atol=1e-3)
        assert not block.real or part.mean(-1).abs().max() < 1e-6
    zero = torch.zeros(TYPE.dim, requires_grad=True)
    layer(zero).sum().backward()
    assert torch.isfinite(zero.grad).all()


def test_gate_is_the_formula():
    layer, features = Gate("2x0 + 1x1"), torch.randn(4)
    a, b, re, im = features.tolist()
    norm = (re * re + im * im + 1e-5) ** 0.5
    weight, bias = layer.gates.weight.detach().numpy()[0], layer.gates.bias.item()
    gate = 1 / (1 + np.exp(-(weight @ np.array([a, b, norm]) + bias)))
    expected = [a / (1 + np.exp(-a)), b / (1 + np.exp(-b)), gate * re, gate * im]
    np.testing.assert_allclose(layer(features).detach(), expected, atol=1e-12)


def test_product_is_the_loop():
    """2x1 times 1x2: conj z1 z2 is of type 1, z1 z2 of type 3."""
    layer = TensorProduct("2x1", "1x2", "1x1 + 2x3")
    z1, z2 = torch.randn(2, dtype=torch.complex128), torch.randn(1, dtype=torch.complex128)
    out = layer.out_type.split(layer(torch.view_as_real(z1).flatten(), torch.view_as_real(z2).flatten()))
    low, high = (torch.view_as_complex(w.detach()) for w in layer.weights)
    torch.testing.assert_close(out[0][0], sum(low[i, 0] * z1[i].conj() * z2[0] for i in range(2)))
    for o in range(2):
        torch.testing.assert_close(out[1][o], sum(high[i, o] * z1[i] * z2[0] for i in range(2)))


def test_product_refuses_types_it_cannot_reach():
    with pytest.raises(ValueError, match=r"out_type: expected types among 1x1 \+ 1x3"):
        TensorProduct("2x1", "1x2", "1x0")
    assert repr(TensorProduct("2x1", "1x2", "1x3")) == "TensorProduct(2x1, 1x2 -> 1x3)"
