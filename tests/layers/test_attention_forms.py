"""MLP logits and non-linear messages of typed attention: loops over channels, changes of frame on every space."""

import math

import numpy as np
import pytest
import torch

from raytrans.equivariance import equivariance_error
from raytrans.fields.so3 import PointType
from raytrans.fields.types import FieldType
from raytrans.layers.attention import HeadScores, MLPLogits, NonlinearMessage, RayAttention
from raytrans.layers.kernel import RayKernel
from raytrans.layers.nonlinear import smooth_leaky_relu
from raytrans.layers.points import PointKernel, PointToRayKernel, RayToPointKernel

IN = FieldType("3x0 + 2x1 + 2x2 + 2x(1,0.7)")
QUERY = FieldType("2x0 + 2x1 + 1x(1,0.7)")
OUT = FieldType("3x0 + 2x1 + 1x(2,-0.3)")
POINTS = PointType("3x0 + 2x1 + 1x2")
ACROSS = {
    "rays": (RayKernel, IN, QUERY, OUT),
    "points": (PointKernel, POINTS, POINTS, POINTS),
    "rays to points": (RayToPointKernel, IN, POINTS, POINTS),
    "points to rays": (PointToRayKernel, POINTS, QUERY, OUT),
}


def channels_of(field_type, vector):
    """Complex channels of one feature vector, invariants included, with their blocks."""
    parts = [part.detach().numpy().astype(complex) for part in field_type.split(vector)]
    return np.concatenate(parts), [block for block in field_type.blocks for _ in range(block.multiplicity)]


def sizes_of(channels, blocks):
    return np.array(
        [c.real if b.real else math.sqrt(abs(c) ** 2 + 1e-5) for c, b in zip(channels, blocks, strict=True)]
    )


def test_mlp_logits_are_a_loop_over_heads():
    """Each head scores its own part of a map of the invariants of q + k, through a rectifier that leaks a fifth."""
    layer = MLPLogits(QUERY, 2)
    query, key = torch.randn(QUERY.dim), torch.randn(QUERY.dim)
    weight, bias = (p.detach().numpy() for p in layer.mix.parameters())
    z = weight @ sizes_of(*channels_of(QUERY, query + key)) + bias
    assert len(z) == 6 and z.min() < 0 < z.max()
    smooth = 0.6 * z + 0.4 * z * (2 / (1 + np.exp(-z)) - 1)  # as the public code has it
    score = layer.scores.score.detach().numpy()
    expected = [smooth[:3] @ score[0], smooth[3:] @ score[1]]
    np.testing.assert_allclose(layer(query, key).detach().numpy(), expected, rtol=1e-12)


def test_the_rectifier_leaks_a_fifth_and_is_smooth():
    far = torch.tensor([-50.0, 0.0, 50.0])
    torch.testing.assert_close(smooth_leaky_relu(far), torch.tensor([-10.0, 0.0, 50.0]))
    x = torch.linspace(-2, 2, 9, requires_grad=True)
    assert torch.autograd.gradgradcheck(smooth_leaky_relu, (x,))


def test_non_linear_messages_are_a_loop_over_channels():
    """W gate(v): silu of invariants, v sigmoid(g) of the others, one complex W for every type."""
    layer, vector = NonlinearMessage(OUT), torch.randn(OUT.dim)
    layer.mix.bias.data.normal_()
    channels, blocks = channels_of(OUT, vector)
    weight, bias = (p.detach().numpy() for p in layer.gate.gates.parameters())
    gates = 1 / (1 + np.exp(-(weight @ sizes_of(channels, blocks) + bias)))
    gated = [c / (1 + np.exp(-c.real)) for c in channels[:3]] + list(channels[3:] * gates)
    expected = []
    for block, mix in zip(OUT.blocks, layer.mix.weights, strict=True):
        own = np.array([c for c, b in zip(gated, blocks, strict=True) if b == block])
        if block.real:
            expected += list(own.real @ mix.detach().numpy() + layer.mix.bias.detach().numpy())
        else:
            for c in own @ torch.view_as_complex(mix.detach()).numpy():
                expected += [c.real, c.imag]
    np.testing.assert_allclose(layer(vector).detach().numpy(), expected, atol=1e-12)


def test_messages_are_mapped_before_they_are_summed(random_rays):
    """By the values of the same layer with one source at a time, whose share is one."""
    layer = RayAttention(IN, QUERY, OUT, heads=2, logits="mlp")
    x, y, query, features = random_rays(3), random_rays(2), torch.randn(3, QUERY.dim), torch.randn(2, IN.dim)
    layer.mix = torch.nn.Identity()
    values = [layer(x, y[[j]], query, features[[j]]) for j in (0, 1)]
    message = layer.with_messages("nonlinear").message
    mapped = [layer(x, y[[j]], query, features[[j]]) for j in (0, 1)]
    for value, other in zip(values, mapped, strict=True):
        torch.testing.assert_close(other, message(value))
    half = torch.zeros(3, 2)
    layer.logits.forward = lambda q, k: half[:, :, None].expand(3, 2, 2)
    layer.logit_bias.forward = lambda f, e: half[:, :, None].expand(3, 2, 2)
    torch.testing.assert_close(layer(x, y, query, features), (mapped[0] + mapped[1]) / 2)
    assert (message((values[0] + values[1]) / 2) - (mapped[0] + mapped[1]) / 2).abs().max() > 1e-3


@pytest.mark.parametrize("space", ACROSS)
def test_equivariance_on_every_space_and_of_a_broken_message(space):
    kernel, in_type, query, out = ACROSS[space]
    layer = RayAttention(in_type, query, out, heads=2, kernel=kernel, logits="mlp").with_messages("nonlinear")
    errors = equivariance_error(layer, count=3)
    assert len(errors) >= 9 and max(errors.values()) < 1e-9, errors
    # a gate that reads components instead of invariants
    layer.message.gate = torch.nn.SiLU()
    assert max(equivariance_error(layer, count=3).values()) > 1e-3


def test_messages_are_linear_unless_asked_for(random_rays):
    layer = RayAttention(IN, QUERY, OUT, heads=2)
    x, y, query, features = random_rays(4), random_rays(6), torch.randn(4, QUERY.dim), torch.randn(6, IN.dim)
    names, plain = set(layer.state_dict()), layer(x, y, query, features)
    assert layer.with_messages("linear") is layer and set(layer.state_dict()) == names
    assert torch.equal(layer(x, y, query, features), plain)
    added = set(layer.with_messages("nonlinear").state_dict()) - names
    assert added and all(name.startswith("message.") for name in added)


def test_nonsense_is_refused():
    layer = RayAttention("1x0", "1x0", "1x0")
    with pytest.raises(ValueError, match="messages: expected one of linear, nonlinear, got 'none'"):
        layer.with_messages("none")
    with pytest.raises(ValueError, match=r"width: expected a multiple of heads \(2\), got 5"):
        HeadScores(5, 2)
