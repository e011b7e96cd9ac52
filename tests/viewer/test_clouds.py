"""Points of the source views: on the exact surface where depth is exact, and only what others confirm at the end."""

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from raytrans.export.clouds import point_map
from raytrans.rendering.compositing import Rendering
from raytrans.viewer import clouds
from raytrans.viewer.clouds import cloud_pieces
from raytrans.viewer.frames import FrameMaker
from raytrans.viewer.stage import Stage
from raytrans.viewer.turns import Rank

WRONG = 3


@pytest.fixture
def maker(sources, drawn, monkeypatch) -> FrameMaker:
    """With exact depth instead of the model's, but that of one view too near."""
    made = FrameMaker(sources, Stage.of(sources.cameras))
    order = iter(range(1, 7))

    def exact(encoded, camera):
        index = next(order)
        assert torch.equal(camera.world_from_camera, drawn.cameras[index].world_from_camera)
        depth = drawn.depth[index] * (0.8 if index == WRONG else 1.0)
        one = torch.ones_like(depth)
        yield None
        yield Rendering(drawn.images[index], depth, depth, one, 1e-6 * one, depth, depth)

    monkeypatch.setattr(made, "whole", exact)
    monkeypatch.setattr(sources, "placed", lambda chosen, keep: (chosen, keep))
    return made


def test_points_lie_on_the_surface_and_others_confirm_them(maker, drawn):
    shown = []
    said = list(cloud_pieces(maker, range(1, 7), 4, lambda index, points: shown.append((index, points))))
    assert {step.rank for step in said} == {Rank.IDLE}
    assert [index for index, _ in shown] == [1, 2, 3, 4, 5, 6] * 2
    maps = [point_map(drawn.cameras[i], drawn.depth[i]).reshape(-1, 3) for i in range(7)]
    exact = maker.stage.from_world.apply(torch.cat(maps)).numpy()
    tree = cKDTree(exact[np.isfinite(exact).all(1)])
    for index, points in shown[:6]:
        away = np.median(tree.query(points.positions)[0])
        assert len(points) > 50 and (away < 1e-4) == (index != WRONG)
        assert points.positions.dtype == np.float32 and points.colors.dtype == np.uint8
    first, last = (dict(shown[part]) for part in (slice(0, 6), slice(6, 12)))
    # 20 % too near, hardly a point of this view is confirmed; of the others many are
    assert len(last[WRONG]) < 0.2 * len(first[WRONG])
    assert all(len(last[i]) > 0.2 * len(first[i]) for i in (1, 2, 4, 5, 6))


def test_points_have_the_colours_of_their_photograph(maker, drawn):
    shown = {}
    list(cloud_pieces(maker, [1], 4, shown.__setitem__))
    known = torch.isfinite(drawn.depth[1])
    expected = (drawn.images[1][known] * 255).round().byte().numpy()
    np.testing.assert_array_equal(shown[1].colors, expected)


def test_a_pixel_without_confidence_is_no_point(maker, monkeypatch):
    monkeypatch.setattr(clouds, "confidence", lambda out: torch.zeros_like(out.opacity))
    shown = {}
    list(cloud_pieces(maker, [1], 4, shown.__setitem__))
    assert len(shown[1]) == 0
