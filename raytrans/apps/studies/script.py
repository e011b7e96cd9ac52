"""What the scripts in docs/studies share: arguments, and the files that a study leaves."""

import math
import resource
import shlex
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from functools import reduce
from pathlib import Path

import numpy as np

from raytrans.apps import cli
from raytrans.export.files import write_json, write_png


def parser(name: str, description: str, minutes: float) -> ArgumentParser:
    """Arguments that all have: --out, --seeds, and the CPU minutes of one training with their default."""
    out = ArgumentParser(prog=name, description=description)
    folder = Path("out/studies") / name
    text = f"folder of {name}.json and {name}.png (default: {folder})"
    out.add_argument("--out", type=cli.output_folder, default=folder, metavar="DIR", help=text)
    out.add_argument("--seeds", nargs="+", type=cli.seed, default=[0, 1, 2], metavar="N", help="default: 0 1 2")
    text = f"CPU minutes of one training (default: {minutes:g})"
    out.add_argument("--minutes", type=cli.positive_float, default=minutes, metavar="M", help=text)
    return out


def finish(arguments: Namespace, values: Mapping[str, object], picture: np.ndarray, name: str) -> None:
    """Write NAME.json, the values with what they came from, and NAME.png, a picture (H, W, 3)."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    facts = {
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "seeds": list(arguments.seeds),
        "minutes": arguments.minutes,
        "cpu_seconds": own.ru_utime + own.ru_stime,
        "versions": cli.versions(),
    }
    write_json(arguments.out / f"{name}.json", {**facts, **values})
    write_png(arguments.out / f"{name}.png", picture)
    cli.say(f"{name}: {arguments.out / name}.json, {name}.png")


def spread(values: Sequence[float]) -> dict[str, float | int | None]:
    """Mean, standard deviation (of a sample; None for one value) and number of the values of several seeds.

    Raises ValueError where there is none, or one that is not finite.
    """
    found = [float(value) for value in values]
    if not found or not all(map(math.isfinite, found)):
        raise ValueError(f"values: expected finite numbers, at least one, got {found}")
    deviation = float(np.std(found, ddof=1)) if len(found) > 1 else None
    return {"mean": float(np.mean(found)), "deviation": deviation, "count": len(found)}


def over_seeds(rows: Sequence[Mapping], *path: str) -> dict[str, float | int | None]:
    """`spread` of the number that lies at a path of keys in every row."""
    return spread([reduce(lambda value, key: value[key], path, row) for row in rows])


def evenly(values: Sequence, count: int) -> list:
    """At most `count` of some values, evenly spread from the first to the last."""
    places = np.linspace(0, len(values) - 1, min(count, len(values))).round().astype(int)
    return [values[place] for place in places]


def rounded(value: object) -> object:
    """The same tree of tables and lists with floats of five digits."""
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(one) for one in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


def shown(value: Mapping[str, float | int | None], digits: int = 3) -> str:
    """`spread` as text: mean +- standard deviation, or the mean alone."""
    mean, deviation = value["mean"], value["deviation"]
    return f"{mean:.{digits}g}" if deviation is None else f"{mean:.{digits}g} ± {deviation:.2g}"
