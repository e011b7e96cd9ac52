"""Degenerate rigs are what their kind says; what becomes of them is tested in training and geometry."""

import pytest
import torch

from raytrans.equivariance.degenerate import KINDS, degenerate_rig


def test_rigs_are_what_their_kind_says_and_the_same_for_a_seed():
    for kind in KINDS:
        (views, camera), (again, other) = (degenerate_rig(kind, 5) for _ in range(2))
        assert torch.equal(camera.world_from_camera, other.world_from_camera)
        assert all(torch.equal(a, b) for a, b in zip(views.images, again.images, strict=True))
    views, camera = degenerate_rig("collinear", 0)
    centers = torch.cat([views.cameras.centers, camera.centers[None]])
    assert torch.linalg.matrix_rank(centers - centers[0], rtol=1e-9) == 1
    views, camera = degenerate_rig("facing each other", 0)
    pixel, depth = views.cameras[0].project(views.cameras[1].centers)
    assert depth > 0 and torch.allclose(pixel, torch.tensor([4.5, 4.5], dtype=torch.float64))
    with pytest.raises(ValueError, match="kind: expected one of all cameras equal, .*, got 'odd'"):
        degenerate_rig("odd", 0)
