"""The simulator against conservation laws, closed forms and scipy's integrator."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import integrate
from scipy.spatial.transform import Rotation

from raytrans.geometry.rigid import random_rotation
from raytrans.systems.scaling import bodies as module
from raytrans.systems.scaling.bodies import CORNERS, collided, draw_bodies, simulate


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(count=64, **changes):
    return draw_bodies(count, generator(), **changes)


def floating(scenes):
    """Without a floor, and with no weight to speak of."""
    return replace(scenes, floor=False, gravity=1e-300 * scenes.gravity)


def met(before, after):
    """Scenes whose bodies have touched: a momentum changed."""
    return (before.momentum - after.momentum).abs().amax((-1, -2)) > 1e-6


def test_collisions_keep_momentum_angular_momentum_and_energy():
    """Momenta to rounding; energy to the error of turning, which falls by 4 with half the step."""
    start = floating(drawn(restitution=1.0))
    errors = []
    for steps in (100, 200):
        end = simulate(start, 0.8, steps)
        assert met(start, end).float().mean() > 0.7
        assert torch.allclose(end.momentum.sum(1), start.momentum.sum(1), atol=1e-12)
        assert torch.allclose(end.angular_momentum(), start.angular_momentum(), atol=1e-12)
        errors.append(((end.energy() - start.energy()) / start.energy()).abs())
    assert errors[0].max() < 2e-3
    free = simulate(start, 0.1, 20), simulate(start, 0.1, 40)
    assert not met(start, free[1]).all()
    first, second = (((end.energy() - start.energy()).abs())[~met(start, end)].mean() for end in free)
    assert 3 < first / second < 5


def test_an_impulse_alone_keeps_energy_to_rounding():
    """Overlapping boxes and balls, one step of contacts without motion."""
    start = drawn(200, restitution=1.0)
    start = replace(floating(start), position=0.35 * start.position)
    end = collided(start)
    assert met(start, end).float().mean() > 0.5
    assert torch.allclose(end.energy(), start.energy(), rtol=1e-12)
    assert torch.allclose(end.angular_momentum(), start.angular_momentum(), atol=1e-12)
    lossy = collided(replace(start, restitution=0.5))
    assert (lossy.energy() <= start.energy() + 1e-12).all()
    assert (lossy.energy()[met(start, lossy)] < start.energy()[met(start, lossy)]).all()


def test_elastic_bounces_on_the_floor_keep_energy_and_horizontal_momentum():
    start = drawn(restitution=1.0)
    end = simulate(start, 0.8, 200)
    assert met(replace(start, momentum=start.momentum.clone()), end).all()
    assert torch.allclose(end.momentum.sum(1)[:, :2], start.momentum.sum(1)[:, :2], atol=1e-12)
    assert ((end.energy() - start.energy()) / start.energy()).abs().max() < 2e-3
    falling = start.momentum.sum(1)[:, 2] - 4.0 * start.mass.sum(1) * 0.8
    assert (end.momentum.sum(1)[:, 2] > falling + 0.1).float().mean() > 0.9


def test_the_checks_see_an_impulse_that_only_one_body_gets(monkeypatch):
    """Negative control."""
    push = module._push
    monkeypatch.setattr(module, "_push", lambda b, s, v, pair, c: push(b, s, v, (pair[0], None), c))
    start = floating(drawn(restitution=1.0))
    end = simulate(start, 0.8, 100)
    assert (end.momentum.sum(1) - start.momentum.sum(1)).abs().max() > 0.1
    assert (end.angular_momentum() - start.angular_momentum()).abs().max() > 0.1


def test_a_body_falls_as_galilei_says():
    start = replace(drawn(8), floor=False, position=100.0 * drawn(8).position)
    end = simulate(start, 0.7, 13)
    expected = start.position + 0.7 * start.velocity + 0.7**2 / 2 * start.gravity[:, None]
    assert torch.allclose(end.position, expected, atol=1e-12)


def test_a_box_turns_as_scipy_integrates_eulers_equations():
    start = floating(drawn(1))
    start = replace(start, position=100.0 * start.position)
    end = simulate(start, 0.8, 400)
    inertia, spin = start.inertia[0, 1].numpy(), start.spin[0, 1].numpy()

    def change(_, state):
        turn = state.reshape(3, 3)
        omega = turn @ ((turn.T @ spin) / inertia)
        return np.cross(omega, turn.T).T.ravel()

    exact = integrate.solve_ivp(change, (0, 0.8), start.rotation[0, 1].numpy().ravel(), rtol=1e-11, atol=1e-12)
    assert np.allclose(end.rotation[0, 1].numpy().ravel(), exact.y[:, -1], atol=1e-4)
    assert Rotation.from_matrix(end.rotation[0, 1] @ start.rotation[0, 1].T).magnitude() > 0.3


def test_a_ball_on_a_face_exchanges_speed_as_in_one_dimension():
    """Restitution e: v1' = (m1 v1 + m2 v2 + m2 e (v2 - v1))/(m1 + m2)."""
    for restitution in (1.0, 0.4):
        start = floating(drawn(4, boxes=1, restitution=restitution))
        along = start.rotation[:, 1, :, 0]
        apart = start.half[:, 0, 0] + start.half[:, 1, 0] - 1e-3
        v1, v2, (m1, m2) = 0.3, -0.9, start.mass.T
        start = replace(
            start,
            position=torch.stack([torch.zeros(4, 3).double(), apart[:, None] * along], 1),
            momentum=torch.stack([m1[:, None] * v1 * along, m2[:, None] * v2 * along], 1),
            spin=torch.zeros(4, 2, 3, dtype=torch.float64),
        )
        end = collided(start)
        first = (m1 * v1 + m2 * v2 + m2 * restitution * (v2 - v1)) / (m1 + m2)
        second = (m1 * v1 + m2 * v2 + m1 * restitution * (v1 - v2)) / (m1 + m2)
        assert torch.allclose(end.velocity[:, 0], first[:, None] * along, atol=1e-12)
        assert torch.allclose(end.velocity[:, 1], second[:, None] * along, atol=1e-12)
        assert end.spin.abs().max() < 1e-12


