"""The classical reference against a slow loop over its terms, finite differences, and its symmetries."""

import math
from itertools import combinations

import pytest
import torch

from raytrans.systems.polymers.chains import polymer
from raytrans.systems.polymers.parameters import ANGLES, ATOMS, BONDS, CHARGES, COULOMB, DAMPING, TORSIONS
from raytrans.systems.polymers.reference import TERMS, Reference
from raytrans.systems.polymers.structures import start_structure
from raytrans.systems.polymers.topology import Topology, join, topology

CHAINS = [("COO", "OH", 2), ("CF2", "OCH3", 1), ("O", "CF3", 1), ("CH2", "F", 2)]


def shaken(backbone, side_group, length, seed=0):
    """A chain that is off all its rest lengths: (chain, topology, positions)."""
    chain = polymer(backbone, side_group, length)
    draw = torch.Generator().manual_seed(seed)
    graph = topology(chain.elements, chain.bonds)
    x = start_structure(graph, draw)
    return chain, graph, x + 0.1 * torch.randn(x.shape, generator=draw, dtype=torch.float64)


def either(table, a, b):
    return table[a, b] if (a, b) in table else table[b, a]


def short(kind):
    return kind if kind == "O1" else kind[0]


def loop(chain, positions):
    """Every term of the energy, one number at a time, from the bonds alone."""
    x, count = positions.tolist(), len(chain.elements)
    near = [{b for a, b in chain.bonds if a == i} | {a for a, b in chain.bonds if b == i} for i in range(count)]
    kinds = [f"{element}{len(own)}" for element, own in zip(chain.elements, near, strict=True)]
    charge = [0.0] * count
    total = dict.fromkeys(TERMS, 0.0)

    def from_to(i, j):
        return [v - u for u, v in zip(x[i], x[j], strict=True)]

    def dot(u, v):
        return sum(p * q for p, q in zip(u, v, strict=True))

    def cross(u, v):
        return [u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]]

    for i, j in chain.bonds:
        depth, rate = either(BONDS, short(kinds[i]), short(kinds[j]))
        stretch = math.dist(x[i], x[j]) - ATOMS[kinds[i]].radius - ATOMS[kinds[j]].radius
        total["bonds"] += depth * (1 - math.exp(-rate * stretch)) ** 2
        for giver, taker in ((i, j), (j, i)):
            taken = CHARGES.get((short(kinds[giver]), short(kinds[taker])), 0.0)
            charge[giver] += taken
            charge[taker] -= taken
    for j in range(count):
        for i, k in combinations(near[j], 2):
            rest, stiffness = ANGLES[kinds[j]]
            a, b = from_to(j, i), from_to(j, k)
            cosine = dot(a, b) / math.sqrt(dot(a, a) * dot(b, b))
            total["angles"] += stiffness[2 - (kinds[i], kinds[k]).count("H1")] / 2 * (cosine - rest) ** 2
    for j, k in chain.bonds:
        for i in near[j] - {k}:
            for l in near[k] - {j}:
                axis = from_to(j, k)
                n, m = cross(from_to(i, j), axis), cross(axis, from_to(k, l))
                sine = dot(axis, cross(n, m)) / math.sqrt(dot(axis, axis))
                angle = math.atan2(sine, dot(n, m))
                v1, v2, v3 = either(TORSIONS, kinds[j], kinds[k])
                total["torsions"] += v1 / 2 * (1 + math.cos(angle)) + v2 / 2 * (1 - math.cos(2 * angle))
                total["torsions"] += v3 / 2 * (1 + math.cos(3 * angle))
    for i, j in combinations(range(count), 2):
        two = near[i] & near[j] or j in near[i]
        three = any(near[a] & near[j] for a in near[i])
        share = 0.0 if two else 0.5 if three else 1.0
        a, b, r = ATOMS[kinds[i]], ATOMS[kinds[j]], math.dist(x[i], x[j])
        size = math.sqrt(a.diameter * b.diameter) / r
        total["pairs"] += share * 4 * math.sqrt(a.depth * b.depth) * (size**12 - size**6)
        total["charges"] += share * COULOMB * charge[i] * charge[j] / r
    for i in range(count):
        field = [0.0, 0.0, 0.0]
        for j in set(range(count)) - {i}:
            away = from_to(j, i)
            field = [
                f + charge[j] * u / (dot(away, away) + DAMPING**2) ** 1.5 for f, u in zip(field, away, strict=True)
            ]
        total["induction"] -= COULOMB / 2 * ATOMS[kinds[i]].polarisability * dot(field, field)
    return total


