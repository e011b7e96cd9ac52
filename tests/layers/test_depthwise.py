"""Depth-wise tensor products: e3nn with the same weights, the change of axes, a broken table."""

import math

import pytest
import torch
from e3nn import o3

from raytrans.fields.so3 import PointType, clebsch_gordan
from raytrans.geometry.rigid import random_rotation
from raytrans.layers.depthwise import DepthwiseLinear, DepthwiseTensorProduct, HarmonicCouplings, paths_from

IN = PointType("3x0 + 2x1 + 2x2 + 1x3")
OUT = PointType("2x0 + 3x1 + 1x2 + 2x3")
HARMONICS = o3.Irreps("0e + 1e + 2e + 3e")
PAIRS = 5


def irreps(kind):
    return o3.Irreps([(block.multiplicity, (block.l, 1)) for block in kind.blocks])


def directions(count=PAIRS):
    return torch.nn.functional.normalize(torch.randn(count, 3), dim=-1)


def harmonics(direction):
    return o3.spherical_harmonics([0, 1, 2, 3], direction, normalize=False, normalization="component")


def sign(l1, l2, l3):
    """Of our Clebsch-Gordan tensor beside that of e3nn, which is fixed up to it."""
    return torch.sign((clebsch_gordan(l1, l2, l3) * o3.wigner_3j(l1, l2, l3, dtype=torch.float64)).sum())


def triples(kind):
    """(l1, l3, l2) of all paths in the order of the weights."""
    return [(b.l, l3, l2) for b in kind.blocks for l3, found in paths_from(b.l, 3, 3).items() for l2 in found]


def couplings(direction):
    return HarmonicCouplings(3, 3, 3)(direction)


def test_the_paths_are_all_couplings_up_to_degree_three():
    expected = [(a, b, c) for a in range(4) for b in range(4) for c in range(4) if abs(a - b) <= c <= a + b]
    assert sorted((l1, l2, l3) for l1, l3, l2 in triples(IN)) == expected
    assert len(expected) == 34


def test_the_product_is_that_of_e3nn_with_the_same_weights():
    product, direction = DepthwiseTensorProduct(IN, 3, 3), directions()
    features, weights = torch.randn(PAIRS, IN.dim), torch.randn(PAIRS, product.weights)
    own = dict(zip(triples(IN), weights.split([IN.counts[l1] for l1, _, _ in triples(IN)], -1), strict=True))
    ordered = sorted(triples(IN), key=lambda path: (path[1], path[0], path[2]))
    theirs = o3.TensorProduct(
        irreps(IN),
        HARMONICS,
        o3.Irreps([(IN.counts[l1], (l3, 1)) for l1, l3, _ in ordered]),
        [(l1, l2, place, "uvu", True) for place, (l1, _, l2) in enumerate(ordered)],
        shared_weights=False,
        internal_weights=False,
    )
    given = torch.cat([sign(path[0], path[2], path[1]) * own[path] for path in ordered], -1)
    expected = theirs(features, harmonics(direction), given)
    got = product(features, couplings(direction), weights)
    assert got.shape == (PAIRS, product.out_type.dim) and expected.std() > 0.5
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-10)


def test_product_and_mixing_are_the_fully_connected_product_of_e3nn():
    """Weights of a pair: w of channel and path times the row of the linear map; e3nn scales by the number of rows."""
    layer, direction = DepthwiseLinear(IN, OUT, 3), directions()
    features, weights = torch.randn(PAIRS, IN.dim), torch.randn(PAIRS, layer.weights)
    own = dict(zip(triples(IN), weights.split([IN.counts[l1] for l1, _, _ in triples(IN)], -1), strict=True))
    rows = {}
    for block, weight in zip(OUT.blocks, layer.mix.weights, strict=True):
        ordered = [path for path in sorted(triples(IN), key=lambda p: (p[0], p[2])) if path[1] == block.l]
        parts = weight.split([IN.counts[l1] for l1, _, _ in ordered])
        rows |= {path: part * math.sqrt(weight.shape[0]) for path, part in zip(ordered, parts, strict=True)}
    theirs = o3.FullyConnectedTensorProduct(
        irreps(IN), HARMONICS, irreps(OUT), shared_weights=False, internal_weights=False
    )
    paths = [(i.i_in1, i.i_out, i.i_in2) for i in theirs.instructions]
    assert set(paths) == set(rows) and len(paths) == len(rows) == 34
    given = [sign(p[0], p[2], p[1]) * (own[p][:, :, None] * rows[p]).flatten(1) for p in paths]
    expected = theirs(features, harmonics(direction), torch.cat(given, -1))
    torch.testing.assert_close(layer(features, couplings(direction), weights), expected, rtol=0, atol=1e-10)


