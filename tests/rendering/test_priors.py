"""Depth priors in the renderer: they stand in for the sweep, are read where the surface is, and keep every contract."""

import pytest
import torch

import raytrans
from raytrans.data.generate import generated_scene
from raytrans.data.priors import DepthPrior
from raytrans.data.views import Views
from raytrans.equivariance import check_model
from raytrans.rendering.sources import joined, source_unit
from raytrans.rendering.synthesis import arranged

PLANES = 40


@pytest.fixture(scope="module")
def scene():
    return generated_scene(23, "easy", (48, 64), 6)


@pytest.fixture(scope="module")
def model():
    return raytrans.load()


def exact(scene, i: int) -> DepthPrior:
    """All of the surface at the plane nearest to the exact depth, by the documented position of the planes."""
    camera, z = scene.cameras[i].resized(12, 16), scene.depth[i].double()
    z = z.unflatten(0, (12, 4)).unflatten(2, (16, 4))[:, 2, :, 2]
    inverse = (camera.rays().direction * camera.forward).sum(-1) / z.nan_to_num(torch.inf)
    near = torch.full((12, 16), 2 * float(inverse.max()), dtype=torch.float64)
    step = ((1 - (inverse / near).sqrt()) * (PLANES - 1)).round().long()
    logits = torch.full((PLANES, 12, 16), -10.0).scatter(0, step[None], 10.0)
    return DepthPrior(logits, near)


def rendered(model, scene, priors):
    views = Views(scene.images[1:], scene.cameras[1:], priors)
    return raytrans.render(model, views, scene.cameras[0])


def relative_error(out, scene) -> float:
    truth = scene.depth[0]
    error = ((out.depth - truth).abs() / truth)[torch.isfinite(truth) & torch.isfinite(out.depth)]
    return float(error.mean())


def test_exact_depth_of_the_sources_makes_better_depth_and_wrong_depth_worse(model, scene):
    priors = [exact(scene, i) for i in range(1, 6)]
    swept, known = (rendered(model, scene, given) for given in (None, priors))
    wrong = rendered(model, scene, [DepthPrior(p.logits, 2 * p.near) for p in priors])
    assert relative_error(known, scene) < 0.6 * relative_error(swept, scene)
    assert relative_error(wrong, scene) > 3 * relative_error(known, scene)


def test_the_prior_of_a_view_is_what_its_sweep_finds(model, scene):
    """A view that brings what its own sweep found has the same distribution, and the others are swept as before."""
    views = arranged(Views(scene.images[1:], scene.cameras[1:]))
    with torch.no_grad():
        encoded = model.encode(views)
        plain = model.place(encoded, source_unit(views.cameras))
        prior = model.depth_prior(encoded)
        parts = [model.encode(views[i]) for i in range(5)]
        parts[0].priors = [prior]
        known = model.place(joined(parts), source_unit(views.cameras))
    for a, b in zip(plain.volume, known.volume, strict=True):
        torch.testing.assert_close(a.values, b.values, rtol=0, atol=1e-4)
    assert plain.volume[0].values[0].std() > 0.01
    torch.testing.assert_close(plain.near[0], known.near[0])


def test_a_view_that_was_swept_alone_knows_its_own_planes(model, scene):
    """The first plane of a prior is a length of the world, whatever unit the sources of a rendering have."""
    views = arranged(Views(scene.images[1:], scene.cameras[1:]))
    with torch.no_grad():
        encoded = [model.encode(views[i]) for i in range(5)]
        prior = model.depth_prior(joined(encoded[:3]))
        for chosen in ([0, 3], [0, 1, 2, 3, 4]):
            parts = [encoded[i] for i in chosen]
            parts[0].priors = [prior]
            placed = model.place(joined(parts), source_unit(views.cameras[chosen]))
            unit = source_unit(views.cameras[chosen])
            torch.testing.assert_close(placed.near[0][0].double() / unit, prior.near.double(), rtol=1e-5, atol=0)
            parts[0].priors = [None]


@pytest.mark.slow
@pytest.mark.parametrize("all_of_them", [True, False])
def test_the_contracts_hold_with_priors(model, scene, all_of_them):
    priors = [exact(scene, i) if all_of_them or i % 2 else None for i in range(1, 6)]
    views = Views(scene.images[1:], scene.cameras[1:], priors)
    report = check_model(model, views, scene.cameras[0].resized(24, 32), torch.float64, 0)
    assert report.passed, str(report)


class Forgetful(Views):
    """Views whose priors stay as they are when the world grows."""

    def moved(self, rotation, translation, scale=1.0):
        moved = super().moved(rotation, translation, scale)
        return Forgetful(moved.images, moved.cameras, self.priors)


def test_priors_that_do_not_follow_the_world_are_caught(model, scene):
    priors = [exact(scene, i) for i in range(1, 4)]
    small = scene.cameras[0].resized(12, 16)
    passed = {}
    for kind in (Views, Forgetful):
        report = check_model(model, kind(scene.images[1:4], scene.cameras[1:4], priors), small, torch.float32, 0)
        passed[kind] = {row.name: row.passed for row in report.rows}
    assert passed[Views]["scale"] and not passed[Forgetful]["scale"] and passed[Forgetful]["world_motion"]
