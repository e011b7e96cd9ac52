"""Lens distortion and its inverse against OpenCV, closed forms and finite differences."""

import math

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from raytrans.geometry.distortion import Distortion, divided

OPENCV = [
    [-0.3, 0.1, 0.003, -0.002, 0.02],
    [0.2, -0.05, 0.001, 0.002, 0.0],
    [0.0578, -0.0805, -0.00098, 0.00015],
    [0.0, 0.0, 0.0, 0.0, 0.0],
]
FISHEYE = [[0.05, -0.01, 0.003, -0.001], [-0.03, 0.01, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]
RATIONAL = [
    [0.31, -0.12, 0.001, -0.002, 0.02, 0.65, -0.1, 0.05],
    [-7.9, 21.0, 0.0006, 0.0003, 2.5, -7.6, 18.9, 7.8],
    [-0.3, 0.1, 0.003, -0.002, 0.02, 0.0, 0.0, 0.0],
]
LENSES = [(m, c) for m, rows in (("opencv", OPENCV), ("fisheye", FISHEYE), ("rational", RATIONAL)) for c in rows]


def lens(model, coefficients):
    return Distortion(model, torch.tensor(coefficients, dtype=torch.float64))


def grid(extent, count=15):
    line = torch.linspace(-extent, extent, count, dtype=torch.float64)
    return torch.stack(torch.meshgrid(line, 0.8 * line, indexing="xy"), -1).reshape(-1, 2)


def by_opencv(model, coefficients, xy):
    zero, c = np.zeros(3), np.array(coefficients)
    points = np.concatenate([xy.numpy(), np.ones((len(xy), 1))], 1)
    if model == "fisheye":
        return torch.from_numpy(cv2.fisheye.projectPoints(points[:, None], zero, zero, np.eye(3), c)[0][:, 0])
    return torch.from_numpy(cv2.projectPoints(points, zero, zero, np.eye(3), c)[0][:, 0])


def difference(a, b):
    return (a - b).abs().max().item()


@pytest.mark.parametrize(("model", "coefficients"), LENSES)
def test_distortion_is_opencvs(model, coefficients):
    xy = grid(0.75)
    ours = lens(model, coefficients)
    assert difference(ours.distort(xy), by_opencv(model, coefficients, xy)) < 1e-14
    points = torch.cat([xy, torch.ones(len(xy), 1)], -1) * 3.7
    assert difference(ours.project(points), ours.distort(xy)) < 1e-14


@pytest.mark.parametrize(("model", "coefficients"), LENSES)
def test_the_inverse_is_opencvs(model, coefficients):
    xy = by_opencv(model, coefficients, grid(0.75))
    criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 200, 1e-14)
    undone = cv2.fisheye.undistortPoints if model == "fisheye" else cv2.undistortPoints
    expected = torch.from_numpy(undone(xy.numpy()[:, None], np.eye(3), np.array(coefficients), criteria=criteria)[:, 0])
    ours = lens(model, coefficients)
    assert difference(ours.undistort(xy), expected) < 1e-9
    assert difference(ours.undistort(xy), grid(0.75)) < 1e-14
    assert difference(divided(ours.unproject(xy)), grid(0.75)) < 1e-14
    assert difference(ours.unproject(xy).norm(dim=-1), torch.ones(len(xy))) < 1e-14


@given(st.integers(0, 10**6), st.sampled_from([1.0, 10.0]))
def test_any_opencv_lens_is_undone_everywhere(seed, extent):
    generator = torch.Generator().manual_seed(seed)
    spread = torch.tensor([0.3, 0.2, 0.01, 0.01, 0.1], dtype=torch.float64)
    ours = Distortion("opencv", spread * torch.randn(5, generator=generator, dtype=torch.float64))
    xy = grid(extent)
    assert difference(ours.distort(ours.undistort(xy)), xy) < 1e-12 * extent


@given(st.integers(0, 10**6), st.sampled_from([1.0, 10.0]))
def test_any_rational_lens_is_undone_everywhere_and_never_folds_back(seed, extent):
    generator = torch.Generator().manual_seed(seed)
    spread = torch.tensor([1.0, 1.0, 0.01, 0.01, 1.0, 1.0, 1.0, 1.0], dtype=torch.float64)
    ours = Distortion("rational", spread * torch.randn(8, generator=generator, dtype=torch.float64))
    xy = grid(extent)
    assert difference(ours.distort(ours.undistort(xy)), xy) < 1e-12 * extent
    radius = torch.linspace(0, 2 * ours.limit.clamp_max(3).item(), 4001, dtype=torch.float64)
    image = ours._with(ours.coefficients * torch.tensor([1.0, 1, 0, 0, 1, 1, 1, 1]), ours.limit).distort(
        torch.stack([radius, 0 * radius], -1)
    )
    assert (image[:, 0].diff() > 0).all()


