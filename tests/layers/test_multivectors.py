"""Layers of multivectors against loops and closed forms, and against motions and mirrors, with broken ones refused."""

import math

import pytest
import torch
from torch import nn

from raytrans.equivariance import check_layer
from raytrans.fields.embeddings import embedding
from raytrans.fields.multivectors import MultivectorType
from raytrans.layers.multivectors import (
    DISTANCE_EPS,
    NORM_EPS,
    MultivectorAttention,
    MultivectorBilinear,
    MultivectorGate,
    MultivectorLinear,
    MultivectorLogits,
    MultivectorNorm,
)
from raytrans.layers.neighborhood import Gathered, PairList

SPACES = ["euclidean", "projective", "conformal"]


def kind(space, multivectors=3, scalars=4):
    return MultivectorType(embedding(space).algebra, multivectors, scalars)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def randn(*size):
    return torch.randn(size, dtype=torch.float64)


class SelfAttention(nn.Module):
    """All tokens see all; the checker calls it with features alone."""

    def __init__(self, attention):
        super().__init__()
        self.attention, self.in_type, self.out_type = attention, attention.in_type, attention.out_type

    def forward(self, features):
        tokens = features.shape[:-1]
        return self.attention(features, features, Gathered.dense(tokens, tokens))


def layers(space, mirrors=False):
    t = kind(space)
    yield MultivectorLinear(t, kind(space, 2, 5), mirrors=mirrors)
    yield MultivectorBilinear(t, t, mirrors=mirrors)
    yield MultivectorNorm(t)
    yield MultivectorGate(t)
    yield SelfAttention(MultivectorAttention(t, 2, mirrors=mirrors))
    if space == "projective":
        yield SelfAttention(MultivectorAttention(t, 2, distance=True, mirrors=mirrors))
        if not mirrors:
            yield MultivectorBilinear(t, t, join=True)


@pytest.mark.parametrize("space", SPACES)
def test_layers_commute_with_motions(space):
    for layer in layers(space):
        report = check_layer(layer, tolerance=1e-10)
        assert {row.name for row in report.rows} == {"motion", "order"}
        assert report.passed, report


@pytest.mark.parametrize("space", SPACES)
def test_layers_with_mirrors_commute_with_mirrors(space):
    geometry, t = embedding(space), kind(space)
    normal = torch.nn.functional.normalize(randn(3), dim=-1)
    mirror = geometry.reflector(normal, randn()[()] * geometry.translates)

    def act(features, type_):
        scalars, multivectors = type_.split(features)
        return type_.join((scalars, geometry.algebra.sandwich(mirror, multivectors)))

    features = randn(5, t.dim)
    for layer in layers(space, mirrors=True):
        layer = layer.double()
        got, expected = layer(act(features, t)), act(layer(features), layer.out_type)
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-10 * float(expected.detach().abs().max()))
    # without mirrors the first layer has maps that a mirror turns over
    layer = next(layers(space)).double()
    assert (layer(act(features, t)) - act(layer(features), layer.out_type)).abs().max() > 1e-2


def test_a_join_with_mirrors_needs_a_reference_that_they_turn_over():
    geometry, t = embedding("projective"), kind("projective")
    layer, features, reference = MultivectorBilinear(t, t, join=True, mirrors=True).double(), randn(5, t.dim), randn(5)
    mirror = geometry.reflector(torch.nn.functional.normalize(randn(3), dim=-1), torch.tensor(0.7).double())

    def act(features):
        scalars, multivectors = t.split(features)
        return t.join((scalars, geometry.algebra.sandwich(mirror, multivectors)))

    expected = act(layer(features, reference))
    torch.testing.assert_close(layer(act(features), -reference), expected, rtol=0, atol=1e-10)
    assert (layer(act(features), reference) - expected).abs().max() > 1e-2
    with pytest.raises(ValueError, match="reference: expected a number for each token"):
        layer(features)


