import copy
import math

import pytest
import torch

import raytrans
from raytrans.data.generate import generated_scene
from raytrans.geometry.distortion import Distortion
from raytrans.geometry.rigid import random_rotation
from raytrans.models.config import model_config
from raytrans.rendering.renderer import Renderer
from raytrans.rendering.sampling import NEAREST
from raytrans.rendering.synthesis import arranged, chunk_size, content_turn


@pytest.fixture(scope="module")
def setting():
    torch.manual_seed(0)
    model = Renderer(model_config("tiny"))
    with torch.no_grad():
        for p in model.parameters():
            p += 0.05 * torch.randn_like(p)
    scene = generated_scene(11, "easy", (20, 24), 4)
    views = raytrans.Views(scene.images[:3], scene.cameras[[0, 1, 2]])
    return model.eval(), views, scene.cameras[3]


def finite(out, where=None):
    seen = out.opacity >= 0.05
    assert bool(torch.isfinite(out.color).all()) and bool(torch.isfinite(out.opacity).all())
    for value in (out.depth, out.depth_mean, out.spread):
        assert bool((torch.isfinite(value) == seen).all())
    return out


def test_a_rendering_has_the_documented_shapes_and_ranges(setting):
    model, views, camera = setting
    out = finite(raytrans.render(model, views, camera))
    assert out.color.shape == (20, 24, 3) and out.depth.shape == out.opacity.shape == (20, 24)
    assert 0 <= out.color.min() and out.color.max() <= 1 and out.color.std() > 0.01
    assert not out.color.requires_grad
    cosine = (camera.rays().direction * camera.forward).sum(-1).float()
    seen = out.opacity > 0.5
    torch.testing.assert_close(out.depth[seen], (out.distance * cosine)[seen])


def test_chunks_encoding_and_free_rays_change_nothing(setting):
    model, views, camera = setting
    whole = raytrans.render(model, views, camera)
    encoded = raytrans.encode(model, views)
    parts = raytrans.render(model, encoded, camera, chunk=37)
    rays = raytrans.render_rays(model, encoded, camera.rays()[3:7, 5])
    torch.testing.assert_close(parts.color, whole.color, rtol=0, atol=1e-5)
    torch.testing.assert_close(rays.color, whole.color[3:7, 5], rtol=0, atol=1e-5)
    assert rays.depth is None and rays.distance.shape == (4,)
    one = raytrans.render_rays(model, encoded, camera.rays()[4, 5])
    torch.testing.assert_close(one.color, whole.color[4, 5], rtol=0, atol=1e-5)
    assert one.distance.shape == ()
    assert chunk_size(model, encoded) >= 16


def test_the_same_call_gives_the_same_bits(setting):
    model, views, camera = setting
    first, second = (raytrans.render(model, views, camera) for _ in range(2))
    assert torch.equal(first.color, second.color)
    assert torch.equal(first.opacity, second.opacity)


def test_one_source_renders(setting):
    model, views, camera = setting
    out = finite(raytrans.render(model, views[[0]], camera))
    assert out.color.std() > 0


def test_rays_no_source_sees_are_background(setting):
    model, views, camera = setting
    turned = camera.moved(torch.eye(3), torch.zeros(3))
    pose = turned.world_from_camera.clone()
    pose[:3, 0], pose[:3, 2] = -pose[:3, 0], -pose[:3, 2]
    away = raytrans.Cameras(camera.intrinsics, pose, (20, 24))
    behind = 50 * (camera.centers - views.cameras.centers.mean(0))
    away = away.moved(torch.eye(3), behind)
    out = raytrans.render(model, views, away, background=(0.2, 0.4, 0.6))
    assert out.opacity.abs().max() == 0
    torch.testing.assert_close(out.color, torch.tensor([0.2, 0.4, 0.6]).expand(20, 24, 3))
    assert bool(out.depth.isnan().all())


