"""Both layouts against loops."""

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from raytrans.geometry.pairs import angle, distance
from raytrans.layers.convolution import RayConvolution
from raytrans.layers.neighborhood import Gathered, PairList


def _both(targets=5, sources=7, size=4):
    index = torch.stack([torch.randperm(sources)[:size] for _ in range(targets)])
    listed = PairList(torch.arange(targets).repeat_interleave(size), index.reshape(-1), (targets,), (sources,))
    return index, Gathered.from_index(index, (sources,)), listed


def test_source_target_sum_and_contract_are_loops():
    index, gathered, listed = _both()
    values, targets, a, b = torch.randn(7, 3), torch.randn(5, 2), torch.randn(5, 4, 2), torch.randn(5, 4, 3)
    for t in range(5):
        for k in range(4):
            assert torch.equal(gathered.source(values)[t, k], values[index[t, k]])
            assert torch.equal(listed.source(values)[4 * t + k], values[index[t, k]])
            assert torch.equal(gathered.target(targets)[t, 0], listed.target(targets)[4 * t + k])
    outer = np.einsum("tka,tkb->tab", a.numpy(), b.numpy())
    np.testing.assert_allclose(gathered.contract(a, b), outer, atol=1e-13)
    np.testing.assert_allclose(listed.contract(a.flatten(0, 1), b.flatten(0, 1)), outer, atol=1e-13)
    np.testing.assert_allclose(gathered.sum(a), a.numpy().sum(1), atol=1e-13)
    np.testing.assert_allclose(listed.sum(a.flatten(0, 1)), a.numpy().sum(1), atol=1e-13)
    assert gathered.count(a).item() == 4 and (listed.count(a) == 4).all()


def test_softmax_is_the_loop_and_ignores_masked_logits():
    _, gathered, listed = _both()
    logits, weights = 3 * torch.randn(5, 4, 2), torch.rand(5, 4)
    weights[0, 1:], weights[1], logits[2, 1] = 0.0, 0.0, 2000.0
    weights[2, 1] = 0.0
    expected = np.zeros((5, 4, 2))
    for t in range(5):
        for head in range(2):
            kept = [k for k in range(4) if weights[t, k] > 0]
            masses = [float(weights[t, k]) * np.exp(float(logits[t, k, head])) for k in kept]
            for k, mass in zip(kept, masses, strict=True):
                expected[t, k, head] = mass / sum(masses)
    np.testing.assert_allclose(gathered.softmax(logits, weights), expected, atol=1e-13)
    np.testing.assert_allclose(
        listed.softmax(logits.flatten(0, 1), weights.flatten()).reshape(5, 4, 2), expected, atol=1e-13
    )
    mask = weights > 0
    as_mask = gathered.softmax(logits, mask)
    assert torch.equal(as_mask[1], torch.zeros(4, 2))
    torch.testing.assert_close(listed.softmax(logits.flatten(0, 1), mask.flatten()).reshape(5, 4, 2), as_mask)
    plain = torch.randn(5, 4, 2)
    torch.testing.assert_close(listed.softmax(plain.flatten(0, 1)).reshape(5, 4, 2), torch.softmax(plain, 1))
    torch.testing.assert_close(gathered.softmax(plain), torch.softmax(plain, 1))


def test_gradients_of_masked_softmax_are_finite():
    _, gathered, listed = _both()
    logits, weights = torch.randn(5, 4, 2, requires_grad=True), torch.rand(5, 4)
    weights[0], weights[1, 0] = 0.0, 1e-300
    weights.requires_grad_()
    probe = torch.randn(5, 4, 2)
    gathered_gradient = torch.autograd.grad((gathered.softmax(logits, weights) * probe).sum(), (logits, weights))
    shares = listed.softmax(logits.flatten(0, 1), weights.flatten()).reshape(5, 4, 2)
    listed_gradient = torch.autograd.grad((shares * probe).sum(), (logits, weights))
    for a, b in zip(gathered_gradient, listed_gradient, strict=True):
        assert torch.isfinite(a).all() and a.abs().max() > 0.1
        torch.testing.assert_close(a, b)


def test_nearest_is_a_sorted_loop(random_rays):
    x, y = random_rays(2, 3), random_rays(4, 5)
    found = Gathered.nearest(x, y, 6, unit=0.8, chunk=50)
    flat = y.reshape(-1)
    for i in range(2):
        for j in range(3):
            pairs = [(angle(x[i, j], flat[k]), distance(x[i, j], flat[k]) / 0.8) for k in range(20)]
            scores = [float(a**2 + d**2) for a, d in pairs]
            assert found.index[i, j].tolist() == sorted(range(20), key=scores.__getitem__)[:6]
    assert found.pairs == (2, 3, 6) and found.source(y).shape == (2, 3, 6)


