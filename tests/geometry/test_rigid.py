"""Rotations, rigid motions and similarities against scipy, numpy and the Haar measure."""

import math

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from raytrans.geometry.rigid import (
    Similarity,
    apply,
    apply_linear,
    inverse_rigid,
    minimal_rotation,
    project_to_rotation,
    random_rotation,
    rigid,
    rotation_from_axis_angle,
)

EYE = torch.eye(3, dtype=torch.float64)


def unit(*shape):
    v = torch.randn(*shape, 3, dtype=torch.float64)
    return v / v.norm(dim=-1, keepdim=True)


def assert_rotation(matrix, atol=1e-14):
    torch.testing.assert_close(matrix.mT @ matrix, EYE.expand_as(matrix), rtol=0, atol=atol)
    assert (torch.linalg.det(matrix) > 0).all()


def difference(a, b):
    return (a - b).abs().max().item()


@pytest.mark.parametrize("batch", [(), (7, 9)])
@pytest.mark.parametrize("size", [0.0, 1e-9, 1e-4, 1.0, math.pi, 20.0])
def test_axis_angle_is_scipys(batch, size):
    rotvec = size * unit(*batch)
    expected = Rotation.from_rotvec(rotvec.reshape(-1, 3).numpy()).as_matrix().reshape(*batch, 3, 3)
    assert difference(rotation_from_axis_angle(rotvec), torch.from_numpy(expected)) < 1e-14


@pytest.mark.parametrize("size", [0.0, 1e-7, 0.3, math.pi])
def test_gradient_of_the_axis_angle_map(size):
    rotvec = (size * unit()).requires_grad_()
    assert torch.autograd.gradcheck(rotation_from_axis_angle, rotvec, atol=1e-6)


def test_random_rotations_follow_the_haar_measure():
    rotations = random_rotation(4000, generator=torch.Generator().manual_seed(3))
    assert_rotation(rotations)
    angles = Rotation.from_matrix(rotations.numpy()).magnitude()
    # the angle of a Haar rotation has the density (1 - cos a) / pi, and every column is uniform on the sphere
    assert scipy.stats.kstest(angles, lambda a: (a - np.sin(a)) / np.pi).pvalue > 1e-3
    for column in rotations.mT.unbind(1):
        assert scipy.stats.kstest(column[:, 2].numpy(), "uniform", args=(-1, 2)).pvalue > 1e-3


def test_random_rotations_are_a_function_of_the_generator():
    first, again, other = (random_rotation(2, 3, generator=torch.Generator().manual_seed(s)) for s in (5, 5, 6))
    assert torch.equal(first, again) and difference(first, other) > 0.1
    assert first.shape == (2, 3, 3, 3) and random_rotation(dtype=torch.float32).dtype == torch.float32


@pytest.mark.parametrize("batch", [(), (7, 9)])
def test_minimal_rotation_turns_about_the_common_normal(batch):
    a, b = unit(*batch), unit(*batch)
    axis = torch.linalg.cross(a, b)
    angle = torch.atan2(axis.norm(dim=-1), (a * b).sum(-1))
    rotvec = (axis / axis.norm(dim=-1, keepdim=True) * angle[..., None]).reshape(-1, 3).numpy()
    expected = torch.from_numpy(Rotation.from_rotvec(rotvec).as_matrix()).reshape(*batch, 3, 3)
    assert difference(minimal_rotation(a, b), expected) < 1e-12


@given(st.floats(-17, 0), st.integers(0, 1000))
def test_minimal_rotation_stays_a_rotation_close_to_parallel_and_antiparallel(exponent, seed):
    generator = torch.Generator().manual_seed(seed)
    frame = random_rotation(generator=generator)
    a, angle = frame[:, 0], 10.0**exponent
    for sign in (1, -1):
        b = sign * (math.cos(angle) * a + math.sin(angle) * frame[:, 1])
        turn = minimal_rotation(a, b)
        assert_rotation(turn)
        # b is known to rounding, and so is the direction of a + b only where that is long
        assert difference(turn @ a, b) < 1e-14
        cosine = (turn.trace() - 1) / 2
        assert abs(cosine - a @ b) < 1e-14


def test_minimal_rotation_of_opposite_directions_is_a_half_turn_with_finite_gradient():
    a = torch.cat([EYE, unit(5)]).requires_grad_()
    b = (-a.detach()).requires_grad_()
    turn = minimal_rotation(a, b)
    assert_rotation(turn.detach())
    assert difference((turn @ a[..., None])[..., 0], b) < 1e-15
    assert difference(turn @ turn, EYE.expand(8, 3, 3)) < 1e-14
    torch.autograd.backward(turn.square().sum() + turn.sum())
    assert torch.isfinite(a.grad).all() and torch.isfinite(b.grad).all()