def test_moments_of_inertia_are_integrals():
    scenes = drawn(1)
    points = 2 * torch.rand(200_000, 3, generator=generator(1), dtype=torch.float64) - 1
    inside = points[points.norm(dim=-1) < 1]
    for body, chosen in ((0, inside), (1, points)):
        square = (chosen * scenes.half[0, body]).square()
        expected = scenes.mass[0, body] * (square.sum(-1, keepdim=True) - square).mean(0)
        assert torch.allclose(scenes.inertia[0, body], expected, rtol=0.02)


def test_a_moved_scene_goes_the_moved_way():
    start = drawn(16)
    rotation, translation = random_rotation(16, generator=generator(2)), 3.0 * torch.randn(16, 3).double()
    there, back = simulate(start.moved(rotation, translation), 0.8, 60), simulate(start, 0.8, 60)
    expected = back.moved(rotation, translation)
    for name in ("position", "rotation", "momentum", "spin"):
        assert torch.allclose(getattr(there, name), getattr(expected, name), atol=1e-9), name
    assert (there.position - back.position).abs().max() > 1


def test_corners_and_their_velocities_are_those_of_a_moving_body():
    start = floating(drawn(3))
    start = replace(start, position=50.0 * start.position)
    expected = start.position[1, 2] + start.rotation[1, 2] @ (start.half[1, 2] * CORNERS[5])
    assert torch.allclose(start.corners()[1, 2, 5], expected)
    ball = (start.corners()[:, 0] - start.position[:, 0, None]).norm(dim=-1)
    assert torch.allclose(ball, start.half[:, 0, :1].expand(-1, 8))
    later = simulate(start, 1e-5, 1)
    assert torch.allclose((later.corners() - start.corners()) / 1e-5, start.corner_velocities(), atol=1e-3)


def test_scenes_begin_apart_above_the_floor():
    scenes = drawn(500)
    assert not met(scenes, collided(replace(scenes, momentum=scenes.momentum.clone()))).any()
    assert scenes.corners()[..., 2].min() > 0


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: draw_bodies(0, generator()), "count, boxes"),
        (lambda: draw_bodies(1, generator(), 0), "count, boxes"),
        (lambda: draw_bodies(1, generator(), restitution=1.5), "restitution: expected 0 to 1, got 1.5"),
        (lambda: simulate(drawn(1), -1.0, 5), "seconds, steps"),
        (lambda: simulate(drawn(1), 1.0, 0), "seconds, steps"),
    ],
)
def test_what_cannot_move_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
