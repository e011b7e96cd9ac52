"""Two lines: angle, distance, feet and phases against closed forms, minimisation, moments, finite differences."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from raytrans.geometry.pairs import RayPairs, angle, cross_directions, distance, feet, reciprocal_product
from raytrans.geometry.rays import Rays

ANGLES = [0.0, 1e-9, 1e-4, 0.3, math.pi / 2, 2.9, math.pi - 1e-9, math.pi]


def built(theta, offset, t_x, t_y, count=5):
    """Rays at a known angle and distance, whose feet lie at known positions t_x, t_y from the anchors."""
    direction = torch.nn.functional.normalize(torch.randn(count, 3).double(), dim=-1)
    normal = torch.nn.functional.normalize(torch.linalg.cross(direction, torch.randn(count, 3).double()), dim=-1)
    turned = math.cos(theta) * direction + math.sin(theta) * torch.linalg.cross(normal, direction)
    turned = {0.0: direction, math.pi: -direction}.get(theta, turned)
    foot = torch.randn(count, 3).double()
    x = Rays.from_points(foot - t_x * direction, direction)
    return x, Rays.from_points(foot + offset * normal - t_y * turned, turned)


@pytest.mark.parametrize("theta", ANGLES)
@pytest.mark.parametrize("offset", [0.0, 0.8])
def test_closed_forms(theta, offset):
    x, y = built(theta, offset, 0.4, -0.9)
    np.testing.assert_allclose(angle(x, y), theta, atol=1e-15 if theta < 1 else 1e-14)
    np.testing.assert_allclose(reciprocal_product(x, y), -offset * math.sin(theta), atol=1e-14)
    if math.sin(theta) in (0.0, math.sin(math.pi)):
        np.testing.assert_allclose(distance(x, y), offset, atol=1e-12)
    elif math.sin(theta) > 1e-6:
        np.testing.assert_allclose(distance(x, y), offset, atol=1e-10)
        t_x, t_y = feet(x, y)
        np.testing.assert_allclose(t_x, 0.4, atol=1e-7)
        np.testing.assert_allclose(t_y, -0.9, atol=1e-7)


@given(st.floats(0.01, 3.13), st.floats(-3, 3), st.floats(-3, 3), st.floats(-3, 3))
def test_feet_and_distance_of_any_skew_pair(theta, offset, t_x, t_y):
    x, y = built(theta, offset, t_x, t_y, 1)
    found_x, found_y = feet(x, y)
    np.testing.assert_allclose([found_x.item(), found_y.item()], [t_x, t_y], atol=1e-9)
    np.testing.assert_allclose(distance(x, y).item(), abs(offset), atol=1e-11)


@pytest.mark.parametrize("theta", [0.3, 1.5, 2.9])
def test_distance_is_the_minimum_over_both_lines(theta):
    x, y = built(theta, 0.8, 0.4, -0.9, 1)
    p, d, q, e = (v[0].numpy() for v in (x.anchor, x.direction, y.anchor, y.direction))
    best = minimize(lambda t: ((p + t[0] * d - q - t[1] * e) ** 2).sum(), [0.0, 0.0], method="BFGS", tol=1e-14)
    np.testing.assert_allclose(distance(x, y).item(), math.sqrt(best.fun), atol=1e-8)
    np.testing.assert_allclose([t.item() for t in feet(x, y)], best.x, atol=1e-5)


@pytest.mark.parametrize("theta", [0.0, math.pi])
def test_parallel_feet_lie_half_way_and_face_each_other(theta):
    x, y = built(theta, 0.8, 0.4, -0.9)
    t_x, t_y = feet(x, y)
    across = x.anchor + t_x[:, None] * x.direction - y.anchor - t_y[:, None] * y.direction
    np.testing.assert_allclose((across * x.direction).sum(-1), 0, atol=1e-12)
    np.testing.assert_allclose(across.norm(dim=-1), 0.8, atol=1e-12)
    middle = ((x.anchor + y.anchor) / 2 * x.direction).sum(-1)
    np.testing.assert_allclose(((x.anchor + t_x[:, None] * x.direction) * x.direction).sum(-1), middle, atol=1e-12)


def test_reciprocal_product_is_that_of_the_moments():
    x, y = built(1.1, 0.8, 0.4, -0.9)
    expected = (x.direction * y.moment).sum(-1) + (y.direction * x.moment).sum(-1)
    torch.testing.assert_close(reciprocal_product(x, y), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(RayPairs.of(x, y, 2.0).reciprocal, expected / 2, rtol=0, atol=1e-12)


@pytest.mark.parametrize("theta", ANGLES)
def test_cross_keeps_its_digits(theta):
    x, y = built(theta, 0.0, 0.0, 0.0)
    expected = np.cross(x.direction.numpy(), y.direction.numpy())
    np.testing.assert_allclose(cross_directions(x.direction, y.direction), expected, atol=1e-15)
    single = cross_directions(x.direction.float(), y.direction.float())
    exact = np.cross(x.direction.float().double().numpy(), y.direction.float().double().numpy())
    # four roundings of a number as small as the sine
    assert np.abs(single.numpy() - exact).max() <= 4e-7 * max(math.sin(theta), 1e-7)


@pytest.mark.parametrize("theta", [0.0, 0.7, math.pi])
@pytest.mark.parametrize("offset", [0.0, 0.8])
@pytest.mark.parametrize("function", [angle, distance, reciprocal_product, lambda x, y: feet(x, y)[0]])
def test_gradients_are_finite_and_right(theta, offset, function):
    x, y = built(theta, offset, 0.4, -0.9, 1)

    def moved(step):
        """Moves y by a vector, then leans its direction."""
        direction = torch.nn.functional.normalize(y.direction + step[3:], dim=-1)
        anchor = y.anchor + step[:3]
        frame = torch.stack([y.frame[..., 0], y.frame[..., 1], direction], -1)
        return function(x, Rays(direction, torch.linalg.cross(anchor, direction), frame, anchor)).sum()

    gradient = torch.autograd.functional.jacobian(moved, torch.zeros(6).double())
    assert torch.isfinite(gradient).all()
    singular = theta in (0.0, math.pi) and function not in (reciprocal_product,)
    if singular or (offset == 0 and function is distance):
        return
    steps = 1e-6 * torch.eye(6).double()
    slope = torch.stack([(moved(s) - moved(-s)) / 2e-6 for s in steps])
    torch.testing.assert_close(gradient, slope, rtol=0, atol=1e-7)


def test_invariants_do_not_move():
    x, y = built(0.7, 0.8, 0.4, -0.9)
    rotation = torch.tensor(np.linalg.qr(np.random.randn(3, 3))[0])
    rotation = rotation * torch.linalg.det(rotation)
    motion = rotation, 5 * torch.randn(3).double(), 3.0
    for function, power in ((angle, 0), (distance, 1), (reciprocal_product, 1)):
        after = function(x.moved(*motion), y.moved(*motion))
        torch.testing.assert_close(after, function(x, y) * 3.0**power, rtol=0, atol=1e-12)


def test_phase_is_the_angle_of_the_common_normal():
    """All phases of types up to 3, both slides, against atan2 and the definition of the feet."""
    x, y = built(1.2, 0.8, 0.4, -0.9)
    x, y = x.in_section(0.5, 0.2), y.in_section(-1.1, 0.7)
    pairs = RayPairs.of(x, y, 1.0, softening=0.5)
    normal = torch.nn.functional.normalize(torch.linalg.cross(x.direction, y.direction), dim=-1)
    phi_x, phi_y = (torch.atan2((normal * r.frame[..., 1]).sum(-1), (normal * r.frame[..., 0]).sum(-1)) for r in (x, y))
    t_x, t_y = 0.4 - 0.2, -0.9 - 0.7
    u, v = (q / math.hypot(q, 0.5) for q in (math.sin(0.6), math.cos(0.6)))
    for n_out in range(-3, 4):
        for n_in in range(-3, 4):
            for nu_out, nu_in in ((0.0, 0.0), (0.6, 0.6), (0.6, -0.6)):
                value = pairs.phase(n_out, n_in, nu_out, nu_in)
                expected = torch.exp(1j * (n_out * phi_x - n_in * phi_y + nu_out * t_x - nu_in * t_y))
                torch.testing.assert_close(value / value.abs(), expected, rtol=0, atol=1e-11)
                if not nu_out:
                    size = torch.full_like(phi_x, u ** abs(n_out - n_in) * v ** abs(n_out + n_in))
                    torch.testing.assert_close(value.abs(), size, rtol=0, atol=1e-12)


def test_single_precision_phases_near_parallel_rays():
    """Entries that vanish are products of small numbers, not differences of numbers near one."""
    x, y = built(1e-3, 0.8, 0.4, -0.9, 200)
    x, y = x.to(dtype=torch.float32), y.to(dtype=torch.float32)
    single, double = RayPairs.of(x, y), RayPairs.of(x.to(dtype=torch.float64), y.to(dtype=torch.float64))
    assert (single.total - double.total).abs().max() < 1e-7
    assert (single.phase(2, -1) - double.phase(2, -1)).abs().max() < 1e-7
