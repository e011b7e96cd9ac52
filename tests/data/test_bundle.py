"""The fit of poses and lens to pixels of measured depth: its derivatives, and steps that lead nowhere."""

import numpy as np
import torch
from scipy.optimize import approx_fprime

from raytrans.data import bundle
from raytrans.data.bundle import Sightings
from raytrans.data.lensfit import corrected
from raytrans.data.refinement import sightings
from tests.data.sphere_capture import COUNT, case


def test_derivatives_are_those_of_finite_differences(tmp_path):
    one = case(tmp_path, False, wrong=0.1)
    stated, free = one.matches.cameras, bundle.LENS
    seen = sightings(one.matches, one.scene.depth, stated)
    seen = Sightings(*(getattr(seen, name)[::40] for name in ("first", "second", "pixels", "depth")))
    poses, lens, scale = stated.world_from_camera, torch.zeros(5, dtype=torch.float64), 3.0
    errors = bundle.errors_of(stated, seen)
    normal, right = bundle.normal_equations(stated, seen, poses, lens, free, errors, scale)

    def total(step: np.ndarray) -> float:
        moved, bent = bundle.moved(poses, lens, torch.from_numpy(step), free)
        cameras = bundle.posed(corrected(stated, bent), moved)
        return bundle.cost(bundle.errors_of(cameras, seen), scale)

    size = 6 * COUNT + len(free)
    slope = approx_fprime(np.zeros(size), total, 1e-7)
    assert np.allclose(2 * right.numpy(), slope, rtol=1e-3, atol=1e-3 * np.abs(slope).max())
    values = torch.linalg.eigvalsh(normal) / normal.diagonal().mean()
    assert torch.allclose(normal, normal.T)
    assert values[:6].abs().max() < 1e-12 and values[6] > 1e-6  # motions of the whole are all that nothing says


def test_derivatives_of_some_at_a_time_add_up(tmp_path, monkeypatch):
    one = case(tmp_path, False, wrong=0.1)
    stated, lens = one.matches.cameras, torch.zeros(5, dtype=torch.float64)
    seen = sightings(one.matches, one.scene.depth, stated)
    arguments = (stated, seen, stated.world_from_camera, lens, bundle.LENS, bundle.errors_of(stated, seen), 3.0)
    whole = bundle.normal_equations(*arguments)
    monkeypatch.setattr(bundle, "CHUNK", 250)
    assert len(list(seen.chunks())) > 5
    for a, b in zip(whole, bundle.normal_equations(*arguments), strict=True):
        assert torch.allclose(a, b, rtol=1e-12, atol=1e-9)


def test_a_step_that_is_no_number_is_not_taken(tmp_path, monkeypatch):
    one = case(tmp_path, False)
    stated, lens = one.matches.cameras, torch.zeros(5, dtype=torch.float64)
    seen, size = sightings(one.matches, one.scene.depth, stated), 6 * COUNT + 2
    for normal, right in ((-torch.eye(size), torch.ones(size)), (torch.eye(size), torch.full((size,), torch.nan))):
        monkeypatch.setattr(bundle, "normal_equations", lambda *_, n=normal, r=right: (n.double(), r.double()))
        poses, found = bundle.adjusted(stated, seen, stated.world_from_camera, lens, bundle.LENS)
        assert torch.equal(poses, stated.world_from_camera) and torch.equal(found, lens)
