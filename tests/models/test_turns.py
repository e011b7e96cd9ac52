import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from raytrans.fields.types import FieldType
from raytrans.models.encoder import Encoder, padded_size
from raytrans.models.turns import TURNS, TurnBlock, TurnConv, TurnLift, TurnNorm, fourier, turn_channels
from raytrans.models.volume import VolumeRegularizer


def turned(regular: Tensor, k: int) -> Tensor:
    """Action of k quarter turns on a regular map: pixels turn, the four copies shift."""
    x = torch.rot90(regular, k, (-2, -1)).unflatten(1, (-1, TURNS))
    return x.roll(k, 2).flatten(1, 2)


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (4, 2), (1, 1)])
def test_convolutions_commute_with_quarter_turns(k, kernel, stride):
    image = torch.randn(2, 3, 16, 24, dtype=torch.float64)
    lift = TurnLift(3, 4, kernel, stride).double()
    conv = TurnConv(4, 5, kernel, stride).double()
    once = lift(image)
    torch.testing.assert_close(lift(torch.rot90(image, k, (-2, -1))), turned(once, k), rtol=0, atol=1e-12)
    x = torch.randn(2, 4 * TURNS, 16, 24, dtype=torch.float64)
    torch.testing.assert_close(conv(turned(x, k)), turned(conv(x), k), rtol=0, atol=1e-12)


def test_turn_convolution_equals_the_group_sum():
    conv = TurnConv(2, 3).double()
    x = torch.randn(1, 2 * TURNS, 6, 8, dtype=torch.float64)
    parts = x.unflatten(1, (2, TURNS))
    out = conv(x).unflatten(1, (3, TURNS))
    for r in range(TURNS):
        expected = sum(
            F.conv2d(parts[:, :, s], torch.rot90(conv.weight[:, :, (s - r) % TURNS], r, (-2, -1)), padding=1)
            for s in range(TURNS)
        )
        torch.testing.assert_close(out[:, :, r], expected + conv.bias[:, None, None])


@pytest.mark.parametrize("layer", [TurnNorm(3), TurnBlock(3)], ids=["norm", "block"])
def test_norms_and_blocks_commute_with_quarter_turns(layer):
    layer = layer.double()
    x = torch.randn(2, 3 * TURNS, 8, 12, dtype=torch.float64)
    torch.testing.assert_close(layer(turned(x, 1)), turned(layer(x), 1), rtol=0, atol=1e-12)


def test_fourier_components_have_their_types():
    kind = FieldType("2x0 + 3x1 + 2x2 + 3x3")
    x = torch.randn(1, turn_channels(kind) * TURNS, 4, 6, dtype=torch.float64)
    plain = fourier(x, kind).movedim(1, -1)
    after = fourier(turned(x, 1), kind).movedim(1, -1)
    # rot90 turns the picture against the clock, hence the section frames by -90 degrees seen along the optical axis
    for sign in (1, -1):
        expected = kind.transform(torch.rot90(plain, 1, (1, 2)), sign * torch.pi / 2)
        if torch.allclose(after, expected, atol=1e-12):
            break
    else:
        raise AssertionError("no sign of the angle explains the components of a turned map")
    zero = kind.split(plain)[0]
    assert torch.allclose(zero[..., 0], x[:, :TURNS].mean(1))


def test_types_beyond_three_are_refused():
    with pytest.raises(ValueError, match="n <= 3"):
        turn_channels(FieldType("1x4"))


@pytest.mark.parametrize("size", [(16, 24), (13, 21), (57, 43), (5, 9)])
def test_encoder_is_exact_at_even_odd_and_tiny_sizes(size):
    torch.manual_seed(0)
    encoder = Encoder((2, 3, 3), FieldType("3x0 + 2x1 + 1x2 + 1x3"), FieldType("4x0 + 1x1"), 2).double()
    image = torch.rand(1, 3, *size, dtype=torch.float64)
    base, after = encoder(image), encoder(torch.rot90(image, 1, (-2, -1)))
    zero = encoder.fine_type.count(0)
    expected = torch.rot90(base.fine[:, :zero], 1, (-2, -1))
    torch.testing.assert_close(after.fine[:, :zero], expected, rtol=0, atol=1e-11)
    torch.testing.assert_close(after.context, turned(base.context, 1), rtol=0, atol=1e-11)
    assert base.fine.std() > 1e-3


def test_a_plain_encoder_has_the_same_maps_but_does_not_turn_with_the_image():
    torch.manual_seed(0)
    types = FieldType("3x0 + 2x1"), FieldType("4x0 + 1x1")
    exact, plain = (Encoder((2, 3, 3), *types, 2, kit).double() for kit in ("turns", "plain"))
    for size in ((8, 8), (16, 24)):
        image = torch.rand(2, 3, *size, dtype=torch.float64)
        for a, b in zip(vars(exact(image)).values(), vars(plain(image)).values(), strict=True):
            assert a.shape == b.shape
    image = torch.rand(1, 3, 16, 24, dtype=torch.float64)
    turned_image = torch.rot90(image, 1, (-2, -1))
    for encoder, turns in ((exact, True), (plain, False)):
        expected = torch.rot90(encoder(image).fine[:, :3], 1, (-2, -1))
        assert torch.allclose(encoder(turned_image).fine[:, :3], expected, atol=1e-9) == turns


def test_padded_size_is_a_multiple_of_the_stride():
    assert padded_size(57, 43) == (56, 40)
    assert padded_size(3, 100) == (8, 96)


def test_volume_regularizer_commutes_with_quarter_turns_and_takes_any_number_of_planes():
    net = VolumeRegularizer(5, 2, 3).double()
    for planes in (7, 12):
        statistics = torch.randn(2, planes, 5, 6, 8, dtype=torch.float64)
        context = torch.randn(2, 2 * TURNS, 6, 8, dtype=torch.float64)
        base = net(statistics, context)
        after = net(torch.rot90(statistics, 1, (-2, -1)), turned(context, 1))
        assert base.shape == (2, planes, 6, 8)
        torch.testing.assert_close(after, torch.rot90(base, 1, (-2, -1)), rtol=0, atol=1e-12)
