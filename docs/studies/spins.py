"""Spins with electrons on a 6x6 lattice: effective weights of 0 to 4 attention layers in self-learning Monte Carlo.

    .venv/bin/python docs/studies/spins.py

samples the double-exchange model, trains every arm for every seed, measures the error of the log weight and the
acceptance of self-learning updates, compares self-learning chains with the exact one, prints the tables of
docs/studies/spins.md and writes spins.json and spins.png. Every seed has chains and data of its own. Samples, arms and
chains are kept in files: the same command goes on where it was stopped.
"""

import io
import json
import math
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import torch
from torch import Generator

from raytrans.apps import cli
from raytrans.apps.studies import script
from raytrans.atomic import write_bytes
from raytrans.data.guards import one_line, read_json
from raytrans.export.files import write_json
from raytrans.reports.charts import Plot, plots
from raytrans.systems.scaling.fits import fit_power_law
from raytrans.systems.spins.measuring import Plan, Sample, arm, exact, sampled
from raytrans.systems.spins.sampling import expected_acceptance, pooled

NAME = "spins"
STEPS_PER_MINUTE = 2000  # of every arm; the largest takes about that many
OBSERVABLES = {"log_weight": "log W", "energy": "energy/site", "uniform": "|m|", "staggered": "|m_s|"}


def kept(file: Path, measure: Callable[[], dict]) -> dict:
    """What a file of an earlier run says, or else what is measured now and written there."""
    if not file.is_file():
        write_json(file, measure())
    found = read_json(file)
    if not found or not isinstance(found, dict):
        raise ValueError(f"{file}: expected what an earlier run measured, got a damaged file")
    return found


def kept_sample(plan: Plan, seed: int, folder: Path) -> Sample:
    """The sample of a seed, from its file or drawn now."""
    file = folder / f"seed_{seed}_sample.pt"
    if not file.is_file():
        content = io.BytesIO()
        torch.save(vars(sampled(plan, Generator().manual_seed(seed))), content)
        write_bytes(file, content.getvalue())
    try:
        return Sample(**torch.load(file, weights_only=True))
    except (TypeError, RuntimeError, UnpicklingError, EOFError) as error:
        raise ValueError(
            f"{file}: expected a sample of an earlier run, got a damaged file: {one_line(error)}"
        ) from None


def one_seed(plan: Plan, seed: int, folder: Path) -> dict:
    """Everything that is measured with one seed, in pieces with random numbers of their own."""
    sample = kept_sample(plan, seed, folder)
    cli.say(f"seed {seed}: {sample.log_weight.numel()} spins")

    def generator(piece: int) -> Generator:
        torch.manual_seed(1000 * (seed + 1) + piece)  # of first weights
        return Generator().manual_seed(1000 * (seed + 1) + piece)

    found = []
    for piece, (layers, heads) in enumerate(plan.arms):
        file = folder / f"seed_{seed}_{layers}_layers_{heads}_heads.json"
        found.append(kept(file, lambda: arm(plan, layers, heads, sample, generator(piece))))  # noqa: B023
        row = found[-1]["row"]
        cli.say(f"  {layers} layers, {heads} heads: mse {row['mse']:.4f}, acceptance {row['acceptance']:.3f}")
    truth = kept(folder / f"seed_{seed}_exact.json", lambda: exact(plan, generator(999)))
    chains = dict(truth["chains"])
    for one in found:
        chains.update(one["chains"])
    return {
        "seed": seed,
        "cpu_seconds": sample.cpu_seconds + sum(one["cpu_seconds"] for one in [*found, truth]),
        "deviation": sample.log_weight.std().item(),
        "sampling_acceptance": sample.acceptance,
        "exact_sweep_ms": truth["sweep_ms"],
        "arms": [one["row"] for one in found],
        "chains": chains,
    }


def summary(seeds: list[dict]) -> dict:
    """Mean and spread over the seeds of every arm, power laws, pooled observables and how far apart they are."""
    arms = []
    for rows in zip(*(one["arms"] for one in seeds), strict=True):
        names = [name for name in rows[0] if name not in ("layers", "heads", "parameters", "flops")]
        spreads = {name: script.spread([row[name] for row in rows]) for name in names}
        arms.append({**{name: rows[0][name] for name in ("layers", "heads", "parameters", "flops")}, **spreads})
    chains = {}
    for name in seeds[0]["chains"]:
        chains[name] = {key: pooled([one["chains"][name][key] for one in seeds]) for key in OBSERVABLES}
        for key in OBSERVABLES:
            times = [one["chains"][name][key]["autocorrelation"] for one in seeds]
            chains[name][key]["autocorrelation"] = float(np.mean(times))
    exact = chains["exact"]
    for name, values in chains.items():
        for key in OBSERVABLES:
            apart = values[key]["mean"] - exact[key]["mean"]
            error = math.hypot(values[key]["error"], exact[key]["error"])
            values[key]["apart"] = apart / error if not name.startswith("exact") else None
    return {"arms": arms, "laws": laws(seeds), "chains": chains}


