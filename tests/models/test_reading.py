import pytest
import torch
import torch.nn.functional as F

from raytrans.models.reading import FEW, read_map

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
