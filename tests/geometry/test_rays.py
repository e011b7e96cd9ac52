"""Rays, their sections and the action of motions, against points that lie on them."""

import math

import numpy as np
import pytest
import roma
import torch

from raytrans.geometry.rays import Rays, section_frame, section_from_axis


def make(*batch):
    return Rays.from_points(torch.randn(*batch, 3).double(), torch.randn(*batch, 3).double())


def assert_frames(rays):
    eye = torch.eye(3, dtype=rays.dtype).expand(*rays.shape, 3, 3)
    torch.testing.assert_close(rays.frame.mT @ rays.frame, eye, rtol=0, atol=1e-12)
    torch.testing.assert_close(torch.linalg.det(rays.frame), torch.ones(rays.shape, dtype=rays.dtype))
    torch.testing.assert_close(rays.frame[..., 2], rays.direction)
    torch.testing.assert_close(rays.moment, torch.linalg.cross(rays.anchor, rays.direction))


@pytest.mark.parametrize("batch", [(), (7, 9)])
def test_frames_and_moments(batch):
    rays = make(*batch)
    assert rays.shape == batch
    assert_frames(rays)
    assert_frames(rays.in_section(torch.randn(batch).double(), 2.0))


@pytest.mark.parametrize("batch", [(), (7, 9)])
def test_motion_acts_on_pluecker_coordinates_as_on_points(batch):
    """Two points of each line are moved; the line through them must be the moved ray."""
    rays, rotation, shift, scale = make(*batch), roma.random_rotmat(dtype=torch.float64), torch.randn(3).double(), 2.5
    moved = rays.moved(rotation, shift, scale)
    start, end = (rays.point(torch.full(batch, t, dtype=torch.float64)).numpy() for t in (-0.7, 1.9))
    start, end = (scale * p @ rotation.numpy().T + shift.numpy() for p in (start, end))
    direction = (end - start) / np.linalg.norm(end - start, axis=-1, keepdims=True)
    np.testing.assert_allclose(moved.direction, direction, atol=1e-12)
    np.testing.assert_allclose(moved.moment, np.cross(start, direction), atol=1e-11)
    np.testing.assert_allclose(moved.point(torch.full(batch, -0.7 * scale, dtype=torch.float64)), start, atol=1e-11)
    np.testing.assert_allclose(moved.frame, rotation.numpy() @ rays.frame.numpy(), atol=1e-12)
    assert_frames(moved)


def test_motions_compose():
    rays, (a, b) = make(5), roma.random_rotmat(2, dtype=torch.float64)
    s, t = torch.randn(2, 3).double()
    twice, once = rays.moved(a, s, 2.0).moved(b, t, 3.0), rays.moved(b @ a, 3.0 * b @ s + t, 6.0)
    for name in ("direction", "moment", "frame", "anchor", "origin"):
        torch.testing.assert_close(getattr(twice, name), getattr(once, name), rtol=0, atol=1e-12)


def test_change_of_section_keeps_the_ray():
    rays, turn, slide = make(5), torch.randn(5).double(), torch.randn(5).double()
    changed = rays.in_section(turn, slide)
    for name in ("direction", "moment", "origin"):
        assert torch.equal(getattr(changed, name), getattr(rays, name))
    axes = roma.rotvec_to_rotmat(turn[:, None] * rays.direction)
    torch.testing.assert_close(changed.frame, axes @ rays.frame, rtol=0, atol=1e-12)
    torch.testing.assert_close(changed.anchor - rays.anchor, slide[:, None] * rays.direction)
    torch.testing.assert_close(torch.linalg.cross(changed.anchor, rays.direction), rays.moment)
    back = changed.in_section(-turn, -slide)
    torch.testing.assert_close(back.frame, rays.frame, rtol=0, atol=1e-12)