def differences(energy, x, step=1e-5):
    """-dE/dx by central differences."""
    forces = torch.zeros_like(x)
    for index in range(x.numel()):
        moved = torch.zeros(x.numel(), dtype=x.dtype)
        moved[index] = step
        up, down = energy(x + moved.view_as(x)), energy(x - moved.view_as(x))
        forces.view(-1)[index] = -(up - down).sum() / (2 * step)
    return forces


@pytest.mark.parametrize("chain", CHAINS, ids=str)
def test_every_term_is_that_of_the_slow_loop(chain):
    made, graph, x = shaken(*chain)
    terms, expected = Reference(graph).terms(x), loop(made, x)
    assert set(terms) == set(expected) == set(TERMS)
    for name in TERMS:
        assert terms[name].item() == pytest.approx(expected[name], rel=1e-10, abs=1e-12)
        assert abs(expected[name]) > 1e-4  # so that a term that is left out is seen


@pytest.mark.parametrize("chain", CHAINS[:2], ids=str)
def test_forces_are_the_gradient(chain):
    _, graph, x = shaken(*chain)
    reference = Reference(graph)
    forces = reference(x)[1]
    torch.testing.assert_close(forces, differences(reference.energies, x), atol=2e-7, rtol=1e-6)
    without = differences(lambda y: reference.energies(y) - reference.terms(y)["induction"], x)
    assert (forces - without).abs().max() > 1e-2  # the same check sees a term whose force is missing


def test_joined_chains_have_the_energies_and_forces_of_each():
    parts = [shaken(*chain) for chain in CHAINS]
    together = Reference(join([graph for _, graph, _ in parts]))
    walkers = torch.stack([torch.cat([x for *_, x in parts]), torch.cat([1.01 * x for *_, x in parts])])
    energies, forces = together(walkers)
    assert energies.shape == (2, len(CHAINS)) and forces.shape == walkers.shape
    for scale, row, pull in zip((1.0, 1.01), energies, forces, strict=True):
        each = [Reference(graph)(scale * x) for _, graph, x in parts]
        torch.testing.assert_close(row, torch.cat([energy for energy, _ in each]), atol=1e-10, rtol=0)
        torch.testing.assert_close(pull, torch.cat([force for _, force in each]), atol=1e-10, rtol=0)


def test_motions_mirrors_and_names_of_atoms_change_nothing():
    chain, graph, x = shaken("COO", "OCH3", 2)
    energies, forces = Reference(graph)(x)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64))[0]
    for motion in (turn, -turn):
        moved, turned = Reference(graph)(x @ motion.T + torch.tensor([30.0, -5.0, 2.0]))
        torch.testing.assert_close(moved, energies, atol=1e-10, rtol=0)
        torch.testing.assert_close(turned, forces @ motion.T, atol=1e-9, rtol=0)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(2))
    place = order.argsort().tolist()
    bonds = [(place[a], place[b]) for a, b in chain.bonds]
    renamed, pulled = Reference(topology([chain.elements[i] for i in order], bonds))(x[order])
    torch.testing.assert_close(renamed, energies, atol=1e-10, rtol=0)
    torch.testing.assert_close(pulled, forces[order], atol=1e-9, rtol=0)
    squeezed = Reference(graph).energies(x * torch.tensor([1.0, 1.0, 1.01]))
    assert (squeezed - energies).abs() > 1e-2  # what is no motion does
    torch.testing.assert_close(forces.sum(0), torch.zeros(3, dtype=torch.float64), atol=1e-9, rtol=0)
    torque = torch.linalg.cross(x, forces).sum(0)
    torch.testing.assert_close(torque, torch.zeros(3, dtype=torch.float64), atol=1e-9, rtol=0)


