"""Means over labels of pairs against slow loops."""

import pytest
import torch

from raytrans.layers.statistics import attention_statistics, bins


@pytest.mark.parametrize("pairs", [(40,), (5, 8)])
def test_means_are_those_of_a_loop(pairs):
    generator = torch.Generator().manual_seed(0)
    attention = torch.randn(*pairs, 2, generator=generator, dtype=torch.float64)
    first = torch.randint(-1, 3, pairs, generator=generator)
    second = torch.randint(0, 2, pairs, generator=generator)
    weights = torch.rand(pairs, generator=generator, dtype=torch.float64)
    found = attention_statistics(attention, [first, second], [3, 2], weights)
    assert found.mean.shape == (3, 2, 2) and found.count.shape == (3, 2)
    for a in range(3):
        for b in range(2):
            own = [i for i in range(40) if (first.flatten()[i], second.flatten()[i]) == (a, b)]
            mass = sum(weights.flatten()[i].item() for i in own)
            for head in range(2):
                total = sum(weights.flatten()[i] * abs(attention.reshape(40, 2)[i, head]) for i in own)
                assert found.mean[a, b, head].item() == pytest.approx(float(total) / mass)
            assert found.count[a, b].item() == pytest.approx(mass)
    assert found.count.sum() < weights.sum(), "pairs labelled -1 count"


def test_groups_without_pairs_have_no_mean():
    found = attention_statistics(torch.ones(2, 1), [torch.tensor([0, 0])], [2])
    assert found.count.tolist() == [2, 0] and found.mean[0].item() == 1 and found.mean[1].isnan().item()


def test_a_mask_is_a_weight():
    labels, mask = [torch.tensor([0, 0, 1, 1])], torch.tensor([True, True, True, False])
    found = attention_statistics(torch.tensor([[0.5], [-0.1], [0.5], [9.0]]), labels, [2], mask)
    torch.testing.assert_close(found.mean, torch.tensor([[0.3], [0.5]]))
    assert found.count.tolist() == [2, 1]


def test_bins_are_half_open():
    values = torch.tensor([-1.0, 0.0, 0.5, 1.0, 1.99, 2.0, torch.nan, torch.inf])
    assert bins(values, [0.0, 1.0, 2.0]).tolist() == [-1, 0, 0, 1, 1, -1, -1, -1]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: attention_statistics(torch.ones(3, 1), [torch.zeros(2).long()], [1]), "shape of the pairs"),
        (lambda: attention_statistics(torch.ones(2, 1), [torch.tensor([0, 4])], [4]), "numbers below 4, got 4"),
        (lambda: attention_statistics(torch.ones(2, 1), [], []), "as many of both"),
        (lambda: attention_statistics(torch.ones(2, 1), [torch.zeros(2)], [1]), "expected integers"),
        (
            lambda: attention_statistics(torch.ones(2, 1), [torch.zeros(2).long()], [1], torch.ones(3)),
            "weights: expected the shape of the pairs",
        ),
        (
            lambda: attention_statistics(torch.ones(2, 1), [torch.zeros(2).long()], [1], -torch.ones(2)),
            "weights: expected numbers of at least 0, got -1",
        ),
        (lambda: bins(torch.ones(2), [1.0]), "at least two ascending"),
        (lambda: bins(torch.ones(2), [1.0, 1.0]), "at least two ascending"),
    ],
)
def test_bad_labels_are_refused(call, says):
    with pytest.raises(ValueError, match=says):
        call()
