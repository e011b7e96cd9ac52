"""Rays, points, directions: what every space promises, measured the same way on each."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from raytrans.fields.so3 import PointType
from raytrans.fields.types import FieldType
from raytrans.geometry.rays import Rays
from raytrans.geometry.spaces import DIRECTIONS, POINTS, RAYS, FootPairs

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