@pytest.mark.parametrize("case", ["equal to a source", "inside an object", "looking away", "twice the same view"])
def test_hard_but_legal_targets_are_finite(setting, case):
    model, views, camera = setting
    if case == "equal to a source":
        camera = views.cameras[1]
    elif case == "inside an object":
        focus = camera.centers + 4 * camera.forward
        camera = camera.moved(torch.eye(3), focus - camera.centers)
    elif case == "looking away":
        camera = camera.moved(random_rotation(), torch.zeros(3))
    else:
        views = views[[0, 1, 1, 2]]
    finite(raytrans.render(model, views, camera))


def together(views):
    poses = views.cameras.world_from_camera.clone()
    poses[:, :3, 3] = poses[0, :3, 3]
    return raytrans.Views(views.images, raytrans.Cameras(views.cameras.intrinsics, poses, (20, 24)))


def test_all_sources_at_one_place_take_the_unit_from_the_target(setting):
    model, views, camera = setting
    views = together(views)
    base = finite(raytrans.render(model, views, camera))
    zero = torch.zeros(3)
    scaled = raytrans.render(model, views.moved(torch.eye(3), zero, 100.0), camera.moved(torch.eye(3), zero, 100.0))
    torch.testing.assert_close(scaled.color, base.color, rtol=0, atol=1e-4)
    seen = base.opacity > 0.1
    torch.testing.assert_close(scaled.depth_mean[seen], 100 * base.depth_mean[seen], rtol=1e-3, atol=0)


def test_everything_at_one_place_has_colours_and_no_depth(setting):
    model, views, _ = setting
    views = together(views)
    out = raytrans.render(model, views, views.cameras[0])
    assert bool(torch.isfinite(out.color).all()) and out.color.std() > 0
    assert bool(out.depth.isnan().all()) and not bool(out.opacity.any())


def test_everything_at_one_place_takes_the_unit_from_near_bounds(setting):
    model, views, _ = setting
    c = together(views).cameras
    for sources, target, scale in (([2.0] * 3, None, 1.0), ([20.0] * 3, None, 10.0), (None, 2.0, 1.0)):
        cameras = raytrans.Cameras(c.intrinsics, c.world_from_camera, (20, 24), near=sources)
        camera = raytrans.Cameras(c.intrinsics[0], c.world_from_camera[0], (20, 24), near=target)
        out = finite(raytrans.render(model, raytrans.Views(views.images, cameras), camera))
        seen = out.opacity > 0.05
        assert bool(seen.any()) and out.depth[seen].min() >= 0.9 * NEAREST * 2.0 * scale


def test_a_ray_from_elsewhere_does_not_change_the_others_of_a_single_source(setting):
    model, views, camera = setting
    near, far = camera.rays()[4:9, 4:9], camera.moved(torch.eye(3), torch.tensor([0.0, 3.0, 1.0])).rays()[:2, 4:9]
    for few in (views[[0]], together(views)):
        alone = raytrans.render_rays(model, few, near)
        beside = raytrans.render_rays(model, few, raytrans.Rays.cat([near, far], 0)).map(lambda v: v[:5])
        torch.testing.assert_close(beside.color, alone.color, rtol=0, atol=1e-6)
        torch.testing.assert_close(beside.distance, alone.distance, rtol=1e-5, atol=0, equal_nan=True)


def test_bounds_do_not_touch_rays_that_leave_backwards(setting):
    model, views, camera = setting
    lens = Distortion("fisheye", torch.zeros(4))
    wide = torch.tensor([[7.0, 0, 12], [0, 7, 10], [0, 0, 1]])
    out = {}
    for near, far in ((None, None), (1e-3, 1e5)):
        target = raytrans.Cameras(wide, camera.world_from_camera, (20, 24), distortion=lens, near=near, far=far)
        out[near] = finite(raytrans.render(model, views, target))
    backwards = (target.rays().direction * target.forward).sum(-1) <= 0
    assert bool(backwards.any())
    torch.testing.assert_close(out[None].color[backwards], out[1e-3].color[backwards])


