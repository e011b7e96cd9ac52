"""Products against matrices and against bits, duals and norms against their definitions, mistakes by name."""

from functools import reduce

import numpy as np
import pytest
import torch

from raytrans.fields.algebra import Algebra

METRICS = [(1, 1, 1), (1, 1, 1, 0), (1, 1, 1, 1, -1), (-1,), (0, 1, -1, 0), (1, -1, -1, -1)]
PAULI = np.array([[[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]]])
ONE, NILPOTENT = np.eye(2), np.array([[0, 1], [0, 0]])


def multivectors(algebra, *batch, seed=0):
    return torch.randn(*batch, algebra.dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def vectors(algebra, *batch, seed=0):
    size = (*batch, len(algebra.metric))
    return algebra.vector(torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))


@pytest.mark.parametrize("metric", METRICS)
def test_the_table_is_that_of_bits_and_exchanges(metric):
    """e_a e_b with blades as bit sets: one sign for every pair of generators that stand in the wrong order."""
    algebra = Algebra(metric)
    bits = [sum(1 << generator for generator in blade) for blade in algebra.blades]
    for i, a in enumerate(bits):
        for j, b in enumerate(bits):
            exchanges = sum(((a >> (k + 1)).bit_count()) for k in range(len(metric)) if b >> k & 1)
            square = np.prod([metric[k] for k in range(len(metric)) if (a & b) >> k & 1] or [1])
            expected = np.zeros(algebra.dim)
            expected[bits.index(a ^ b)] = (-1) ** exchanges * square
            assert (algebra.table[i, j] == expected).all()


REPRESENTATIONS = {
    (1, 1, 1): list(PAULI),
    (1, 1, 1, 0): [*(np.kron(p, PAULI[2]) for p in PAULI), np.kron(ONE, NILPOTENT)],
    (1, 1, 1, 1, -1): [
        *(np.kron(p, PAULI[0]) for p in PAULI),
        np.kron(ONE, PAULI[2]),
        1j * np.kron(ONE, PAULI[1]),
    ],
}


def represented(algebra, x, generators):
    size = len(generators[0])
    blades = [reduce(np.matmul, [generators[g] for g in blade], np.eye(size)) for blade in algebra.blades]
    return np.einsum("i,iab->ab", x.numpy(), np.array(blades))


@pytest.mark.parametrize("metric", list(REPRESENTATIONS))
def test_products_are_those_of_pauli_and_dirac_matrices(metric):
    algebra, generators = Algebra(metric), REPRESENTATIONS[metric]
    for k, generator in enumerate(generators):
        assert np.allclose(generator @ generator, metric[k] * np.eye(len(generator)))
    x, y = multivectors(algebra, 2)
    own = represented(algebra, algebra.product(x, y), generators)
    assert np.allclose(own, represented(algebra, x, generators) @ represented(algebra, y, generators))
    wrong = represented(algebra, algebra.product(y, x), generators)
    assert not np.allclose(own, wrong)


def test_exterior_products_are_determinants_whatever_the_metric():
    for metric in METRICS:
        algebra = Algebra(metric)
        rows = vectors(algebra, len(metric))
        volume = reduce(algebra.exterior, rows)
        components = rows[:, 1 : 1 + len(metric)]
        torch.testing.assert_close(volume[-1], torch.linalg.det(components))
        assert volume[:-1].abs().max() < 1e-12
        assert algebra.exterior(rows[0], rows[0]).abs().max() < 1e-12


@pytest.mark.parametrize("metric", METRICS)
def test_a_blade_and_its_dual_make_the_pseudoscalar_also_of_singular_metrics(metric):
    algebra = Algebra(metric)
    blades = torch.eye(algebra.dim, dtype=torch.float64)
    made = algebra.exterior(blades, algebra.dual(blades))
    assert torch.equal(made, algebra.blade(*range(len(metric))).expand_as(made))
    x = multivectors(algebra, 3)
    assert torch.equal(algebra.undual(algebra.dual(x)), x)


@pytest.mark.parametrize("metric", METRICS)
def test_the_join_is_the_exterior_product_of_the_duals(metric):
    algebra = Algebra(metric)
    x, y = multivectors(algebra, 2)
    expected = algebra.undual(algebra.exterior(algebra.dual(x), algebra.dual(y)))
    torch.testing.assert_close(algebra.join(x, y), expected)
    pseudoscalar = algebra.blade(*range(len(metric)))
    torch.testing.assert_close(algebra.join(pseudoscalar, x), x)


@pytest.mark.parametrize("metric", METRICS)
def test_reversal_turns_products_around_and_involution_does_not(metric):
    algebra = Algebra(metric)
    x, y = multivectors(algebra, 2)
    torch.testing.assert_close(
        algebra.reverse(algebra.product(x, y)), algebra.product(algebra.reverse(y), algebra.reverse(x))
    )
    torch.testing.assert_close(
        algebra.involute(algebra.product(x, y)), algebra.product(algebra.involute(x), algebra.involute(y))
    )
    a, b, c = (vectors(algebra, seed=s) for s in range(3))
    three = algebra.product(algebra.product(a, b), c)
    torch.testing.assert_close(algebra.reverse(three), algebra.product(algebra.product(c, b), a))


