"""Draw the curves of training runs from their logs."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from raytrans.apps import cli
from raytrans.export.files import read_json_lines, write_png
from raytrans.reports.curves import QUANTITIES, Series, curves, series
from raytrans.training.loop import LOG

ROWS = 6


def parser() -> ArgumentParser:
    """Command line of `tools/curves.py`."""
    out = ArgumentParser(
        prog="curves",
        description="Draw the losses, held-out PSNR and depth error of training runs against their steps, and print "
        f"some of the numbers. Reads {LOG}, which train writes.",
    )
    text = f"folder of a training run, or its {LOG}; several share the axes"
    out.add_argument("runs", nargs="+", type=Path, metavar="RUN", help=text)
    out.add_argument("--out", type=cli.output_file, required=True, metavar="FILE.png", help="picture to write")
    cli.add_json_argument(out)
    return out


def main(arguments: Namespace) -> int:
    """Draw as the command line says; the exit status."""
    if arguments.out.suffix.lower() != ".png":
        raise ValueError(f"--out: expected a .png file, got {arguments.out}")
    runs = {}
    for run in arguments.runs:
        file = run / LOG if run.is_dir() else run
        name = file.resolve().parent.name
        if name in runs:
            raise ValueError(f"RUN: expected folders of different names, got {name} twice")
        runs[name] = series(read_json_lines(file))
        if not runs[name]:
            raise ValueError(f"{file}: expected lines with one of {', '.join(QUANTITIES)}, got none")
    write_png(arguments.out, curves(runs))
    for name, run in runs.items():
        cli.say(f"{name}\n{numbers(run)}\n")
    plain = {name: {key: {"step": s, "value": v} for key, (s, v) in run.items()} for name, run in runs.items()}
    cli.write_report(arguments.json, plain)
    cli.say(f"curves: {arguments.out} ({arguments.out.stat().st_size / 1000:.0f} kB)")
    return 0


def numbers(run: Series) -> str:
    """A table of a run: the quantities at a few of its points, each the last known by then."""
    steps = sorted({step for points, _ in run.values() for step in points})
    shown = [
        steps[round(k * (len(steps) - 1) / max(1, min(ROWS, len(steps)) - 1))] for k in range(min(ROWS, len(steps)))
    ]
    rows = [[str(round(step)), *(_known(points, values, step) for points, values in run.values())] for step in shown]
    return cli.table(("step", *(QUANTITIES[name] for name in run)), rows)


def _known(points, values, step: float) -> float | None:
    before = values[points <= step]
    return float(before[-1]) if len(before) else None
