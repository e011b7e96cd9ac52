"""The clipping of gradients against torch's, and by hand where the square of their norm is no number in float32."""

import math

import pytest
import torch
from torch import nn

from raytrans.training.gradients import clip_gradients


def parameters(*gradients: float) -> list[nn.Parameter]:
    made = [nn.Parameter(torch.zeros(2)) for _ in gradients]
    for one, value in zip(made, gradients, strict=True):
        one.grad = torch.tensor([value, 0.0])
    return [*made, nn.Parameter(torch.zeros(3))]  # the last one has none


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e15])
def test_ordinary_gradients_are_clipped_as_torch_does(scale):
    ours, theirs = (parameters(3 * scale, -4 * scale) for _ in range(2))
    assert torch.equal(clip_gradients(ours, 1.0), nn.utils.clip_grad_norm_(theirs, 1.0))
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(ours[:2], theirs[:2], strict=True))


def test_huge_gradients_are_clipped_too():
    theirs = nn.utils.clip_grad_norm_(parameters(3e25, -4e25), 1.0)
    assert math.isinf(theirs)  # the fault
    ours = parameters(3e25, -4e25)
    assert clip_gradients(ours, 0.5).item() == pytest.approx(5e25)
    torch.testing.assert_close(torch.stack([p.grad[0] for p in ours[:2]]), torch.tensor([0.3, -0.4]))


@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_a_gradient_that_is_no_number_shows(bad):
    assert not math.isfinite(clip_gradients(parameters(1.0, bad), 1.0))
