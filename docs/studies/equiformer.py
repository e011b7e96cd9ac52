"""Forces of ethanol and acetylacetone by Equiformers that differ in one thing: attention, messages, or degrees.

    .venv/bin/python docs/studies/equiformer.py --data DIR

One model learns both molecules, with the same CPU time and about as many parameters whatever it is, and is measured on
other geometries of each. A training that is there already, a line of DIR/runs.jsonl of --out with the same settings, is
not repeated.
"""

import time
from argparse import ArgumentParser, Namespace
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import torch

from raytrans.apps import cli
from raytrans.apps.benchmarks.counting import counted
from raytrans.apps.pages import markdown
from raytrans.apps.studies.finished import Finished, sizes_of
from raytrans.apps.studies.script import evenly, finish, shown, spread
from raytrans.apps.studies.script import parser as common
from raytrans.reports.charts import Plot, plots
from raytrans.systems.molecules.batches import collate
from raytrans.systems.molecules.equiformer import Equiformer, EquiformerConfig
from raytrans.systems.molecules.training import Options, errors, fit
from raytrans.systems.molecules.xyz import Molecule, read_xyz

NAME = "equiformer"
TRAIN = ("ethanol_train.xyz", "acac_train_300K.xyz")
TEST = {"ethanol": "ethanol_test_MD.xyz", "acetylacetone 600 K": "acac_test_MD_600K.xyz"}
ARMS = {
    "base": EquiformerConfig(channels=(24, 12, 8)),
    "dot-product attention": EquiformerConfig(channels=(24, 12, 8), attention="dot"),
    "linear messages": EquiformerConfig(channels=(28, 16, 9), messages="linear"),
    "l up to 1": EquiformerConfig(channels=(32, 16)),
    "l = 0": EquiformerConfig(channels=(48,)),
}
BATCH, RATE = 4, 5e-3
POINTS = 30
"""Of the curve of the loss that is kept of a training."""


def parser() -> ArgumentParser:
    """Command line of the study."""
    out = common(NAME, "Compare Equiformers on the forces of two molecules.", 0.4)
    files = ", ".join((*TRAIN, *TEST.values()))
    out.add_argument("--data", type=Path, required=True, metavar="DIR", help=f"folder with {files}")
    out.add_argument("--arms", nargs="+", choices=tuple(ARMS), default=list(ARMS), metavar="ARM", help="default: all")
    text = "train for so many steps instead of CPU minutes"
    out.add_argument("--steps", type=cli.positive_int, metavar="N", help=text)
    text = "geometries of each molecule that a model is measured on, spread evenly over its file (default: 200)"
    out.add_argument("--frames", type=cli.positive_int, default=200, metavar="N", help=text)
    return out


def main(arguments: Namespace) -> int:
    """Train and measure what is not there yet, and write tables, numbers and picture."""
    train = [read_xyz(arguments.data / name, energies=True, forces=True) for name in TRAIN]
    test = {
        name: evenly(read_xyz(arguments.data / file, energies=True, forces=True), arguments.frames)
        for name, file in TEST.items()
    }
    facts = {name: sizes(ARMS[name], train) for name in arguments.arms}
    runs: dict[str, list[dict]] = {name: [] for name in arguments.arms}
    everything = [*train[0], *train[1]]
    data = sizes_of(arguments.data / name for name in (*TRAIN, *TEST.values()))
    done = Finished(arguments.out / "runs.jsonl", settings(arguments, data))
    seconds = None if arguments.steps else 60 * arguments.minutes
    # seed by seed, so that whatever else the machine does meets all arms alike
    for seed in arguments.seeds:
        for name in arguments.arms:
            options = Options(steps=arguments.steps, cpu_seconds=seconds, batch=BATCH, learning_rate=RATE, seed=seed)
            runs[name].append(done.get((name, seed), partial(run, ARMS[name], options, everything, test)))
            best = ", ".join(f"{key} {value['force']:.0f}" for key, value in runs[name][-1]["errors"].items())
            cli.say(f"{name}, seed {seed}: {runs[name][-1]['steps']} steps, force errors in meV/Angstrom: {best}")
    table = table_of(runs, facts)
    cli.say(markdown(*table))
    arms = {name: {**facts[name], **results(runs[name])} for name in arguments.arms}
    values = {
        "cpu_seconds": done.cpu_seconds,
        "batch": BATCH,
        "learning_rate": RATE,
        "steps": arguments.steps,
        "frames": arguments.frames,
        "arms": arms,
    }
    finish(arguments, values, picture(runs), NAME)
    return 0