@pytest.mark.parametrize("space", SPACES)
def test_linear_layers_are_the_sum_over_the_basis_with_so_many_weights(space):
    t, out = kind(space), kind(space, 2, 5)
    layer = MultivectorLinear(t, out).double()
    turn, make, read = embedding(space).maps()
    sizes = torch.tensor([math.comb(len(t.algebra.metric), int(k)) for k in t.algebra.grades]).double()
    balance = torch.minimum(sizes[:, None], sizes).sqrt()
    features = randn(t.dim)
    scalars, multivectors = t.split(features)
    expected = []
    for o in range(2):
        value = sum(
            layer.weights[0][o, i, k] * (turn[k] * balance) @ multivectors[i]
            for i in range(3)
            for k in range(len(turn))
        )
        value = value + sum(
            layer.weights[1][o, i, k] * make[k, :, 0] * scalars[i] for i in range(4) for k in range(len(make))
        )
        expected.append(value)
    own = [
        layer.mix[o] @ scalars
        + layer.bias[o]
        + sum(layer.weights[2][o, i, k] * read[k, 0] @ multivectors[i] for i in range(3) for k in range(len(read)))
        for o in range(5)
    ]
    torch.testing.assert_close(layer(features), out.join((torch.stack(own), torch.stack(expected))))
    assert layer.weights[0].shape == (2, 3, {"euclidean": 8, "projective": 16, "conformal": 40}[space])


def test_lengths_are_kept_at_the_start_in_every_grade():
    """A multivector of one grade comes out about as long in that grade, and scalars make little of multivectors."""
    for space in SPACES:
        t = kind(space, 16, 0)
        for grade in range(len(t.algebra.metric) + 1):
            given = t.algebra.grade(torch.randn(64, 16, t.algebra.dim), grade)
            outputs = [t.algebra.grade(t.split(MultivectorLinear(t, t)(given.flatten(1)))[1], grade) for _ in range(4)]
            gain = torch.stack(outputs).square().mean() / given.square().mean()
            assert 0.4 < gain < 4, (space, grade, gain)


def test_bilinear_layers_multiply_channel_by_channel():
    t = kind("projective", 4, 2)
    layer = MultivectorBilinear(t, t, join=True).double()
    features, algebra = randn(t.dim), t.algebra
    scalars, factors = layer.factors.out_type.split(layer.factors(features))
    products = []
    for c in range(4):
        table = algebra.table if c < 2 else algebra._join
        products.append(torch.einsum("a,b,abc->c", factors[c], factors[c + 4], torch.tensor(table)))
    torch.testing.assert_close(layer(features), layer.mix(t.join((scalars, torch.stack(products) / 4))))


@pytest.mark.parametrize("space", SPACES)
def test_norms_and_gates_are_their_formulas(space):
    t = kind(space, 2, 3)
    algebra, features = t.algebra, randn(t.dim)
    scalars, multivectors = t.split(features)
    expected = []
    for k in range(len(algebra.metric) + 1):
        part = algebra.grade(multivectors, k)
        seen = ((algebra.weights != 0) & (algebra.grades == k)).sum()
        square = algebra.norms(part)[:, k].square().mean() / max(seen, 1)
        if algebra.degenerate and k == len(algebra.metric):
            square = part[:, -1].square().mean()
        expected.append(part / (square + NORM_EPS).sqrt())
    got = t.split(MultivectorNorm(t).double()(features))
    torch.testing.assert_close(got[1], sum(expected))
    torch.testing.assert_close(got[0], torch.nn.functional.layer_norm(scalars, (3,)))
    gate = lambda v: v * 0.5 * (1 + torch.erf(v / math.sqrt(2)))  # noqa: E731
    got = t.split(MultivectorGate(t)(features))
    torch.testing.assert_close(got[1], gate(multivectors[:, :1]) * multivectors)
    torch.testing.assert_close(got[0], gate(scalars))


