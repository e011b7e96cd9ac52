"""Chains, topologies and start structures against counts by hand and a search of the graph."""

from collections import Counter

import pytest
import torch

from raytrans.systems.polymers.chains import BACKBONES, SIDE_GROUPS, polymer
from raytrans.systems.polymers.parameters import ANGLES, ATOMS
from raytrans.systems.polymers.structures import smallest_clearance, start_structure
from raytrans.systems.polymers.topology import join, topology

FORMULAS = {  # of the unit, side group H
    "CH2": {"C": 2, "H": 4},
    "O": {"C": 2, "H": 4, "O": 1},
    "COO": {"C": 2, "H": 2, "O": 2},
    "CF2": {"C": 2, "H": 2, "F": 2},
}
ADDED = {  # by a side group that takes the place of one H
    "H": {},
    "F": {"F": 1, "H": -1},
    "OH": {"O": 1},
    "CH3": {"C": 1, "H": 2},
    "OCH3": {"C": 1, "H": 2, "O": 1},
    "CF3": {"C": 1, "F": 3, "H": -1},
}
NEIGHBOURS = {"H": {1}, "F": {1}, "O": {1, 2}, "C": {3, 4}}


def graph(backbone="CH2", side_group="H", length=1):
    chain = polymer(backbone, side_group, length)
    return topology(chain.elements, chain.bonds)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("side_group", SIDE_GROUPS)
def test_a_chain_has_the_formula_of_its_units(backbone, side_group):
    chain = polymer(backbone, side_group, 3)
    expected = Counter({"H": 2})
    for part in (FORMULAS[backbone], ADDED[side_group]):
        for element, count in part.items():
            expected[element] += 3 * count
    assert +Counter(chain.elements) == +expected
    assert len(chain.bonds) == len(chain.elements) - 1
    kinds = topology(chain.elements, chain.bonds).kinds
    assert all(int(kind[1:]) in NEIGHBOURS[kind[0]] for kind in kinds)
    assert Counter(kinds)["O1"] == Counter(kinds)["C3"] == (3 if backbone == "COO" else 0)
    assert all((a, b) in chain.bonds for a, b in zip(chain.backbone, chain.backbone[1:], strict=False))


@pytest.mark.parametrize(
    ("arguments", "name"),
    [(("CX", "H", 1), "backbone"), (("CH2", "Cl", 1), "side_group"), (("CH2", "H", 0), "length")]
    + [(("CH2", "H", length), "length") for length in (-2, True)],
)
def test_unknown_chains_are_refused(arguments, name):
    with pytest.raises(ValueError, match=f"^{name}: expected .*, got"):
        polymer(*arguments)


def test_the_terms_of_butane_are_those_of_the_textbook():
    butane = graph("CH2", "H", 2)
    assert (len(butane.bonds), len(butane.angles), len(butane.torsions)) == (13, 24, 27)
    assert len(butane.pairs) == 14 * 13 // 2
    assert Counter(butane.apart.tolist()) == {1: 13, 2: 24, 3: 27, 4: 18, 5: 9}


def test_pairs_know_how_many_bonds_lie_between_them():
    ester = graph("COO", "OCH3", 2)
    count = len(ester.kinds)
    steps = torch.full((count, count), 99)
    steps.fill_diagonal_(0)
    for a, b in ester.bonds.tolist():
        steps[a, b] = steps[b, a] = 1
    for middle in range(count):  # Floyd and Warshall
        steps = torch.minimum(steps, steps[:, middle, None] + steps[middle])
    assert torch.equal(ester.apart, steps[ester.pairs[:, 0], ester.pairs[:, 1]])
    share = dict(zip(ester.apart.tolist(), ester.nonbonded().tolist(), strict=True))
    assert {apart: share[apart] for apart in (1, 2, 3, 4, 5)} == {1: 0, 2: 0, 3: 0.5, 4: 1, 5: 1}


def test_joined_topologies_keep_their_terms_apart():
    parts = [graph("CH2", "F", 1), graph("COO", "H", 2), graph("O", "OH", 1)]
    joined = join(parts)
    assert joined.systems == 3 and len(joined.kinds) == sum(len(part.kinds) for part in parts)
    for name in ("bonds", "angles", "torsions", "pairs"):
        terms = getattr(joined, name)
        assert len(terms) == sum(len(getattr(part, name)) for part in parts)
        owners = joined.system[terms]
        assert torch.equal(owners, owners[:, :1].expand_as(owners))
    with pytest.raises(ValueError, match="parts: expected"):
        join([])


@pytest.mark.parametrize(
    "bonds", [[(0, 0), (0, 1)], [(0, 3), (0, 1)], [(0, 1), (1, 0)], [(0, 1)], [(-1, 0), (0, 1)]], ids=str
)
def test_impossible_bonds_are_refused(bonds):
    with pytest.raises(ValueError, match="bonds: expected"):
        topology(("C", "H", "H"), bonds)


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize(("side_group", "length"), [("H", 1), ("OH", 6), ("CF3", 4)])
def test_start_structures_have_the_right_lengths_and_angles_and_no_overlaps(backbone, side_group, length):
    chain = graph(backbone, side_group, length)
    x = start_structure(chain, generator())
    a, b = chain.bonds.unbind(-1)
    radii = torch.tensor([ATOMS[kind].radius for kind in chain.kinds], dtype=torch.float64)
    torch.testing.assert_close((x[a] - x[b]).norm(dim=-1), radii[a] + radii[b], atol=1e-9, rtol=0)
    first, middle, last = chain.angles.unbind(-1)
    cosine = torch.cosine_similarity(x[first] - x[middle], x[last] - x[middle], -1)
    rest = torch.tensor([ANGLES[chain.kinds[i]][0] for i in middle], dtype=torch.float64)
    torch.testing.assert_close(cosine, rest, atol=2e-3, rtol=0)
    distances = torch.cdist(x, x)
    near = [
        float(distances[i, j]) / (ATOMS[chain.kinds[i]].diameter + ATOMS[chain.kinds[j]].diameter) * 2
        for (i, j), apart in zip(chain.pairs.tolist(), chain.apart.tolist(), strict=True)
        if apart >= 3
    ]
    assert min(near) == pytest.approx(smallest_clearance(chain, x)) and min(near) >= 0.62
    assert smallest_clearance(chain, 0.5 * x) < 0.62  # folded onto itself, it would be seen


def test_structures_follow_the_generator():
    chain = graph("O", "CH3", 3)
    first, again, other = (start_structure(chain, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.allclose(first, other)


def test_long_chains_grow():
    chain = graph("CH2", "CH3", 40)
    x = start_structure(chain, generator())
    assert x.shape == (362, 3) and smallest_clearance(chain, x) >= 0.62


def test_structures_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="clearance: expected"):
        start_structure(graph("CH2", "CH3", 2), generator(), clearance=1.5)
    with pytest.raises(ValueError, match="topology: expected one molecule without rings, got 1, 3 atoms and 3 bonds"):
        start_structure(topology(("C", "C", "C"), [(0, 1), (1, 2), (0, 2)]), generator())
    with pytest.raises(ValueError, match="topology: expected one molecule"):
        start_structure(join([graph(), graph()]), generator())