def test_rolling_a_camera_turns_its_sections():
    rotation, direction = roma.random_rotmat(dtype=torch.float64), torch.randn(50, 3).double()
    direction = torch.nn.functional.normalize(direction + 3 * rotation[:, 2], dim=-1)
    frames = section_frame(rotation, direction)
    roll = torch.tensor(0.8).double()
    rolled = section_frame(roma.rotvec_to_rotmat(roll * rotation[:, 2]) @ rotation, direction)
    expected = roma.rotvec_to_rotmat(roll * direction) @ frames
    torch.testing.assert_close(rolled, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(frames[..., 2], direction, rtol=0, atol=1e-12)
    torch.testing.assert_close(section_frame(rotation, rotation[:, 2]), rotation, rtol=0, atol=1e-12)


def test_section_from_axis_is_gram_schmidt_and_finite_along_the_axis():
    direction = torch.nn.functional.normalize(torch.randn(4, 3).double(), dim=-1)
    axis = torch.randn(3).double()
    frame = section_from_axis(direction, axis)
    q, _ = np.linalg.qr(np.stack([direction[0].numpy(), axis.numpy()], -1))
    np.testing.assert_allclose(np.abs(frame[0, :, 0].numpy() @ q[:, 1]), 1, atol=1e-12)
    assert (frame[..., 0] @ axis > 0).all()
    along = section_from_axis(direction, 3 * direction)
    for f in (frame, along):
        torch.testing.assert_close(f.mT @ f, torch.eye(3).double().expand(4, 3, 3), rtol=0, atol=1e-12)


def test_indexing_and_stacking_follow_tensors():
    rays, mask = make(4, 5), torch.rand(4, 5) > 0.5
    for index in (2, (slice(1, 3), 4), (..., 0), mask, [0, 2], np.array([1, 3]), (None, 1), torch.tensor([3, 0])):
        part = rays[index]
        assert torch.equal(part.direction[..., 0], rays.direction[..., 0][index])
        assert torch.equal(part.frame[..., 0, 1], rays.frame[..., 0, 1][index])
    assert len(rays) == 4 and rays.reshape(20).shape == rays.reshape((20,)).shape == rays.reshape(-1).shape == (20,)
    both = Rays.cat([rays[:1], rays[1:]], 0)
    assert torch.equal(both.moment, rays.moment)
    assert rays.to(dtype=torch.float32).frame.dtype == torch.float32
    assert rays[0].expand(3, 5).shape == (3, 5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Rays.from_points(torch.zeros(3), torch.zeros(3)), "direction: expected finite vectors of positive"),
        (lambda: Rays.from_points(torch.zeros(3), torch.tensor([1.0, math.nan, 0.0])), "direction: expected finite"),
        (lambda: Rays.from_points(torch.full((3,), math.inf), torch.ones(3)), "origin: expected finite points"),
        (lambda: make(2).moved(torch.eye(3), torch.zeros(3), 0.0), "scale: expected a positive number, got 0"),
        (
            lambda: Rays(*(torch.zeros(2, 3),) * 2, torch.zeros(3, 3), torch.zeros(2, 3)),
            r"frame must have shape \(2, 3",
        ),
        (lambda: Rays.cat([]), "cat: expected at least one Rays"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_points_of_any_number_type_make_rays():
    rays = Rays.from_points([0, 0, 1], [[0, 0, 2], [3, 0, 0]])
    assert rays.dtype == torch.get_default_dtype() and rays.shape == (2,)
    assert rays.direction.tolist() == [[0, 0, 1], [1, 0, 0]]
    mixed = Rays.from_points(torch.zeros(3), torch.ones(3, dtype=torch.float64))
    assert mixed.dtype == torch.float64


@pytest.mark.parametrize(
    ("origin", "direction", "reason"),
    [
        ([0.0, 0], [1.0, 0], r"origin: expected shape \(..., 3\), got \(2,\)"),
        ([0.0, 0, 0], 1.0, r"direction: expected shape \(..., 3\), got \(\)"),
        ([[0.0, 0, 0]] * 2, [[1.0, 0, 0]] * 3, r"broadcast, got origin \(2, 3\), direction \(3, 3\)"),
    ],
)
def test_what_is_no_vector_is_refused(origin, direction, reason):
    with pytest.raises(ValueError, match=reason):
        Rays.from_points(origin, direction)


@pytest.mark.parametrize(
    ("rotation", "translation", "reason"),
    [
        (torch.diag(torch.tensor([-1.0, 1, 1])), torch.zeros(3), "left-handed"),
        (2 * torch.eye(3), torch.zeros(3), "rotation"),
        (torch.full((3, 3), torch.nan), torch.zeros(3), "NaN"),
        (torch.eye(3), torch.tensor([0.0, torch.nan, 0]), "translation: expected finite"),
        (torch.eye(4), torch.zeros(3), r"expected shapes \(3, 3\), \(3,\), got \(4, 4\), \(3,\)"),
    ],
)
def test_what_is_no_motion_is_refused(rotation, translation, reason):
    rays = Rays.from_points(torch.zeros(2, 3), torch.randn(2, 3))
    with pytest.raises(ValueError, match=reason):
        rays.moved(rotation, translation)


def test_rays_are_checked():
    good = Rays.from_points(torch.randn(4, 3), torch.randn(4, 3)).in_section(1.0, 0.5)
    good.check()
    good[:0].check()
    mirrored = good.frame * torch.tensor([-1.0, 1, 1])
    turned = good.frame.roll(1, -1)
    parts = good.direction, good.moment, good.frame, good.anchor
    for name, value, reason in (
        ("direction", 2 * good.direction, "unit length, got 2"),
        ("moment", good.moment * torch.nan, "infinity in moment"),
        ("frame", mirrored, "right-handed"),
        ("frame", turned, "last column"),
        ("anchor", good.anchor / 0, "infinity in anchor"),
    ):
        values = dict(zip(("direction", "moment", "frame", "anchor"), parts, strict=True)) | {name: value}
        with pytest.raises(ValueError, match=f"^mine: .*{reason}"):
            Rays(**values, origin=good.origin).check("mine")
