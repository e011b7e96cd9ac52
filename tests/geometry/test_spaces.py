"""Rays, points, directions: what every space promises, measured the same way on each."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from raytrans.fields.so3 import PointType
from raytrans.fields.types import FieldType
from raytrans.geometry.rays import Rays
from raytrans.geometry.spaces import DIRECTIONS, POINTS, RAYS, FootPairs, LatticeSpace

MOTION = torch.tensor(Rotation.random(random_state=2).as_matrix()), torch.tensor([0.3, -2.0, 1.0]).double(), 2.5
SPACES = {"rays": (RAYS, FieldType("2x0 + 1x1 + 1x(2,0.4)")), "directions": (DIRECTIONS, FieldType("2x0 + 1x1 + 1x2"))}


def make(*batch):
    rays = Rays.from_points(torch.randn(*batch, 3).double(), torch.randn(*batch, 3).double())
    return rays.in_section(torch.randn(batch).double(), 0.3)


@pytest.mark.parametrize("name", SPACES)
def test_invariants_and_transport_of_rays_and_directions(name):
    space, field_type = SPACES[name]
    x, y, features = make(5, 1), make(4), torch.randn(4, field_type.dim).double()
    moved = x.moved(*MOTION), y.moved(*MOTION)
    torch.testing.assert_close(space.invariants(*moved, 1.7 * 2.5), space.invariants(x, y, 1.7), rtol=0, atol=1e-12)
    out = space.transport(features, field_type, x, y, 1.7)
    assert out.shape == (5, 4, field_type.dim)
    torch.testing.assert_close(space.transport(features, field_type, *moved, 1.7 * 2.5), out, rtol=0, atol=1e-12)
    turn_x, turn_y = torch.randn(5, 1).double(), torch.randn(4).double()
    changed = x.in_section(turn_x, 1.7 * turn_x), y.in_section(turn_y, -1.7 * turn_y)
    out = space.transport(features, field_type, x, y, 1.7)
    again = space.transport(field_type.transform(features, turn_y, -turn_y), field_type, *changed, 1.7)
    torch.testing.assert_close(again, field_type.transform(out, turn_x, turn_x), rtol=0, atol=1e-12)


def test_invariants_of_rays_are_angle_and_moments():
    x, y = make(5), make(5)
    values = RAYS.invariants(x, y, 2.0)
    reciprocal = (x.direction * y.moment + y.direction * x.moment).sum(-1)
    torch.testing.assert_close(values, torch.stack([(x.direction * y.direction).sum(-1), reciprocal / 2], -1))
    torch.testing.assert_close(DIRECTIONS.invariants(x, y)[..., 0], values[..., 0])


def test_transport_is_the_minimal_rotation_of_tangent_vectors():
    """A tangent vector a e1 + b e2 of type 1 turns about the common normal by the angle between the directions."""
    x, y, field_type = make(50), make(50), FieldType("1x1")
    components = torch.randn(50, 2).double()
    tangent = (y.frame[..., :2] @ components[..., None])[..., 0].numpy()
    cross = np.cross(y.direction, x.direction)
    sine = np.linalg.norm(cross, axis=-1, keepdims=True)
    angle = np.arctan2(sine[:, 0], (x.direction * y.direction).sum(-1).numpy())
    turned = Rotation.from_rotvec(cross / sine * angle[:, None]).apply(tangent)
    expected = np.einsum("nvi,nv->ni", x.frame[..., :2].numpy(), turned)
    fade = np.cos(angle / 2) ** 2 / (np.cos(angle / 2) ** 2 + 0.01**2)
    for space in (RAYS, DIRECTIONS):
        out = space.transport(components, field_type, x, y)
        np.testing.assert_allclose(out, expected * fade[:, None], atol=1e-12)


def test_transport_between_parallel_rays_keeps_position():
    """A function e^{i nu s} of position along a line, shared by two parallel rays with different anchors."""
    x = make(6)
    y = Rays.from_points(x.anchor + torch.randn(6, 3).double(), x.direction, x.frame)
    shift = ((y.anchor - x.anchor) * x.direction).sum(-1) / 1.7
    out = RAYS.transport(torch.tensor([1.0, 0.0]).double(), FieldType("1x(0,0.8)"), x, y, 1.7)
    expected = torch.stack([torch.cos(0.8 * shift), torch.sin(0.8 * shift)], -1) / (1 + 0.01**2) ** 2
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)


def test_points():
    x, y, features, kind = torch.randn(5, 1, 3), torch.randn(4, 3), torch.randn(4, 4), PointType("1x0 + 1x1")
    square = torch.cdist(x[:, 0], y) ** 2 / 4
    torch.testing.assert_close(POINTS.invariants(x, y, 2.0)[..., 0], square)
    out = POINTS.transport(features, kind, x, y)
    assert out.shape == (5, 4, 4) and torch.equal(out[2], features)


def test_directions_refuse_positions():
    with pytest.raises(ValueError, match=r"field_type: expected types \(n, 0\) on directions"):
        DIRECTIONS.transport(torch.randn(4, 2), FieldType("1x(1,0.5)"), make(4), make(4))


def test_foot_of_a_point_on_a_ray():
    ray = Rays.from_points(torch.zeros(3).double(), torch.tensor([0.0, 0.0, 2.0]).double())
    ray = Rays(ray.direction, ray.moment, torch.eye(3).double(), ray.anchor)
    pair = FootPairs.seen(ray, torch.tensor([3.0, 4.0, 7.0]).double(), 2.0)
    assert pair.offset.item() == 1.5 + 2j and pair.along.item() == 3.5
    value = pair.phase(2, 1, 0.0, 0.6).item()
    expected = (1.5 + 2j) / math.hypot(2.5, 0.1) * np.exp(-1j * 0.6 * 3.5)
    assert abs(value - expected) < 1e-12
    assert abs(pair.phase(1, 2, 0.0, 0.0).item() - np.conj((1.5 + 2j) / math.hypot(2.5, 0.1))) < 1e-12


@pytest.mark.parametrize("space", [RAYS, DIRECTIONS, POINTS])
def test_every_space_acts_as_its_group_and_keeps_its_invariants(space):
    first, second = MOTION[:2], (torch.tensor(Rotation.random(random_state=5).as_matrix()), torch.randn(3).double())
    x, y = (torch.randn(5, 1, 3), torch.randn(4, 3)) if space is POINTS else (make(5, 1), make(4))
    x, y = x.double() if space is POINTS else x, y.double() if space is POINTS else y
    moved = [space.act(side, *first) for side in (x, y)]
    torch.testing.assert_close(space.invariants(*moved), space.invariants(x, y), rtol=0, atol=1e-11)
    both = second[0] @ first[0], second[0] @ first[1] + second[1]
    again, at_once = space.act(space.act(x, *first), *second), space.act(x, *both)
    if space is not POINTS:
        assert (again.direction - x.direction).abs().max() > 0.1
        parts = [[r.direction] if space is DIRECTIONS else [r.direction, r.moment] for r in (again, at_once)]
        again, at_once = (torch.cat(each, -1) for each in parts)
    torch.testing.assert_close(again, at_once, rtol=0, atol=1e-11)
    # moving one side alone is no action on the pair
    assert (space.invariants(x, moved[1]) - space.invariants(x, y)).abs().max() > 1e-3


def test_lattice_distances_are_loops_over_images():
    space = LatticeSpace(4, 6)
    found = space.invariants(torch.arange(24)[:, None], torch.arange(24))
    for i in range(24):
        for j in range(24):
            apart = [
                (i // 6 - j // 6 + 4 * a) ** 2 + (i % 6 - j % 6 + 6 * b) ** 2 for a in (-1, 0, 1) for b in (-1, 0, 1)
            ]
            assert found[i, j] == min(apart)
    shells = LatticeSpace(6, 6).shells()
    # of 6x6: distances 0, 1, 2, 4, 5, 8, 9, 10, 13, 18, with so many sites each
    assert shells[0].bincount().tolist() == [1, 4, 4, 4, 8, 4, 2, 4, 4, 1]


def test_lattice_symmetries_are_permutations_that_keep_distances():
    space, sites = LatticeSpace(6, 6), torch.arange(36)
    seen = set()
    for turn in range(4):
        for mirror in (False, True):
            moved = space.act(sites, turn, (2, 5), mirror)
            assert sorted(moved.tolist()) == sites.tolist()
            assert torch.equal(space.invariants(moved[:, None], moved), space.invariants(sites[:, None], sites))
            seen.add(tuple(moved.tolist()))
    assert len(seen) == 8
    assert not torch.equal(space.invariants(sites.roll(1)[:, None], sites), space.invariants(sites[:, None], sites))
    assert LatticeSpace(4, 6).act(torch.tensor([7]), 2, (0, 0)).tolist() == [3 * 6 + 5]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: LatticeSpace(1, 4), "rows: expected a whole number of at least 2, got 1"),
        (lambda: LatticeSpace(4, 0), "columns: expected a whole number of at least 2, got 0"),
        (lambda: LatticeSpace(4, 6).act(torch.arange(24), 1, (0, 0)), "turn: expected an even number"),
    ],
)
def test_lattices_that_are_none_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
