"""Electrons on a periodic square lattice, coupled to a classical unit spin on every site, traced out exactly.

    H(S) = -t sum_{<ij>, a} (c+_ia c_ja + h.c.) + (J/2) sum_i S_i . sigma_i
    W(S) = prod_n (1 + e^{-beta (eps_n - mu)}),     eps_n the 2N eigenvalues of the one-body matrix of H

Source: Tomiya and Nagai, Equivariant transformer is all you need, PoS LATTICE2023 001.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from raytrans.geometry.spaces import LatticeSpace
from raytrans.shapes import Complex, Float, Int

UNIT_TOLERANCE = 1e-3  # of the length of spins, which float32 keeps to 1e-6


@dataclass(frozen=True)
class DoubleExchange:
    """The model on rows x columns sites: hopping t, coupling J, inverse temperature beta, chemical potential mu.

    t, J, 1/beta and mu have one unit of energy. At mu = 0 the lattice is half filled, since it splits into two
    sublattices that the hopping joins. Raises ValueError for fewer than 3 rows or columns, whose neighbours to the left
    and to the right are one site, for odd ones at mu = 0, where no two sublattices exist, and for numbers that are not
    finite or beta that is not positive.
    """

    rows: int
    columns: int
    coupling: float = 1.0
    beta: float = 20.0
    hopping: float = 1.0
    potential: float = 0.0

    def __post_init__(self):
        for name in ("rows", "columns"):
            size = getattr(self, name)
            if type(size) is not int or size < 3:
                raise ValueError(f"{name}: expected a whole number of at least 3, got {size!r}")
            if self.potential == 0 and size % 2:
                raise ValueError(f"{name}: expected an even number at half filling (potential 0), got {size}")
        for name in ("coupling", "beta", "hopping", "potential"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name}: expected a finite number, got {getattr(self, name)}")
        if self.beta <= 0:
            raise ValueError(f"beta: expected a positive number, got {self.beta}")

    @property
    def space(self) -> LatticeSpace:
        return LatticeSpace(self.rows, self.columns)

    def hamiltonian(self, spins: Float[Tensor, "*b sites 3"]) -> Complex[Tensor, "*b {2*self.rows*self.columns} _"]:
        """One-body matrix, row 2 i + a for site i and spin a; complex with the precision of the spins."""
        check_spins(self.space, spins)
        x, y, z = spins.unbind(-1)
        rows = torch.stack([torch.complex(z, 0 * z), torch.complex(x, -y)], -1)
        other = torch.stack([torch.complex(x, y), torch.complex(-z, 0 * z)], -1)
        local = self.coupling / 2 * torch.stack([rows, other], -2)
        hops = -self.hopping * (self.space.shells() == 1).to(local).to(spins.device)
        matrix = torch.kron(hops, torch.eye(2).to(local)).expand(*spins.shape[:-2], -1, -1).clone()
        blocks = matrix.unflatten(-1, (-1, 2)).unflatten(-3, (-1, 2)).diagonal(0, -4, -2)
        blocks += local.movedim(-3, -1)
        return matrix

    def eigenvalues(self, spins: Float[Tensor, "*b sites 3"]) -> Float[Tensor, "*b levels"]:
        """eps_n in ascending order; not differentiable where two are equal."""
        return torch.linalg.eigvalsh(self.hamiltonian(spins))

    def log_weight(self, spins: Float[Tensor, "*b sites 3"]) -> Float[Tensor, "*b"]:
        """log W(S), with no overflow at any temperature."""
        return self.log_weight_of(self.eigenvalues(spins))

    def log_weight_of(self, levels: Float[Tensor, "*b levels"]) -> Float[Tensor, "*b"]:
        """sum_n log(1 + e^{-beta (eps_n - mu)})."""
        exponents = -self.beta * (levels - self.potential)
        return torch.logaddexp(exponents, torch.zeros_like(exponents)).sum(-1)

    def energy_of(self, levels: Float[Tensor, "*b levels"]) -> Float[Tensor, "*b"]:
        """Mean energy of the electrons, sum_n eps_n/(1 + e^{beta (eps_n - mu)})."""
        return (levels * torch.sigmoid(-self.beta * (levels - self.potential))).sum(-1)


def check_spins(space: LatticeSpace, spins: Tensor) -> None:
    """Raises ValueError for spins that are no unit vectors on the sites of the lattice."""
    if tuple(spins.shape[-2:]) != (space.sites, 3):
        raise ValueError(f"spins: expected shape (..., {space.sites}, 3), got {tuple(spins.shape)}")
    if not bool(torch.isfinite(spins).all()):
        raise ValueError("spins: expected finite numbers, got NaN or infinity")
    lengths = torch.linalg.vector_norm(spins.detach(), dim=-1)
    if bool(((lengths - 1).abs() > UNIT_TOLERANCE).any()):
        raise ValueError(f"spins: expected unit vectors, got lengths {lengths.min():.6g} to {lengths.max():.6g}")


def magnetisation(spins: Float[Tensor, "*b sites 3"]) -> Float[Tensor, "*b"]:
    """|sum_i S_i|/N, between 0 and 1."""
    return spins.mean(-2).norm(dim=-1)


def staggered_magnetisation(space: LatticeSpace, spins: Float[Tensor, "*b sites 3"]) -> Float[Tensor, "*b"]:
    """|sum_i (-1)^(row + column) S_i|/N. Raises ValueError for an odd number of rows or columns."""
    check_spins(space, spins)
    signs = sublattices(space).to(spins)
    return (spins * signs[:, None]).mean(-2).norm(dim=-1)


def sublattices(space: LatticeSpace) -> Int[Tensor, " sites"]:
    """+1 and -1 in turn, as on a chess board. Raises ValueError for an odd number of rows or columns."""
    for name in ("rows", "columns"):
        if getattr(space, name) % 2:
            raise ValueError(f"{name}: expected an even number for two sublattices, got {getattr(space, name)}")
    return 1 - 2 * (space.place(torch.arange(space.sites)).sum(-1) % 2)
