"""Field types: text, layout, and the representation of turning a frame and sliding an anchor."""

import cmath
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from raytrans.fields.types import FieldType

FINITE = st.floats(-1e6, 1e6, allow_nan=False, allow_subnormal=False)
TYPES = st.dictionaries(st.tuples(st.integers(-4, 4), st.just(0.0) | FINITE), st.integers(1, 20), max_size=5)


@given(TYPES)
def test_text_reads_back(counts):
    field_type = FieldType(counts)
    again = FieldType(str(field_type))
    assert again == field_type and hash(again) == hash(field_type) and str(again) == str(field_type)
    assert field_type.dim == sum(m * (1 if key == (0, 0.0) else 2) for key, m in field_type.counts.items())
    assert field_type.channels == sum(counts.values())


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("16x0+8x1 + 4x2", "16x0 + 8x1 + 4x2"),
        ("8x1 + 16x0 + 2x1", "16x0 + 10x1"),
        ("2", "1x2"),
        ("4x(1,0.5) + 1x(0,1e+20)", "1x(0,1e+20) + 4x(1,0.5)"),
        ("2x-3 + 3x(0,-0.1)", "3x(0,0.1) + 2x3"),
        ("1x(2,-0.5)+1x(-2,0.5)", "2x(2,-0.5)"),
        ("0x0", "0x0"),
    ],
)
def test_reading_and_printing(text, printed):
    assert str(FieldType(text)) == printed
    assert FieldType(printed) == FieldType(text)


@pytest.mark.parametrize("text", ["", "x", "3x", "16y0", "3x0 - 2", "1x(0,)", "1x(0,nan)", "1x(0,1e)", "1.5x0", "2x0+"])
def test_unreadable_text_is_named(text):
    with pytest.raises(ValueError, match="field type: expected terms like"):
        FieldType(text)


def test_negative_multiplicity_is_refused():
    with pytest.raises(ValueError, match="multiplicities >= 0"):
        FieldType({(0, 0.0): -1})


def test_counts_and_sums():
    a, b = FieldType("2x0 + 1x1"), FieldType("3x1 + 1x(1,0.5)")
    assert str(a + b) == "2x0 + 4x1 + 1x(1,0.5)"
    assert (a + b).count(1) == 4 and (a + b).count(1, 0.5) == 1 and a.count(7) == 0
    assert a != "2x0 + 1x1" and repr(a) == "FieldType('2x0 + 1x1')"


def test_split_is_adjacent_real_and_imaginary_parts():
    field_type, features = FieldType("1x0 + 2x1"), torch.arange(5.0)
    zero, one = field_type.split(features)
    assert zero.tolist() == [0.0] and one.tolist() == [1 + 2j, 3 + 4j]
    assert torch.equal(field_type.join([zero, one]), features)
    with pytest.raises(ValueError, match="expected last axis 5 for type 1x0 \\+ 2x1, got shape \\(4,\\)"):
        field_type.split(torch.zeros(4))


@given(TYPES.filter(bool), st.floats(-3, 3), st.floats(-1e-3, 1e-3), st.integers(0, 99))
def test_transform_multiplies_channels_by_the_character(counts, turn, slide, seed):
    field_type = FieldType(counts)
    features = torch.randn(3, field_type.dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    changed = field_type.split(field_type.transform(features, turn, slide))
    for block, before, after in zip(field_type.blocks, field_type.split(features), changed, strict=True):
        character = cmath.exp(-1j * (block.n * turn + block.nu * slide))
        expected = before if block.real else before * character
        torch.testing.assert_close(after, expected, rtol=0, atol=1e-9)


def test_matrix_is_an_orthogonal_representation():
    field_type = FieldType("2x0 + 2x1 + 1x(2,0.5) + 1x(0,0.3)")
    a, b, s, t = torch.randn(4).double()
    product = field_type.matrix(a, s) @ field_type.matrix(b, t)
    torch.testing.assert_close(product, field_type.matrix(a + b, s + t), rtol=0, atol=1e-12)
    eye = torch.eye(field_type.dim).double()
    torch.testing.assert_close(field_type.matrix(a, s) @ field_type.matrix(a, s).mT, eye, rtol=0, atol=1e-12)
    vector = torch.randn(7, field_type.dim).double()
    turned = field_type.transform(vector, a, s)
    torch.testing.assert_close(vector @ field_type.matrix(a, s).mT, turned, rtol=0, atol=1e-12)
    assert field_type.matrix(torch.zeros(4), 0.0).shape == (4, field_type.dim, field_type.dim)


@pytest.mark.parametrize(
    "counts", [{(1.5, 0): 2}, {(0, math.nan): 1}, {(1, math.inf): 1}, {1: 2}, {(1, 0): 1.5}, {(1, 0): -1}]
)
def test_counts_that_are_no_types_are_refused(counts):
    with pytest.raises(ValueError, match="field type: expected"):
        FieldType(counts)


def test_a_frequency_beyond_all_numbers_is_refused():
    with pytest.raises(ValueError, match="finite nu"):
        FieldType("1x(1, 1e400)")
