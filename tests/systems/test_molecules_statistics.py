"""Attention of molecules by elements, bond and distance, against loops over the pairs."""

import pytest
import torch

from raytrans.systems.molecules.elements import bonded
from raytrans.systems.molecules.statistics import pair_attention
from raytrans.systems.molecules.torchmd import Architecture, EquivariantTransformer
from raytrans.systems.molecules.xyz import Molecule

EDGES = (0.7, 1.5, 2.1, 3.0)


@pytest.fixture(scope="module")
def case():
    """A model, two molecules of different size, and |A| of all pairs from each molecule alone."""
    torch.manual_seed(0)
    model = EquivariantTransformer([1, 6, 8], Architecture(8, 2, 2, 6, 3.0)).double()
    generator, made = torch.Generator().manual_seed(1), []
    for numbers in ([6, 1, 8, 1], [8, 1, 6]):
        steps = torch.tensor([0.9, 0.6, 0.0], dtype=torch.float64).repeat(len(numbers), 1)
        noise = 0.1 * torch.randn(len(numbers), 3, generator=generator, dtype=torch.float64)
        made.append(Molecule(torch.tensor(numbers), steps.cumsum(0) + noise))
    rows = []
    for molecule in made:
        with torch.no_grad():
            alone = torch.zeros(len(molecule.numbers), dtype=torch.long)
            pairs, attention = model.attention(molecule.numbers, molecule.positions, alone)
        for p, (i, j) in enumerate(zip(pairs.target_index.tolist(), pairs.source_index.tolist(), strict=True)):
            if i != j:
                distance = (molecule.positions[i] - molecule.positions[j]).norm().item()
                mean = sum(attention[layer, p, head].abs().item() for layer in range(2) for head in range(2)) / 4
                rows.append((int(molecule.numbers[i]), int(molecule.numbers[j]), distance, mean))
    return pair_attention(model, made), rows


def mean(rows):
    return sum(row[-1] for row in rows) / len(rows)


def test_elements(case):
    pairs, rows = case
    found = pairs.by_elements([1, 6, 8])
    for a, target in enumerate((1, 6, 8)):
        for b, source in enumerate((1, 6, 8)):
            own = [row for row in rows if row[:2] == (target, source)]
            assert found.count[a, b].item() == len(own)
            if own:
                assert found.mean[a, b, 0].item() == pytest.approx(mean(own))
    assert found.mean[0, 1] != found.mean[1, 0], "who attends to whom makes no difference"
    without = pairs.by_elements([1, 6])
    torch.testing.assert_close(without.mean, found.mean[:2, :2], equal_nan=True)


def test_bonds_and_distances(case):
    pairs, rows = case
    for is_bond in (False, True):
        own = [
            row
            for row in rows
            if bool(bonded(torch.tensor([row[0]]), torch.tensor([row[1]]), torch.tensor([row[2]]))) == is_bond
        ]
        assert own and pairs.by_bond().mean[int(is_bond), 0].item() == pytest.approx(mean(own))
    found = pairs.by_distance(EDGES)
    for k, (low, high) in enumerate(zip(EDGES, EDGES[1:], strict=False)):
        own = [row for row in rows if low <= row[2] < high]
        assert own and found.mean[k, 0].item() == pytest.approx(mean(own)) and found.count[k].item() == len(own)


@pytest.mark.parametrize("elements", [[500], [1, 1], [0]])
def test_elements_that_are_none_are_refused(case, elements):
    with pytest.raises(ValueError, match="elements: expected different atomic numbers"):
        case[0].by_elements(elements)
