import math

import torch
import torch.nn.functional as F

from raytrans.training.losses import BLUR, KERNEL, near_surface, proposal_loss, sweep_loss


def test_proposal_loss_is_small_only_where_the_weight_is():
    edges = torch.linspace(1, 0, 11)[None]
    known = torch.tensor([0.55])
    weights = torch.zeros(1, 10)
    weights[0, 4] = 1.0
    assert proposal_loss(edges, weights, known).item() < 0.01
    assert proposal_loss(edges, weights.roll(3, 1), known).item() > 5
    assert proposal_loss(edges, 0 * weights, torch.zeros(1)).item() < 0.01
    assert proposal_loss(edges, weights, torch.zeros(1)).item() > 5


def test_near_surface_equals_its_formula():
    inverse = torch.tensor([[0.5, 0.4, 0.0]], dtype=torch.float64)
    weights = torch.tensor([[0.2, 0.5, 0.3]], dtype=torch.float64)
    width = KERNEL + BLUR / (0.45 + 1e-3)
    total = sum(
        w * math.exp(-abs(math.log((s + 1e-3) / (0.45 + 1e-3))) / width)
        for w, s in zip([0.2, 0.5, 0.3], [0.5, 0.4, 0.0], strict=True)
    )
    got = near_surface(weights, inverse, torch.tensor([0.45], dtype=torch.float64))
    assert math.isclose(got.item(), -math.log(total + 1e-3), rel_tol=1e-9)


def test_sweep_loss_is_the_cross_entropy_at_planes_and_ignores_the_unknown():
    logits = torch.randn(5, 2, 2, dtype=torch.float64)
    near = torch.full((1, 2, 2), 2.0, dtype=torch.float64)
    known = torch.tensor([[2.0, 0.5], [0.0, torch.nan]], dtype=torch.float64)  # planes at 2, 9/8, 1/2, 1/8, 0
    expected = F.cross_entropy(
        torch.stack([logits[:, 0, 0], logits[:, 0, 1], logits[:, 1, 0]]), torch.tensor([0, 2, 4])
    )
    torch.testing.assert_close(sweep_loss(logits, near, known), expected)
    assert sweep_loss(logits, near, torch.full((2, 2), torch.nan, dtype=torch.float64)).item() == 0
