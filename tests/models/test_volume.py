import torch
import torch.nn.functional as F

from raytrans.models.turns import TURNS
from raytrans.models.volume import PlaneMixing, VolumeRegularizer


def test_mixing_of_planes_is_a_convolution_along_them():
    torch.manual_seed(0)
    mixing = PlaneMixing(3).double()
    volume = torch.randn(2 * 7, 3 * TURNS, 4, 5, dtype=torch.float64)
    kernel = mixing.weight.weight.reshape(3, 3, 5)
    got = mixing(volume, 7).reshape(2, 7, 3, TURNS, 4, 5)
    x = volume.reshape(2, 7, 3, TURNS, 4, 5)
    for n, turn, row, column in ((0, 0, 0, 0), (1, 3, 2, 4), (1, 1, 3, 0)):
        line = F.conv1d(x[n, :, :, turn, row, column].T[None], kernel, mixing.weight.bias, padding=2)[0].T
        torch.testing.assert_close(got[n, :, :, turn, row, column], line)


def test_mixing_of_fewer_planes_than_the_kernel():
    torch.manual_seed(0)
    mixing = PlaneMixing(2).double()
    volume = torch.randn(2, 2 * TURNS, 1, 1, dtype=torch.float64)
    line = volume.reshape(2, 2, TURNS).permute(2, 1, 0)
    expected = F.conv1d(line, mixing.weight.weight.reshape(2, 2, 5), mixing.weight.bias, padding=2)
    torch.testing.assert_close(mixing(volume, 2).reshape(2, 2, TURNS), expected.permute(2, 1, 0))


def test_logits_turn_with_the_images():
    torch.manual_seed(0)
    regularize = VolumeRegularizer(5, 2, 3).double()
    statistics = torch.randn(2, 6, 5, 8, 4, dtype=torch.float64)
    context = torch.randn(2, 2 * TURNS, 8, 4, dtype=torch.float64)
    turned = torch.rot90(context, 1, (-2, -1)).unflatten(1, (-1, TURNS)).roll(1, 2).flatten(1, 2)
    got = regularize(torch.rot90(statistics, 1, (-2, -1)), turned)
    torch.testing.assert_close(got, torch.rot90(regularize(statistics, context), 1, (-2, -1)))
