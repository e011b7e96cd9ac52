"""The tables of measured numbers in the pages, from what the measuring commands wrote."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from raytrans.apps import cli, pages
from raytrans.apps.evaluate import METHODS, SETS
from raytrans.data.guards import one_line, read_json

SECTION = "numbers"
DAMAGED = (LookupError, TypeError, AttributeError, ArithmeticError, ValueError)  # what other JSON gives rise to
NAMES = {"model": "raytrans", "nearest": "nearest source", "mean": "mean of sources", "sweep": "plane sweep"}
QUALITY = """Held-out views. `easy` and `full` are the generated test sets (64x64 pixels, 6 sources), `easy-128` and
`full-128` the same scenes at 128x128 pixels from 8 sources; the long side of captures is {max_size} pixels, and they
have {sources} sources. Depth errors are relative, over pixels that hit a surface; a sweep that takes a wall for the sky
has an error without bound, hence its means. Margin: the worst view over its nearest source."""
CONTRACTS = "Contracts, largest relative error (`tools/verify.py`), by scene, arithmetic and target in pixels:"
SPEED = "Speed in float32, CPU time over all threads, {threads} (`make bench`):"


def parser() -> ArgumentParser:
    """Command line of `tools/results.py`."""
    out = ArgumentParser(
        prog="results",
        description="Put what evaluate, verify and benchmark measured into the tables between "
        f"<!-- {SECTION} --> and <!-- /{SECTION} --> of some pages. All of it must be of the same weights.",
    )
    for name, text in (("quality", "evaluate"), ("contracts", "verify")):
        out.add_argument(f"--{name}", nargs="+", type=Path, required=True, metavar="FILE", help=f"--json of {text}")
    out.add_argument("--speed", type=Path, required=True, metavar="FILE", help="--json of benchmark")
    out.add_argument("--write", nargs="+", type=Path, default=[], metavar="PAGE", help="pages (default: print)")
    return out


def main(arguments: Namespace) -> int:
    """Write the tables as the command line says; the exit status."""
    for page in arguments.write:
        pages.sections(page, SECTION)
    quality, contracts = ([read(file) for file in files] for files in (arguments.quality, arguments.contracts))
    speed = read(arguments.speed)
    weights = {one["checkpoint_hash"] for one in (*quality, *contracts, speed)}
    if len(weights) > 1:
        found = ", ".join(sorted(one[:12] for one in weights))
        raise ValueError(f"--quality, --contracts, --speed: expected numbers of one checkpoint, got those of {found}")
    try:
        content = section(quality, contracts, speed)
    except DAMAGED as error:
        raise ValueError(
            f"--quality, --contracts, --speed: expected numbers of those tools, got none: {one_line(error)}"
        ) from None
    for page in arguments.write:
        pages.write_section(page, SECTION, content)
    if not arguments.write:
        cli.say(content)
    return 0


def read(file: Path) -> dict:
    """Numbers of a measuring command; ValueError for a file that holds none."""
    try:
        values = read_json(file)
        return values | {"checkpoint_hash": values["checkpoint_hash"] + ""}
    except (ValueError, TypeError, KeyError):
        raise ValueError(f"{file}: expected the --json of evaluate, verify or benchmark, got none such") from None


def section(quality: list[dict], contracts: list[dict], speed: dict) -> str:
    """What stands between the marks."""
    threads = speed["machine"]["threads"]
    parts = [
        QUALITY.format(**quality[-1]),
        pages.markdown(*quality_table([one for values in quality for one in values["scenes"]])),
        CONTRACTS,
        pages.markdown(*contract_table(contracts)),
        SPEED.format(threads=f"{threads} thread{'s'[: threads > 1]}"),
        pages.markdown(*speed_table(speed)),
        f"Weights with SHA-256 {speed['checkpoint_hash'][:12]}.",
    ]
    return "\n\n".join(parts)


def quality_table(scenes: list[dict]) -> tuple[tuple[str, ...], list[tuple]]:
    """A row for each scene and method, in the frames as given, and the means over the captures."""
    rows, scenes = [], [one for one in scenes if one["protocol"] == "I/I"]
    for one in scenes:
        name = Path(one["scene"]).name
        for method in METHODS:
            values = one[method]
            first, last = f"`{name}`, {len(one['views'])} views", f"{one['worst_margin']:+.2f} dB"
            ends = (first, last) if method == "model" else ("", "")
            depth = [_percent(values[key]) for key in ("depth_median", "depth_mean", "depth_close")]
            rows.append(
                (ends[0], NAMES[method], _shown(method, values["psnr"]), f"{values['ssim']:.3f}", *depth, ends[1])
            )
    if captures := [one for one in scenes if one["scene"] not in SETS]:
        rows += _means(captures)
    return ("scene", "method", "PSNR", "SSIM", "depth, median", "depth, mean", "within 3 %", "margin"), rows


def _means(captures: list[dict]) -> list[tuple]:
    """Means over captures: of every method, and of the baseline that is best in each."""
    rows = []
    for method in METHODS:
        psnr, ssim = (sum(one[method][key] for one in captures) / len(captures) for key in ("psnr", "ssim"))
        first = f"mean of {len(captures)} captures" if method == "model" else ""
        rows.append((first, NAMES[method], _shown(method, psnr), f"{ssim:.3f}", "", "", "", ""))
    best = sum(max(one[m]["psnr"] for m in METHODS[1:]) for one in captures) / len(captures)
    return [*rows, ("", "best of the three in each", f"{best:.2f}", "", "", "", "", "")]


def contract_table(reports: list[dict]) -> tuple[tuple[str, ...], list[tuple]]:
    """A row for each contract, and for what is reported without a tolerance; a column for each report.

    Tolerances are those of an arithmetic, a column for each.
    """
    titles = [f"{Path(r['scene']).name}, {r['dtype']}, {r['size'][1]} x {r['size'][0]}" for r in reports]
    kinds = {r["dtype"]: r for r in reports}
    rows = []
    for name in reports[0]["contracts"]:
        errors = [f"{r['contracts'][name]['error']:.0e}" for r in reports]
        tolerances = [f"{r['contracts'][name]['tolerance']:.0e}" for r in kinds.values()]
        rows.append((f"`{name}`", *tolerances, *errors))
    for name in reports[0]["reported"]:
        errors = [r["reported"].get(name, {}).get("error") for r in reports]
        reported = ["reported"] * len(kinds)
        rows.append((f"`{name}`", *reported, *("-" if e is None else f"{e:.2g}" for e in errors)))
    return ("row", *(f"tolerance, {kind}" for kind in kinds), *titles), rows


def speed_table(values: dict) -> tuple[tuple[str, ...], list[tuple]]:
    """A row for each of the named measurements of the benchmark."""
    rows = [
        (
            name,
            f"{row['rays_per_cpu_second']:.0f}",
            f"{row['cpu_seconds']:.1f}",
            f"{row['peak_memory_bytes'] / 1e6:.0f} MB",
        )
        for name, row in values["speed"]["named"].items()
    ]
    return ("what", "rays per CPU-second", "CPU-seconds", "peak memory"), rows


def _shown(method: str, psnr: float) -> str:
    return f"**{psnr:.2f}**" if method == "model" else f"{psnr:.2f}"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"