def test_a_rational_lens_without_denominator_is_the_opencv_lens():
    ours, plain = lens("rational", [*OPENCV[0], 0.0, 0.0, 0.0]), lens("opencv", OPENCV[0])
    assert ours.limit.item() == pytest.approx(plain.limit.item(), rel=1e-9)
    assert difference(ours.distort(grid(5.0)), plain.distort(grid(5.0))) < 1e-9
    stacked = Distortion.stack([None, plain, lens("rational", RATIONAL[0])])
    assert stacked.model == "rational" and difference(stacked[1].distort(grid(1.0)), plain.distort(grid(1.0))) < 1e-12
    assert torch.equal(stacked[0].distort(grid(1.0)), grid(1.0))


@given(st.integers(0, 10**6))
def test_any_fisheye_is_undone_up_to_straight_behind(seed):
    generator = torch.Generator().manual_seed(seed)
    ours = Distortion("fisheye", 0.05 * torch.randn(4, generator=generator, dtype=torch.float64))
    angle = torch.linspace(0, math.pi - 1e-3, 50, dtype=torch.float64)
    turn = 7 * angle
    rays = torch.stack([angle.sin() * turn.cos(), angle.sin() * turn.sin(), angle.cos()], -1)
    assert difference(ours.unproject(ours.project(rays)), rays) < 1e-10


def test_an_equidistant_fisheye_images_the_angle():
    angle = torch.tensor([0.0, 1e-12, 1e-6, 1e-3, 0.5, math.pi / 2, 2.5, math.pi], dtype=torch.float64)
    rays = torch.stack([angle.sin(), torch.zeros_like(angle), angle.cos()], -1)
    xy = lens("fisheye", [0.0] * 4).project(5 * rays)
    assert difference(xy[:, 0], angle) < 1e-14 and not xy[:, 1].any()


@pytest.mark.parametrize(
    ("model", "coefficients", "limit"),
    [
        # 1 + 3 k1 r^2 = 0.01 and its like, solved by hand
        ("opencv", [-0.3, 0.0, 0.0, 0.0], math.sqrt(0.99 / 0.9)),
        ("opencv", [0.0, -0.2, 0.0, 0.0], 0.99**0.25),
        ("opencv", [0.3, 0.0, 0.0, 0.0], 1e3),
        ("fisheye", [-0.1, 0.0, 0.0, 0.0], math.sqrt(0.99 / 0.3)),
        ("fisheye", [0.1, 0.0, 0.0, 0.0], math.pi),
        # r / (1 + r^2) has the slope (1 - u) / (1 + u)^2, u = r^2; r / (1 - r^2) a pole at 1
        ("rational", [0.0, 0, 0, 0, 0, 1, 0, 0], math.sqrt((-1.02 + math.sqrt(1.02**2 + 4 * 0.01 * 0.99)) / 0.02)),
        ("rational", [0.0, 0, 0, 0, 0, -1, 0, 0], math.sqrt(0.99)),
    ],
)
def test_the_limit_is_where_the_slope_has_fallen_to_one_percent(model, coefficients, limit):
    assert lens(model, coefficients).limit.item() == pytest.approx(limit, rel=1e-9)


@pytest.mark.parametrize(
    ("model", "coefficients"),
    [("opencv", [-0.3, 0.0, 0.0, 0.0]), ("fisheye", [-0.5, 0, 0, 0]), ("rational", [0.0, 0, 0, 0, 0, 1, 0, 0])],
)
def test_beyond_the_limit_points_go_on_outwards(model, coefficients):
    ours = lens(model, coefficients)
    radius = torch.linspace(0, 50, 5000, dtype=torch.float64)
    image = ours.distort(torch.stack([radius, 0 * radius], -1))[:, 0]
    assert (image.diff() > 0).all()
    # no kink: the slope changes by less than its own largest change inside the limit
    assert image.diff().diff().abs().max() < 2e-4
    far = grid(1e6)
    assert torch.isfinite(ours.undistort(far)).all() and torch.isfinite(ours.unproject(far)).all()


