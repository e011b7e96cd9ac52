"""Nominal compute against counts by hand and against the operations that torch counts."""

import pytest
import torch
from torch import nn

from raytrans.geometry.rays import Rays
from raytrans.layers.attention import RayAttention
from raytrans.layers.convolution import RayConvolution, everything, pair_geometry
from raytrans.layers.linear import TypedLinear
from raytrans.systems.algebra import MultivectorTransformer
from raytrans.systems.scaling.flops import (
    RULES,
    executed_flops,
    multivector_elements,
    nominal_flops,
    nothing,
)


def some_rays(count):
    return Rays.from_points(torch.randn(count, 3), torch.randn(count, 3))


def test_a_perceptron_by_hand_and_as_torch_counts():
    model = nn.Sequential(nn.Linear(7, 11), nn.SiLU(), nn.LayerNorm(11), nn.Linear(11, 3))
    x = torch.randn(5, 4, 7)
    flops = nominal_flops(model, lambda: model(x))
    assert flops == 6 * 20 * (7 * 11 + 11 * 3) == executed_flops(lambda: model(x))


def test_a_layer_that_is_called_twice_counts_twice():
    layer = nn.Linear(3, 3)
    assert nominal_flops(layer, lambda: layer(layer(torch.randn(2, 3)))) == 6 * 2 * 2 * 9


def test_a_convolution_counts_its_output_pixels():
    model = nn.Conv2d(3, 5, 3, stride=2, padding=1)
    x = torch.randn(2, 3, 8, 8)
    assert nominal_flops(model, lambda: model(x)) == 6 * 2 * 16 * 3 * 5 * 9 == executed_flops(lambda: model(x))


def test_typed_channels_count_as_dense_blocks():
    layer = TypedLinear("3x0 + 2x1", "5x0 + 4x1")
    x = torch.randn(7, layer.in_type.dim)
    assert nominal_flops(layer, lambda: layer(x)) == 6 * 7 * (15 + 8 * 4) == executed_flops(lambda: layer(x))


def test_ray_attention_is_what_torch_counts():
    layer = RayAttention("3x0 + 2x1", "4x0 + 2x1", "2x0 + 1x1", heads=2, basis=3)
    x, y = some_rays(5), some_rays(6)
    query, features = torch.randn(5, layer.query_type.dim), torch.randn(6, layer.in_type.dim)

    def run():
        return layer(x, y, query, features)

    geometry = executed_flops(lambda: pair_geometry(layer.kernel, x, y, features, everything(x, y), 1.0))
    products = 6 * 5 * 6 * layer.logits.heads.numel()  # of queries and keys with a table that says whose is whose
    assert geometry > 0 and nominal_flops(layer, run) == executed_flops(run) - products - geometry


def test_an_equilinear_layer_of_multivectors_by_hand():
    """Two scalars and three multivectors to five and seven: the whole matrix of 2 + 48 by 5 + 112 numbers has more."""
    elements = multivector_elements(2, 5, 3, 7)
    assert elements == 2 * 5 + 2 * 7 + 3 * 5 + 256 * 21 == 5415
    assert multivector_elements(0, 0, 1, 1, 8) == 64 and multivector_elements(0, 0, 1, 1, 32) == 1024


@pytest.mark.parametrize(("variant", "components"), [("E", 8), ("iP", 16), ("C", 32)])
def test_a_transformer_of_multivectors_by_hand(variant, components):
    """Entrance 3 + 2 to 4 + 6, one block, exit to 1 + 0; maps of the block are of 4 multivectors and 6 scalars."""
    model = MultivectorTransformer(variant, ((3, 2), (4, 6), (1, 0)), layers=1, heads=2)
    x = torch.randn(2, 5, model.in_type.dim)

    def elements(s_in, s_out, mv_in, mv_out):
        return s_in * s_out + s_in * mv_out + mv_in * s_out + components**2 * mv_in * mv_out

    attention, mixing = 4 * elements(6, 6, 4, 4), elements(6, 6, 4, 8) + 2 * elements(6, 6, 4, 4)
    whole = elements(2, 6, 3, 4) + attention + mixing + elements(6, 0, 4, 1)
    assert nominal_flops(model, lambda: model(x)) == 6 * 10 * whole


class Table(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.mix = nn.Parameter(torch.zeros(4, 3)), nn.Linear(3, 2)

    def forward(self, x):
        return self.mix(x + self.table)


def test_a_layer_without_a_rule_is_refused():
    model = Table()
    with pytest.raises(ValueError, match="expected a rule for every layer .*Table"):
        nominal_flops(model, lambda: model(torch.zeros(4, 3)))
    assert nominal_flops(model, lambda: model(torch.zeros(4, 3)), {Table: nothing}) == 6 * 4 * 6
    assert Table not in RULES


def test_a_layer_that_is_never_called_is_refused():
    """Its matrix is used in another way, which no hook sees."""
    layer = RayConvolution("2x0", "2x0")
    with pytest.raises(ValueError, match="expected every layer to be called, got no call of kernel"):
        nominal_flops(layer, lambda: layer(some_rays(2), some_rays(3), torch.randn(3, 2)))


def test_hooks_do_not_stay():
    model = nn.Linear(2, 2)
    nominal_flops(model, lambda: model(torch.zeros(1, 2)))
    with pytest.raises(RuntimeError):
        nominal_flops(model, lambda: model(torch.zeros(1, 3)))
    assert not model._forward_hooks
