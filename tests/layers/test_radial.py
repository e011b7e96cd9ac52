"""Bases of distances and cutoffs against closed forms, quadrature and finite differences."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, special

from raytrans.layers.radial import BesselBasis, ExpNormalBasis, GaussianBasis, cosine_cutoff, polynomial_cutoff

CUTOFF = 4.2


def test_bessel_functions_are_orthonormal_in_the_ball_and_end_at_the_cutoff():
    basis = BesselBasis(5, CUTOFF)
    nodes, weights = np.polynomial.legendre.leggauss(80)
    distance = torch.tensor((nodes + 1) / 2 * CUTOFF)
    values = basis(distance).numpy() * distance.numpy()[:, None]
    np.testing.assert_allclose(values.T * weights * CUTOFF / 2 @ values, np.eye(5), atol=1e-12)
    np.testing.assert_allclose(basis(torch.tensor([CUTOFF]).double()), 0, atol=1e-12)
    # j_0 of scipy, with its limit at zero
    orders = np.arange(1, 6)
    expected = math.sqrt(2 / CUTOFF) * orders * np.pi / CUTOFF * special.spherical_jn(0, 0.0)
    np.testing.assert_allclose(basis(torch.zeros(1).double())[0], expected, rtol=1e-14)


def test_exp_normal_functions_peak_where_their_centres_say():
    basis = ExpNormalBasis(7, CUTOFF, lower=0.5)
    at = 0.5 - (CUTOFF - 0.5) / 5 * np.log(np.linspace(math.exp(-5), 1, 7))
    values = basis(torch.tensor(at))
    np.testing.assert_allclose(values.diagonal(), 1, rtol=1e-5)
    # the neighbour's value by the formula: centres are (1 - e^-5)/6 apart, beta = (2 (1 - e^-5)/7)^-2
    expected = math.exp(-(((1 - math.exp(-5)) / 6) ** 2) * (2 * (1 - math.exp(-5)) / 7) ** -2)
    np.testing.assert_allclose(values.diagonal(1), expected, rtol=1e-5)


def test_gaussians_are_scipys_normal_density_up_to_its_height():
    basis = GaussianBasis(6, CUTOFF)
    distance = np.linspace(0, CUTOFF, 11)
    spacing = CUTOFF / 5
    for k, values in enumerate(basis(torch.tensor(distance)).T):
        expected = np.exp(-((distance - k * spacing) ** 2) / (2 * spacing**2))
        np.testing.assert_allclose(values, expected, atol=1e-6)
    area = integrate.quad(lambda d: float(basis(torch.tensor(d).double())[2]), -30, 30)[0]
    assert area == pytest.approx(spacing * math.sqrt(2 * math.pi), rel=1e-6)


@pytest.mark.parametrize(
    ("cutoff", "continuous", "at_half"), [(cosine_cutoff, 1, 0.5), (lambda d, c: polynomial_cutoff(d, c, 3), 2, 0.5)]
)
def test_cutoffs_end_as_smoothly_as_they_say(cutoff, continuous, at_half):
    distance = torch.tensor([0.0, CUTOFF / 2, CUTOFF, 2 * CUTOFF]).double()
    torch.testing.assert_close(cutoff(distance, CUTOFF), torch.tensor([1.0, at_half, 0, 0]).double())
    inside = torch.tensor(CUTOFF * (1 - 1e-5), dtype=torch.float64, requires_grad=True)
    value, jumps = cutoff(inside, CUTOFF), []
    for _ in range(3):
        (value,) = torch.autograd.grad(value, inside, create_graph=True)
        jumps.append(abs(value.item()) > 1e-2 / CUTOFF**3)
    # derivatives beyond the cutoff are zero, so the first that is not zero just inside is the first that jumps
    assert jumps.index(True) == continuous


def test_polynomial_cutoff_is_that_of_its_paper():
    x = np.linspace(0, 1, 9)
    for p in (3, 6):
        expected = 1 - (p + 1) * (p + 2) / 2 * x**p + p * (p + 2) * x ** (p + 1) - p * (p + 1) / 2 * x ** (p + 2)
        np.testing.assert_allclose(polynomial_cutoff(torch.tensor(x * CUTOFF), CUTOFF, p), expected, atol=1e-13)


@pytest.mark.parametrize("make", [BesselBasis, ExpNormalBasis, GaussianBasis])
def test_second_derivatives_exist(make):
    basis = make(4, CUTOFF).double()
    distance = torch.tensor([0.7, 3.9], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(basis, distance)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: BesselBasis(0, 1.0), "count: expected at least 1"),
        (lambda: GaussianBasis(1, 1.0), "count"),
        (lambda: ExpNormalBasis(3, 1.0, 2.0), "lower < cutoff"),
        (lambda: BesselBasis(3, math.inf), "finite"),
        (lambda: polynomial_cutoff(torch.zeros(1), 1.0, 2), "p: expected at least 3"),
    ],
)
def test_nonsense_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
