"""Channel mixing against numpy's complex arithmetic."""

import numpy as np
import pytest
import torch

from raytrans.fields.types import FieldType
from raytrans.layers.linear import TypedLinear, complex_matrix, real_part_matrix

IN = FieldType("3x0 + 2x1 + 2x(1,0.5) + 1x2")
OUT = FieldType("2x0 + 4x1 + 1x(1,0.5)")


def test_matrices_are_complex_multiplication():
    weight, z = np.random.randn(3, 4, 2), np.random.randn(3) + 1j * np.random.randn(3)
    product = z @ (weight[..., 0] + 1j * weight[..., 1])
    row = torch.tensor(np.stack([z.real, z.imag], -1).ravel())
    result = (row @ complex_matrix(torch.tensor(weight))).numpy()
    np.testing.assert_allclose(result[0::2] + 1j * result[1::2], product, atol=1e-14)
    np.testing.assert_allclose(row @ real_part_matrix(torch.tensor(weight)), product.real, atol=1e-14)


def test_mixes_equal_types_only():
    layer, features = TypedLinear(IN, OUT), torch.randn(5, IN.dim)
    layer.bias.data.normal_()
    parts, result = IN.split(features), OUT.split(layer(features))
    torch.testing.assert_close(result[0], parts[0] @ layer.weights[0] + layer.bias)
    for out, source, weight in ((result[1], parts[1], layer.weights[1]), (result[2], parts[2], layer.weights[2])):
        torch.testing.assert_close(out, source @ torch.view_as_complex(weight.detach()))


@pytest.mark.parametrize("batch", [(), (7, 9)])
def test_commutes_with_changes_of_frame(batch):
    layer, features = TypedLinear(IN, OUT), torch.randn(*batch, IN.dim)
    turn, slide = torch.randn(batch), torch.randn(batch)
    changed = layer(IN.transform(features, turn, slide))
    torch.testing.assert_close(changed, OUT.transform(layer(features), turn, slide), rtol=0, atol=1e-12)


def test_refuses_types_it_cannot_reach():
    with pytest.raises(ValueError, match="out_type: 1x3 cannot be mixed from in_type"):
        TypedLinear(IN, "1x3")
    with pytest.raises(ValueError, match="expected last axis"):
        TypedLinear(IN, OUT)(torch.randn(2, 3))
    assert repr(TypedLinear("2x0+1x1", "1x1")) == "TypedLinear(2x0+1x1 -> 1x1)"
