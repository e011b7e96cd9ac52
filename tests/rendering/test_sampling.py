import numpy as np
import torch

from raytrans.rendering.sampling import FLOOR, inverse_edges, plane_position, resample


def test_edges_are_uniform_in_the_root_of_inverse_distance_and_end_at_the_bounds():
    edges = inverse_edges(torch.tensor([4.0, 1.0, 0.3]), torch.tensor([0.0, 0.25, 0.1]), 4)
    expected = torch.tensor([[4.0, 2.25, 1.0, 0.25, 0.0], [1.0, 0.765625, 0.5625, 0.390625, 0.25]])
    torch.testing.assert_close(edges[:2], expected)
    assert edges[2, 0] == torch.tensor(0.3) and edges[2, -1] == torch.tensor(0.1)


def test_position_among_planes_is_the_number_of_the_plane():
    edges = inverse_edges(torch.tensor([2.5, 0.7]), torch.zeros(2), 8)
    torch.testing.assert_close(
        plane_position(edges, torch.tensor([[2.5], [0.7]])), torch.linspace(0, 1, 9).expand(2, 9)
    )
    assert plane_position(torch.tensor(3.0), torch.tensor(2.0)) == 0  # nearer than the first plane


def slow_inverse_cdf(edges, weights, count):
    padded = np.concatenate([weights[:1], weights, weights[-1:]])
    upper = np.maximum(padded[:-1], padded[1:])
    mass = (upper[:-1] + upper[1:]) / 2
    mass = (1 - FLOOR) * mass / max(mass.sum(), 1) + FLOOR / len(weights)
    mass = mass / mass.sum()
    out = []
    for k in range(count):
        u, total = (k + 0.5) / count, 0.0
        for b, m in enumerate(mass):
            if total + m >= u:
                out.append(edges[b] + (u - total) / m * (edges[b + 1] - edges[b]))
                break
            total += m
    return np.array(out)


def test_resampling_equals_the_loop():
    rng = np.random.default_rng(0)
    for _ in range(20):
        weights, edges = rng.random(9) ** 4 * rng.random(), np.sort(rng.random(10))[::-1].copy()
        got = resample(torch.tensor(edges)[None], torch.tensor(weights)[None], 7)[0].numpy()
        np.testing.assert_allclose(got, slow_inverse_cdf(edges, weights, 7), atol=1e-10)


def test_samples_descend_and_stay_inside_even_with_no_weight():
    edges = inverse_edges(torch.tensor([3.0]), torch.tensor([0.0]), 16)
    for weights in (torch.zeros(1, 16), torch.eye(16)[:1]):
        inverse = resample(edges, weights, 12)
        assert bool((inverse.diff() < 0).all()) and inverse.max() < 3 and inverse.min() > 0


def test_jitter_draws_stratified_samples():
    edges = torch.linspace(1, 0, 9).expand(2000, 9)
    jitter = torch.rand(2000, 4, generator=torch.Generator().manual_seed(0))
    inverse = resample(edges, torch.ones(2000, 8), 4, jitter)
    strata = torch.floor((1 - inverse) * 4)
    assert bool((strata == torch.arange(4)).all())
    torch.testing.assert_close(inverse.mean(0), torch.tensor([0.875, 0.625, 0.375, 0.125]), atol=0.01, rtol=0)
