"""The kernel against the formula by hand, and its smoothness where the formula has no meaning."""

import math

import numpy as np
import pytest
import torch

from raytrans.fields.types import FieldType
from raytrans.geometry.pairs import SOFTENING, RayPairs
from raytrans.geometry.rays import Rays
from raytrans.layers.kernel import RayKernel, kernel_terms

IN = FieldType("2x0 + 2x1 + 1x2 + 1x(1,0.7) + 1x(0,0.4)")
OUT = FieldType("2x0 + 2x1 + 1x3 + 1x(1,0.7) + 1x(2,-0.4) + 1x(0,0.4)")
UNIT = 1.7


def by_hand(kernel: RayKernel, x, y, feature: np.ndarray) -> np.ndarray:
    """k(x, y) f for one generic pair, from n, phi, t and numpy, with the softened exponents of the Wigner functions."""
    frame_x, frame_y = x.frame.numpy(), y.frame.numpy()
    dx, dy, w = frame_x[:, 2], frame_y[:, 2], (y.anchor - x.anchor).numpy() / UNIT
    cosine, cross = dx @ dy, np.cross(dx, dy)
    sine = np.linalg.norm(cross)
    normal = cross / sine
    phi_x, phi_y = (math.atan2(normal @ frame[:, 1], normal @ frame[:, 0]) for frame in (frame_x, frame_y))
    t_x = (w @ dx - cosine * (w @ dy)) / sine**2
    t_y = (cosine * (w @ dx) - w @ dy) / sine**2
    s, c = math.sin(math.acos(cosine) / 2), math.cos(math.acos(cosine) / 2)
    u, v = s / math.hypot(s, SOFTENING), c / math.hypot(c, SOFTENING)
    reciprocal = -(w @ cross)
    features = [cosine, *(math.log(q * q + SOFTENING**2) / 4 + 1 for q in (s, c))]
    features += [a / math.sqrt(1 + a * a) for a in (reciprocal, 8 * reciprocal, 64 * reciprocal)]
    phi = kernel.radial(torch.tensor([*features, math.asinh(reciprocal)])).detach().numpy()

    def phase(n_out, n_in, nu_out, nu_in):
        value = np.exp(1j * (n_out * phi_x + nu_out * t_x - n_in * phi_y - nu_in * t_y))
        powers = [abs(n_out - n_in), abs(n_out + n_in)]
        for i, sign in enumerate((1, -1)):
            if nu_out != sign * nu_in:
                powers[i] += 2 * math.ceil(max(0, 3 - powers[i]) / 2)
        return value * u ** powers[0] * v ** powers[1]

    def channels(block, vector):
        part = vector[block.start : block.stop]
        return part if block.real else part[0::2] + 1j * part[1::2]

    out = {block: np.zeros(block.multiplicity, complex) for block in OUT.blocks}
    for term, weight in zip(kernel.terms, kernel.weights, strict=True):
        weight = weight.detach().numpy()
        weight = weight if weight.ndim == 3 else weight[..., 0] + 1j * weight[..., 1]
        matrix = np.einsum("b,bio->oi", phi, weight)
        f, a, b = channels(term.source, feature), term.out, term.source
        if term.conjugate:
            out[a] += matrix @ (phase(a.n, -b.n, a.nu, -b.nu) * np.conj(f))
        else:
            out[a] += matrix @ (phase(a.n, b.n, a.nu, b.nu) * f)
    flat = []
    for block in OUT.blocks:
        values = out[block]
        flat.append(values.real if block.real else np.stack([values.real, values.imag], -1).ravel())
    return np.concatenate(flat)


def test_terms_are_complete():
    """Real maps of the pair's frame: (real dimension of in) x (real dimension of out) parameters per basis function."""
    kernel = RayKernel(IN, OUT, basis=1)
    assert sum(weight.numel() for weight in kernel.weights) == IN.dim * OUT.dim
    assert len(kernel_terms(FieldType("1x0"), FieldType("1x0 + 1x1"))) == 2


def test_kernel_is_the_formula(random_rays):
    kernel = RayKernel(IN, OUT)
    x, y, features = random_rays(5), random_rays(5), torch.randn(5, IN.dim)
    result = kernel(RayPairs.of(x, y, UNIT), features).detach().numpy()
    expected = np.stack([by_hand(kernel, x[i], y[i], features[i].numpy()) for i in range(5)])
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-10)


def _turned(rays, turn, shift):
    """Every ray turned by exp(turn) about its own anchor, then moved by shift."""
    zero = torch.zeros_like(turn[:, 0])
    a, b, c = turn.unbind(-1)
    rotation = torch.matrix_exp(torch.stack([zero, -c, b, c, zero, -a, -b, a, zero], -1).unflatten(-1, (3, 3)))
    frame, anchor = rotation @ rays.frame, rays.anchor + shift
    return Rays(frame[..., 2], torch.linalg.cross(anchor, frame[..., 2]), frame, anchor)