def test_bounds_that_are_no_numbers_of_the_network_bound_like_the_last_that_are(setting):
    """In float32, 1e-300 is 0 and its inverse infinite; 0/0 and 0 times infinity would follow."""
    model, views, camera = setting

    def bounded(near, far):
        target = raytrans.Cameras(camera.intrinsics, camera.world_from_camera, (20, 24), near=near, far=far)
        return finite(raytrans.render(model, views, target)).color

    assert torch.equal(bounded(None, 1e-300), bounded(None, 1e-20))
    assert torch.equal(bounded(1e300, None), bounded(1e20, None))
    assert torch.equal(bounded(1e-300, 1e300), bounded(None, None))


def test_rays_of_a_target_are_made_chunk_by_chunk(setting, monkeypatch):
    model, views, camera = setting
    encoded, made, pixel_rays = raytrans.encode(model, views), [], raytrans.Cameras.pixel_rays
    monkeypatch.setattr(
        raytrans.Cameras, "pixel_rays", lambda c, pixels: (made.append(len(pixels)), pixel_rays(c, pixels))[1]
    )
    raytrans.render(model, encoded, camera, chunk=50)
    assert sum(made) == 20 * 24 and max(made) == 50


def test_bounds_of_the_target_tighten_the_range(setting):
    model, views, camera = setting
    free = raytrans.render(model, views, camera)
    inside = free.depth[free.opacity >= 0.05].quantile(torch.tensor([0.3, 0.7])).tolist()
    bounded = raytrans.Cameras(camera.intrinsics, camera.world_from_camera, (20, 24), near=inside[0], far=inside[1])
    out = raytrans.render(model, views, bounded)
    seen = out.opacity >= 0.05
    assert bool(seen.any())
    assert out.depth[seen].min() >= inside[0] - 1e-3 and out.depth[seen].max() <= inside[1] + 1e-3


def test_what_no_source_sees_has_their_mean_colour_by_default(setting):
    model, views, camera = setting
    up = camera.moved(torch.eye(3), 1000 * (camera.centers - views.cameras.centers.mean(0)))
    out = raytrans.render(
        model, views, up.rolled(1.0).moved(torch.diag(torch.tensor([1.0, -1.0, -1.0])), torch.zeros(3))
    )
    unseen = out.opacity == 0
    mean = torch.stack([image.mean((0, 1)) for image in views.images]).mean(0)
    assert bool(unseen.any())
    nearest = (out.color[unseen] - mean).abs().amax(-1).min()
    assert nearest < 1e-5


def test_sizes_may_differ_between_sources(setting):
    model, views, camera = setting
    images = [views.image(0), views.image(1)[:, :17], views.image(2)]
    cameras = [views.cameras[0], views.cameras[1].cropped(0, 0, 20, 17), views.cameras[2]]
    finite(raytrans.render(model, raytrans.Views(images, raytrans.Cameras.stack(cameras)), camera))


def test_float64_agrees_with_float32(setting):
    model, views, camera = setting
    single = raytrans.render(model, views, camera)
    double = raytrans.render(model.double(), views, camera, precision="float64")
    model.float()
    torch.testing.assert_close(double.color.float(), single.color, rtol=0, atol=1e-3)


def test_training_call_is_differentiable(setting):
    model, views, camera = setting
    encoded = model.place(model.encode(views), torch.tensor(1.0, dtype=torch.float64))
    rays = model.target_rays(encoded, camera.rays().reshape(-1)[::60])
    traced = model(encoded, rays, torch.zeros(3))
    # the proposal places samples without a gradient and learns from its own loss
    (traced.rendering.color.sum() + traced.rendering.distance_mean.sum() + traced.proposal.sum()).backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not bool(torch.isfinite(p.grad).all())]
    model.zero_grad()
    assert without == []


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, v, c: raytrans.render(m, v, v.cameras), "camera: expected one camera, got a batch"),
        (lambda m, v, c: raytrans.render(m, v, c, precision="float8"), "precision: expected one of"),
        (lambda m, v, c: raytrans.render(m, v, c, precision="float64"), "needs a model in torch.float64"),
        (lambda m, v, c: raytrans.render(m, v, c, chunk=0), "chunk: expected"),
    ],
)
def test_mistakes_are_named(setting, call, message):
    with pytest.raises(ValueError, match=message):
        call(*setting)


