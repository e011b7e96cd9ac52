"""The type of multivectors has what the other types have."""

import pytest
import torch

from raytrans.fields.embeddings import embedding
from raytrans.fields.multivectors import MultivectorType
from raytrans.geometry import random_rotation
from raytrans.layers.attention import component_heads

ALGEBRA = embedding("projective").algebra


def test_blocks_lie_one_after_the_other():
    kind = MultivectorType(ALGEBRA, 2, 3)
    assert (kind.dim, kind.channels, str(kind)) == (35, 5, "3x0 + 2xCl(3,0,1)")
    assert [(b.start, b.stop, b.width, b.multiplicity) for b in kind.blocks] == [(0, 3, 1, 3), (3, 35, 16, 2)]
    assert [b.invariant for b in kind.blocks] == [True, False]
    assert MultivectorType(embedding("conformal").algebra, 1).dim == 32
    assert str(MultivectorType(embedding("conformal").algebra, 1)) == "0x0 + 1xCl(4,1)"


def test_split_and_join_are_inverse_and_wrong_sizes_are_named():
    kind = MultivectorType(ALGEBRA, 2, 3)
    features = torch.randn(4, 35)
    scalars, multivectors = kind.split(features)
    assert scalars.shape == (4, 3) and multivectors.shape == (4, 2, 16)
    assert torch.equal(multivectors[:, 1], features[:, 19:]) and torch.equal(
        kind.join((scalars, multivectors)), features
    )
    with pytest.raises(ValueError, match="features: expected last axis 35 for type 3x0"):
        kind.check(torch.zeros(34))
    with pytest.raises(ValueError, match="multivectors, scalars: expected numbers >= 0, got -1, 0"):
        MultivectorType(ALGEBRA, -1)


def test_types_add_and_compare():
    kind = MultivectorType(ALGEBRA, 2, 3)
    assert kind + MultivectorType(ALGEBRA, 1) == MultivectorType(ALGEBRA, 3, 3) != kind
    assert len({kind, MultivectorType(ALGEBRA, 2, 3)}) == 1
    with pytest.raises(ValueError, match="other: expected multivectors of"):
        kind + MultivectorType(embedding("conformal").algebra, 1)


def test_motions_act_on_multivectors_and_leave_invariants():
    geometry, kind = embedding("projective"), MultivectorType(ALGEBRA, 2, 1)
    generator = torch.Generator().manual_seed(0)
    rotation = random_rotation(generator=generator)
    translation, points = (
        torch.randn(3, generator=generator).double(),
        torch.randn(5, 2, 3, generator=generator).double(),
    )
    features = torch.cat([torch.ones(5, 1), geometry.point(points).flatten(-2)], -1)
    moved = kind.transform(features, rotation, translation)
    assert torch.equal(moved[:, 0], features[:, 0])
    expected = points @ rotation.mT + translation
    torch.testing.assert_close(geometry.point_of(kind.split(moved)[1]), expected)


def test_heads_are_dealt_as_to_the_other_types():
    heads = component_heads(MultivectorType(ALGEBRA, 2, 3), 2)
    assert heads.tolist() == [0, 1, 0] + [1] * 16 + [0] * 16
