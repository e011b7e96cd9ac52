"""Extended xyz files: values against a slow reader, and every way to be malformed named with its line."""

import re

import numpy as np
import pytest
import torch

from raytrans.systems.molecules.elements import SYMBOLS, bonded
from raytrans.systems.molecules.xyz import Molecule, read_xyz

PROPERTIES = "Properties=species:S:1:pos:R:3:forces:R:3"
WATER = f"""3
Lattice="50.0 0.0 0.0 0.0 50.0 0.0 0.0 0.0 50.0" {PROPERTIES} config_type=wet energy=-2081.5 pbc="F F F"
O        0.0  0.0  0.1   0.5 -0.25 1e-1
H        0.0  0.8 -0.5   0.0  0.25 0.0
H        0.0 -0.8 -0.5  -0.5  0.00 -0.1
2
{PROPERTIES} energy=-31.5 note="energy=7"
H 0 0 0 0 0 1
H 0 0 0.74 0 0 -1
"""


@pytest.fixture
def write(tmp_path):
    def written(text):
        path = tmp_path / "some.xyz"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return written


def test_values_are_those_of_the_file(write):
    water, hydrogen = read_xyz(write(WATER), energies=True, forces=True)
    rows = np.array([line.split()[1:] for line in WATER.splitlines()[2:5]], float)
    np.testing.assert_array_equal(torch.cat([water.positions, water.forces], 1).numpy(), rows)
    assert water.numbers.tolist() == [8, 1, 1] and water.composition == (1, 1, 8)
    assert (water.energy, water.name, hydrogen.energy, hydrogen.name) == (-2081.5, "wet", -31.5, "")


def test_columns_are_found_where_the_header_says(write):
    text = "2\nProperties=id:I:1:force:R:3:species:S:1:pos:R:3\n1 0 0 1 H 0 0 0\n2 0 0 2 F 0 0 1\n"
    (molecule,) = read_xyz(write(text))
    assert molecule.numbers.tolist() == [1, 9] and molecule.energy is None
    assert molecule.forces[:, 2].tolist() == [1, 2] and molecule.positions[1].tolist() == [0, 0, 1]


def test_plain_xyz_needs_no_header(write):
    (molecule,) = read_xyz(write("1\nsome words\nC 1 2 3\n\n"))
    assert molecule.positions.tolist() == [[1, 2, 3]] and molecule.forces is None


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("3\nLattice", "three\nLattice", 1, "whole number, got 'three'"),
        ("3\nLattice", "0\nLattice", 1, "expected 1 to"),
        ("3\nLattice", "999999999999\nLattice", 1, "999999999999"),
        ("3\nLattice", "60\nLattice", 1, "the file ends in this frame: expected 60 atoms in"),
        (":forces:R:3 config", ":pos:R:3 config", 2, "expected every column once in Properties, got 'pos' twice"),
        ("2\nProperties", "9\nProperties", 6, "the file ends in this frame: expected 9 atoms, got 2"),
        ("0.0  0.8 -0.5   0.0  0.25 0.0", "0.0  0.8 -0.5", 4, "expected 7 columns, got 4"),
        ("0.0  0.8", "0.0  x.8", 4, "expected a number, got 'x.8'"),
        ("0.0  0.8", "0.0  nan", 4, "expected a finite number, got 'nan'"),
        ("1e-1", "1e999", 3, "expected a finite number"),
        ("O   ", "Xx  ", 3, "symbol of an element, got 'Xx'"),
        ("energy=-2081.5", "energy=none", 2, "energy: expected a number, got 'none'"),
        ("energy=-2081.5", "energie=-2081.5", 2, "expected an entry energy"),
        (":forces:R:3 config", ":moment:R:3 config", 2, "expected columns forces"),
        (":forces:R:3 config", ":forces:R:2 config", 2, "expected forces:R:3"),
        ("species:S:1:pos:R:3:forces:R:3 config", "species:S:1:pos config", 2, "expected Properties=name:type:count"),
        ("0.0 -0.8 -0.5", "0.0  0.8 -0.4999", 2, "atoms 1 and 2 are 0.0001"),
    ],
)
def test_malformed_files_are_named_with_the_line(write, old, new, line, says):
    assert WATER.count(old) == 1
    path = write(WATER.replace(old, new))
    with pytest.raises(ValueError, match=rf"^{re.escape(str(path))}:{line}: .*{re.escape(says)}"):
        read_xyz(path, energies=True, forces=True)


@pytest.mark.parametrize(
    ("content", "says"), [(b"", "got none"), (b"\xff\xfe1\n", "UTF-8"), (b"1" * 70_000, "characters in a line")]
)
def test_what_is_no_such_file_is_named(write, content, says):
    with pytest.raises(ValueError, match=says):
        read_xyz(write(content))


@pytest.mark.parametrize("header", ["a" * 65_000, 'a="' * 21_000, "=" * 65_000, 'x="' + "a=" * 30_000])
def test_long_headers_take_no_long_time(write, header):
    """Linear in the length: the test would take minutes if it were quadratic."""
    (molecule,) = read_xyz(write(f"1\n{header}\nH 0 0 0\n"))
    assert molecule.energy is None


def test_missing_files_and_folders_are_named(tmp_path):
    for path in (tmp_path / "none.xyz", tmp_path):
        with pytest.raises(ValueError, match=re.escape(str(path))):
            read_xyz(path)


def test_molecules_check_what_they_are_made_of():
    numbers, positions = torch.tensor([1, 1]), torch.tensor([[0.0, 0, 0], [0, 0, 1]])
    with pytest.raises(ValueError, match="forces: expected finite"):
        Molecule(numbers, positions, forces=positions * torch.nan)
    with pytest.raises(ValueError, match="energy: expected a finite number, got nan"):
        Molecule(numbers, positions, energy=float("nan"))
    with pytest.raises(ValueError, match="atoms 0 and 1 are 0.0005"):
        Molecule(numbers, positions * 5e-4)


def test_elements_and_bonds():
    assert len(SYMBOLS) == 119 and (SYMBOLS[8], SYMBOLS[26], SYMBOLS[79], SYMBOLS[118]) == ("O", "Fe", "Au", "Og")
    first, second = torch.tensor([6, 6, 6, 8]), torch.tensor([6, 6, 1, 1])
    distance = torch.tensor([1.54, 2.5, 1.09, 1.95])
    assert bonded(first, second, distance).tolist() == [True, False, True, False]
    with pytest.raises(ValueError, match=r"covalent radius, got \[2\]"):
        bonded(torch.tensor([2]), torch.tensor([1]), torch.tensor([1.0]))