def test_memory_does_not_grow_with_the_image(setting):
    model, views, camera = setting
    encoded = raytrans.encode(model, views)
    largest = []
    forward = model.forward

    def watched(placed, rays, *rest):
        largest.append(len(rays.near))
        return forward(placed, rays, *rest)

    model.forward = watched
    try:
        raytrans.render(model, encoded, camera.resized(40, 48), chunk=64)
    finally:
        del model.forward
    assert max(largest) == 64 and len(largest) == math.ceil(40 * 48 / 64)


def test_views_are_arranged_alike_however_they_come():
    scene = generated_scene(12, "full", [(20, 27), (21, 13), (16, 16)], 3)
    views = raytrans.Views(scene.images, scene.cameras)
    expected = arranged(views)
    turned = [
        (torch.rot90(scene.images[i], k, (0, 1)), scene.cameras[i].quarter_turned(k))
        for i, k in ((2, 1), (0, 3), (1, 2))
    ]
    other = arranged(raytrans.Views([image for image, _ in turned], raytrans.Cameras.stack([c for _, c in turned])))
    for (image, camera), (again, same) in zip(expected, other, strict=True):
        assert torch.equal(image, again)
        torch.testing.assert_close(camera.intrinsics, same.intrinsics, rtol=0, atol=1e-12)
        torch.testing.assert_close(camera.world_from_camera, same.world_from_camera, rtol=0, atol=1e-15)


def test_an_arranged_view_shows_the_same_rays_brighter_on_the_right():
    scene = generated_scene(12, "full", (20, 27), 3)
    views = raytrans.Views(scene.images, scene.cameras)
    found = arranged(views)
    pixels = [torch.cat([c.rays().direction.flatten(0, 1), i.flatten(0, 1).double()], -1) for i, c in found]
    for image, camera in views:
        own = torch.cat([camera.rays().direction.flatten(0, 1), image.flatten(0, 1).double()], -1)
        nearest = [torch.cdist(own[::50], p).amin(-1).max() for p in pixels]
        assert min(nearest) < 1e-6
    for image, _ in found:
        brightness = image.double().sum(-1)
        across = torch.linspace(-1, 1, image.shape[1], dtype=torch.float64)
        down = torch.linspace(-1, 1, image.shape[0], dtype=torch.float64)
        assert (brightness * across).sum() > 0 and (brightness.mT * down).sum() >= -1e-9


def test_a_balanced_image_and_a_skewed_camera_are_not_turned():
    assert content_turn(torch.full((5, 4, 3), 0.3)) == 0
    ramp = torch.linspace(1, 0, 8)[None, :, None].expand(6, 8, 3)
    assert content_turn(ramp) == 2
    skewed = torch.tensor([[9.0, 0.1, 4], [0, 9, 3], [0, 0, 1]])
    views = raytrans.Views(ramp[None], raytrans.Cameras(skewed[None], torch.eye(4)[None], size=(6, 8)))
    assert torch.equal(arranged(views).image(0), ramp)


def test_a_source_turned_by_a_quarter_changes_nothing_but_rounding_of_poses(setting):
    model, views, camera = setting
    plain = raytrans.render(model, views, camera)
    image, turned = torch.rot90(views.image(1), 1, (0, 1)), views.cameras[1].quarter_turned(1)
    cameras = raytrans.Cameras.stack([views.cameras[0], turned, views.cameras[2]])
    out = raytrans.render(model, raytrans.Views([views.image(0), image, views.image(2)], cameras), camera)
    torch.testing.assert_close(out.color, plain.color, rtol=0, atol=2e-6)


def test_a_trace_is_the_rendering_of_the_rays(setting):
    model, views, camera = setting
    rays = camera.rays()[::3, ::4]
    for kept, traced in zip(
        *(list(vars(f(model, views, rays)).items()) for f in (raytrans.render_rays, raytrans.trace)), strict=True
    ):
        if kept[1] is not None:
            torch.testing.assert_close(traced[1].detach(), kept[1], rtol=1e-3, atol=1e-4, equal_nan=True)


