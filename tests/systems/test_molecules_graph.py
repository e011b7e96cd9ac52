"""Neighbours against a slow loop, and molecules that a model cannot read."""

import pytest
import torch

from raytrans.systems.molecules.graph import Elements, neighbors, sum_of_systems


def test_neighbours_are_those_of_a_loop():
    generator = torch.Generator().manual_seed(0)
    positions = 2 * torch.rand(14, 3, generator=generator, dtype=torch.float64)
    system = torch.tensor([0] * 6 + [1] * 8)
    pairs = neighbors(positions, system, 1.3)
    expected = {
        (i, j)
        for i in range(14)
        for j in range(14)
        if i != j and system[i] == system[j] and (positions[i] - positions[j]).norm() < 1.3
    }
    found = list(zip(pairs.target_index.tolist(), pairs.source_index.tolist(), strict=True))
    assert set(found) == expected and len(found) == len(expected) and 0 < len(expected) < 14 * 13


def test_lonely_and_coincident_atoms_are_named():
    positions = torch.tensor([[0.0, 0, 0], [0, 0, 1], [0, 0, 0], [0, 0, 7]])
    system = torch.tensor([0, 0, 1, 1])
    with pytest.raises(ValueError, match="within 5 Angstrom of every atom, got none for atom 2 of molecule 1"):
        neighbors(positions, system, 5.0)
    with pytest.raises(ValueError, match="points 0 and 2"):
        neighbors(positions, torch.zeros(4, dtype=torch.long), 10.0)
    with pytest.raises(ValueError, match="finite"):
        neighbors(positions * torch.nan, system, 10.0)
    with pytest.raises(ValueError, match="at least 0.001 Angstrom apart, got atoms 0 and 2 nearer"):
        neighbors(positions + 5e-4 * torch.eye(4)[:, :3], torch.tensor([0, 1, 0, 1]), 10.0)


def test_numbers_beyond_the_last_element_are_no_last_element():
    elements = Elements([118])
    assert elements(torch.tensor([118])).tolist() == [0]
    for number in (300, -1, 0):
        with pytest.raises(ValueError, match=f"among Og, got {number} for atom 1"):
            elements(torch.tensor([118, number]))


def test_elements_have_places_and_others_are_named():
    elements = Elements([8, 1, 6, 1])
    assert elements.count == 3 and elements(torch.tensor([1, 8, 6, 6])).tolist() == [0, 2, 1, 1]
    with pytest.raises(ValueError, match="elements among H C O, got 7 for atom 1"):
        elements(torch.tensor([1, 7]))
    with pytest.raises(ValueError, match="elements among H C O, got 500 for atom 0"):
        elements(torch.tensor([500]))
    for wrong in ([], [0], [119]):
        with pytest.raises(ValueError, match="atomic numbers from 1 to 118"):
            Elements(wrong)


def test_sums_are_per_molecule():
    values = torch.arange(5.0)
    assert sum_of_systems(values, torch.tensor([0, 0, 2, 2, 2]), 3).tolist() == [1, 0, 9]
    for system, count in (([0, 0, 1, 1, 1], 3), ([0, 0, 0, 0, 0], 0), ([-1, 0, 0, 0, 0], 1)):
        with pytest.raises(ValueError, match="count: expected [12] molecules"):
            sum_of_systems(values, torch.tensor(system), count)
