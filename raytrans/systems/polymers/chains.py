"""Polymer chains as graphs: atoms and bonds of a backbone with side groups, any number of units long.

A unit is a row of backbone atoms, each with the groups that hang on it; "R" stands for the side group. A group is a
tree, (element, group, group, ...). Both ends of a chain are closed by hydrogen. No chain has a ring. How an atom binds
follows from its element and its number of neighbours: carbon with three is flat, oxygen with one is a carbonyl.
"""

from dataclasses import dataclass

H, F, CARBONYL = ("H",), ("F",), ("O",)

BACKBONES = {
    "CH2": (("C", H, H), ("C", H, "R")),  # -CH2-CHR-
    "O": (("O",), ("C", H, H), ("C", H, "R")),  # -O-CH2-CHR-, an ether
    "COO": (("C", CARBONYL), ("O",), ("C", H, "R")),  # -C(=O)-O-CHR-, an ester
    "CF2": (("C", F, F), ("C", H, "R")),  # -CF2-CHR-
}

SIDE_GROUPS = {
    "H": H,
    "F": F,
    "OH": ("O", H),
    "CH3": ("C", H, H, H),
    "OCH3": ("O", ("C", H, H, H)),
    "CF3": ("C", F, F, F),
}


@dataclass(frozen=True)
class Chain:
    """Elements of the atoms, bonds as pairs of their numbers, and the atoms of the backbone in order."""

    name: str
    elements: tuple[str, ...]
    bonds: tuple[tuple[int, int], ...]
    backbone: tuple[int, ...]


def _known(name: str, value: str, table: dict) -> object:
    if value not in table:
        raise ValueError(f"{name}: expected one of {', '.join(table)}, got {value!r}")
    return table[value]


def polymer(backbone: str, side_group: str, length: int) -> Chain:
    """The chain H-(unit)_length-H of a backbone of `BACKBONES` with a side group of `SIDE_GROUPS` on every unit.

    Raises ValueError for names that are not in the tables and for lengths that are not whole numbers from 1.
    """
    unit, side = _known("backbone", backbone, BACKBONES), _known("side_group", side_group, SIDE_GROUPS)
    if isinstance(length, bool) or not isinstance(length, int) or length < 1:
        raise ValueError(f"length: expected a whole number of units from 1, got {length!r}")
    elements: list[str] = []
    bonds: list[tuple[int, int]] = []
    spine: list[int] = []

    def hang(group: tuple, on: int | None) -> int:
        """Add a group to the atom `on`; the number of its first atom."""
        number = len(elements)
        elements.append(group[0])
        if on is not None:
            bonds.append((on, number))
        for part in group[1:]:
            hang(side if part == "R" else part, number)
        return number

    last = hang(H, None)
    for atom in unit * length:
        last = hang(atom, last)
        spine.append(last)
    hang(H, last)
    return Chain(f"{backbone}/{side_group} x {length}", tuple(elements), tuple(bonds), tuple(spine))