def loose(atoms):
    """Hydrogens without bonds, so that pair terms and induction alone act."""
    pairs = torch.triu_indices(atoms, atoms, 1).T
    none = [torch.zeros(0, width, dtype=torch.long) for width in (2, 3, 4)]
    return Topology(("H1",) * atoms, torch.zeros(atoms, dtype=torch.long), *none, pairs, torch.full((len(pairs),), 9))


def test_induction_is_no_sum_over_pairs():
    x = torch.tensor([[0.0, 0, 0], [1.5, 0.2, 0], [0.4, 1.3, 0.6]]).double()
    charges = torch.tensor([0.4, -0.3, 0.5]).double()

    def term(name, atoms):
        reference = Reference(loose(len(atoms)))
        reference.charges = charges[atoms]
        return reference.terms(x[atoms])[name].item()

    def beyond_pairs(name):
        return term(name, [0, 1, 2]) - sum(term(name, list(pair)) for pair in combinations(range(3), 2))

    def field(at, of):
        away = x[at] - x[of]
        return charges[of] * away / (away.square().sum() + DAMPING**2) ** 1.5

    crossed = sum(field(i, (i + 1) % 3) @ field(i, (i + 2) % 3) for i in range(3))
    expected = -COULOMB * ATOMS["H1"].polarisability * crossed.item()
    assert beyond_pairs("induction") == pytest.approx(expected, rel=1e-9) and abs(expected) > 1e-3
    assert beyond_pairs("pairs") == pytest.approx(0, abs=1e-12)
    assert beyond_pairs("charges") == pytest.approx(0, abs=1e-12)


def test_chains_are_neutral_and_close_to_rest_at_start():
    for arguments in CHAINS:
        chain = polymer(*arguments)
        graph = topology(chain.elements, chain.bonds)
        reference = Reference(graph)
        assert reference.charges.sum().item() == pytest.approx(0, abs=1e-12)
        terms = reference.terms(start_structure(graph, torch.Generator().manual_seed(0)))
        assert terms["bonds"].item() < 1e-9 and terms["angles"].item() < 1e-3 * len(graph.angles)


def test_impossible_positions_and_atoms_are_refused():
    _, graph, x = shaken("CH2", "OH", 1)
    reference = Reference(graph)
    together = x.clone()
    together[4] = together[7]
    with pytest.raises(ValueError, match="positions: expected .*apart, got atoms 4 and 7"):
        reference(torch.stack([x, together]))
    with pytest.raises(ValueError, match="positions: expected finite"):
        reference(x.masked_fill(torch.arange(len(x))[:, None] == 3, math.nan))
    with pytest.raises(ValueError, match=f"positions: expected {len(x)} atoms, got {len(x) - 1}"):
        reference(x[1:])
    with pytest.raises(ValueError, match=r"atoms: expected kinds of .* got \['N1'\]"):
        Reference(topology(("N", "H"), [(0, 1)]))
    with pytest.raises(ValueError, match="bond: expected one of .*, got F-F"):
        Reference(topology(("F", "F"), [(0, 1)]))
    glyoxal = (("C", "C", "O", "O", "H", "H"), [(0, 1), (0, 2), (1, 3), (0, 4), (1, 5)])
    with pytest.raises(ValueError, match="torsion: expected one of .*, got C3-C3"):
        Reference(topology(*glyoxal))
