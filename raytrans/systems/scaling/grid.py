"""A grid of trainings over arms, sizes, numbers of distinct samples and seeds; what is finished is not run again.

One run of a size has losses at several lengths: a constant rate, and at each length the mean of the weights over its
last quarter. So it stands for a run of each length at the cost of the longest.
"""

import json
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import numpy as np

from raytrans.atomic import write_bytes
from raytrans.data.guards import read_json

FRESH = 0
"""A number of distinct samples that says that none comes twice."""


@dataclass(frozen=True)
class Cell:
    """One run: an arm at a size, on `data` distinct samples (`FRESH`: none comes twice), with a seed."""

    arm: str
    size: int
    data: int
    seed: int

    @property
    def name(self) -> str:
        return f"{self.arm}-{self.size}-{self.data or 'fresh'}-{self.seed}"


@dataclass(frozen=True)
class Grid:
    """All combinations of arms, sizes, numbers of samples and seeds; `steps` are the lengths at which losses are taken.

    Raises ValueError for an empty or repeated entry, a name that makes no name of a file, a size that is no whole
    number above 0, a number of samples or a seed below 0, and steps that do not rise.
    """

    arms: tuple[str, ...]
    sizes: tuple[int, ...]
    steps: tuple[int, ...]
    seeds: tuple[int, ...]
    data: tuple[int, ...] = (FRESH,)

    def __post_init__(self):
        for name, least in (("arms", None), ("sizes", 1), ("steps", 1), ("seeds", 0), ("data", 0)):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise ValueError(f"{name}: expected at least one value and none twice, got {values}")
            if least is not None and not all(type(v) is int and v >= least for v in values):
                raise ValueError(f"{name}: expected whole numbers of at least {least}, got {values}")
        if not all(isinstance(arm, str) and re.fullmatch(r"[\w ]+", arm) for arm in self.arms):
            raise ValueError(f"arms: expected names of letters, digits and spaces, got {self.arms}")
        if list(self.steps) != sorted(self.steps):
            raise ValueError(f"steps: expected rising numbers, got {self.steps}")

    def cells(self) -> Iterator[Cell]:
        """Every run, seeds outermost: what an interrupt leaves has all arms and sizes of the first seeds."""
        for seed, data, size, arm in product(self.seeds, self.data, self.sizes, self.arms):
            yield Cell(arm, size, data, seed)


@dataclass(frozen=True)
class Row:
    """What a run gave: a held-out loss at each of the steps, nominal FLOPs of a step, parameters, CPU seconds."""

    cell: Cell
    losses: tuple[float, ...]
    flops: float
    parameters: int
    seconds: float


def run_grid(
    folder: Path,
    grid: Grid,
    train: Callable[[Cell, Sequence[int]], Mapping],
    settings: Mapping[str, object],
    tell: Callable[[Row, bool], None] = lambda row, new: None,
) -> list[Row]:
    """Rows of all cells of a grid, those that `folder` does not have from `train(cell, steps)`.

    `train` gives losses, flops and parameters of `Row`; `settings` say everything else that a result depends on.
    `tell(row, new)` is called after each. Raises ValueError for a file of other settings or steps, and for a damaged
    one; FloatingPointError for a loss that is not finite.
    """
    rows = []
    for cell in grid.cells():
        file = folder / f"{cell.name}.json"
        facts = {"cell": asdict(cell), "steps": list(grid.steps), "settings": json.loads(json.dumps(settings))}
        held = _held(file, facts)
        if held is None:
            start = time.process_time()
            held = dict(train(cell, grid.steps)) | {"seconds": time.process_time() - start}
            if not np.isfinite(held["losses"]).all():
                raise FloatingPointError(f"{cell.name}: expected finite losses, got {held['losses']}")
            write_bytes(file, json.dumps({**facts, "result": held}, indent=1).encode())
            rows.append(_row(cell, held))
            tell(rows[-1], True)
        else:
            rows.append(_row(cell, held))
            tell(rows[-1], False)
    return rows


def _row(cell: Cell, held: Mapping) -> Row:
    return Row(cell, tuple(held["losses"]), float(held["flops"]), int(held["parameters"]), float(held["seconds"]))


def _held(file: Path, facts: Mapping) -> dict | None:
    """The result in a file; None where there is no file."""
    if not file.is_file():
        return None
    try:
        values = read_json(file)
        found, result = {name: values[name] for name in facts}, values["result"]
        _row(Cell(**values["cell"]), result)
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{file}: expected the result of a run, got a damaged file: {error}") from None
    for name, expected in facts.items():
        if found[name] != expected:
            raise ValueError(f"{file}: expected {name} {expected}, got {found[name]}; choose another folder")
    return result


def table(rows: Sequence[Row], arm: str, data: int = FRESH) -> tuple[np.ndarray, np.ndarray]:
    """FLOPs of a step (sizes,) and losses (seeds, sizes, lengths) of an arm, sizes and seeds in rising order.

    Raises ValueError where a combination is missing.
    """
    own = {(row.cell.seed, row.cell.size): row for row in rows if (row.cell.arm, row.cell.data) == (arm, data)}
    seeds, sizes = (sorted({key[i] for key in own}) for i in (0, 1))
    if not own or len(own) != len(seeds) * len(sizes):
        raise ValueError(f"rows: expected every seed and size of arm {arm!r}, data {data}, got {sorted(own)}")
    flops = np.array([own[seeds[0], size].flops for size in sizes])
    return flops, np.array([[own[seed, size].losses for size in sizes] for seed in seeds])


def data_curve(rows: Sequence[Row], arm: str, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of distinct samples (counts,), infinite where none comes twice, and last losses (seeds, counts)."""
    own = {(row.cell.seed, row.cell.data): row for row in rows if (row.cell.arm, row.cell.size) == (arm, size)}
    seeds, counts = (sorted({key[i] for key in own}) for i in (0, 1))
    counts = sorted(counts, key=lambda count: count or math.inf)
    if not own or len(own) != len(seeds) * len(counts):
        raise ValueError(f"rows: expected every seed and number of samples of arm {arm!r}, got {sorted(own)}")
    losses = np.array([[own[seed, count].losses[-1] for count in counts] for seed in seeds])
    return np.array([count or math.inf for count in counts]), losses
