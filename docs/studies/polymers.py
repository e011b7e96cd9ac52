"""One force field for many families of polymers, trained on forces alone or on energies too; dynamics with it; and DFT.

    .venv/bin/python docs/studies/polymers.py --data DIR

The polymers and their labels come from the classical reference of `raytrans.systems.polymers`, which is not DFT.
DIR holds the files of `DFT_FILES`, of the BOTNet data sets. Every measurement that is finished is a line of
OUT/runs.jsonl and is not made again. Writes polymers.json and polymers.png into OUT and prints the tables of
docs/studies/polymers.md.
"""

import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from raytrans.apps import cli
from raytrans.apps.studies import script
from raytrans.apps.studies.finished import Finished, sizes_of
from raytrans.reports.charts import Bars, Plot, bars, plots, stacked
from raytrans.systems.molecules.batches import collate, turned
from raytrans.systems.molecules.torchmd import Architecture, EquivariantTransformer
from raytrans.systems.molecules.training import Fit, Loss, Options, fit, predictions
from raytrans.systems.molecules.xyz import Molecule, read_xyz
from raytrans.systems.polymers.chains import BACKBONES, SIDE_GROUPS, Chain, polymer
from raytrans.systems.polymers.comparison import Comparison, Conditions, distances
from raytrans.systems.polymers.families import Sampling, element_constants, sample, without_elements, zeros_of
from raytrans.systems.polymers.reference import TERMS, Reference
from raytrans.systems.polymers.topology import join, topology

NAME, RUNS = "polymers", "runs.jsonl"
HELD_OUT = (("O", "CH3"), ("CH2", "OH"), ("COO", "F"))
FAMILIES = [(b, s) for b in BACKBONES for s in SIDE_GROUPS if (b, s) not in HELD_OUT]
SHORT, LONG = (1, 2), 5
"""Units of the chains that are trained on, and of those that are longer."""
TRAINING_WALKERS = 8
SAMPLING = Sampling(temperature=500.0, walkers=10, frames=5)
OTHERS = Sampling(temperature=500.0, walkers=2, frames=4)
ZERO_SPREAD = 1.0
"""eV: the part of the zero of a chain that no sum over elements explains."""
STEPS_PER_MINUTE, BATCH, RATE = 3000, 4, 1e-2
ARCHITECTURE = Architecture(channels=32, layers=2, heads=4, basis=24, cutoff=4.0)
MOVING, CONDITIONS = ("CH2", "H", 2), Conditions(temperature=300.0, step=1.0, every=10.0)
"""Dynamics, of butane."""


@dataclass(frozen=True)
class Arm:
    """Weights of the loss, and whether every composition has a constant of its own in place of those of elements."""

    loss: Loss
    constants: bool = False


FORCES = "forces only"
ARMS = {
    FORCES: Arm(Loss(0.0, 1.0)),
    "energy 0.01": Arm(Loss(0.01, 1.0)),
    "energy 0.1": Arm(Loss(0.1, 1.0)),
    "energy 1": Arm(Loss(1.0, 1.0)),
    "energy 1, zeros fitted": Arm(Loss(1.0, 1.0), constants=True),
}
DFT_ARMS = {FORCES: ARMS[FORCES], "energy 0.1": Arm(Loss(0.1, 1.0), True), "energy 1": Arm(Loss(1.0, 1.0), True)}
SETS = ("seen families", "longer chains", "held-out families")

METHANOL, KEPT = (1, 1, 1, 1, 6, 8), 5
"""A composition; every fifth frame is for testing where there is no other file."""
DFT_FILES = {
    "ethanol": ("ethanol_train.xyz", "ethanol_test_MD.xyz"),
    "methanol": ("ethanol_train_eth_meth.xyz", None),
    "acetylacetone": ("acac_train_300K.xyz", "acac_test_MD_600K.xyz"),
    "3BPA": ("3BPA_train_300K.xyz", None),
}
DFT_TRAINED, DFT_TESTED = 200, 60

Sets = dict[str, list[list[Molecule]]]


def chains_of(families: Sequence[tuple[str, str]], lengths: Sequence[int]) -> list[Chain]:
    return [polymer(*family, length) for family in families for length in lengths]


def flat(groups: Sequence[Sequence[Molecule]]) -> list[Molecule]:
    return [molecule for group in groups for molecule in group]