def sizes(config: EquiformerConfig, train: list[list[Molecule]]) -> dict[str, object]:
    """Parameters, and operations of the matrix products of one energy, mean over the molecules."""
    torch.manual_seed(0)
    model, batch = Equiformer(config), collate([molecules[0] for molecules in train])
    with torch.no_grad():
        flops = counted(lambda: model(batch.numbers, batch.positions, batch.system, batch.count))["flops"]
    parameters = sum(p.numel() for p in model.parameters())
    return {"channels": list(config.channels), "parameters": parameters, "energy_flops": flops / batch.count}


def settings(arguments: Namespace, data: dict[str, int]) -> dict[str, object]:
    """What a training depends on, beside its arm and seed."""
    budget = {"steps": arguments.steps} if arguments.steps else {"minutes": arguments.minutes}
    arms = {name: asdict(arm) for name, arm in ARMS.items()}
    own = {"frames": arguments.frames, "batch": BATCH, "learning_rate": RATE, "data": data}
    return {"arms": arms, **budget, **own}


def run(config: EquiformerConfig, options: Options, train: list[Molecule], test: dict[str, list[Molecule]]) -> dict:
    """One training, and its errors on every test set."""
    torch.manual_seed(options.seed)
    found = fit(Equiformer(config), train, options)
    start = time.process_time()
    measured = {name: asdict(errors(found.model, molecules, options.seed)) for name, molecules in test.items()}
    parts = np.array_split(np.array(found.losses), min(POINTS, len(found.losses)))
    return {
        "seed": options.seed,
        "steps": found.steps,
        "cpu_seconds": found.cpu_seconds,
        "test_cpu_seconds": time.process_time() - start,
        "losses": [float(part.mean()) for part in parts],
        "errors": measured,
    }


def results(runs: list[dict]) -> dict[str, object]:
    """Errors and costs over the seeds, the mean curve of the loss, and every run without its own."""
    costs = {key: spread([one[key] for one in runs]) for key in ("steps", "cpu_seconds")}
    own = [{key: value for key, value in one.items() if key != "losses"} for one in runs]
    return {**costs, "errors": summary(runs), "losses": [float(f"{v:.3g}") for v in mean_losses(runs)], "runs": own}


def mean_losses(runs: list[dict]) -> np.ndarray:
    """Mean over the seeds of the loss in equal parts of a training."""
    count = min(len(one["losses"]) for one in runs)
    return np.mean([one["losses"][:count] for one in runs], 0)


def summary(runs: list[dict]) -> dict[str, dict[str, dict]]:
    """Mean and deviation over the seeds of every error on every test set."""
    return {
        name: {key: spread([one["errors"][name][key] for one in runs]) for key in ("force", "energy", "rotation")}
        for name in TEST
    }


def table_of(runs: dict[str, list[dict]], facts: dict[str, dict]) -> tuple[tuple[str, ...], list[tuple]]:
    """A row for each arm: what it is and costs, and its errors, mean and standard deviation over the seeds."""
    header = ("arm", "channels", "parameters", "steps", "CPU-seconds", "MFLOP an energy")
    header += tuple(f"{what}, {name}" for name in TEST for what in ("force meV/Å", "energy meV"))
    rows = []
    for name, own in runs.items():
        steps = np.mean([one["steps"] for one in own])
        row = [
            name,
            "+".join(f"{c}x{l}" for l, c in enumerate(facts[name]["channels"])),
            f"{facts[name]['parameters']:,}",
        ]
        row += [f"{steps:.0f}", f"{np.mean([one['cpu_seconds'] for one in own]):.0f}"]
        row += [f"{facts[name]['energy_flops'] / 1e6:.1f}"]
        for errors_of in summary(own).values():
            row += [shown(errors_of["force"]), shown(errors_of["energy"])]
        rows.append(tuple(row))
    return header, rows


def picture(runs: dict[str, list[dict]]) -> np.ndarray:
    """Errors of every model, one molecule against the other, and the loss while they were trained."""
    first, second = TEST
    panels = []
    for key, unit in (("force", "force error, meV/Angstrom"), ("energy", "energy error, meV")):
        parts = [
            ([one["errors"][first][key] for one in own], [one["errors"][second][key] for one in own])
            for own in runs.values()
        ]
        panels.append(Plot(f"{second.split()[0]}: {unit}", f"{first}: {unit}", parts, style="dots", x_zero=False))
    curves = []
    for own in runs.values():
        mean = mean_losses(own)
        curves.append((100 * (np.arange(len(mean)) + 0.5) / len(mean), mean))
    panels.append(Plot("loss while training", "% of the CPU time", curves, log_y=True))
    return plots(panels, list(runs), columns=3)


if __name__ == "__main__":
    raise SystemExit(cli.run(main, parser()))
