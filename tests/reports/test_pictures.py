"""Pictures beside the truth: their colours against OpenCV's maps of numbers computed here."""

import base64

import cv2
import numpy as np
import pytest
import torch

from raytrans.reports.page import Page
from raytrans.reports.pictures import (
    BAR_WIDTH,
    LARGEST,
    MARGIN,
    Shown,
    depth_scale,
    error_scale,
    reduced,
    show_pictures,
)


def decoded(reader) -> list[np.ndarray]:
    """All images of a page as (H, W, 3)."""
    contents = [base64.b64decode(uri.partition(",")[2]) for uri in reader.sources]
    return [cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1] for data in contents]


def shown(**changes) -> Shown:
    torch.manual_seed(0)
    values = {"color": torch.rand(6, 8, 3), "depth": 1 + 4 * torch.rand(6, 8), "target": torch.rand(6, 8, 3)}
    values["true_depth"] = 1 + 4 * torch.rand(6, 8)
    return Shown("view 3", **{**values, **changes})


def test_error_is_drawn_against_the_scale_that_is_shown(read_html):
    one = shown()
    one.target[0] = one.color[0]
    page = Page("Report")
    show_pictures(page, [one])
    reader = read_html(page.html())
    pictures = decoded(reader)
    assert len(pictures) == 7 and reader.lacks_nothing()
    error = np.abs(one.color.numpy().astype(float) - one.target.numpy()).mean(-1)
    steps = np.round((error / np.quantile(error, 0.99)).clip(0, 1) * 255).astype(np.uint8)
    expected = cv2.applyColorMap(steps, cv2.COLORMAP_INFERNO)[..., ::-1]
    assert np.abs(pictures[4].astype(int) - expected).max() <= 3
    assert (pictures[4][0] == expected[0]).all() and f"error, mean {error.mean():.3g}" in reader.of("figcaption")
    np.testing.assert_array_equal(pictures[2], (one.target.numpy() * 255).round().astype(np.uint8))


def test_depths_of_all_pictures_share_one_scale(read_html):
    near, far = shown(true_depth=None), shown(depth=torch.full((6, 8), 3.0), true_depth=None, target=None)
    far.depth[2, 3] = torch.nan
    page = Page("Report")
    show_pictures(page, [near, far])
    pictures = decoded(read_html(page.html()))
    assert len(pictures) == 2 + 4 + 2
    inverse = 1 / np.concatenate([near.depth.numpy().ravel(), far.depth.numpy().ravel()])
    low, high = np.percentile(inverse[np.isfinite(inverse)], [2, 98])
    step = np.uint8(round((1 / 3 - low) / (high - low) * 255))
    expected = cv2.applyColorMap(np.full((1, 1), step), cv2.COLORMAP_VIRIDIS)[0, 0, ::-1]
    picture = pictures[-1].astype(int)
    assert (picture[2, 3] == 0).all() and np.abs(picture[0, 0] - expected).max() <= 3


def test_scales_hold_the_colours_from_end_to_end():
    strip = depth_scale(1.0, 5.0)[10, MARGIN : BAR_WIDTH - MARGIN].astype(int)
    expected = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[None], cv2.COLORMAP_VIRIDIS)[0, :, ::-1].astype(int)
    assert np.abs(strip[0] - expected[255]).max() < 4 and np.abs(strip[-1] - expected[0]).max() < 4
    middle = 1 / ((1 + 1 / 5) / 2)  # half way in 1 / depth
    assert middle == pytest.approx(5 / 3) and np.abs(strip[len(strip) // 2] - expected[127]).max() < 6
    errors = error_scale(0.2)[10, MARGIN : BAR_WIDTH - MARGIN].astype(int).sum(-1)
    assert errors[0] < 20 and errors[-1] > 500 and errors[len(errors) // 4] < errors[len(errors) // 2]
    assert depth_scale(2.0, 2.0).shape == depth_scale(0.001, 4000.0).shape


def test_nothing_known_of_depth_has_no_scale_of_it(read_html):
    page = Page("Report")
    show_pictures(page, [shown(depth=torch.full((6, 8), torch.nan), true_depth=None)])
    captions = read_html(page.html()).of("figcaption")
    assert not any("black" in caption for caption in captions) and len(captions) == 5


def test_large_pictures_are_averaged_down_and_small_ones_are_kept():
    small, large = torch.rand(5, 7, 3), torch.full((2, 2 * LARGEST, 3), 0.5)
    np.testing.assert_array_equal(reduced(small), (small.numpy() * 255).round().astype(np.uint8))
    large[:, ::2] = 1.0
    got = reduced(large)
    assert got.shape == (1, LARGEST, 3) and np.abs(got.astype(int) - 191).max() <= 1