def labelled(seed: int = 0) -> tuple[list[Molecule], Sets]:
    """Frames to train on, and those to test on by set and chain. Walkers are trained on or tested on, never both."""
    seen, longer = chains_of(FAMILIES, SHORT), chains_of(FAMILIES, (LONG,))
    held = chains_of(HELD_OUT, SHORT[1:])
    zeros = zeros_of([*seen, *longer, *held], ZERO_SPREAD, seed).__iter__()
    walkers = sample(seen, SAMPLING, [next(zeros) for _ in seen], seed)
    others = [sample(group, OTHERS, [next(zeros) for _ in group], seed + 1) for group in (longer, held)]
    train = flat([walker for chain in walkers for walker in chain[:TRAINING_WALKERS]])
    parts = [[chain[TRAINING_WALKERS:] for chain in walkers], *others]
    return train, {name: [flat(chain) for chain in part] for name, part in zip(SETS, parts, strict=True)}


def errors(model: nn.Module, systems: Sequence[Sequence[Molecule]]) -> dict[str, float]:
    """Mean |F component| error (meV/A), and mean energy error (meV) after the constant that fits each system best."""
    batch = collate(flat(systems))
    energies, forces = predictions(model, batch)
    owner = torch.arange(len(systems)).repeat_interleave(torch.tensor([len(system) for system in systems]))
    residual = centred(batch.energies - energies, owner)
    force = (forces - batch.forces).abs().mean()
    return {"force": 1000 * float(force), "energy": 1000 * float(residual.abs().mean())}


def centred(values: Tensor, owner: Tensor) -> Tensor:
    """Values less the mean of their system."""
    total = values.new_zeros(int(owner[-1]) + 1).index_add(0, owner, values)
    return values - (total / torch.bincount(owner))[owner]


def scales(sets: Sets) -> dict[str, dict[str, float]]:
    """What a model that predicts no force and one energy per system would score."""

    class Nothing(nn.Module):
        def __init__(self):
            super().__init__()
            self.zero = nn.Parameter(torch.zeros(()))

        def forward(self, numbers: Tensor, positions: Tensor, system: Tensor, count: int) -> Tensor:
            return (self.zero * positions.sum()).expand(count)

    return {name: errors(Nothing(), systems) for name, systems in sets.items()}


def trained(arm: Arm, molecules: Sequence[Molecule], seed: int, steps: int) -> Fit:
    """The transformer of one arm; without constants of compositions, those of elements are taken away first."""
    torch.manual_seed(seed)
    if not arm.constants:
        molecules = without_elements(molecules, element_constants(molecules))
    model = EquivariantTransformer(sorted({n for m in molecules for n in m.composition}), ARCHITECTURE)
    options = Options(arm.loss, steps, batch=BATCH, learning_rate=RATE, offsets=arm.constants, seed=seed)
    return fit(model, molecules, options)


def measured(done: Fit, sets: Sets) -> dict:
    parameters = sum(p.numel() for p in done.model.parameters())
    cost = {"parameters": parameters, "steps": done.steps, "cpu_seconds": done.cpu_seconds}
    return {**cost, **{name: errors(done.model, systems) for name, systems in sets.items()}}


def moved() -> Comparison:
    return Comparison(polymer(*MOVING), CONDITIONS)


def dft(folder: Path) -> tuple[list[Molecule], Sets]:
    """Frames of the four molecules to train on together, and those to test on, all turned at random."""
    train, test = [], {}
    for name, (file, other) in DFT_FILES.items():
        found = read_xyz(folder / file, energies=True, forces=True)
        found = [m for m in found if m.composition == METHANOL] if name == "methanol" else found
        if not found:
            raise ValueError(f"{folder / file}: expected frames of {name}, got none")
        rest = [m for i, m in enumerate(found) if i % KEPT] if other is None else found
        kept = found[::KEPT] if other is None else read_xyz(folder / other, energies=True, forces=True)
        train += turned(script.evenly(rest, DFT_TRAINED), 1)
        test[name] = [turned(script.evenly(kept, DFT_TESTED), 2)]
    return train, test


