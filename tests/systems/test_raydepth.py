"""Scenes against intersection by brute force, frames and scales against the contract, arms against what they break."""

import pytest
import torch

from raytrans.data.generate.solids import ROOM, SPHERE
from raytrans.geometry.rigid import Similarity
from raytrans.systems.raydepth import ARMS, FRAMES, NativeRayDepth, PlainRayDepth, draw, error, nearest_point, task


def scenes(count=3, seed=0, **options):
    return draw(count, torch.Generator().manual_seed(seed), **options)


def inside(solids, point):
    """Which solids a point (3,) is inside of; of the room, whether it is outside."""
    local = (solids.linear @ point[:, None])[..., 0] + solids.shift
    within = torch.where(solids.kind == SPHERE, local.norm(dim=-1) < 1, local.abs().amax(-1) < 1)
    return torch.where(solids.kind == ROOM, ~within, within)


def test_depth_is_where_a_march_along_the_ray_first_meets_a_solid():
    generator = torch.Generator().manual_seed(1)
    solids = task._scene(generator)
    rays = task._camera_rays(1, 1, 6, generator).reshape(6)
    step = 4e-3
    for ray, depth in zip((rays[i] for i in range(6)), task._depths(solids, rays), strict=True):
        march = next(k * step for k in range(5_000) if inside(solids, ray.point(torch.tensor(k * step))).any())
        assert march == pytest.approx(depth.item(), abs=1.5 * step)


def test_scenes_have_room_and_solids_in_sight():
    drawn = scenes(40, frames=False)
    assert (drawn.truth > 0).all() and torch.isfinite(drawn.truth).all() and torch.isfinite(drawn.depth).all()
    near = (drawn.truth < task.CAMERA_DISTANCE[1] + 1).double().mean()
    assert 0.2 < near < 0.95
    assert error(drawn.truth.div(drawn.unit[:, None]).log(), drawn) == 0
    assert 0.1 < error(nearest_point(drawn), drawn) < error(torch.zeros_like(drawn.truth), drawn)


def test_the_same_seed_draws_the_same_and_a_count_of_zero_is_a_mistake():
    assert torch.equal(scenes(seed=4).truth, scenes(seed=4).truth)
    assert not torch.equal(scenes(seed=4).truth, scenes(seed=5).truth)
    with pytest.raises(ValueError, match="targets: expected at least 1, got 0"):
        scenes(targets=0)


def test_moved_scenes_are_those_of_the_rays_moved():
    drawn = scenes(1)
    change = Similarity.random(1, generator=torch.Generator().manual_seed(2))
    moved = drawn.moved(change.rotation, change.translation, change.scale)
    expected = drawn.sources.moved(change.rotation[0], change.translation[0], float(change.scale[0]))
    for name in ("direction", "moment", "frame", "anchor", "origin"):
        torch.testing.assert_close(getattr(moved.sources, name), getattr(expected, name))
    torch.testing.assert_close(moved.points, change.apply(drawn.points))


def frame_error(model):
    drawn = scenes(4)
    change = Similarity.random(4, generator=torch.Generator().manual_seed(3), extent=30.0)
    moved = drawn.moved(change.rotation, change.translation, change.scale)
    model = model.double()
    with torch.no_grad():
        plain = model(drawn)
        assert plain.shape == drawn.truth.shape and plain.std() > 1e-3
        return float((plain - model(moved)).abs().max())


@pytest.mark.parametrize("arm", ARMS)
def test_native_arms_are_free_of_frame_and_scale_where_they_promise(arm):
    torch.manual_seed(0)
    exact = arm in ("equivariant", "canonical")
    assert (frame_error(NativeRayDepth(arm, width=8)) < 1e-10) == exact


@pytest.mark.parametrize("frame", FRAMES)
def test_the_plain_transformer_is_exact_in_the_frame_of_the_target_alone(frame):
    torch.manual_seed(0)
    assert (frame_error(PlainRayDepth(frame, width=16)) < 1e-10) == (frame == "target")


def test_only_the_equivariant_arm_and_the_world_do_not_see_sections():
    """New sections of all rays: the canonical arm reads the frames of the targets."""
    drawn = scenes(2)
    angle = torch.randn(drawn.targets.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    turned = task.RayDepths(drawn.sources.in_section(1.0), drawn.depth, drawn.targets.in_section(angle), drawn.truth)
    for arm in ("equivariant", "world", "canonical"):
        torch.manual_seed(0)
        model = NativeRayDepth(arm, width=8).double()
        with torch.no_grad():
            change = (model(drawn) - model(turned)).abs().max()
        assert (change < 1e-10) == (arm != "canonical")


@pytest.mark.parametrize(("model", "name"), [(NativeRayDepth, "arm"), (PlainRayDepth, "frame")])
def test_unknown_arms_are_named(model, name):
    with pytest.raises(ValueError, match=f"{name}: expected one of .* got 'other'"):
        model("other")


def test_a_few_steps_learn_something():
    torch.manual_seed(0)
    drawn, model = scenes(4, rays=4), NativeRayDepth(width=4, layers=1, basis=4)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for _ in range(20):
        loss = error(model(drawn), drawn)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]
