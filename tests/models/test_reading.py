import pytest
import torch
import torch.nn.functional as F

from raytrans.models.reading import FEW, PlaneVolume, read_map

F64 = torch.float64


def reference(values, grid):
    """PyTorch's own reading, channels last."""
    out = F.grid_sample(values[None], grid[None], mode="bilinear", padding_mode="border", align_corners=False)
    return out[0].permute(1, 2, 0)


@pytest.mark.parametrize("channels", [3, FEW])
@pytest.mark.parametrize("size", [(5, 7), (1, 6), (6, 1), (1, 1), (2, 2)])
def test_reading_and_its_gradient_are_those_of_grid_sample(size, channels):
    torch.manual_seed(0)
    values = torch.randn(channels, *size, dtype=F64, requires_grad=True)
    grid = 3 * torch.rand(40, 4, 2, dtype=F64) - 1.5
    cotangent = torch.randn(40, 4, channels, dtype=F64)
    got, expected = read_map(values, grid), reference(values, grid)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)
    gradients = [torch.autograd.grad(out, values, cotangent)[0] for out in (got, expected)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-12)


def test_the_corners_of_the_grid_are_the_outermost_pixels():
    values = torch.arange(6.0).reshape(1, 2, 3)
    grid = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0], [1.0, 1.0], [0.0, 0.0]])
    torch.testing.assert_close(read_map(values, grid[None])[0, :, 0], torch.tensor([0.0, 2.0, 3.0, 5.0, 2.5]))


def test_the_gradient_passes_finite_differences():
    torch.manual_seed(1)
    grid = 2 * torch.rand(9, 1, 2, dtype=F64) - 1
    values = torch.randn(FEW, 4, 3, dtype=F64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: read_map(v, grid), (values,))


def test_memory_layout_does_not_matter():
    torch.manual_seed(2)
    values, grid = torch.randn(FEW, 6, 5), 2 * torch.rand(30, 3, 2) - 1
    last = values.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    torch.testing.assert_close(read_map(values, grid), read_map(last, grid))


def test_reading_nothing_gives_nothing():
    for channels in (3, FEW):
        assert read_map(torch.ones(channels, 4, 5), torch.zeros(0, 2, 2)).shape == (0, 2, channels)


@pytest.mark.parametrize("planes", [2, 3, 9, 48])
@pytest.mark.parametrize("size", [(5, 7), (1, 6), (1, 1)])
def test_volumes_and_their_gradients_are_those_of_grid_sample(size, planes):
    torch.manual_seed(2)
    values = torch.randn(2, planes, *size, dtype=F64, requires_grad=True)
    grid, position = 3 * torch.rand(30, 4, 2, dtype=F64) - 1.5, torch.rand(30, 4, dtype=F64)
    position[0] = torch.tensor([0.0, 1.0, 1 / (planes - 1), 0.5], dtype=F64)
    along = (2 * position * (planes - 1) + 1) / planes - 1  # planes sit at the ends, pixels at the half-integers
    at = torch.cat([grid, along[..., None]], -1)[None, None]
    expected = F.grid_sample(values[None], at, padding_mode="border", align_corners=False)[0, :, 0]
    got, cotangent = PlaneVolume(values).read(grid, position), torch.randn(2, 30, 4, dtype=F64)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)
    gradients = [torch.autograd.grad(out, values, cotangent)[0] for out in (got, expected)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-12)


def test_a_volume_in_float32_bleeds_nothing_from_its_neighbours():
    values = torch.zeros(1, 48, 75, 100)
    values[:, 1::2] = 1000.0
    grid = torch.tensor([[x, y] for x in (-1.0, 0.3, 1.0) for y in (-1.0, 0.2, 1.0)])[None].expand(48, -1, -1)
    plane = torch.arange(48.0)[:, None].expand(-1, 9)
    got = PlaneVolume(values).read(grid, plane / 47)
    torch.testing.assert_close(got[0], 1000 * (plane % 2), rtol=0, atol=0.1)