def test_rays_are_laid_like_tensors(random_rays):
    y = random_rays(7)
    index, gathered, listed = _both()
    assert torch.equal(gathered.source(y).frame, y.frame[index])
    assert torch.equal(listed.source(y).moment, y.moment[index.reshape(-1)])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Gathered.from_index(torch.tensor([[7]]), (7,)), "index: expected indices from 0 to 6, got 7"),
        (lambda: Gathered.from_index(torch.rand(2, 2), (7,)), "index: expected integers"),
        (lambda: Gathered.dense((2, 3), (3, 3), batch=1), "expected equal first 1 axes"),
        (lambda: PairList(torch.arange(3), torch.arange(2), (3,), (3,)), "expected two lists of one length"),
        (lambda: PairList(torch.tensor([-1]), torch.tensor([0]), (3,), (3,)), "target: expected indices from 0 to 2"),
        (lambda: _both()[1].source(torch.rand(6, 2)), r"sources: expected leading shape \(7,\)"),
        (lambda: _both()[2].target(torch.rand(6, 2)), r"targets: expected leading shape \(5,\)"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_nearest_refuses_more_than_there_are(random_rays):
    with pytest.raises(ValueError, match="count: expected 1 to 3"):
        Gathered.nearest(random_rays(2), random_rays(3), 4, 1.0)


def test_nearest_points_and_rays_are_found_by_distance(random_rays):
    points, targets, rays = torch.randn(4, 6, 3), torch.randn(5, 3), random_rays(7)
    flat = points.reshape(-1, 3)
    among = Gathered.nearest(targets, points, 3)
    expected = cKDTree(flat.numpy()).query(targets.numpy(), 3)[1]
    assert among.index.tolist() == expected.tolist() and among.sources == (4, 6)
    to_lines = torch.stack(
        [(flat - r.anchor - ((flat - r.anchor) @ r.direction)[:, None] * r.direction).norm(dim=-1) for r in rays]
    )
    assert Gathered.nearest(rays, points, 2).index.tolist() == to_lines.argsort(-1)[:, :2].tolist()
    assert (
        Gathered.nearest(points, rays, 2, chunk=10).index.reshape(-1, 2).tolist()
        == to_lines.T.argsort(-1)[:, :2].tolist()
    )


def test_a_unit_that_is_no_length_is_refused(random_rays):
    layer = RayConvolution("1x0", "1x0")
    for unit in (0.0, -1.0, torch.tensor(0.0), torch.tensor(float("nan"))):
        with pytest.raises(ValueError, match="unit: expected a positive length"):
            layer(random_rays(2), random_rays(3), torch.randn(3, 1), unit=unit)


def test_pairs_within_a_radius_are_those_of_scipy():
    points, system = torch.rand(40, 3).double() * 3, torch.randint(3, (40,))
    found = PairList.within(points, 1.1, system)
    expected = set()
    for own in range(3):
        index = (system == own).nonzero()[:, 0].tolist()
        for i, j in cKDTree(points[index].numpy()).query_pairs(1.1):
            expected |= {(index[i], index[j]), (index[j], index[i])}
    pairs = list(zip(found.target_index.tolist(), found.source_index.tolist(), strict=True))
    assert len(pairs) == len(set(pairs)) and set(pairs) == expected and len(expected) > 50
    assert found.target_index.tolist() == sorted(found.target_index.tolist())
    together = PairList.within(points, 1.1)
    assert len(together.target_index) == 2 * len(cKDTree(points.numpy()).query_pairs(1.1))
    assert PairList.within(torch.zeros(0, 3), 1.0).pairs == (0,) == PairList.within(torch.zeros(1, 3), 1.0).pairs


@pytest.mark.parametrize(
    ("points", "radius", "message"),
    [
        (torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 0, 0]]), 2.0, "got points 1 and 2 at the same"),
        (torch.tensor([[0.0, 0, float("nan")]]), 2.0, "points: expected finite coordinates"),
        (torch.zeros(1, 3), 0.0, "radius: expected a positive length, got 0.0"),
    ],
)
def test_points_without_pairs_of_a_direction_are_refused(points, radius, message):
    with pytest.raises(ValueError, match=message):
        PairList.within(points, radius)
    far_apart = torch.arange(len(points))
    if "same" in message:
        assert PairList.within(points, radius, far_apart).pairs == (0,)
