"""Chemical elements: symbols, and the covalent radii that say which atoms are bonded."""

import torch
from torch import Tensor

from raytrans.shapes import Bool, Float, Int

SYMBOLS = (
    "X H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr "
    "Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re "
    "Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn "
    "Nh Fl Mc Lv Ts Og"
).split()
"""By atomic number; the first is none."""
ATOMIC_NUMBERS = {symbol: number for number, symbol in enumerate(SYMBOLS) if number}

LEAST_DISTANCE = 1e-3
"""Angstrom; atoms that are nearer lie on top of each other."""

COVALENT_RADII = {1: 0.31, 5: 0.84, 6: 0.76, 7: 0.71, 8: 0.66, 9: 0.57, 14: 1.11, 15: 1.07, 16: 1.05, 17: 1.02}
"""Angstrom. Source: Cordero et al., Covalent radii revisited, 2008."""
BOND_TOLERANCE = 1.25
"""A bond is shorter than this many sums of radii: 1.34 A for C-H, which hot molecules stretch to 1.3 A, and the atoms
two bonds apart are beyond."""


def bonded(first: Int[Tensor, " p"], second: Int[Tensor, " p"], distance: Float[Tensor, " p"]) -> Bool[Tensor, " p"]:
    """Whether pairs of elements at a distance in Angstrom are nearer than `BOND_TOLERANCE` sums of covalent radii.

    Raises ValueError for elements without a radius in `COVALENT_RADII`.
    """
    radii = torch.full((len(SYMBOLS),), torch.nan, dtype=distance.dtype)
    radii[list(COVALENT_RADII)] = torch.tensor(list(COVALENT_RADII.values()), dtype=distance.dtype)
    sums = radii[first] + radii[second]
    if sums.isnan().any():
        missing = {int(n) for n in torch.cat([first, second]).unique()} - set(COVALENT_RADII)
        raise ValueError(f"numbers: expected elements with a covalent radius, got {sorted(missing)}")
    return distance < BOND_TOLERANCE * sums
