"""Structures of chains in space: atoms set one after another, at their rest lengths and angles, without overlaps."""

import math
from collections import defaultdict

import torch
from torch import Tensor

from raytrans.shapes import Float
from raytrans.systems.polymers.parameters import ANGLES, ATOMS
from raytrans.systems.polymers.topology import Topology

TRIES = 24  # turns about a bond that are tried for the atoms behind it
PATIENCE = 50  # steps taken back, for each that there is, before a structure is begun anew
RESTARTS = 10
CLEARANCE = 0.62  # least distance of two atoms, three bonds apart or more, over the mean of their diameters


def _frame(back: Tensor) -> Tensor:
    """Rows: the unit vector of `back`, and two that are at right angles to it."""
    axis = back / back.norm()
    side = torch.eye(3, dtype=axis.dtype)[int(axis.abs().argmin())]
    side = torch.linalg.cross(axis, side)
    side = side / side.norm()
    return torch.stack([axis, side, torch.linalg.cross(axis, side)])


def _placed(kinds: tuple[str, ...], at: int, back: Tensor, children: list[int], turns: Tensor) -> Tensor:
    """Places of the children of an atom relative to it, (turns, children, 3): evenly about the bond behind it."""
    radius = ATOMS[kinds[at]].radius
    lengths = torch.tensor([radius + ATOMS[kinds[child]].radius for child in children], dtype=torch.float64)
    cosine = ANGLES[kinds[at]][0]
    sites = int(kinds[at][1:]) - 1  # directions that are left beside the bond behind
    around = turns[:, None] + 2 * math.pi / sites * torch.arange(len(children))
    sine = math.sqrt(1 - cosine**2)
    local = torch.stack([torch.full_like(around, cosine), sine * around.cos(), sine * around.sin()], -1)
    return lengths[:, None] * (local @ _frame(back))


def start_structure(
    topology: Topology, generator: torch.Generator, clearance: float = CLEARANCE
) -> Float[Tensor, "atoms 3"]:
    """A random structure of one chain, in Angstrom, float64, with no overlaps.

    Behind every bond a random turn is taken that keeps what it places clear of what stands; where there is none, the
    turn before is taken back. Of atoms three bonds apart or more none are nearer than `clearance` times the mean of
    their Lennard-Jones diameters. Raises ValueError where none was found, and for rings and several molecules.
    """
    count = len(topology.kinds)
    if topology.systems != 1 or len(topology.bonds) != count - 1:
        raise ValueError(
            f"topology: expected one molecule without rings, got {topology.systems}, {count} atoms and "
            f"{len(topology.bonds)} bonds"
        )
    for _ in range(RESTARTS):
        positions = _grown(topology, generator, clearance)
        if positions is not None:
            return positions
    raise ValueError(f"clearance: expected one that {RESTARTS} random structures can keep, got {clearance}")


def smallest_clearance(topology: Topology, positions: Float[Tensor, "atoms 3"]) -> float:
    """Least distance of atoms three bonds apart or more, over the mean of their diameters; infinite without such."""
    first, second = topology.pairs[topology.apart >= 3].unbind(-1)
    sizes = _sizes(topology)
    ratio = (positions[first] - positions[second]).norm(dim=-1) * 2 / (sizes[first] + sizes[second])
    return float(ratio.min()) if len(ratio) else math.inf


def _sizes(topology: Topology) -> Tensor:
    return torch.tensor([ATOMS[kind].diameter for kind in topology.kinds], dtype=torch.float64)


def _steps(topology: Topology) -> list[tuple[int, int, list[int], list[int]]]:
    """In which order atoms are placed: the atom behind, the one at, its children, and whom they must keep clear of.

    The first atom is the end of a chain, the second its only neighbour. Breadth first, so that what hangs at both ends
    of a bond is placed one soon after the other.
    """
    near = defaultdict(list)
    for a, b in topology.bonds.tolist():
        near[a].append(b)
        near[b].append(a)
    start = next(atom for atom in range(len(topology.kinds)) if len(near[atom]) == 1)
    behind, placed, steps = [(start, near[start][0])], [start, near[start][0]], []
    for back, at in behind:  # grows while it is read
        children = [atom for atom in near[at] if atom != back]
        if children:
            steps.append((back, at, children, [atom for atom in placed if atom != at and atom not in near[at]]))
            placed += children
            behind += [(at, child) for child in children]
    return steps


def _grown(topology: Topology, generator: torch.Generator, clearance: float) -> Tensor | None:
    """A structure, or None after too many turns were taken back."""
    steps, sizes = _steps(topology), _sizes(topology)
    positions = torch.zeros(len(topology.kinds), 3, dtype=torch.float64)
    first, second = steps[0][:2] if steps else topology.bonds[0].tolist()
    positions[second, 0] = ATOMS[topology.kinds[first]].radius + ATOMS[topology.kinds[second]].radius
    left: list[list[Tensor]] = []  # places that are still to be tried, of every step
    patience = PATIENCE * len(steps)
    step = 0
    while step < len(steps):
        back, at, children, others = steps[step]
        if len(left) == step:
            turns = 2 * math.pi * torch.rand(TRIES, generator=generator, dtype=torch.float64)
            places = positions[at] + _placed(topology.kinds, at, positions[back] - positions[at], children, turns)
            distance = (places[:, :, None] - positions[others]).norm(dim=-1)
            clear = (2 * distance / (sizes[children, None] + sizes[others]) >= clearance).flatten(1).all(1)
            left.append(list(places[clear]))
        if left[step]:
            positions[children] = left[step].pop()
            step += 1
            continue
        left.pop()
        step, patience = step - 1, patience - 1
        if step < 0 or patience < 0:
            return None
    return positions
