"""The null-space routine against scipy, Schur's lemma with e3nn's matrices, and counts by characters."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from e3nn import o3

from raytrans.fields.commutant import intertwiners, null_space
from raytrans.fields.types import FieldType


@pytest.fixture(autouse=True)
def double_precision():
    """e3nn keeps its constants in the default type."""
    torch.set_default_dtype(torch.float64)


def represented(*degrees):
    """Two rotations in the direct sum of e3nn's irreps."""
    generator = torch.Generator().manual_seed(1)
    angles = [torch.randn(3, generator=generator).unbind() for _ in range(2)]
    return [scipy.linalg.block_diag(*[o3.Irrep(l, 1).D_from_angles(*each).numpy() for l in degrees]) for each in angles]


def test_null_space_is_scipys():
    matrix = np.random.default_rng(0).standard_normal((7, 4)) @ np.random.default_rng(1).standard_normal((4, 9))
    for each in (matrix, np.concatenate([matrix, matrix[:5]])):
        found, expected = null_space(each), scipy.linalg.null_space(each)
        assert found.shape == (5, 9)
        np.testing.assert_allclose(found.T @ found, expected @ expected.T, atol=1e-12)


@pytest.mark.parametrize(
    ("first", "second", "count"), [((0, 1, 1), (1,), 2), ((0, 2), (0, 2), 2), ((1,), (2,), 0), ((3, 3), (3, 3), 4)]
)
def test_maps_between_irreps_are_those_of_schur(first, second, count):
    source, target = represented(*first), represented(*second)
    found = intertwiners(source, target)
    assert found.shape == (count, len(target[0]), len(source[0]))
    for a, b in zip(source, target, strict=True):
        np.testing.assert_allclose(found @ a, b @ found, atol=1e-9)
    flat = found.reshape(count, len(target[0]) * len(source[0]))
    np.testing.assert_allclose(flat @ flat.T, np.eye(count), atol=1e-12)


def test_elements_and_generators_of_a_group_say_the_same():
    # SO(2) turns the plane: the commutant of two copies of it are the 2x2 complex matrices, 8 real numbers
    generator = np.kron(np.eye(2), [[0, -1], [1, 0]])
    element = scipy.linalg.expm(0.7 * generator)
    by_element, by_generator = (intertwiners([m], [m]).reshape(8, 16) for m in (element, generator))
    np.testing.assert_allclose(by_element.T @ by_element, by_generator.T @ by_generator, atol=1e-12)


def test_kernels_of_a_ray_to_itself_are_counted_by_characters():
    """A ray is fixed by turns and slides: between equal types a complex number, all others are out."""
    first, second = FieldType("2x0 + 3x1 + 1x(1,0.5)"), FieldType("1x0 + 2x1 + 2x2 + 1x(1,0.5)")
    elements = [(0.6, 0.3), (-1.7, 1.1)]
    source, target = ([t.matrix(*e).numpy() for e in elements] for t in (first, second))
    # averaged over the group the product of the characters counts the maps: 2x1 real, 3x2 and 1x1 complex ones
    assert len(intertwiners(source, target)) == 2 * 1 + 2 * 3 * 2 + 2 * 1 * 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: intertwiners([], []), "source, target: expected lists of one length, got 0, 0"),
        (lambda: intertwiners([np.eye(2)], []), "got 1, 0"),
        (lambda: intertwiners([np.ones((2, 3))], [np.eye(2)]), "source: expected square matrices"),
        (lambda: intertwiners([np.eye(2)], [np.full((2, 2), math.nan)]), "finite matrix"),
        (lambda: null_space(np.diag([1.0, 1e-7])), "apart from zero"),
    ],
)
def test_nonsense_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