def test_gradients_of_a_trace_pass_finite_differences(setting):
    model, views, camera = copy.deepcopy(setting[0]).double(), setting[1], setting[2]
    rays = camera.rays()[5:15:3, 5:15:3]
    parameter = model.head.hazard

    def total(out) -> torch.Tensor:
        length = out.distance_mean.nansum() / middle
        return (out.color.sum() + length + out.opacity.sum()) / rays.shape.numel()

    def value(shift: float) -> torch.Tensor:
        parameter.add_(shift)
        found = total(raytrans.trace(model, views, rays))
        parameter.sub_(shift)
        return found

    middle = raytrans.trace(model, views, rays).distance_mean.detach().nanmean()
    with torch.no_grad():
        slope = (value(1e-5) - value(-1e-5)) / 2e-5
    out = raytrans.trace(model, views, rays)
    total(out).backward()
    assert parameter.grad.item() == pytest.approx(slope.item(), rel=1e-3) and abs(slope) > 1e-4


def test_gradients_of_a_trace_reach_the_images(setting):
    model, views, camera = setting
    images = torch.stack(list(views.images)).requires_grad_()
    raytrans.trace(model, raytrans.Views(images, views.cameras), camera.rays()).color.sum().backward()
    assert bool(torch.isfinite(images.grad).all()) and images.grad.abs().mean() > 1e-3


def test_rays_without_a_length_leave_the_gradients_of_the_others_alone(setting):
    model, views, camera = copy.deepcopy(setting[0]), together(setting[1]), setting[2]
    elsewhere, here = camera.rays()[::5, ::6], views.cameras[0].rays()[:2, ::6]

    def slopes(rays):
        model.zero_grad()
        out = raytrans.trace(model, views, rays)
        out.distance_mean[out.opacity >= 0.05].sum().backward()
        return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}

    alone, beside = slopes(elsewhere), slopes(raytrans.Rays.cat([elsewhere, here]))
    assert len(alone) > 20 and max(g.abs().max() for g in alone.values()) > 1e-3
    largest = float(max(g.abs().max() for g in alone.values()))
    for name, slope in alone.items():
        torch.testing.assert_close(beside[name], slope, rtol=0, atol=1e-5 * largest)


def test_cameras_and_rays_get_no_gradients(setting):
    model, views, camera = setting
    pose, target = (c.world_from_camera.clone().requires_grad_() for c in (views.cameras, camera))
    known = raytrans.Views(views.images, raytrans.Cameras(views.cameras.intrinsics, pose, (20, 24)))
    rays = raytrans.Cameras(camera.intrinsics, target, (20, 24)).rays()[::5, ::6]
    assert rays.direction.requires_grad and known.cameras.centers.requires_grad
    out = raytrans.trace(model, known, rays)
    total = out.color.sum() + out.distance_mean[out.opacity >= 0.05].sum()
    assert total.requires_grad  # by the weights
    assert torch.autograd.grad(total, (pose, target), allow_unused=True) == (None, None)
    assert torch.equal(out.color, raytrans.trace(model, views, camera.rays()[::5, ::6]).color)


def test_jitter_moves_the_samples_and_must_fit(setting):
    model, views, camera = setting
    rays, fine = camera.rays()[:4, :5], model.config.fine
    draws = [torch.rand(4, 5, fine, generator=torch.Generator().manual_seed(k)) for k in (0, 0, 1)]
    first, again, other = (raytrans.trace(model, views, rays, jitter=draw).color for draw in draws)
    assert torch.equal(first, again) and not torch.equal(first, other)
    middle = raytrans.trace(model, views, rays, jitter=torch.full((4, 5, fine), 0.5)).color
    torch.testing.assert_close(middle, raytrans.trace(model, views, rays).color)
    with pytest.raises(ValueError, match=r"jitter: expected shape \(4, 5, "):
        raytrans.trace(model, views, rays, jitter=draws[0][0])
