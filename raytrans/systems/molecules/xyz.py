"""Molecules with reference energies and forces, out of files in the extended xyz format.

A frame is a line with the number of atoms N, a line of `key=value` entries, and N lines of columns, which the entry
`Properties=name:type:count:...` names; without it they are the element and three coordinates. Lengths are in Angstrom,
energies in eV, forces in eV/Angstrom. A lattice is not read: molecules stand alone. Files may be hostile: a count is
held against the bytes that are there.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import torch
from torch import Tensor

from raytrans.data.guards import whole_of
from raytrans.shapes import Float, Int
from raytrans.systems.molecules.elements import ATOMIC_NUMBERS, LEAST_DISTANCE, SYMBOLS

MOST_ATOMS = 4096
"""Of one molecule: all its pairs are looked at."""
LONGEST_LINE = 1 << 16
SHORTEST_ATOM = 8
"""Bytes of the shortest line of an atom, `H 0 0 0` and its end."""

# a key begins after white space: without that a long word would be searched from each of its letters
_ENTRY = re.compile(r'(?<!\S)([^\s="]+)=("[^"]*"|[^\s"]+)')


@dataclass(frozen=True)
class Molecule:
    """N atoms: atomic numbers, positions in Angstrom, and where they are known the energy in eV, forces in eV/Angstrom.

    `name` is the `config_type` of the file, or empty. Raises ValueError for numbers that no element has, shapes that
    differ, values that are not finite, and atoms on top of each other.
    """

    numbers: Int[Tensor, " n"]
    positions: Float[Tensor, "n 3"]
    energy: float | None = None
    forces: Float[Tensor, "n 3"] | None = None
    name: str = ""

    def __post_init__(self):
        unknown = (self.numbers < 1) | (self.numbers >= len(SYMBOLS))
        if unknown.any():
            got = self.numbers[unknown][0].item()
            raise ValueError(f"numbers: expected atomic numbers from 1 to {len(SYMBOLS) - 1}, got {got}")
        expected = (len(self.numbers), 3)
        for name, value in (("positions", self.positions), ("forces", self.forces)):
            if value is not None and tuple(value.shape) != expected:
                raise ValueError(f"{name}: expected shape {expected}, got {tuple(value.shape)}")
            if value is not None and not value.isfinite().all():
                raise ValueError(f"{name}: expected finite numbers, got {value[~value.isfinite()][0].item()}")
        if self.energy is not None and not math.isfinite(self.energy):
            raise ValueError(f"energy: expected a finite number, got {self.energy}")
        if close := coincident(self.positions):
            i, j = close
            apart = (self.positions[i] - self.positions[j]).norm().item()
            raise ValueError(
                f"positions: expected atoms at least {LEAST_DISTANCE} Angstrom apart, atoms {i} and {j} are {apart:.3g}"
            )

    @property
    def composition(self) -> tuple[int, ...]:
        """The atomic numbers in ascending order: which molecules share the zero of their energy."""
        return tuple(sorted(self.numbers.tolist()))


def coincident(positions: Float[Tensor, "n 3"]) -> tuple[int, int] | None:
    """The first two atoms nearer than `LEAST_DISTANCE`, or None."""
    apart = torch.cdist(positions, positions, compute_mode="donot_use_mm_for_euclid_dist")
    close = (apart < LEAST_DISTANCE).triu(1).nonzero()
    return (int(close[0, 0]), int(close[0, 1])) if len(close) else None


def read_xyz(path: str | Path, energies: bool = False, forces: bool = False) -> list[Molecule]:
    """The molecules of an extended xyz file, in its order.

    energies, forces: whether each frame has to have them. Raises ValueError naming the file, and the line, for whatever
    is malformed: counts, columns, numbers that are none or not finite, unknown elements, atoms on top of each other.
    """
    path = Path(path).expanduser()
    try:
        with path.open(encoding="utf-8-sig", newline=None) as file:
            molecules = list(_frames(file, path, energies, forces))
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a text in UTF-8 ({error.reason} at byte {error.start})") from None
    if not molecules:
        raise ValueError(f"{path}: expected at least one molecule, got none")
    return molecules


def _lines(file: TextIO, path: Path) -> Iterator[tuple[int, str]]:
    """(number, text) of the lines, none of which is read beyond `LONGEST_LINE`."""
    number = 0
    while line := file.readline(LONGEST_LINE + 1):
        number += 1
        if len(line) > LONGEST_LINE:
            raise ValueError(f"{path}:{number}: expected at most {LONGEST_LINE} characters in a line")
        yield number, line.strip()


def _frames(file: TextIO, path: Path, energies: bool, forces: bool) -> Iterator[Molecule]:
    lines, room = _lines(file, path), path.stat().st_size // SHORTEST_ATOM
    for number, line in lines:
        if not line:
            continue
        count = whole_of(line, f"{path}:{number}: number of atoms")
        if not 0 < count <= MOST_ATOMS:
            raise ValueError(f"{path}:{number}: expected 1 to {MOST_ATOMS} atoms, got {count}")
        if count > room:
            size = path.stat().st_size
            raise ValueError(f"{path}:{number}: the file ends in this frame: expected {count} atoms in {size} bytes")
        header_number, header = _next(lines, path, number, "a line of entries")
        rows = [_next(lines, path, number, f"{count} atoms, got {i}") for i in range(count)]
        yield _molecule(f"{path}:{header_number}", header, [(f"{path}:{n}", row) for n, row in rows], energies, forces)


def _next(lines: Iterator[tuple[int, str]], path: Path, start: int, expected: str) -> tuple[int, str]:
    found = next(lines, None)
    if found is None:
        raise ValueError(f"{path}:{start}: the file ends in this frame: expected {expected}")
    return found


def _molecule(label: str, header: str, rows: list[tuple[str, str]], energies: bool, forces: bool) -> Molecule:
    """A frame; `label` and those of the rows say where in the file they are."""
    entries = {key: value.strip('"') for key, value in _ENTRY.findall(header)}
    places, width = _columns(entries.get("Properties", "species:S:1:pos:R:3"), label)
    numbers, values = [], []
    for where, row in rows:
        words = row.split()
        if len(words) != width:
            raise ValueError(f"{where}: expected {width} columns, got {len(words)}")
        symbol = words[places["species"]]
        if symbol not in ATOMIC_NUMBERS:
            raise ValueError(f"{where}: expected the symbol of an element, got {symbol[:60]!r}")
        numbers.append(ATOMIC_NUMBERS[symbol])
        starts = [places[name] for name in ("pos", "forces") if name in places]
        values.append([_number(word, where) for start in starts for word in words[start : start + 3]])
    if energies and "energy" not in entries:
        raise ValueError(f"{label}: expected an entry energy=...")
    if forces and "forces" not in places:
        raise ValueError(f"{label}: expected columns forces:R:3 in Properties")
    energy = _number(entries["energy"], f"{label}: energy") if "energy" in entries else None
    table = torch.tensor(values, dtype=torch.float64)
    known = table[:, 3:] if "forces" in places else None
    try:
        return Molecule(torch.tensor(numbers), table[:, :3], energy, known, entries.get("config_type", ""))
    except ValueError as error:
        raise ValueError(f"{label}: {error}") from None


def _columns(properties: str, label: str) -> tuple[dict[str, int], int]:
    """The first column of the species, the positions and, if there are any, the forces; how many columns there are."""
    words = properties.split(":")
    if len(words) % 3 or any(kind not in ("S", "R", "I", "L") for kind in words[1::3]):
        raise ValueError(f"{label}: expected Properties=name:type:count:..., types S, R, I, L, got {properties[:60]!r}")
    places, shapes, start = {}, {}, 0
    for name, kind, count in zip(words[::3], words[1::3], words[2::3], strict=True):
        name = "forces" if name == "force" else name
        if name in places:
            raise ValueError(f"{label}: expected every column once in Properties, got {name[:60]!r} twice")
        places[name], shapes[name] = start, (kind, whole_of(count, f"{label}: count of {name[:60]!r}"))
        start += shapes[name][1]
    expected = {"species": ("S", 1), "pos": ("R", 3)} | ({"forces": ("R", 3)} if "forces" in shapes else {})
    for name, (kind, count) in expected.items():
        if shapes.get(name) != (kind, count):
            raise ValueError(f"{label}: expected {name}:{kind}:{count} in Properties, got {properties[:60]!r}")
    return places, start


def _number(word: str, label: str) -> float:
    try:
        value = float(word)
    except ValueError:
        raise ValueError(f"{label}: expected a number, got {word[:60]!r}") from None
    if not math.isfinite(value):
        raise ValueError(f"{label}: expected a finite number, got {word[:60]!r}")
    return value
