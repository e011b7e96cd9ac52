"""The statistics of the plane sweep against slow loops over groups, channels and sources."""

import torch

from raytrans.data.generate import generated_scene
from raytrans.data.views import Views
from raytrans.geometry.cameras import Cameras
from raytrans.geometry.distortion import Distortion
from raytrans.models.config import model_config
from raytrans.models.gather import project, read, sample_pairs
from raytrans.rendering import sources
from raytrans.rendering.renderer import Renderer
from raytrans.rendering.sources import DepthSweep, _only, matching_rays, plane_samples, source_unit

PLANES = 5


def placed_views(count=4, **changes):
    torch.manual_seed(0)
    model = Renderer(model_config("tiny", planes=PLANES, **changes)).double()
    scene = generated_scene(500_000, "easy", (32, 40), count)
    views = Views([image.double() for image in scene.images], scene.cameras)
    with torch.no_grad():
        return model, model.place(model.encode(views), source_unit(views.cameras))


def others(views, i):
    return [j for j in range(len(views)) if j != i]


def test_a_bound_of_depth_tightens_the_planes_of_the_rays_that_leave_forwards_alone():
    """z = t cos says of a ray at more than 90 degrees to the axis nothing that is positive."""
    cameras = generated_scene(500_000, "easy", (12, 16), 3).cameras
    lens, wide = Distortion("fisheye", torch.zeros(4)), torch.tensor([[3.0, 0, 8], [0, 3, 6], [0, 0, 1]])
    images, model = torch.rand(3, 12, 16, 3), Renderer(model_config("tiny"))
    near = {}
    for bound in (None, 0.7, 1e300):
        views = Views(images, Cameras(wide, cameras.world_from_camera, (12, 16), lens, near=bound))
        with torch.no_grad():
            placed = model.place(model.encode(views), source_unit(views.cameras))
        near[bound] = torch.stack(placed.near).flatten()
        assert all(bool(volume.values.isfinite().all()) for volume in placed.volume)
    cosine = torch.cat([matching_rays(placed, i)[2] for i in range(3)])
    forwards = cosine > 0
    assert 0 < int(forwards.sum()) < len(forwards)
    expected = torch.minimum(near[None], (cosine * placed.relative.unit / 0.7).float())
    torch.testing.assert_close(near[0.7][forwards], expected[forwards])
    assert torch.equal(near[0.7][~forwards], near[None][~forwards])
    assert bool((near[1e300] > 0).all()) and torch.equal(near[1e300][~forwards], near[None][~forwards])


def slow_similarities(sweep: DepthSweep, views, i, j):
    """Correlation of every pixel and plane of view i with view j, by definition: groups of invariants, then type 1."""
    origin, frame, _, inverse = plane_samples(views, i, PLANES)
    camera = _only(views.relative, j)
    samples = project(camera, origin, frame[..., 2], inverse)
    theirs, own = read([views.match[j]], samples)[0], views.match[i].flatten(1).T[:, None]
    split = sweep.match_type.count(0)
    width = split // sweep.groups
    out = [(own[..., c : c + width] * theirs[..., c : c + width]).mean(-1) for c in range(0, split, width)]
    if sweep.match_type.count(1):
        a, b = (torch.view_as_complex(t[..., split:].unflatten(-1, (-1, 2)).contiguous()) for t in (own, theirs))
        turn = sample_pairs(camera, frame, samples).difference[0]
        out.append(((a.conj() * b).mean(-1) * turn).real)
    return torch.stack(out, -1), samples.fade[0]


def slow_statistics(sweep: DepthSweep, views, i):
    total, seen, focused, share = 0.0, 0.0, 0.0, 0.0
    for j in range(len(views)):
        if j == i:
            continue
        score, fade = slow_similarities(sweep, views, i, j)
        fade = fade[..., None]
        focus = fade * torch.exp((sweep.sharpness * score).clamp(-8, 8))
        total, seen = total + fade * score, seen + fade
        focused, share = focused + focus * score, share + focus
    position = torch.linspace(1, 0, PLANES, dtype=torch.float64)[None, :, None].expand_as(seen) ** 2
    return torch.cat([total / (seen + 1e-3), focused / (share + 1e-3), torch.tanh(seen / 2), position], -1)


def test_statistics_are_those_of_a_loop_over_sources():
    model, views = placed_views()
    for i in (0, 2):
        got, _ = model.sweep._statistics(views, i, others(views, i), PLANES)
        torch.testing.assert_close(got.mT, slow_statistics(model.sweep, views, i), rtol=0, atol=1e-10)


def test_matching_types_without_turning_channels_need_no_turn():
    model, views = placed_views(match_type="8x0", groups=2)
    got, _ = model.sweep._statistics(views, 1, others(views, 1), PLANES)
    torch.testing.assert_close(got.mT, slow_statistics(model.sweep, views, 1), rtol=0, atol=1e-10)


def test_one_view_has_nothing_to_agree_with():
    model, views = placed_views(2)
    views.match, views.cameras = views.match[:1], views.cameras[:1]
    views.colors = views.colors[:1]
    got, _ = model.sweep._statistics(views, 0, others(views, 0), PLANES)
    assert not bool(got[:, :-1].any())
    position = torch.linspace(1, 0, PLANES, dtype=torch.float64) ** 2
    torch.testing.assert_close(got[:, -1], position.expand(len(got), -1))


def test_blocks_of_pixels_change_nothing(monkeypatch):
    model, views = placed_views()
    whole, _ = model.sweep._statistics(views, 1, others(views, 1), PLANES)
    monkeypatch.setattr(sources, "BLOCK", 7)
    torch.testing.assert_close(
        model.sweep._statistics(views, 1, others(views, 1), PLANES)[0], whole, rtol=0, atol=1e-12
    )


def test_images_encoded_one_by_one_are_those_of_a_batch(monkeypatch):
    model, views = placed_views()
    again = Views([color.permute(1, 2, 0) for color in views.colors], views.cameras)
    monkeypatch.setattr(sources, "BATCH", 1)
    with torch.no_grad():
        single = model.encode(again)
    for i in range(len(again)):
        torch.testing.assert_close(single.fine[i], views.fine[i], rtol=0, atol=1e-6)


def test_training_compares_with_some_of_the_views_drawn_anew():
    model, views = placed_views(8)
    with torch.no_grad():
        every = [v.values for v in model.sweep(views).volume]
        drawn = [model.sweep(views, generator=torch.Generator().manual_seed(k)).volume for k in (0, 0, 1)]
    drawn = [[v.values for v in volumes] for volumes in drawn]
    assert all(torch.equal(a, b) for a, b in zip(drawn[0], drawn[1], strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(drawn[0], every, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(drawn[0], drawn[2], strict=True))
    generator = torch.Generator().manual_seed(3)
    picks = [sources._others(8, 2, generator) for _ in range(300)]
    assert all(len(set(p)) == sources.DRAWN and 2 not in p for p in picks)
    counts = [sum(j in p for p in picks) / 300 for j in (0, 1, 3, 4, 5, 6, 7)]
    assert min(counts) > 0.6 and max(counts) < 0.83  # 5 of 7 is 0.71
    assert sources._others(6, 0, generator) == [1, 2, 3, 4, 5]
