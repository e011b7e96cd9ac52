import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raytrans.rendering.compositing import HORIZON, composite, surface_share, weights_from_alpha


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
@settings(max_examples=50, deadline=None)
def test_weights_equal_the_loop(alphas):
    weights, left = weights_from_alpha(torch.tensor(alphas, dtype=torch.float64))
    passed = 1.0
    for alpha, weight in zip(alphas, weights.tolist(), strict=True):
        assert math.isclose(weight, alpha * passed, abs_tol=1e-12)
        passed *= 1 - alpha
    assert math.isclose(left.item(), passed, abs_tol=1e-12)


def one_ray(weights, distances, colors=None):
    inverse = 1 / torch.tensor([distances], dtype=torch.float64)
    weights = torch.tensor([weights], dtype=torch.float64)
    colors = torch.ones(1, len(distances), 3, dtype=torch.float64) if colors is None else colors
    return composite(weights, colors, inverse, torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64))


def test_one_opaque_sample_gives_its_own_distance():
    out = one_ray([0.0, 1.0, 0.0], [1.0, 2.0, 3.0])
    assert math.isclose(out.distance.item(), 2.0, rel_tol=1e-6)
    assert math.isclose(out.distance_mean.item(), 2.0, rel_tol=1e-6)
    assert math.isclose(out.opacity.item(), 1.0)
    assert out.spread.item() < 1e-5


def test_depth_of_two_surfaces_is_one_of_them_and_the_mean_floats_between():
    out = one_ray([0.7, 0.3], [1.0, 4.0])
    assert abs(out.distance.item() - 1.0) < 0.01
    assert math.isclose(out.distance_mean.item(), 0.7 + 1.2, rel_tol=1e-6)
    assert math.isclose(out.spread.item(), math.sqrt(0.7 * 0.9**2 + 0.3 * 2.1**2), rel_tol=1e-4)


def test_what_nothing_stops_is_background():
    out = one_ray([0.25, 0.25], [1.0, 2.0], torch.zeros(1, 2, 3, dtype=torch.float64))
    torch.testing.assert_close(out.color[0], torch.tensor([0.0, 0.25, 0.5], dtype=torch.float64))


def test_the_sky_has_colour_but_no_opacity():
    out = one_ray([1.0], [1e6])
    assert out.opacity.item() == 0
    torch.testing.assert_close(out.color[0], torch.ones(3, dtype=torch.float64))
    assert torch.isfinite(out.distance).all()


def test_surface_share_is_smooth_and_monotonic():
    s = torch.linspace(0, 2 * HORIZON[1], 200, dtype=torch.float64, requires_grad=True)
    share = surface_share(s)
    assert share[0] == 0 and share[-1] == 1 and bool((share.diff() >= 0).all())
    (slope,) = torch.autograd.grad(share.sum(), s)
    assert bool(torch.isfinite(slope).all()) and slope.diff().abs().max() < 0.2 * slope.max()


def test_gradients_agree_with_finite_differences():
    torch.manual_seed(0)
    weights = torch.rand(2, 4, dtype=torch.float64) / 5
    colors = torch.rand(2, 4, 3, dtype=torch.float64)
    inverse = torch.tensor([[1.0, 0.6, 0.5, 0.2], [2.0, 1.9, 0.4, 0.1]], dtype=torch.float64)
    background = torch.rand(3, dtype=torch.float64)

    def outputs(w, c, s):
        out = composite(w, c, s, background)
        return out.color, out.distance, out.distance_mean, out.opacity, out.spread

    assert torch.autograd.gradcheck(outputs, [t.requires_grad_() for t in (weights, colors, inverse)])