def term_sizes(molecules: Sequence[Molecule]) -> dict[str, float]:
    """Mean |F component| of every term of the reference over frames of the chains that are seen, in meV/A."""
    names = {chain.name: chain for chain in chains_of(FAMILIES, SHORT)}
    graphs = [topology(names[m.name].elements, names[m.name].bonds) for m in molecules]
    reference = Reference(join(graphs))
    positions = torch.cat([m.positions for m in molecules]).requires_grad_()
    terms = reference.terms(positions)
    slopes = (torch.autograd.grad(terms[name].sum(), positions, retain_graph=True)[0] for name in TERMS)
    return {name: 1000 * float(slope.abs().mean()) for name, slope in zip(TERMS, slopes, strict=True)}


def measure(arguments: Namespace, done: Finished) -> dict[str, list[dict] | dict]:
    """Rows by seed of the arms on polymers and on DFT and of the reference's dynamics, and facts of the data."""
    steps, time = max(1, round(STEPS_PER_MINUTE * arguments.minutes)), arguments.picoseconds
    polymers, molecules, moving = cache(labelled), cache(lambda: dft(arguments.data)), moved()

    def arm(name: str, seed: int) -> dict:
        found = trained(ARMS[name], polymers()[0], seed, steps)
        own = {"dynamics": moving.learned_run(found.model, seed, time)} if name == FORCES else {}
        return {**measured(found, polymers()[1]), **own}

    rows = {name: [] for name in ("reference", *ARMS)}, {name: [] for name in DFT_ARMS}
    facts = done.get(("polymers", "data"), lambda: facts_of(*polymers()))
    dft_facts = done.get(("dft", "data"), lambda: {"frames": len(molecules()[0]), "nothing": scales(molecules()[1])})
    for seed in arguments.seeds:
        found = done.get(("reference", seed, time), lambda seed=seed: moving.reference_run(seed, time))
        rows[0]["reference"].append(found)
        for name in ARMS:
            found = done.get(("polymers", name, seed, steps, time), lambda name=name, seed=seed: arm(name, seed))
            rows[0][name].append(found)
        for name, own in DFT_ARMS.items():

            def make(own=own, seed=seed) -> dict:
                return measured(trained(own, molecules()[0], seed, steps), molecules()[1])

            rows[1][name].append(done.get(("dft", name, seed, steps), make))
    reference = rows[0].pop("reference")
    return {"polymers": rows[0], "dft": rows[1], "reference": reference, "facts": facts, "dft facts": dft_facts}


