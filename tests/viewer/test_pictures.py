"""Pictures of a rendering by mode, and depth to take away."""

import io

import cv2
import numpy as np
import pytest
import torch

from raytrans.export.files import write_depth_png
from raytrans.rendering.compositing import Rendering
from raytrans.viewer.pictures import depth_npy, depth_png, picture, scale_of

NAN = float("nan")


@pytest.fixture
def out() -> Rendering:
    """Two rows: red near, green far; blue where little is met, black where nothing is."""
    color = torch.tensor([[[1.0, 0, 0], [0, 0.5, 0]], [[0, 0, 2.0], [0, 0, 0]]])
    distance, opacity = torch.tensor([[1.0, 4.0], [2.0, NAN]]), torch.tensor([[1.0, 0.6], [0.4, 0.0]])
    spread = torch.tensor([[0.0, 1.0], [0.1, NAN]])
    return Rendering(color, distance, distance, opacity, spread, distance, distance)


def test_colour_and_opacity(out):
    assert picture(out, "colour").tolist() == [[[255, 0, 0], [0, 128, 0]], [[0, 0, 255], [0, 0, 0]]]
    assert picture(out, "opacity").tolist() == [[[255] * 3, [153] * 3], [[102] * 3, [0] * 3]]


def test_depth_is_red_near_and_blue_far_and_black_where_little_is_met(out):
    assert scale_of(out) == pytest.approx((1.0, 4.0), rel=0.1)
    near, far, *unknown = picture(out, "depth", (1.0, 4.0)).reshape(-1, 3).astype(int)
    assert near[0] > 100 > near[2] and far[2] > far[1] and not np.any(unknown)
    # one scale for all: the same depth has the same colour in a picture that shows less
    less = out.map(lambda value: value[:, 1:])
    assert picture(less, "depth", (1.0, 4.0))[0, 0].tolist() == far.tolist()


def test_spread_grows_brighter_and_is_black_where_unknown(out):
    dark, bright, between, unknown = picture(out, "spread").reshape(-1, 3).astype(int).sum(-1)
    assert dark < between < bright and unknown == 0


def test_another_mode_is_refused(out):
    with pytest.raises(ValueError, match="mode: expected one of colour, depth, opacity, spread, got 'x'"):
        picture(out, "x")


def test_depth_to_take_away(out, tmp_path):
    found = np.load(io.BytesIO(depth_npy(out.depth)))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, [[1, 4], [2, np.nan]])
    content, scale = depth_png(out.depth)
    steps = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    assert steps.dtype == np.uint16 and steps[1, 1] == 0
    np.testing.assert_allclose(steps * scale, [[1, 4], [2, 0]], atol=scale)
    write_depth_png(tmp_path / "depth.png", out.depth, scale)
    assert (tmp_path / "depth.png").read_bytes() == content
    with pytest.raises(ValueError, match="depth: expected a picture that shows a surface"):
        depth_png(torch.full((2, 2), NAN))
