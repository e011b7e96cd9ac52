"""Depth priors: what is refused, and that they follow their views through turns, scales, choices and sizes."""

import numpy as np
import pytest
import torch

from raytrans.data.priors import DepthPrior
from raytrans.data.views import Views
from raytrans.geometry.cameras import Cameras


def prior(seed: int = 0, planes: int = 3, size: tuple[int, int] = (2, 4)) -> DepthPrior:
    generator = torch.Generator().manual_seed(seed)
    return DepthPrior(
        torch.randn(planes, *size, generator=generator),
        torch.rand(size, generator=generator, dtype=torch.float64) + 0.1,
    )


def views(*priors: DepthPrior | None) -> Views:
    intrinsics = np.tile([[20.0, 0, 4], [0, 20.0, 3], [0, 0, 1]], (len(priors), 1, 1))
    poses = np.tile(np.eye(4), (len(priors), 1, 1))
    poses[:, 0, 3] = np.arange(len(priors))
    return Views(torch.rand(len(priors), 6, 8, 3), Cameras(intrinsics, poses, size=(6, 8)), priors)


def test_turns_follow_the_image():
    one = prior()
    for turns in range(-1, 5):
        turned = one.quarter_turned(turns)
        assert np.array_equal(turned.near.numpy(), np.rot90(one.near.numpy(), turns))
        for k in range(3):
            assert np.array_equal(turned.logits[k].numpy(), np.rot90(one.logits[k].numpy(), turns))


def test_views_carry_their_priors():
    a, b = prior(1), prior(2)
    three = views(a, None, b)
    assert three.priors == [a, None, b]
    assert three[[2, 1]].priors == [b, None] and three[0].priors == [a]
    assert three.resized(4).priors == [a, None, b]
    assert [p is not None for p in three.to("cpu").priors] == [True, False, True]
    assert Views(three.images, three.cameras).priors == [None] * 3


def test_a_longer_world_has_a_farther_first_plane():
    a = prior(1)
    [moved, nothing] = views(a, None).moved(torch.eye(3), torch.ones(3), scale=4.0).priors
    torch.testing.assert_close(1 / moved.near, 4 / a.near)
    assert torch.equal(moved.logits, a.logits) and nothing is None


@pytest.mark.parametrize(
    ("logits", "near", "named"),
    [
        (
            torch.zeros(1, 2, 3),
            torch.ones(2, 3),
            r"logits: expected \(planes, h, w\) of two planes or more, got \(1, 2",
        ),
        (torch.zeros(2, 3), torch.ones(2, 3), r"logits: expected \(planes, h, w\)"),
        (torch.zeros(2, 0, 3), torch.ones(0, 3), r"logits: expected \(planes, h, w\)"),
        (torch.zeros(2, 2, 3), torch.ones(3, 2), r"near: expected \(2, 3\) as of logits, got \(3, 2\)"),
        (torch.full((2, 2, 3), torch.nan), torch.ones(2, 3), "logits: expected finite floats"),
        (torch.zeros(2, 2, 3, dtype=torch.int64), torch.ones(2, 3), "logits: expected finite floats"),
        (torch.zeros(2, 2, 3), torch.zeros(2, 3), "near: expected finite floats above 0"),
        (torch.zeros(2, 2, 3), torch.full((2, 3), torch.inf), "near: expected finite floats above 0"),
    ],
)
def test_what_is_no_distribution_is_refused(logits, near, named):
    with pytest.raises(ValueError, match=named):
        DepthPrior(logits, near)


def test_views_refuse_what_is_no_prior():
    one = views(None)
    with pytest.raises(ValueError, match="priors: expected one or None for each of the 1 views, got 2"):
        Views(one.images, one.cameras, [None, None])
    with pytest.raises(ValueError, match=r"priors\[0\]: expected a DepthPrior or None, got Tensor"):
        Views(one.images, one.cameras, [torch.zeros(3)])
