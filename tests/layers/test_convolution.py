"""Convolution: changes of section and world, layouts of pairs, cost."""

import math

import pytest
import torch
from scipy.spatial.transform import Rotation
from torch.utils._python_dispatch import TorchDispatchMode

from raytrans.fields.types import FieldType
from raytrans.geometry.pairs import RayPairs
from raytrans.layers.convolution import RayConvolution
from raytrans.layers.neighborhood import Gathered, PairList

IN = FieldType("3x0 + 2x1 + 2x2 + 2x(1,0.7) + 1x(0,0.4)")
OUT = FieldType("2x0 + 2x1 + 1x3 + 1x(1,0.7) + 2x(2,-0.3)")
UNIT = 1.7


def relative(a, b):
    assert torch.isfinite(a).all() and b.std() > 1e-3
    return ((a - b).abs().max() / b.abs().max()).item()


def at_stratum(layer, x, y, features, unit=UNIT):
    """Every target sees its own source alone."""
    return layer(x, y[:, None], features[:, None], Gathered.laid_out(x.shape, 1), unit)


def test_change_of_section(stratum, pairs_at):
    layer = RayConvolution(IN, OUT)
    x, y = pairs_at(stratum)
    features = torch.randn(6, IN.dim)
    out = at_stratum(layer, x, y, features)
    (turn_x, slide_x), (turn_y, slide_y) = torch.randn(2, 6) * 3, torch.randn(2, 6) * 3
    changed = at_stratum(
        layer,
        x.in_section(turn_x, slide_x * UNIT),
        y.in_section(turn_y, slide_y * UNIT),
        IN.transform(features, turn_y, slide_y),
    )
    assert relative(changed, OUT.transform(out, turn_x, slide_x)) < 1e-9


def test_world_motion_and_scale(stratum, pairs_at):
    layer = RayConvolution(IN, OUT)
    x, y = pairs_at(stratum)
    features = torch.randn(6, IN.dim)
    out = at_stratum(layer, x, y, features)
    for scale in (1e-3, 1.0, 1e3):
        motion = torch.tensor(Rotation.random(random_state=0).as_matrix()), torch.randn(3), scale
        moved = at_stratum(layer, x.moved(*motion), y.moved(*motion), features, UNIT * scale)
        assert relative(moved, out) < 1e-9


def test_a_layer_without_phases_is_caught(pairs_at):
    """The control: mixing components as they come must fail the two tests above."""

    def broken(x, y, features):
        return features @ torch.ones(IN.dim, OUT.dim) * RayPairs.of(x, y, UNIT).cosine[:, None]

    x, y = pairs_at("generic")
    features, turn = torch.randn(6, IN.dim), torch.randn(6)
    out = broken(x, y, features)
    assert relative(broken(x, y.in_section(turn), IN.transform(features, turn)), out) > 1e-2


def test_dense_sum_is_a_loop_over_the_kernel(random_rays):
    layer = RayConvolution(IN, OUT)
    x, y, features, weights = random_rays(2, 3), random_rays(4), torch.randn(4, IN.dim), torch.rand(2, 3, 4)
    out = layer(x, y, features, unit=UNIT, weights=weights)
    for i in range(2):
        for j in range(3):
            terms = [weights[i, j, k] * layer.kernel(RayPairs.of(x[i, j], y[k], UNIT), features[k]) for k in range(4)]
            torch.testing.assert_close(out[i, j], sum(terms), rtol=0, atol=1e-12)
    mean = layer(x, y, features, unit=UNIT)
    torch.testing.assert_close(mean, layer(x, y, features, unit=UNIT, weights=torch.full((2, 3, 4), 0.25)))


def test_pair_list_equals_gathered(random_rays):
    layer = RayConvolution(IN, OUT, extras=1)
    x, y, features = random_rays(5), random_rays(3, 4), torch.randn(3, 4, IN.dim)
    index = torch.stack([torch.randperm(12)[:6] for _ in range(5)])
    weights, extras = torch.rand(5, 6), torch.randn(5, 6, 1)
    order = torch.randperm(30)
    listed = PairList(
        torch.arange(5).repeat_interleave(6)[order], index.reshape(-1)[order], targets=(5,), sources=(3, 4)
    )
    for w in (None, weights):
        gathered = layer(x, y, features, Gathered.from_index(index, (3, 4)), UNIT, w, extras)
        flat_weights = None if w is None else w.reshape(-1)[order]
        paired = layer(x, y, features, listed, UNIT, flat_weights, extras.reshape(-1, 1)[order])
        torch.testing.assert_close(paired, gathered, rtol=0, atol=1e-12)


def test_scenes_on_a_shared_axis_do_not_mix(random_rays):
    layer = RayConvolution(IN, OUT)
    x, y, features, unit = random_rays(2, 5), random_rays(2, 4), torch.randn(2, 4, IN.dim), torch.tensor([1.0, 3.0])
    both = layer(x, y, features, Gathered.dense((2, 5), (2, 4), batch=1), unit[:, None].expand(2, 5))
    for i in range(2):
        torch.testing.assert_close(both[i], layer(x[i], y[i], features[i], unit=unit[i]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("batch", [(), (7, 9)])
def test_any_batch_shape(batch, random_rays):
    layer = RayConvolution(IN, OUT)
    assert layer(random_rays(*batch), random_rays(3), torch.randn(3, IN.dim)).shape == (*batch, OUT.dim)
    assert layer(random_rays(3), random_rays(*batch), torch.randn(*batch, IN.dim)).shape == (3, OUT.dim)


class _Elements(TorchDispatchMode):
    """Counts the numbers that all operations write: a measure of memory traffic that does not depend on the machine."""

    total = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        self.total += sum(o.numel() for o in (out if isinstance(out, (tuple, list)) else (out,)) if torch.is_tensor(o))
        return out


@pytest.mark.parametrize("layout", ["gathered", "pair list"])
def test_cost_is_linear_in_the_number_of_pairs(layout, random_rays):
    layer = RayConvolution("4x0 + 4x1", "4x0 + 4x1")
    counts, costs = [], []
    for targets in (16, 64, 256):
        index = torch.randint(40, (targets, 12))
        neighborhood = Gathered.from_index(index, (40,))
        if layout == "pair list":
            neighborhood = PairList(torch.arange(targets).repeat_interleave(12), index.reshape(-1), (targets,), (40,))
        with _Elements() as counter:
            layer(
                random_rays(targets), random_rays(40), torch.randn(40, layer.in_type.dim), neighborhood
            ).sum().backward()
        counts.append(targets * 12)
        costs.append(counter.total)
    exponent = math.log(costs[-1] / costs[0]) / math.log(counts[-1] / counts[0])
    assert 0.9 < exponent < 1.1


def test_says_its_types_and_refuses_nonsense(random_rays):
    layer = RayConvolution("16x0 + 4x1", "8x0 + 2x1")
    assert repr(layer) == "RayConvolution(16x0+4x1 -> 8x0+2x1)"
    assert layer.in_type == FieldType("16x0+4x1") and layer.out_type == FieldType("8x0+2x1")
    with pytest.raises(ValueError, match="last axis 24"):
        layer(random_rays(2), random_rays(3), torch.randn(3, 23))
    with pytest.raises(ValueError, match="unit: expected a positive length, got 0"):
        layer(random_rays(2), random_rays(3), torch.randn(3, 24), unit=0.0)
    with pytest.raises(ValueError, match="sources: expected leading shape"):
        layer(random_rays(2), random_rays(3), torch.randn(4, 24))
