"""Measure speed, memory and their price in quality; CPU time counts all threads."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

import torch

from raytrans.apps import cli, pages
from raytrans.apps.benchmarks import gpu, layers, measure, quality, speed, tables
from raytrans.apps.benchmarks.settings import QUICK, Settings
from raytrans.data.guards import read_json

PARTS = {"speed": speed, "layers": layers, "quality": quality, "gpu": gpu}


def parser() -> ArgumentParser:
    """Command line of `tools/benchmark.py`."""
    out = ArgumentParser(
        prog="benchmark",
        description="Measure rays per CPU-second (process time over all threads) and peak memory of rendering and of "
        "training steps over sources, samples, image size, rays and precision, how the cost grows, layers alone, and "
        "what speed costs in quality, beside what this machine does in a matrix product and a copy.",
    )
    text = f"parts to measure, of {', '.join(PARTS)} (default: all)"
    out.add_argument("--only", nargs="+", choices=tuple(PARTS), metavar="PART", help=text)
    out.add_argument("--quick", action="store_true", help="small sizes, once each: a smoke test, no measurement")
    text = "threads of every measurement (default: 1)"
    out.add_argument("--threads", type=cli.positive_int, default=1, metavar="N", help=text)
    text = "take numbers of an earlier --json FILE for the parts that are not measured; with no --only, for all"
    out.add_argument("--read", type=Path, metavar="FILE", help=text)
    text = f"put the tables into this page, between <!-- {tables.SECTION} --> and <!-- /{tables.SECTION} -->"
    out.add_argument("--write", type=Path, metavar="PAGE", help=text)
    cli.add_checkpoint_argument(out, device=False)
    cli.add_json_argument(out)
    return out


def main(arguments: Namespace) -> int:
    """Run the benchmark; the exit status."""
    if arguments.write is not None:
        pages.sections(arguments.write, tables.SECTION)
        if arguments.quick:
            raise ValueError(f"--write: {arguments.write}: expected measurements, got --quick, which takes none")
    values = {} if arguments.read is None else _read(arguments.read)
    parts = arguments.only or ([] if values else list(PARTS))
    torch.set_num_threads(arguments.threads)
    if parts:
        quick = {"sizes": QUICK, "repeats": 1, "alone": False} if arguments.quick else {}
        settings = Settings(arguments.checkpoint, arguments.threads, **quick)
        values |= cli.checkpoint_facts(arguments.checkpoint) | {"versions": cli.versions(), "quick": arguments.quick}
        values["machine"] = measure.isolated(measure.machine, settings)
        cli.say(facts(values))
    for name in parts:
        values[name] = PARTS[name].measured(settings, values["machine"])
        for table in PARTS[name].tables(values[name]):
            cli.say("\n" + table.text())
        cli.write_report(arguments.json, values)
    if arguments.write is not None:
        found = [table for name in PARTS if name in values for table in PARTS[name].tables(values[name])]
        tables.write(arguments.write, found, facts(values))
    return 0


def facts(values: dict) -> str:
    """The machine, what it does at best per CPU-second, and the versions, in one paragraph."""
    machine = values["machine"]
    rates = ", ".join(f"{name} {value:.0f} GFLOP/s" for name, value in machine["gflops"].items())
    copies = ", ".join(f"{name} {value:.0f} GB/s" for name, value in machine["gb_per_second"].items())
    versions = ", ".join(f"{name} {value}" for name, value in values["versions"].items())
    threads = f"{machine['threads']} thread{'s'[: machine['threads'] > 1]}"
    return (
        f"{machine['cpu']}, {threads}; a matrix product: {rates}; a copy, read and written: {copies}. {versions}; "
        f"weights with SHA-256 {values['checkpoint_hash'][:12]}."
    )


def _read(path: Path) -> dict:
    """Numbers that `--json` wrote; ValueError where the file holds none."""
    try:
        values = read_json(path)
    except ValueError as error:
        raise ValueError(f"--read: expected numbers of an earlier --json: {error}") from None
    if not isinstance(values, dict) or "machine" not in values:
        raise ValueError(f"--read: {path}: expected numbers of an earlier --json, got other JSON")
    return values