@pytest.mark.parametrize(("model", "coefficients"), LENSES)
def test_gradients_against_finite_differences(model, coefficients):
    ours = lens(model, coefficients)
    xy = torch.tensor([[0.0, 0.0], [0.3, -0.2], [0.6, 0.7]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(ours.distort, xy)
    assert torch.autograd.gradcheck(ours.undistort, xy)
    assert torch.autograd.gradcheck(ours.unproject, xy)
    points = torch.tensor([[0.0, 0.0, 2.0], [0.3, -0.2, 1.0], [1.0, 2.0, 0.5]], dtype=torch.float64)
    assert torch.autograd.gradcheck(ours.project, points.requires_grad_())


@pytest.mark.parametrize(("model", "coefficients"), [LENSES[0], LENSES[4], LENSES[7]])
def test_gradients_in_the_coefficients(model, coefficients):
    start = torch.tensor(coefficients, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda c: Distortion(model, c).undistort(grid(0.5, 3)), start)


@pytest.mark.parametrize(("model", "coefficients"), LENSES)
def test_odd_points_stay_finite(model, coefficients):
    ours = lens(model, coefficients)
    points = torch.tensor(
        [[0, 0, 0], [1, 2, 0], [0, 0, -1], [1, 1, -1], [1e-30, 0, 1], [1e200, 0, 1]], dtype=torch.float64
    )
    points.requires_grad_()
    image = ours.project(points)
    image.sum().backward()
    assert torch.isfinite(image).all() and torch.isfinite(points.grad).all()


@pytest.mark.parametrize("model", ["opencv", "fisheye", "rational"])
def test_a_batch_of_lenses_broadcasts(model):
    rows = [c for m, c in LENSES if m == model and (m == "fisheye" or len(c) > 4)]
    lenses = lens(model, rows)
    xy = 0.7 * torch.rand(len(rows), 11, 2, dtype=torch.float64)
    expected = torch.stack([lens(model, row).distort(p) for row, p in zip(rows, xy, strict=True)])
    assert torch.equal(lenses.distort(xy), expected)
    assert torch.equal(lenses[1:].distort(xy[1:]), expected[1:])
    assert torch.equal(lenses[1].distort(xy[1]), expected[1])
    assert difference(lenses.undistort(expected), xy) < 1e-13
    assert torch.equal(lenses.distort(xy[:1])[2], lenses[2].distort(xy[0]))
    single = lenses.to(torch.float32).distort(xy.float())
    assert single.dtype == torch.float32 and difference(single, expected) < 1e-6


@pytest.mark.parametrize(("model", "coefficients"), LENSES)
@pytest.mark.parametrize("k", range(5))
def test_a_turned_lens_acts_on_turned_points(model, coefficients, k):
    turn = torch.linalg.matrix_power(torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64), k)
    ours, xy = lens(model, coefficients), grid(0.7)
    assert difference(ours.quarter_turned(k).distort(xy @ turn.mT), ours.distort(xy) @ turn.mT) < 1e-15


def test_lenses_are_stacked_with_pinholes():
    stacked = Distortion.stack([None, lens("opencv", OPENCV[0])])
    assert stacked.shape == (2,) and torch.equal(stacked[0].distort(grid(1.0)), grid(1.0))
    assert Distortion.stack([None, None]) is None
    for pair in ([None, lens("fisheye", FISHEYE[2])], [lens("opencv", OPENCV[0]), lens("fisheye", FISHEYE[0])]):
        with pytest.raises(ValueError, match="distortion: expected one lens model"):
            Distortion.stack(pair)


@pytest.mark.parametrize(
    ("model", "coefficients", "words"),
    [
        ("brown", [0.0] * 4, "expected a model out of opencv, rational, fisheye, got 'brown'"),
        ("opencv", [0.0] * 3, "4 or 5 coefficients"),
        ("opencv", [0.0] * 8, "4 or 5 coefficients"),
        ("fisheye", [0.0] * 5, "4 coefficients"),
        ("rational", [0.0] * 5, "8 coefficients"),
        ("opencv", 0.1, "4 or 5 coefficients"),
        ("fisheye", [0.0, math.nan, 0.0, 0.0], "finite"),
    ],
)
def test_bad_lenses_are_refused(model, coefficients, words):
    with pytest.raises(ValueError, match=f"distortion: .*{words}"):
        lens(model, coefficients)
