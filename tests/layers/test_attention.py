"""Typed attention: changes of section and world, softmax by loops, masks, layouts."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from raytrans.fields.types import FieldType
from raytrans.geometry.pairs import RayPairs
from raytrans.layers.attention import DifferenceLogits, RayAttention, attend, component_heads
from raytrans.layers.neighborhood import Gathered, PairList

IN = FieldType("3x0 + 2x1 + 2x2 + 2x(1,0.7)")
QUERY = FieldType("2x0 + 2x1 + 1x(1,0.7)")
OUT = FieldType("3x0 + 2x1 + 1x(2,-0.3)")
UNIT = 1.7
FORMS = [("dot", "linear"), ("difference", "linear"), ("mlp", "nonlinear")]


def stratum_rig(pairs_at, stratum):
    """Three targets, each with two sources at the stratum and one elsewhere."""
    pairs = [pairs_at(stratum, 1) for _ in range(3)]
    x = type(pairs[0][0]).cat([p[0] for p in pairs])
    y = type(x).cat([p[1] for p in pairs])
    twin = y.in_section(0.3, 0.4)
    other = y[[1, 2, 0]]
    sources = type(x).cat([r.reshape(3, 1) for r in (y, twin, other)], 1)
    return x, sources, torch.randn(3, QUERY.dim), torch.randn(3, 3, IN.dim)


def relative(a, b):
    assert torch.isfinite(a).all() and b.std() > 1e-3
    return ((a - b).abs().max() / b.abs().max()).item()


@pytest.mark.parametrize(("logits", "messages"), FORMS)
def test_change_of_section(stratum, pairs_at, logits, messages):
    layer = RayAttention(IN, QUERY, OUT, heads=2, logits=logits).with_messages(messages)
    x, y, query, features = stratum_rig(pairs_at, stratum)
    near = Gathered.laid_out((3,), 3)
    out = layer(x, y, query, features, near, UNIT)
    (turn_x, slide_x), (turn_y, slide_y) = torch.randn(2, 3) * 3, torch.randn(2, 3, 3) * 3
    changed = layer(
        x.in_section(turn_x, slide_x * UNIT),
        y.in_section(turn_y, slide_y * UNIT),
        QUERY.transform(query, turn_x, slide_x),
        IN.transform(features, turn_y, slide_y),
        near,
        UNIT,
    )
    assert relative(changed, OUT.transform(out, turn_x, slide_x)) < 1e-9


@pytest.mark.parametrize(("logits", "messages"), FORMS)
def test_world_motion_and_scale(stratum, pairs_at, logits, messages):
    layer = RayAttention(IN, QUERY, OUT, heads=2, logits=logits).with_messages(messages)
    x, y, query, features = stratum_rig(pairs_at, stratum)
    near = Gathered.laid_out((3,), 3)
    out = layer(x, y, query, features, near, UNIT)
    for scale in (1e-3, 1e3):
        motion = torch.tensor(Rotation.random(random_state=0).as_matrix()), torch.randn(3), scale
        moved = layer(x.moved(*motion), y.moved(*motion), query, features, near, UNIT * scale)
        assert relative(moved, out) < 1e-9


def test_an_unturned_query_is_caught(pairs_at):
    layer = RayAttention(IN, QUERY, OUT, heads=2)
    x, y, query, features = stratum_rig(pairs_at, "generic")
    near, turn = Gathered.laid_out((3,), 3), torch.tensor([1.0, 2.0, 3.0])
    out = OUT.transform(layer(x, y, query, features, near), turn)
    assert relative(layer(x.in_section(turn), y, query, features, near), out) > 1e-3


def _channels(field_type, vector):
    """Complex channels of one feature vector, invariants included, in order."""
    parts = [p.detach().numpy().astype(complex) for p in field_type.split(vector)]
    return np.concatenate(parts), [b for b in field_type.blocks for _ in range(b.multiplicity)]


def test_attention_is_the_softmax_loop(random_rays):
    """Queries, logits, softmax and heads channel by channel; keys and values are kernel outputs, tested elsewhere."""
    heads = 2
    layer = RayAttention(IN, QUERY, OUT, heads=heads, extras=1)
    x, y, query, features = random_rays(3), random_rays(5), torch.randn(3, QUERY.dim), torch.randn(5, IN.dim)
    extras, weights = torch.randn(3, 5, 1), torch.rand(3, 5)
    weights[1, 2] = 0.0
    both = QUERY + OUT
    for i in range(3):
        q, _ = _channels(QUERY, layer.query(query[i]))
        logits, values = np.zeros((5, heads)), []
        for j in range(5):
            pair = RayPairs.of(x[i], y[j], UNIT)
            channels, blocks = _channels(both, layer.kernel(pair, features[j], extras[i, j]))
            key, value = [], []
            for block in both.blocks:
                own = [c for c, b in zip(channels, blocks, strict=True) if b == block]
                key += own[: QUERY.count(*block.key)]
                value += own[QUERY.count(*block.key) :]
            values.append(value)
            bias = layer.logit_bias(pair.features(), extras[i, j]).detach().numpy()
            for head in range(heads):
                mine = range(head, len(q), heads)
                size = sum(1 if b.real else 2 for n, b in enumerate(_channels(QUERY, query[i])[1]) if n % heads == head)
                product = sum((np.conj(q[c]) * key[c]).real for c in mine)
                logits[j, head] = product / math.sqrt(size) + bias[head]
        mass = np.exp(logits) * weights[i, :, None].numpy()
        share = mass / mass.sum(0)
        mixed = [sum(share[j, c % heads] * values[j][c] for j in range(5)) for c in range(OUT.channels)]
        flat = []
        for c, block in zip(mixed, _channels(OUT, torch.zeros(OUT.dim))[1], strict=True):
            flat += [c.real] if block.real else [c.real, c.imag]
        expected = layer.mix(torch.tensor(flat))
        out = layer(x[i : i + 1], y, query[i : i + 1], features, None, UNIT, weights[i : i + 1], extras[i : i + 1])[0]
        torch.testing.assert_close(out, expected, rtol=0, atol=1e-10)


def test_difference_logits_are_a_loop_over_channels():
    layer = DifferenceLogits(QUERY, 2)
    query, key = torch.randn(QUERY.dim), torch.randn(QUERY.dim)
    q, blocks = _channels(QUERY, query)
    k, _ = _channels(QUERY, key)
    weight, expected = layer.mix.weight.detach().numpy(), np.zeros(2)
    for c, block in enumerate(blocks):
        size = max((k - q)[c].real, 0) if block.real else math.sqrt(abs((k - q)[c]) ** 2 + 1e-5)
        expected += weight[:, c] * size
    np.testing.assert_allclose(layer(query, key).detach().numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("activation", ["softmax", "silu", "relu"])
def test_attend_is_a_loop_for_every_activation_and_layout(activation):
    index = torch.stack([torch.randperm(6)[:3] for _ in range(4)])
    logits, values, weights = torch.randn(4, 3, 2), torch.randn(4, 3, 5), torch.rand(4, 3)
    weights[2] = 0
    heads = torch.tensor([0, 1, 0, 1, 1])
    listed = PairList(torch.arange(4).repeat_interleave(3), index.reshape(-1), (4,), (6,))
    expected = np.zeros((4, 5))
    for i in range(4):
        for c, h in enumerate(heads.tolist()):
            l, w = logits[i, :, h].double().numpy(), weights[i].double().numpy()
            share = {
                "softmax": w * np.exp(l) / max(1e-300, (w * np.exp(l)).sum()),
                "silu": w * l / (1 + np.exp(-l)),
                "relu": w * np.maximum(l, 0),
            }[activation]
            expected[i, c] = share @ values[i, :, c].double().numpy()
    gathered = attend(logits, values, heads, Gathered.from_index(index, (6,)), weights, activation)
    np.testing.assert_allclose(gathered, expected, atol=1e-6)
    flat = logits.reshape(-1, 2), values.reshape(-1, 5), heads, listed, weights.reshape(-1)
    np.testing.assert_allclose(attend(*flat, activation), expected, atol=1e-6)


@pytest.mark.parametrize("heads", [[0, 1, 0, 1], [0, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]])
def test_values_that_all_targets_see_are_summed_as_others(heads):
    """Dense pairs keep one value for all targets: the sums are those of values laid out for every target."""
    generator = torch.Generator().manual_seed(0)
    logits, values, weights = (
        torch.randn(shape, dtype=torch.float64, generator=generator) for shape in ((3, 5, 6, 2), (3, 6, 4), (3, 5, 6))
    )
    pairs, heads = Gathered.dense((3, 5), (3, 6), 1), torch.tensor(heads)
    for activation in ("softmax", "silu", "relu"):
        got = attend(logits, pairs.source(values), heads, pairs, weights.abs(), activation)
        laid = values[:, None].expand(3, 5, 6, 4)
        expected = attend(logits, laid, heads, Gathered.laid_out((3, 5), 6), weights.abs(), activation)
        np.testing.assert_allclose(got, expected, atol=1e-12)


@pytest.mark.parametrize("activation", ["softmax", "silu"])
def test_attend_has_second_derivatives(activation):
    neighborhood = PairList(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 1, 2]), (2,), (3,))
    logits = torch.randn(4, 1, dtype=torch.float64, requires_grad=True)
    values, heads = torch.randn(4, 2, dtype=torch.float64, requires_grad=True), torch.tensor([0, 0])
    call = lambda a, b: attend(a, b, heads, neighborhood, activation=activation)  # noqa: E731
    assert torch.autograd.gradgradcheck(call, (logits, values))


def test_an_unknown_activation_is_refused():
    with pytest.raises(ValueError, match="activation: expected one of softmax, silu, relu, got 'tanh'"):
        attend(
            torch.zeros(1, 1, 1), torch.zeros(1, 1, 1), torch.zeros(1).long(), Gathered.dense((1,), (1,)), None, "tanh"
        )


def test_masks(random_rays):
    layer = RayAttention(IN, QUERY, OUT)
    x, y, query, features = random_rays(3), random_rays(5), torch.randn(3, QUERY.dim), torch.randn(5, IN.dim)
    mask = torch.ones(3, 5, dtype=torch.bool)
    mask[:, 3:] = False
    masked = layer(x, y, query, features, weights=mask)
    torch.testing.assert_close(masked, layer(x, y[:3], query, features[:3]), rtol=0, atol=1e-12)
    mask[1] = False
    query.requires_grad_()
    out = layer(x, y, query, features, weights=mask)
    assert torch.equal(out[1], torch.zeros(OUT.dim))
    out.square().sum().backward()
    assert torch.isfinite(query.grad).all() and query.grad[0].abs().max() > 0


def test_pair_list_equals_gathered(random_rays):
    layer = RayAttention(IN, QUERY, OUT, heads=2, extras=1)
    x, y, query, features = random_rays(4), random_rays(6), torch.randn(4, QUERY.dim), torch.randn(6, IN.dim)
    index = torch.stack([torch.randperm(6)[:3] for _ in range(4)])
    weights, extras, order = torch.rand(4, 3), torch.randn(4, 3, 1), torch.randperm(12)
    listed = PairList(torch.arange(4).repeat_interleave(3)[order], index.reshape(-1)[order], (4,), (6,))
    gathered = layer(x, y, query, features, Gathered.from_index(index, (6,)), UNIT, weights, extras)
    flat = weights.reshape(-1)[order], extras.reshape(-1, 1)[order]
    torch.testing.assert_close(layer(x, y, query, features, listed, UNIT, *flat), gathered, rtol=0, atol=1e-12)


def test_order_of_sources_and_a_source_twice(random_rays):
    layer = RayAttention(IN, QUERY, OUT, heads=2)
    x, y, query, features = random_rays(4), random_rays(6), torch.randn(4, QUERY.dim), torch.randn(6, IN.dim)
    order, out = torch.randperm(6), layer(x, y, query, features)
    torch.testing.assert_close(layer(x, y[order], query, features[order]), out, rtol=0, atol=1e-12)
    twice = [0, 1, 2, 3, 4, 5] * 2
    torch.testing.assert_close(layer(x, y[twice], query, features[twice]), out, rtol=0, atol=1e-12)


def test_heads_share_the_channels():
    heads = component_heads(FieldType("2x0 + 2x1"), 2)
    assert heads.tolist() == [0, 1, 0, 0, 1, 1]


def test_says_its_types_and_refuses_nonsense():
    layer = RayAttention("4x0+2x1", "2x0+1x1", "2x0", heads=2)
    assert repr(layer) == "RayAttention(4x0+2x1, 2x0+1x1 -> 2x0)"
    assert (layer.in_type, layer.query_type, layer.out_type) == tuple(map(FieldType, ("4x0+2x1", "2x0+1x1", "2x0")))
    with pytest.raises(ValueError, match="heads: expected at least 1, got 0"):
        RayAttention("1x0", "1x0", "1x0", heads=0)
    with pytest.raises(ValueError, match="logits: expected one of dot, difference, mlp, got 'cosine'"):
        RayAttention("1x0", "1x0", "1x0", logits="cosine")


def test_precisions_that_do_not_fit_are_refused_and_rays_are_cast(random_rays):
    layer = RayAttention("2x0 + 1x1", "2x0", "1x1").float()
    x, y, query, features = random_rays(3), random_rays(5), torch.randn(3, 2), torch.randn(5, 4)
    with pytest.raises(
        ValueError, match="query: expected the precision of the layer, torch.float32, got torch.float64"
    ):
        layer(x, y, query, features)
    with pytest.raises(ValueError, match="features: expected the precision"):
        layer(x, y, query.float(), features)
    out = layer(x, y, query.float(), features.float())
    assert out.dtype == torch.float32 and x.dtype == torch.float64
    torch.testing.assert_close(out.double(), layer.double()(x, y, query, features), rtol=0, atol=1e-5)


def test_nothing_to_see_gives_zeros_with_and_without_weights(random_rays):
    layer = RayAttention("2x0", "1x0", "2x0")
    x, y, query, features = random_rays(3), random_rays(0), torch.randn(3, 1), torch.randn(0, 2)
    for weights in (None, torch.zeros(3, 0)):
        assert torch.equal(layer(x, y, query, features, weights=weights), torch.zeros(3, 2))