def test_norms_of_null_vectors_stay_finite():
    geometry = embedding("conformal")
    t = MultivectorType(geometry.algebra, 1)
    null = geometry.point(randn(3)).requires_grad_()
    out = MultivectorNorm(t).double()(null)
    out.sum().backward()
    torch.testing.assert_close(out, null / math.sqrt(NORM_EPS))
    assert torch.isfinite(null.grad).all()


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("sparse", [False, True])
def test_attention_is_a_softmax_of_inner_products(space, sparse):
    """A loop over targets, sources and heads; two channels of each kind, dealt to two heads."""
    t = kind(space, 2, 2)
    attention, x, y = MultivectorAttention(t, 2).double(), randn(3, t.dim), randn(4, t.dim)
    pairs = torch.cartesian_prod(torch.arange(3), torch.arange(4))
    neighborhood = PairList(pairs[:, 0], pairs[:, 1], (3,), (4,)) if sparse else Gathered.dense((3,), (4,))
    queries, keys, values = attention.query(x), attention.key(y), attention.value(y)
    gathered = torch.zeros(3, t.dim, dtype=torch.float64)
    seen = int((t.algebra.weights != 0).sum())
    for i in range(3):
        for head in range(2):
            logits = []
            for j in range(4):
                (s, q), (u, k) = t.split(queries[i]), t.split(keys[j])
                inner = math.exp(-2) * t.algebra.product(t.algebra.reverse(q[head]), k[head])[0]
                logits.append((s[head] * u[head] + inner) / math.sqrt(1 + seen))
            share = torch.stack(logits).softmax(0)
            total = sum(share[j] * values[j] for j in range(4))
            own = [head, *range(2 + head * t.algebra.dim, 2 + (head + 1) * t.algebra.dim)]
            gathered[i, own] = total[own]
    torch.testing.assert_close(attention(x, y, neighborhood), attention.mix(gathered))


def test_logits_of_distance_are_the_squared_distance_of_points():
    geometry = embedding("projective")
    t = MultivectorType(geometry.algebra, 1)
    logits = MultivectorLogits(t, 1, distance=True).double()
    p, q = randn(2, 6, 3)
    with torch.no_grad():
        logits.scales.copy_(torch.tensor([[0.0, math.log(3.0)]]))
    got = logits(logits.queries(geometry.point(p)), logits.keys(2 * geometry.point(q)))[:, 0]
    soft = 4 / ((1 + DISTANCE_EPS) * (4 + DISTANCE_EPS))
    expected = -3 * (p - q).square().sum(-1) * soft / math.sqrt(7 + 5)
    torch.testing.assert_close(got, expected)
    # and without it the logits of points are blind to where they are
    blind = MultivectorLogits(t, 1).double()
    got = blind(blind.queries(geometry.point(p)), blind.keys(geometry.point(q)))
    torch.testing.assert_close(got, got[:1].expand_as(got))


class Unweighted(nn.Module):
    """The mistake of a plain dot product in an algebra whose metric is not positive."""

    def __init__(self, attention):
        super().__init__()
        attention.logits.metric.fill_(1.0)
        self.layer = SelfAttention(attention)
        self.in_type, self.out_type = self.layer.in_type, self.layer.out_type

    def forward(self, features):
        return self.layer(features)


class Mixing(nn.Module):
    """The mistake of a read-out that mixes blades."""

    def __init__(self, t):
        super().__init__()
        self.in_type, self.out_type = t, MultivectorType(t.algebra, 0, 2)
        self.mix = nn.Linear(t.dim, 2)

    def forward(self, features):
        return self.mix(features)


@pytest.mark.parametrize("space", SPACES)
def test_broken_layers_are_refused(space):
    t = kind(space)
    broken = [Mixing(t)]
    if space == "conformal":
        broken.append(Unweighted(MultivectorAttention(t, 2)))
    for layer in broken:
        rows = {row.name: row for row in check_layer(layer, tolerance=1e-10).rows}
        assert not rows["motion"].passed and rows["motion"].error > 1e-3
        assert rows["order"].passed
    # the same dot product is right where all squares are one
    assert check_layer(Unweighted(MultivectorAttention(kind("euclidean"), 2)), tolerance=1e-10).passed


def test_layers_say_what_does_not_fit():
    t = kind("euclidean")
    with pytest.raises(ValueError, match="out_type: expected multivectors of"):
        MultivectorLinear(t, kind("projective"))
    with pytest.raises(ValueError, match="distance: expected the projective algebra"):
        MultivectorLogits(t, 2, distance=True)
    with pytest.raises(ValueError, match="features: expected last axis"):
        MultivectorLinear(t, t)(torch.zeros(2, 3))
    assert repr(MultivectorNorm(t)) == "MultivectorNorm(4x0+3xCl(3,0) -> 4x0+3xCl(3,0))"