def test_minimal_rotation_is_covariant_and_smooth():
    a, b, turn = unit(6), unit(6), random_rotation()
    assert difference(minimal_rotation(a @ turn.mT, b @ turn.mT), turn @ minimal_rotation(a, b) @ turn.mT) < 1e-13
    assert torch.autograd.gradcheck(minimal_rotation, (a.requires_grad_(), b.requires_grad_()))
    same = unit(3)
    assert torch.autograd.gradcheck(lambda v: minimal_rotation(same, v), same.clone().requires_grad_())


def test_nearest_rotation_is_the_polar_factor():
    noisy = random_rotation(20) + 3e-4 * torch.randn(20, 3, 3, dtype=torch.float64).clamp(-1, 1)
    expected = np.stack([scipy.linalg.polar(m)[0] for m in noisy.numpy()])
    fixed = project_to_rotation(noisy)
    assert difference(fixed, torch.from_numpy(expected)) < 1e-14
    assert_rotation(fixed)
    assert torch.equal(project_to_rotation(fixed), fixed)


def test_gradient_of_the_nearest_rotation_also_at_rotations():
    def projected(m):
        return project_to_rotation(m, tolerance=1.0)

    rotation = random_rotation()
    assert torch.autograd.gradcheck(projected, rotation.requires_grad_(), eps=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("matrix", "words"),
    [
        (1.01 * EYE, ["within 0.001", "0.01"]),
        (torch.zeros_like(EYE), ["within 0.001"]),
        (EYE + 2e-3 * torch.ones_like(EYE).triu(1), ["within 0.001"]),
        (torch.diag(torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64)), ["right-handed", "flip", "OpenGL"]),
        (-EYE, ["right-handed"]),
        (EYE * math.nan, ["finite", "NaN"]),
    ],
)
def test_what_is_no_rotation_is_refused_by_name(matrix, words):
    with pytest.raises(ValueError, match="^pose of view 3") as error:
        project_to_rotation(matrix, name="pose of view 3")
    assert all(word in str(error.value) for word in words)
    with pytest.raises(ValueError, match="2"):
        project_to_rotation(torch.stack([EYE, EYE, matrix]), name="rotation")


@pytest.mark.parametrize("batch", [(), (7, 9)])
def test_rigid_motions_against_homogeneous_matrices(batch):
    rotation, shift = random_rotation(*batch), torch.randn(*batch, 3, dtype=torch.float64)
    matrix, points = rigid(rotation, shift), torch.randn(*batch, 3, dtype=torch.float64)
    assert difference(inverse_rigid(matrix), torch.from_numpy(np.linalg.inv(matrix.numpy()))) < 1e-14
    lifted = torch.cat([points, torch.ones_like(points[..., :1])], -1).numpy()
    expected = np.einsum("...ij,...j->...i", matrix.numpy(), lifted)[..., :3]
    assert difference(apply(matrix, points), torch.from_numpy(expected)) < 1e-14
    away = apply(matrix, points + 1) - apply(matrix, torch.ones_like(points))
    assert difference(apply_linear(matrix, points), away) < 1e-14


def homogeneous(similarity):
    matrix = np.eye(4)
    matrix[:3, :3] = similarity.scale.item() * similarity.rotation.numpy()
    matrix[:3, 3] = similarity.translation.numpy()
    return matrix


def test_similarities_compose_and_invert_as_their_matrices_do():
    generator = torch.Generator().manual_seed(1)
    first, second = (Similarity.random(generator=generator, octaves=3) for _ in range(2))
    assert np.abs(homogeneous(first.compose(second)) - homogeneous(first) @ homogeneous(second)).max() < 1e-12
    assert np.abs(homogeneous(first.inverse()) - np.linalg.inv(homogeneous(first))).max() < 1e-12
    points = torch.randn(5, 3, dtype=torch.float64)
    expected = points.numpy() @ homogeneous(first)[:3, :3].T
    assert np.abs(first.linear_apply(points).numpy() - expected).max() < 1e-13
    assert np.abs(first.apply(points).numpy() - expected - homogeneous(first)[:3, 3]).max() < 1e-13


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan, math.inf])
def test_a_similarity_needs_a_positive_scale(scale):
    with pytest.raises(ValueError, match="scale: expected a positive"):
        Similarity(EYE, torch.zeros(3, dtype=torch.float64), scale)