def facts_of(train: Sequence[Molecule], sets: Sets) -> dict:
    """Numbers of frames and chains, the score of a model that predicts nothing, and mean forces of every term."""
    chains = {name: len(systems) for name, systems in sets.items()}
    few = train[:: max(1, len(train) // 200)]
    return {"frames": len(train), "chains": chains, "nothing": scales(sets), "terms": term_sizes(few)}


def summary(rows: Mapping[str, Sequence[dict]], sets: Sequence[str]) -> dict:
    return {
        arm: {
            "parameters": own[0]["parameters"],
            "steps": own[0]["steps"],
            "cpu_seconds": script.over_seeds(own, "cpu_seconds"),
            **{f"{kind}: {name}": script.over_seeds(own, name, kind) for kind in ("force", "energy") for name in sets},
        }
        for arm, own in rows.items()
    }


def error_table(found: Mapping[str, dict], sets: Sequence[str], nothing: Mapping[str, dict], kind: str) -> str:
    """Arms by sets; the last row is a model that predicts nothing."""
    header = ["arm", "steps", "CPU s", *sets]
    rows = [
        [arm, row["steps"], script.shown(row["cpu_seconds"]), *(script.shown(row[f"{kind}: {name}"]) for name in sets)]
        for arm, row in found.items()
    ]
    return cli.table(header, [*rows, ["predicts nothing", "", "", *(f"{nothing[name][kind]:.3g}" for name in sets)]])


def dynamics(rows: Sequence[dict], reference: Sequence[dict]) -> dict:
    """Learned dynamics, and the reference's from the same and from another start, all held against the former."""
    same, other = ([row[name] for row in reference] for name in ("same start", "other start"))
    runs = {"learned forces": [row["dynamics"] for row in rows], "reference": same, "reference, other start": other}
    return {
        name: {
            **{number: script.over_seeds(found, number) for number in ("lasted", "drift", "wobble", "kinetic")},
            **{
                key: script.spread([distances(one, two)[key] for one, two in zip(found, same, strict=True)])
                for key in same[0]["quantiles"]
            },
        }
        for name, found in runs.items()
    }


def dynamics_table(found: Mapping[str, dict]) -> str:
    header = ["dynamics", "lasted ps", "drift meV/ps", "wobble meV", "kinetic eV", "C-C mA", "C-H mA", "Rg mA"]
    return cli.table(header, [[name, *(script.shown(value) for value in row.values())] for name, row in found.items()])


def density(quantiles: Sequence[float], bins: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """The density of a distribution, from its quantiles."""
    values = np.array(quantiles)
    middle = (values[1:] + values[:-1]) / 2
    count, edges = np.histogram(middle, bins, density=True)
    return (edges[1:] + edges[:-1]) / 2, count


def picture(polymers: dict, molecules: dict, learned: dict, reference: dict) -> np.ndarray:
    charts = []
    for title, found, sets in (
        ("polymers: force error, meV/A", polymers, SETS),
        ("DFT: force error, meV/A", molecules, tuple(DFT_FILES)),
    ):
        groups = {name: [row[f"force: {name}"]["mean"] for row in found.values()] for name in sets}
        charts.append(bars(Bars(title, list(found), groups)))
    runs = [run["quantiles"] for run in (reference["same start"], learned, reference["other start"])]
    panels = [
        Plot(f"density of {name}", "A", [density(run[name]) for run in runs], x_zero=False, y_zero=True)
        for name in runs[0]
    ]
    curves = plots(panels, ("reference", "learned forces", "reference, other start"))
    return stacked([*charts, curves])


def finished(arguments: Namespace) -> Finished:
    """What is measured already, with the same data, model and optimiser."""
    names = sorted({name for pair in DFT_FILES.values() for name in pair if name})
    own = {"architecture": asdict(ARCHITECTURE), "sampling": asdict(SAMPLING), "batch": BATCH, "rate": RATE}
    return Finished(arguments.out / RUNS, {**own, "data": sizes_of(arguments.data / name for name in names)})


def alone(arguments: Namespace, seed: int) -> None:
    """Measure what is missing of one seed."""
    torch.set_num_threads(1)
    measure(Namespace(**{**vars(arguments), "seeds": [seed]}), finished(arguments))


def main(arguments: Namespace) -> int:
    torch.set_num_threads(1)
    dft(arguments.data)  # what is wrong with the files is told before anything is measured
    if arguments.workers > 1:
        with ProcessPoolExecutor(arguments.workers, get_context("spawn")) as pool:
            list(pool.map(partial(alone, arguments), arguments.seeds))
    done = finished(arguments)
    found = measure(arguments, done)
    polymers, molecules = summary(found["polymers"], SETS), summary(found["dft"], tuple(DFT_FILES))
    moves = dynamics(found["polymers"][FORCES], found["reference"])
    for name, rows, sets in (("polymers", polymers, SETS), ("DFT", molecules, tuple(DFT_FILES))):
        nothing = found["facts" if name == "polymers" else "dft facts"]["nothing"]
        for kind, unit in (("force", "meV/A"), ("energy", "meV")):
            cli.say(f"\n{name}, {kind} error, {unit}\n\n{error_table(rows, sets, nothing, kind)}")
    cli.say(f"\ndynamics of {moved().chain.name}, {arguments.picoseconds:g} ps\n\n{dynamics_table(moves)}\n")
    values = {"architecture": asdict(ARCHITECTURE), "picoseconds": arguments.picoseconds}
    values |= {"polymers": polymers, "dft": molecules, "dynamics": moves}
    values |= {name: found[name] for name in ("facts", "dft facts")}
    values["cpu_seconds"] = done.cpu_seconds
    first = found["polymers"][FORCES][0]["dynamics"], found["reference"][0]
    script.finish(arguments, values, picture(polymers, molecules, *first), NAME)
    return 0


def parser():
    out = script.parser(NAME, __doc__.split("\n")[0], 0.2)
    out.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of the xyz files")
    text = "length of each dynamics (default: 20)"
    out.add_argument("--picoseconds", type=cli.positive_float, default=20.0, metavar="PS", help=text)
    text = "processes that measure a seed each at once (default: 2)"
    out.add_argument("--workers", type=cli.positive_int, default=2, metavar="N", help=text)
    return out


if __name__ == "__main__":
    sys.exit(cli.run(main, parser()))
