"""Numbers of the classical reference, in eV, Angstrom, amu and elementary charges.

They are of the size that organic force fields use, written for this package and fitted to nothing: chains keep their
shape and vibrate at sensible frequencies, no more. Atoms are named by element and number of neighbours.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Atom:
    """mass (amu), bond radius (A), Lennard-Jones diameter (A) and depth (eV), polarisability (A^3)."""

    mass: float
    radius: float
    diameter: float
    depth: float
    polarisability: float


ATOMS = {
    "H1": Atom(1.008, 0.32, 2.50, 0.0013, 0.4),
    "C4": Atom(12.011, 0.77, 3.50, 0.0029, 1.1),
    "C3": Atom(12.011, 0.72, 3.70, 0.0040, 1.2),
    "O2": Atom(15.999, 0.65, 3.00, 0.0065, 0.8),
    "O1": Atom(15.999, 0.50, 2.96, 0.0090, 0.9),
    "F1": Atom(18.998, 0.58, 2.94, 0.0026, 0.5),
}

# Morse: depth in eV and rate in 1/A
BONDS = {
    ("C", "C"): (3.6, 1.80),
    ("C", "H"): (4.3, 1.85),
    ("C", "O"): (3.7, 1.94),
    ("C", "F"): (4.6, 1.86),
    ("H", "O"): (4.8, 2.24),
    ("C", "O1"): (7.5, 1.81),
}

# By the middle atom: cosine at rest, and stiffness in eV between two hydrogens, a hydrogen and another atom, two others
ANGLES = {
    "C4": (-0.3338, (3.2, 3.9, 5.6)),
    "C3": (-0.5, (5.0, 5.6, 9.0)),
    "O2": (-0.3584, (4.5, 5.2, 6.0)),
}

# By the two middle atoms: V1, V2, V3 in eV, of one torsion
TORSIONS = {
    ("C4", "C4"): (0.004, -0.002, 0.014),
    ("C4", "O2"): (0.010, -0.006, 0.016),
    ("C3", "C4"): (-0.008, 0.012, 0.006),
    ("C3", "O2"): (0.040, 0.160, 0.000),
}

# The charge that the second atom of a bond takes from the first
CHARGES = {
    ("H", "C"): 0.06,
    ("H", "O"): 0.36,
    ("C", "O"): 0.18,
    ("C", "F"): 0.20,
    ("C", "O1"): 0.45,
}

COULOMB = 14.399645  # e^2/(4 pi eps_0) in eV A
DAMPING = 1.0  # A, within which a field of a charge is softened