@pytest.mark.parametrize("metric", METRICS)
def test_grades_inner_products_and_norms_are_those_of_the_product(metric):
    algebra = Algebra(metric)
    x, y = multivectors(algebra, 2)
    grades = range(len(metric) + 1)
    torch.testing.assert_close(sum(algebra.grade(x, k) for k in grades), x)
    torch.testing.assert_close(algebra.grade(x, 0, 1), algebra.grade(x, 0) + algebra.grade(x, 1))
    torch.testing.assert_close(algebra.inner(x, y), algebra.product(algebra.reverse(x), y)[0])
    for k in grades:
        part = algebra.grade(x, k)
        square = algebra.product(algebra.reverse(part), part)[0]
        torch.testing.assert_close(algebra.squares(x)[k], square)
        torch.testing.assert_close(algebra.norms(x)[k], square.abs().sqrt())


def test_norms_of_null_vectors_are_zero_with_a_gradient_that_is_finite():
    algebra = Algebra((1, -1))
    x = algebra.vector(torch.tensor([1.0, 1.0])).requires_grad_()
    algebra.norms(x).sum().backward()
    assert algebra.norms(x).abs().max() == 0 and torch.isfinite(x.grad).all()


def test_matrices_of_products():
    algebra = Algebra((1, 1, 1, 0))
    x, y = multivectors(algebra, 2)
    torch.testing.assert_close(algebra.left(x) @ y, algebra.product(x, y))
    torch.testing.assert_close(algebra.right(x) @ y, algebra.product(y, x))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_versors_keep_products_grades_and_inner_products(count):
    algebra = Algebra((1, 1, 1, 1, -1))
    versor = reduce(algebra.product, vectors(algebra, count, seed=3))
    x, y = multivectors(algebra, 2)
    act = lambda z: algebra.sandwich(versor, z)  # noqa: E731
    torch.testing.assert_close(act(algebra.product(x, y)), algebra.product(act(x), act(y)))
    torch.testing.assert_close(act(algebra.grade(x, 2)), algebra.grade(act(x), 2))
    torch.testing.assert_close(algebra.inner(act(x), act(y)), algebra.inner(x, y))
    torch.testing.assert_close(algebra.product(versor, algebra.inverse(versor)), algebra.blade())


def test_a_vector_reflects_vectors_in_the_plane_orthogonal_to_it():
    algebra = Algebra((1, 1, 1))
    n, v = torch.randn(2, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = v - 2 * (v @ n) / (n @ n) * n
    torch.testing.assert_close(algebra.sandwich(algebra.vector(n), algebra.vector(v)), algebra.vector(expected))


def test_the_polarity_needs_a_metric_without_zeros():
    algebra = Algebra((1, 1, 1))
    x = multivectors(algebra)
    pseudoscalar = algebra.blade(0, 1, 2)
    torch.testing.assert_close(algebra.product(algebra.polarity(x), pseudoscalar), x)
    with pytest.raises(ValueError, match="metric: expected no zero.*use `dual`"):
        Algebra((1, 1, 1, 0)).polarity(multivectors(Algebra((1, 1, 1, 0))))


def test_what_has_no_inverse_is_no_versor():
    projective, conformal = Algebra((1, 1, 1, 0)), Algebra((1, 1, 1, 1, -1))
    null = conformal.vector(torch.tensor([0.0, 0, 0, 1, 1], dtype=torch.float64))
    both = conformal.blade() + conformal.blade(0)
    for algebra, versor in ((projective, projective.blade(3)), (conformal, null)):
        with pytest.raises(ValueError, match="versor: expected a product of vectors that have an inverse"):
            algebra.sandwich(versor, multivectors(algebra))
    with pytest.raises(ValueError, match="versor: expected even grades alone or odd ones alone"):
        conformal.sandwich(both, multivectors(conformal))
    with pytest.raises(ValueError, match="versor: expected a product of vectors"):
        conformal.inverse(multivectors(conformal))


@pytest.mark.parametrize("metric", [(), (1,) * 7, (1, 2), (-3, 0)])
def test_metrics_that_are_none(metric):
    with pytest.raises(ValueError, match="metric: expected"):
        Algebra(metric)


def test_arguments_of_the_wrong_size_are_named():
    algebra = Algebra((1, 1, 1))
    for call, name in (
        (lambda: algebra.product(torch.zeros(7), torch.zeros(7)), "x: expected multivectors"),
        (lambda: algebra.norms(torch.zeros(16)), "x: expected multivectors"),
        (lambda: algebra.vector(torch.zeros(4)), "components: expected last axis 3"),
        (lambda: algebra.grade(torch.zeros(8), 4), "grades: expected 0 to 3"),
        (lambda: algebra.blade(1, 0), "generators: expected ascending"),
    ):
        with pytest.raises(ValueError, match=name):
            call()


def test_algebras_are_equal_by_their_metric():
    assert Algebra([1, 1, 1]) == Algebra((1, 1, 1)) and hash(Algebra([1])) == hash(Algebra((1,)))
    assert Algebra((1, 1, 1)) != Algebra((1, 1, 1, 0)) and repr(Algebra((1, 0))) == "Algebra((1, 0))"
