"""The classical reference: a smooth energy of bonds, angles, torsions, pairs and induced dipoles, with its forces.

    E = sum_bonds D (1 - e^{-a (r - r0)})^2  +  sum_angles k/2 (cos t - cos t0)^2
      + sum_torsions V1/2 (1 + cos p) + V2/2 (1 - cos 2p) + V3/2 (1 + cos 3p)
      + sum_pairs w [4 e ((s/r)^12 - (s/r)^6) + c q_i q_j/r]
      - c/2 sum_i alpha_i |sum_j q_j r_ij/(r^2 + b^2)^{3/2}|^2

The last term is that of dipoles which the charges of the molecule induce: the square couples every three atoms. Units
eV, Angstrom, amu, elementary charges. It is written for this package (`parameters`), and is not density functional
theory.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from raytrans.shapes import Float
from raytrans.systems.polymers.parameters import ANGLES, ATOMS, BONDS, CHARGES, COULOMB, DAMPING, TORSIONS
from raytrans.systems.polymers.topology import Topology

TERMS = ("bonds", "angles", "torsions", "pairs", "charges", "induction")
TOUCHING = 1e-3  # A, two atoms nearer than this are at one place


def _short(kind: str) -> str:
    """How tables of bonds name an atom: its element, a carbonyl oxygen apart."""
    return kind if kind == "O1" else kind[0]


def _look(table: Mapping, a: str, b: str, what: str) -> tuple:
    """The entry of a pair in either order, and whether it is swapped."""
    if (a, b) in table:
        return table[a, b], False
    if (b, a) in table:
        return table[b, a], True
    raise ValueError(f"{what}: expected one of {', '.join('-'.join(key) for key in table)}, got {a}-{b}")


def _bond(a: str, b: str) -> tuple[float, float, float]:
    (depth, rate), _ = _look(BONDS, _short(a), _short(b), "bond")
    return depth, rate, ATOMS[a].radius + ATOMS[b].radius


def _angle(a: str, middle: str, c: str) -> tuple[float, float]:
    if middle not in ANGLES:
        raise ValueError(f"angle: expected one of {', '.join(ANGLES)} in the middle, got {middle}")
    rest, stiffness = ANGLES[middle]
    return stiffness[(a != "H1") + (c != "H1")], rest


def partial_charges(kinds: Sequence[str], bonds: Tensor) -> list[float]:
    """Charge of every atom in elementary charges: along each bond one atom takes from the other, so the sum is zero."""
    charges = [0.0] * len(kinds)
    for i, j in bonds.tolist():
        a, b = _short(kinds[i]), _short(kinds[j])
        if a != b:
            taken, swapped = _look(CHARGES, a, b, "bond")
            giver, taker = (j, i) if swapped else (i, j)
            charges[giver] += taken
            charges[taker] -= taken
    return charges


class Reference:
    """The energy of every molecule of a topology, in eV, of positions in Angstrom (`TERMS` names its terms).

    Raises ValueError for atoms, bonds, angles and torsions that the tables lack.
    """

    def __init__(self, topology: Topology):
        kinds = topology.kinds
        if set(kinds) - set(ATOMS):
            raise ValueError(f"atoms: expected kinds of {', '.join(ATOMS)}, got {sorted(set(kinds) - set(ATOMS))}")

        def table(rows: list, width: int) -> Tensor:
            return torch.tensor(rows, dtype=torch.float64).reshape(-1, width)

        self.topology = topology
        atoms = [ATOMS[kind] for kind in kinds]
        self.masses = torch.tensor([atom.mass for atom in atoms], dtype=torch.float64)
        self.bond = table([_bond(kinds[i], kinds[j]) for i, j in topology.bonds.tolist()], 3)
        self.angle = table([_angle(*(kinds[i] for i in row)) for row in topology.angles.tolist()], 2)
        middle = topology.torsions[:, 1:3].tolist()
        self.torsion = table([_look(TORSIONS, kinds[i], kinds[j], "torsion")[0] for i, j in middle], 3)
        self.charges = torch.tensor(partial_charges(kinds, topology.bonds), dtype=torch.float64)
        self.polarisability = torch.tensor([atom.polarisability for atom in atoms], dtype=torch.float64)
        diameter, depth = table([(atom.diameter, atom.depth) for atom in atoms], 2).unbind(-1)
        first, second = topology.pairs.unbind(-1)
        self.share = topology.nonbonded()
        self.diameter, self.depth = (diameter[first] * diameter[second]).sqrt(), (depth[first] * depth[second]).sqrt()

    def terms(self, positions: Float[Tensor, "*batch atoms 3"]) -> dict[str, Tensor]:
        """Energies of every molecule by term, (*batch, systems) each.

        Raises ValueError for another number of atoms, positions that are not finite, and atoms at one place.
        """
        topology = self.topology
        count = len(topology.kinds)
        if positions.shape[-2] != count:
            raise ValueError(f"positions: expected {count} atoms, got {positions.shape[-2]}")
        first, second = topology.pairs.unbind(-1)
        apart = positions[..., first, :] - positions[..., second, :]
        square = apart.square().sum(-1)
        self._check(square)
        distance = square.sqrt()
        charge = self.charges[first] * self.charges[second]
        sixth = (self.diameter.square() / square) ** 3
        values = {
            "bonds": (_morse(positions, topology.bonds, self.bond), topology.bonds),
            "angles": (_bending(positions, topology.angles, self.angle), topology.angles),
            "torsions": (_twisting(positions, topology.torsions, self.torsion), topology.torsions),
            "pairs": (self.share * 4 * self.depth * (sixth.square() - sixth), topology.pairs),
            "charges": (self.share * COULOMB * charge / distance, topology.pairs),
            "induction": (self._induction(apart, square), torch.arange(count)[:, None]),
        }
        return {name: self._summed(value, atoms) for name, (value, atoms) in values.items()}

    def _check(self, square: Tensor) -> None:
        bad = ~(square.detach() > TOUCHING**2) | ~square.detach().isfinite()
        if bool(bad.any()):
            pair = self.topology.pairs[int(bad.nonzero()[0, -1])].tolist()
            raise ValueError(
                f"positions: expected finite ones and atoms apart, got atoms {pair[0]} and {pair[1]} not so"
            )

    def _induction(self, apart: Tensor, square: Tensor) -> Tensor:
        """-c/2 alpha_i |F_i|^2 of every atom, F the softened field of the charges."""
        first, second = self.topology.pairs.unbind(-1)
        reach = apart * (square + DAMPING**2)[..., None] ** -1.5
        field = apart.new_zeros(*apart.shape[:-2], len(self.charges), 3)
        field = field.index_add(-2, first, self.charges[second, None] * reach)
        field = field.index_add(-2, second, -self.charges[first, None] * reach)
        return -COULOMB / 2 * self.polarisability * field.square().sum(-1)

    def _summed(self, values: Tensor, atoms: Tensor) -> Tensor:
        owner = self.topology.system[atoms[:, 0]]
        return values.new_zeros(*values.shape[:-1], self.topology.systems).index_add(-1, owner, values)

    def energies(self, positions: Float[Tensor, "*batch atoms 3"]) -> Float[Tensor, "*batch systems"]:
        """E of every molecule, in eV; raises what `terms` raises."""
        return torch.stack(list(self.terms(positions).values())).sum(0)

    def __call__(self, positions: Float[Tensor, "*batch atoms 3"]) -> tuple[Tensor, Tensor]:
        """Energies (*batch, systems) in eV and forces -dE/dx (*batch, atoms, 3) in eV/A, by autograd."""
        with torch.enable_grad():
            places = positions.detach().requires_grad_()
            energies = self.energies(places)
            (slope,) = torch.autograd.grad(energies.sum(), places)
        return energies.detach(), -slope


def _between(positions: Tensor, atoms: Tensor, a: int, b: int) -> Tensor:
    return positions[..., atoms[:, b], :] - positions[..., atoms[:, a], :]


def _morse(positions: Tensor, bonds: Tensor, numbers: Tensor) -> Tensor:
    depth, rate, rest = numbers.unbind(-1)
    length = _between(positions, bonds, 0, 1).norm(dim=-1)
    return depth * (1 - torch.exp(-rate * (length - rest))).square()


def _bending(positions: Tensor, angles: Tensor, numbers: Tensor) -> Tensor:
    """Quadratic in the cosine, so that it stays smooth where three atoms come to lie on a line."""
    stiffness, rest = numbers.unbind(-1)
    cosine = torch.cosine_similarity(_between(positions, angles, 1, 0), _between(positions, angles, 1, 2), -1)
    return stiffness / 2 * (cosine - rest).square()


def _twisting(positions: Tensor, torsions: Tensor, numbers: Tensor) -> Tensor:
    """In powers of cos p, p = 180 degrees where the chain is stretched; undefined where three atoms are on a line."""
    one, two, three = (_between(positions, torsions, i, i + 1) for i in range(3))
    cosine = torch.cosine_similarity(torch.linalg.cross(one, two), torch.linalg.cross(two, three), -1)
    powers = (1 + cosine, 2 - 2 * cosine.square(), 1 + cosine * (4 * cosine.square() - 3))
    return sum(v / 2 * power for v, power in zip(numbers.unbind(-1), powers, strict=True))