def _probe(kernel, x, y, features, weights, turn, shift):
    """A number for every pair after the source rays are turned and moved."""
    return (kernel(RayPairs.of(x, _turned(y, turn, shift), UNIT), features) * weights).sum(-1)


def _value_and_gradient(kernel, x, y, features, weights, turn):
    """Value and gradient by a further small motion of the source on top of exp(turn)."""
    zero = torch.zeros_like(turn)
    step, shift = zero.clone().requires_grad_(), zero.clone().requires_grad_()
    value = _probe(kernel, x, _turned(y, turn, zero), features, weights, step, shift)
    return value.detach(), torch.cat(torch.autograd.grad(value.sum(), (step, shift)), -1)


def test_values_and_gradients_are_continuous(singular, pairs_at):
    """From eight directions of approach the value and the gradient tend to those at the singular pair itself."""
    kernel = RayKernel(IN, OUT)
    x, y = pairs_at(singular, 1)
    x, y = x[[0] * 8], y[[0] * 8]
    features, weights = torch.randn(1, IN.dim).expand(8, -1), torch.randn(OUT.dim)
    approach = torch.nn.functional.normalize(torch.randn(8, 3), dim=-1)
    value, gradient = _value_and_gradient(kernel, x, y, features, weights, torch.zeros(8, 3))
    assert torch.isfinite(gradient).all() and gradient.abs().max() > 1
    gaps = []
    for h in (1e-6, 1e-8, 1e-10):
        near, slope = _value_and_gradient(kernel, x, y, features, weights, h * approach)
        assert torch.isfinite(slope).all()
        gaps.append(((near - value).abs().max().item(), (slope - gradient).abs().max().item()))
    assert gaps[-1][0] < 1e-6 and gaps[-1][1] < 1e-3
    assert gaps[1][0] < 0.1 * gaps[0][0] and gaps[1][1] < 0.1 * gaps[0][1]


def test_gradients_are_finite_differences(stratum, pairs_at):
    # at 1e-7 from a singular pair the slides turn a million times within any step h: types of nu = 0 alone there
    plain = stratum.startswith("nearly")
    in_type, out_type = (FieldType("2x0 + 2x1 + 1x2"), FieldType("2x0 + 2x1 + 1x3")) if plain else (IN, OUT)
    kernel = RayKernel(in_type, out_type)
    x, y = pairs_at(stratum, 3)
    features, weights = torch.randn(3, in_type.dim), torch.randn(out_type.dim)
    _, gradient = _value_and_gradient(kernel, x, y, features, weights, torch.zeros(3, 3))
    h = 1e-6
    for axis in range(6):
        move = torch.zeros(3, 6)
        move[:, axis] = h
        plus = _probe(kernel, x, y, features, weights, move[:, :3], move[:, 3:])
        minus = _probe(kernel, x, y, features, weights, -move[:, :3], -move[:, 3:])
        slope = (plus - minus) / (2 * h)
        assert (slope - gradient[:, axis]).abs().max() < 1e-4 * gradient.abs().max()


@pytest.mark.parametrize(("stratum_name", "sign"), [("parallel", 1), ("opposite", -1)])
def test_survivors_at_singular_pairs(stratum_name, sign, pairs_at):
    """Only n_out = +-n_in, nu_out = +-nu_in is left, with modulus one up to the softening."""
    pairs = RayPairs.of(*pairs_at(stratum_name), UNIT)
    for n_out in range(-3, 4):
        for n_in in range(-3, 4):
            for nu_out, nu_in in ((0.0, 0.0), (0.7, 0.7), (0.7, -0.7), (0.7, 0.2)):
                size = pairs.phase(n_out, n_in, nu_out, nu_in).abs()
                alive = n_out == sign * n_in and nu_out == sign * nu_in
                expected = (1 + SOFTENING**2) ** -(abs(n_out) if alive else 0)
                bound = 1e-3 if alive else 1e-10
                assert (size - (expected if alive else 0)).abs().max() < bound, (n_out, n_in, nu_out, nu_in)


def test_rejects_wrong_extras(pairs_at):
    kernel = RayKernel("2x0", "2x0", extras=2)
    pairs = RayPairs.of(*pairs_at("generic"))
    with pytest.raises(ValueError, match="extras: expected 2"):
        kernel(pairs, torch.randn(6, 2))
    assert kernel(pairs, torch.randn(6, 2), torch.randn(6, 2)).shape == (6, 2)
