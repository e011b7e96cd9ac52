"""Rays per CPU-second and peak memory of renderings and training steps, one axis at a time around a base case."""

from dataclasses import asdict, replace

from raytrans.apps import cli
from raytrans.apps.benchmarks import growth
from raytrans.apps.benchmarks.counting import counted, roofline
from raytrans.apps.benchmarks.measure import isolated, timed
from raytrans.apps.benchmarks.settings import Settings, Sizes
from raytrans.apps.benchmarks.tables import Table
from raytrans.apps.benchmarks.workloads import Case, prepared
from raytrans.training.checkpoint import load

PRECISIONS = {"rendering": ("float32", "bfloat16", "float64"), "training": ("float32", "bfloat16")}
GROWS = {"rendering": ("rays", "sources", "samples"), "training": ("rays", "sources", "samples")}


def measured(settings: Settings, machine: dict) -> dict:
    """{"named": {name: row}, "rendering": {axis: {value: row}}, "training": ..., "growth": {task: {axis: fit}}}."""
    rows: dict[Case, dict] = {}

    def row_of(case: Case) -> dict:
        if case not in rows:
            row = isolated(_row, settings, case)
            rows[case] = row | roofline(row["flops"], row["bytes"], row["cpu_seconds"], machine, case.precision)
        return rows[case]

    sizes, samples = settings.sizes, load(settings.checkpoint).config.fine
    base = Case(sources=sizes.count, size=(sizes.side, sizes.side), samples=samples, rays=sizes.rays)
    bases = {task: replace(base, task=task) for task in GROWS}
    out = {"named": {name: row_of(case) for name, case in _named(sizes, base).items()}}
    for task in bases:
        cases = _axes(sizes, bases[task])
        out[task] = {axis: {value: row_of(case) for value, case in along.items()} for axis, along in cases.items()}
    out["growth"] = {task: {axis: _fit(out[task][axis]) for axis in GROWS[task]} for task in bases}
    return out


def _named(sizes: Sizes, base: Case) -> dict[str, Case]:
    """The rows that the README cites."""
    count, side, (few, small), (height, width) = sizes.count, sizes.side, sizes.small, sizes.frame
    training, frame = replace(base, task="training"), replace(base, task="frame", size=sizes.frame)
    return {
        f"rendering, {count} sources of {side}x{side}": base,
        f"training step, {few} sources of {small}x{small}": replace(training, sources=few, size=(small, small)),
        f"training step, {count} sources of {side}x{side}": training,
        f"frame of {width}x{height}, {count} sources of {width}x{height}": frame,
        "of it, encoding (pixels of the sources)": replace(frame, task="encoding"),
    }


def _axes(sizes: Sizes, base: Case) -> dict[str, dict[object, Case]]:
    """Axis -> value there -> case, all other things as in `base`."""
    out = {
        "sources": {n: replace(base, sources=n) for n in sizes.sources},
        "samples": {n: replace(base, samples=n) for n in sizes.samples},
        "image side": {n: replace(base, size=(n, n)) for n in sizes.sides},
        "precision": {p: replace(base, precision=p) for p in PRECISIONS[base.task]},
    }
    if base.task == "training":
        return {**out, "rays": {n: replace(base, rays=n) for n in sizes.step_rays}}
    targets = {n: None if base.size == (n, n) else (n, n) for n in sizes.targets}
    return {**out, "rays": {n * n: replace(base, target=target) for n, target in targets.items()}}


def _row(settings: Settings, case: Case) -> dict:
    """Speed, memory and counts of a case, in this process."""
    work = prepared(case, settings.checkpoint)
    found = timed(work.run, settings.repeats)
    return {
        **asdict(case),
        "rays": work.rays,
        **found,
        "rays_per_cpu_second": work.rays / found["cpu_seconds"],
        "rays_per_second": work.rays / found["seconds"],
        "peak_memory_bytes": cli.peak_memory(),
        **counted(work.run),
    }


def _fit(rows: dict[object, dict]) -> dict:
    x = [float(value) for value in rows]
    return {"values": x} | growth.fitted(x, [row["cpu_seconds"] for row in rows.values()])


SPEED = ("rays per CPU-s", "CPU-s", "peak MB", "GFLOP", "GB", "share, memory", "share, cache")
NOTE = (
    "Medians in float32 but where another precision stands. Peak memory is that of a process of its own from its "
    "start, loading, drawing and encoding included. GFLOP are those of products and convolutions, GB the operands and "
    "results of every operation, as if nothing stayed in cache. The last columns are the achieved share of the bound "
    "min(rate of a matrix product, bandwidth of a copy x operations per byte), with copies in memory and in cache."
)


def tables(values: dict) -> list[Table]:
    """The named rows, a table for every task and axis, and the fits."""
    out = [Table("Speed", ("what", *SPEED), [(name, *_cells(row)) for name, row in values["named"].items()], NOTE)]
    for task in GROWS:
        rows = [(axis, str(v), *_cells(row)) for axis, along in values[task].items() for v, row in along.items()]
        out.append(Table(f"{task.capitalize()}, one axis at a time", ("axis", "value", *SPEED), rows))
    fits = [(task, axis, *growth.cells(fit)) for task, along in values["growth"].items() for axis, fit in along.items()]
    return [*out, Table("Growth of the cost", ("task", "over", *growth.HEADER), fits, GROWTH_NOTE)]


def _cells(row: dict) -> tuple:
    return (
        round(row["rays_per_cpu_second"]),
        row["cpu_seconds"],
        round(row["peak_memory_bytes"] / 1e6),
        row["flops"] / 1e9,
        row["bytes"] / 1e9,
        f"{row['share_memory']:.0%}",
        f"{row['share_cache']:.0%}",
    )


GROWTH_NOTE = (
    "Least squares of CPU seconds = constant + slope x. Exponents are slopes of log seconds over log x in the upper "
    "half of x; within 0.1 of 1, with or without the constant, growth counts as linear."
)