def test_mixing_at_once_is_mixing_afterwards():
    layer, direction = DepthwiseLinear(IN, OUT, 3), directions()
    layer.mix.bias.data.normal_()
    features, weights = torch.randn(PAIRS, IN.dim), torch.randn(PAIRS, layer.weights)
    slow = layer.mix(layer.product(features, couplings(direction), weights))
    torch.testing.assert_close(layer(features, couplings(direction), weights), slow, rtol=0, atol=1e-12)


def rotation_error(table=None):
    layer, direction = DepthwiseTensorProduct(IN, 3, 3), directions()
    features, weights = torch.randn(PAIRS, IN.dim), torch.randn(PAIRS, layer.weights)
    tables = HarmonicCouplings(3, 3, 3)
    if table is not None:
        getattr(tables, table)[4, 3, 1] += 1e-3
    rotation = random_rotation(dtype=torch.float64)
    turned = layer(IN.transform(features, rotation), tables(direction @ rotation.mT), weights)
    plain = layer.out_type.transform(layer(features, tables(direction), weights), rotation)
    return ((turned - plain).abs().max() / plain.abs().max()).item()


def test_the_product_turns_with_the_axes():
    assert rotation_error() < 1e-12


@pytest.mark.parametrize("table", ["table_1", "table_2", "table_3"])
def test_a_table_with_one_wrong_number_is_caught(table):
    assert rotation_error(table) > 1e-5


def test_low_degrees_and_derivatives():
    """Invariants times the constant harmonic are products with the weight; derivatives are those of differences."""
    scalars = DepthwiseTensorProduct("4x0", 0, 0)
    features, weights = torch.randn(PAIRS, 4), torch.randn(PAIRS, 4)
    got = scalars(features, HarmonicCouplings(0, 0, 0)(directions()), weights)
    torch.testing.assert_close(got, features * weights)
    layer = DepthwiseLinear("1x0 + 1x1", "1x0 + 1x1", 1)
    tables = HarmonicCouplings(1, 1, 1)

    def energy(offset, features, weights):
        return layer(features, tables(offset / offset.norm(dim=-1, keepdim=True)), weights)

    inputs = [torch.randn(2, n, requires_grad=True) for n in (3, 4, layer.weights)]
    assert torch.autograd.gradcheck(energy, inputs) and torch.autograd.gradgradcheck(energy, inputs)


def test_says_its_types_and_refuses_nonsense():
    layer = DepthwiseTensorProduct("4x0 + 2x1", 1, 1)
    assert repr(layer) == "DepthwiseTensorProduct(4x0+2x1 -> 6x0+8x1)" and layer.weights == 14
    assert repr(DepthwiseLinear("4x0", "2x0 + 1x1", 1)) == "DepthwiseLinear(4x0 -> 2x0+1x1)"
    with pytest.raises(ValueError, match="weights: expected 14 for each pair, got 13"):
        layer(torch.randn(2, 10), HarmonicCouplings(1, 1, 1)(directions(2)), torch.randn(2, 13))
    with pytest.raises(ValueError, match="degree: expected 0 to 3, got 4"):
        HarmonicCouplings(1, 4, 1)
    with pytest.raises(ValueError, match="cannot be mixed"):
        DepthwiseLinear("4x0", "1x2", 1)