def laws(seeds: list[dict]) -> dict[str, dict]:
    """Power laws of the test error over parameters, for several choices of arms."""
    rows = seeds[0]["arms"]
    heads = sorted({row["heads"] for row in rows if row["layers"]})
    choices = {"layers >= 1": [i for i, row in enumerate(rows) if row["layers"] >= 1]}
    choices["layers >= 2"] = [i for i, row in enumerate(rows) if row["layers"] >= 2]
    for width in heads:
        choices[f"{width} head{'s' if width > 1 else ''}, layers >= 1"] = [
            i for i, row in enumerate(rows) if row["heads"] == width
        ]
    out = {}
    for name, chosen in choices.items():
        if len(chosen) >= 3:
            losses = [[one["arms"][i]["mse"] for i in chosen] for one in seeds]
            law = fit_power_law([rows[i]["parameters"] for i in chosen], losses, joint=True)
            out[name] = {key: value for key, value in asdict(law).items() if key not in ("floor", "floor_interval")}
    return out


def tables(result: dict) -> str:
    """What the page prints."""
    shown, arms = script.shown, []
    for row in result["arms"]:
        long = row.get("long_acceptance")
        arms.append(
            [str(row["layers"]), str(row["heads"] or "-"), row["parameters"], row["flops"]]
            + [shown(row[name]) for name in ("train_seconds", "train_mse", "mse", "expected", "acceptance")]
            + [shown(long) if long else "-", shown(row["update_ms"])]
        )
    head = ["layers", "heads", "parameters", "flops", "train CPU s", "train MSE", "test MSE", "erfc", "acceptance"]
    text = [cli.table([*head, "long proposals", "update ms"], arms), ""]
    fits = [
        [name, f"{law['exponent']:.3f}", _range(law["interval"]), f"{law['amplitude']:.3g}", f"{law['misfit']:.3f}"]
        for name, law in result["laws"].items()
    ]
    text += [cli.table(["power law of", "exponent", "95 % interval", "amplitude", "misfit"], fits), ""]
    rows = []
    for name, values in result["chains"].items():
        row = [name]
        for key in OBSERVABLES:
            apart = values[key]["apart"]
            mean = f"{values[key]['mean']:.5g} ± {values[key]['error']:.2g}"
            row.append(mean if apart is None else f"{mean} ({apart:+.1f})")
        row.append(values["log_weight"]["autocorrelation"])
        rows.append(row)
    return "\n".join([*text, cli.table(["chain", *OBSERVABLES.values(), "time"], rows)])


def _range(interval: list[float] | None) -> str:
    return "-" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"


def picture(result: dict) -> np.ndarray:
    """Errors over parameters, acceptance over layers, acceptance over errors."""
    arms = result["arms"]
    widths = sorted({row["heads"] for row in arms if row["layers"]})
    groups = [[row for row in arms if row["heads"] == width] for width in widths] + [[arms[0]] * 2]
    law = result["laws"].get("layers >= 1")
    curve = None
    if law:
        x = np.geomspace(min(row["parameters"] for row in arms[1:]), max(row["parameters"] for row in arms), 20)
        curve = (x, law["amplitude"] * x ** -law["exponent"])

    def values(rows: list[dict], name: str) -> list[float]:
        return [row[name]["mean"] if isinstance(row[name], dict) else row[name] for row in rows]

    error = np.linspace(0.5 * min(values(arms, "mse")), 1.1 * max(values(arms, "mse")), 30)
    expected = [expected_acceptance(value) for value in error]
    panels = [
        ("mean squared error of log W", "parameters", "parameters", "mse", curve, True),
        ("acceptance", "attention layers", "layers", "acceptance", None, False),
        ("acceptance", "mean squared error of log W", "mse", "acceptance", (error, expected), False),
    ]
    drawn = [
        Plot(title, label, [*((values(g, x), values(g, y)) for g in groups), line], log_x=log, log_y=log)
        for title, label, x, y, line, log in panels
    ]
    names = [f"{width} head{'s' if width > 1 else ''}" for width in widths]
    return plots(drawn, [*names, "linear", "power law, erfc(sqrt(MSE)/2)"], columns=3)


def main(arguments: Namespace) -> int:
    torch.set_num_threads(1)
    steps = max(1, round(arguments.minutes * STEPS_PER_MINUTE))
    plan = Plan(arguments.size, arguments.coupling, arguments.beta, steps=steps)
    result = study(plan, arguments)
    cli.say(tables(result))
    script.finish(arguments, result, picture(result), NAME)
    return 0


def study(plan: Plan, arguments: Namespace) -> dict:
    """All seeds and their summary. Raises ValueError where the folder has pieces of another plan."""
    arguments.out.mkdir(parents=True, exist_ok=True)
    own = json.loads(json.dumps(asdict(plan)))
    if kept(arguments.out / "plan.json", lambda: own) != own:
        raise ValueError(f"out: expected an empty folder or one of the same plan, got {arguments.out} with another")
    seeds = [one_seed(plan, seed, arguments.out) for seed in arguments.seeds]
    facts = {"plan": own, "cpu_seconds": sum(one["cpu_seconds"] for one in seeds)}
    names = ("deviation", "cpu_seconds", "sampling_acceptance", "exact_sweep_ms")
    own = {str(one["seed"]): {name: one[name] for name in names} for one in seeds}
    return {**facts, "own": own, **summary(seeds)}


def arguments_parser() -> ArgumentParser:
    parser = script.parser(NAME, "Self-learning Monte Carlo of spins with electrons.", minutes=0.3)
    parser.add_argument("--size", type=cli.positive_int, default=6, metavar="N", help="rows and columns (default: 6)")
    parser.add_argument("--coupling", type=float, default=1.0, metavar="J", help="of spins and electrons (default: 1)")
    parser.add_argument("--beta", type=float, default=20.0, metavar="B", help="inverse temperature (default: 20)")
    return parser


if __name__ == "__main__":
    sys.exit(cli.run(main, arguments_parser()))
