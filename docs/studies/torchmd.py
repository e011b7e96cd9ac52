"""The equivariant transformer of TorchMD-NET on DFT forces, beside arms with less symmetry; and where attention goes.

    .venv/bin/python docs/studies/torchmd.py --data DIR

DIR holds the files of `SETS`, of the BOTNet data sets. Every training that is finished is a line of OUT/runs.jsonl and
is not made again. Writes torchmd.json and torchmd.png into OUT and prints the tables of docs/studies/torchmd.md.
"""

import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from raytrans.apps import cli
from raytrans.apps.studies import script
from raytrans.apps.studies.finished import Finished, sizes_of
from raytrans.reports.charts import Bars, Plot, bars, beside, plots, stacked
from raytrans.systems.molecules.batches import collate, turned
from raytrans.systems.molecules.elements import SYMBOLS
from raytrans.systems.molecules.plain import DisplacementFeatures, PlainTransformer
from raytrans.systems.molecules.statistics import EDGES, pair_attention
from raytrans.systems.molecules.torchmd import Architecture, EquivariantTransformer
from raytrans.systems.molecules.training import Errors, Loss, Options, constants, errors, fit, loss_of
from raytrans.systems.molecules.xyz import Molecule, read_xyz
from raytrans.systems.raydepth.statistics import ANGLES, DISTANCES, PIXELS, native_structure, renderer_structure

NAME = "torchmd"
ELEMENTS = [1, 6, 8]
HELD_OUT, TESTED, TURN = 10, 100, 1000
"""Every tenth frame of a training set is kept; at most so many frames are tested; the seed of their rotations."""
BATCH, RATE, RAYS = 4, 3e-3, 3
"""Molecules of a step, the learning rate, and how many times longer the layers of rays are trained."""
RENDERERS, LAYERS = ("released weights", "untrained renderer"), ("all source rays", "untrained")
SCENE = Path(__file__).resolve().parents[2] / "scenes" / "blocks"


def displaced(elements: list[int]) -> nn.Module:
    """The invariant transformer with displacements in place of distances."""
    return EquivariantTransformer(elements, Architecture(vectors=False), DisplacementFeatures)


@dataclass(frozen=True)
class Arm:
    """How a model is made, and whether every molecule is turned anew each time it is seen."""

    make: Callable[[list[int]], nn.Module]
    augment: bool = False


WIDE = Architecture(channels=100, vectors=False)
"""With as many parameters as the equivariant arm has."""
ARMS = {
    "equivariant": Arm(EquivariantTransformer),
    "published form": Arm(lambda elements: EquivariantTransformer(elements, Architecture(vector_cutoff=False))),
    "invariant": Arm(lambda elements: EquivariantTransformer(elements, Architecture(vectors=False))),
    "invariant, wide": Arm(lambda elements: EquivariantTransformer(elements, WIDE)),
    "displacements": Arm(displaced),
    "displacements, turned": Arm(displaced, augment=True),
    "coordinates": Arm(PlainTransformer),
    "coordinates, turned": Arm(PlainTransformer, augment=True),
}
FIRST = "equivariant"


@dataclass(frozen=True)
class Set:
    """Training file and how many of its frames, test file with its name, and the arms with their budgets."""

    train: str
    frames: int
    test: str
    tested: str
    arms: tuple[str, ...]
    budgets: tuple[str, ...]


SYMMETRIC = ("equivariant", "invariant", "invariant, wide")
FEW = ("equivariant", "published form", "invariant", "displacements, turned")
COMPARED = tuple(arm for arm in ARMS if arm != "published form")
SETS = {
    "acetylacetone": Set("acac_train_300K.xyz", 450, "acac_test_MD_600K.xyz", "600 K", COMPARED, ("compute", "steps")),
    "ethanol": Set("ethanol_train.xyz", 900, "ethanol_test_MD.xyz", "test set", SYMMETRIC, ("compute", "steps")),
    "ethanol, 100 frames": Set("ethanol_train.xyz", 100, "ethanol_test_MD.xyz", "test set", FEW, ("compute",)),
}


def load(folder: Path, chosen: Set) -> dict[str, list[Molecule]]:
    """Frames to train on, held-out ones of the same file, and those of the test file, the latter two turned."""
    found, other = (read_xyz(folder / name, energies=True, forces=True) for name in (chosen.train, chosen.test))
    held = found[::HELD_OUT]
    rest = script.evenly([m for i, m in enumerate(found) if i % HELD_OUT], chosen.frames)
    return {
        "train": rest,
        "held": turned(script.evenly(held, TESTED), TURN),
        "test": turned(script.evenly(other, TESTED), TURN),
    }


class Products(TorchDispatchMode):
    """Counts the operations of matrix products, as `FlopCounterMode` does, which refuses gradients of gradients."""

    def __init__(self):
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        count = flop_registry.get(func._overloadpacket)
        self.flops += count(*args, **(kwargs or {}), out_val=out) if count else 0
        return out


def flops_of_step(model: nn.Module, molecules: Sequence[Molecule]) -> int:
    """Operations of the matrix products in one training step, both derivatives included."""
    batch = collate(molecules[:BATCH], next(model.parameters()).dtype)
    with Products() as counter:
        loss_of(model, batch, constants(batch.energies, batch), Loss()).backward()
    model.zero_grad()
    return counter.flops


def measure(data: dict[str, list[Molecule]], name: str, seed: int, options: Options) -> dict:
    """Train one arm, and what it does on the held-out frames and on the test frames."""
    torch.manual_seed(seed)
    model = ARMS[name].make(ELEMENTS)
    flops = flops_of_step(model, data["train"])
    done = fit(model, turned(data["train"], seed), options)
    found = {part: asdict(errors(model, data[part])) for part in ("held", "test")}
    size = sum(p.numel() for p in model.parameters())
    row = {"parameters": size, "flops_per_step": flops, "steps": done.steps, "cpu_seconds": done.cpu_seconds, **found}
    return {**row, "attention": structure(model, data["test"])} if name == FIRST else row


def structure(model: EquivariantTransformer, molecules: Sequence[Molecule]) -> dict:
    """Mean |A| by elements (target, source), by bond, by distance."""
    pairs = pair_attention(model, molecules)
    kinds = sorted({int(n) for n in pairs.target})
    named = {"elements": pairs.by_elements(kinds), "bond": pairs.by_bond(), "distance": pairs.by_distance()}
    return {
        "kinds": [SYMBOLS[n] for n in kinds],
        **{key: {"mean": value.mean[..., 0].tolist(), "pairs": value.count.tolist()} for key, value in named.items()},
    }


def settings(arguments: Namespace) -> dict[str, object]:
    """What a training depends on, beside its set, budget, arm and seed."""
    files = {name for chosen in SETS.values() for name in (chosen.train, chosen.test)}
    data = sizes_of(arguments.data / name for name in sorted(files))
    return {"minutes": arguments.minutes, "batch": BATCH, "rate": RATE, "data": data}


def molecules(arguments: Namespace, done: Finished) -> dict:
    """{set: {budget: {arm: [a row per seed]}}}; steps are those that the equivariant arm made in its compute."""
    found = {name: {budget: {} for budget in chosen.budgets} for name, chosen in SETS.items()}
    loaded = {name: load(arguments.data, chosen) for name, chosen in SETS.items()}
    for seed in arguments.seeds:
        for name, chosen in SETS.items():
            for budget in chosen.budgets:
                for arm in chosen.arms:
                    row = one(done, (name, budget, arm, seed), loaded[name], arguments.minutes)
                    found[name][budget].setdefault(arm, []).append(row)
    return found


def one(done: Finished, key: tuple, data: dict[str, list[Molecule]], minutes: float) -> dict:
    """One training of a set, under a budget, of an arm, with a seed."""
    name, budget, arm, seed = key
    common = {"batch": BATCH, "learning_rate": RATE, "augment": ARMS[arm].augment, "seed": seed}
    if budget == "compute":
        return done.get(key, lambda: measure(data, arm, seed, Options(cpu_seconds=60 * minutes, **common)))
    reference = one(done, (name, "compute", FIRST, seed), data, minutes)
    if arm == FIRST:
        return reference
    return done.get(key, lambda: measure(data, arm, seed, Options(steps=reference["steps"], **common)))


def summary(found: dict) -> dict:
    """The same tree with spreads over the seeds in place of the rows."""
    fields = [("held", "force"), *(("test", name) for name in Errors.__dataclass_fields__)]
    return {
        name: {
            budget: {
                arm: {
                    "parameters": rows[0]["parameters"],
                    "flops_per_step": rows[0]["flops_per_step"],
                    **{key: script.over_seeds(rows, key) for key in ("steps", "cpu_seconds")},
                    **{f"{part} {field}": script.over_seeds(rows, part, field) for part, field in fields},
                }
                for arm, rows in arms.items()
            }
            for budget, arms in budgets.items()
        }
        for name, budgets in found.items()
    }


def error_table(found: dict, tested: str) -> str:
    """Arms under one budget."""
    shown = script.shown
    header = ["arm", "parameters", "MFLOP/step", "steps", "CPU s", "force, held out", f"force, {tested}"]
    header += [f"energy, {tested}", f"rotation, {tested}"]
    rows = [
        [
            arm,
            row["parameters"],
            round(row["flops_per_step"] / 1e6),
            *(shown(row[key]) for key in ("steps", "cpu_seconds", "held force", "test force", "test energy")),
            shown(row["test rotation"]),
        ]
        for arm, row in found.items()
    ]
    return cli.table(header, rows)


def spreads_of(rows: Sequence[dict], keys: Sequence[str]) -> dict:
    """{key: spreads over the seeds of its numbers, in order}; None where a group has no pairs."""
    found = {}
    for key in keys:
        values = np.stack([np.array(row[key], float).ravel() for row in rows], 1)
        found[key] = [script.spread(v.tolist()) if np.isfinite(v).all() else None for v in values]
    return found


def texts(values: Sequence[dict | None]) -> list[str]:
    return ["-" if value is None else script.shown(value) for value in values]


def attention_tables(atoms: dict, kinds: Sequence[str], rays: dict) -> str:
    """Mean |A| of the equivariant arm on acetylacetone, and of attention on rays."""
    elements = np.array(texts(atoms["elements"])).reshape(len(kinds), -1)
    far, bond = texts(atoms["bond"])
    near = [(f"{a:g} to {b:g} A", v) for a, b, v in zip(EDGES, EDGES[1:], texts(atoms["distance"]), strict=False)]
    tables = [
        cli.table(["mean |A|", *kinds], [[f"{k} attends to", *row] for k, row in zip(kinds, elements, strict=True)]),
        cli.table(["pair", "mean |A|"], [("bonded", bond), ("not bonded", far), *near]),
    ]
    lines = zip(PIXELS, *(texts(rays[name]["within"]) for name in RENDERERS), strict=True)
    tables.append(cli.table(["share of attention", *RENDERERS], [[f"within {a:g} pixels", *v] for a, *v in lines]))
    for key, edges, unit in (("angle", ANGLES, "degrees"), ("apart", DISTANCES, "unit")):
        names = [name for name in rays if key in rays[name]]
        lines = zip(edges, edges[1:], *(texts(rays[name][key]) for name in names), strict=False)
        tables.append(cli.table([unit, *names], [[f"{a:g} to {b:g}", *values] for a, b, *values in lines]))
    return "\n\n".join(tables)


def curve(title: str, label: str, x: Sequence[float], *curves: Sequence[dict | None], log_x: bool = False) -> Plot:
    """Means over the seeds, at places or in the middle of bins."""
    parts = []
    for values in curves:
        place = np.array(x) if len(values) == len(x) else (np.array(x[1:]) + np.array(x[:-1])) / 2
        known = np.array([value is not None for value in values])
        parts.append((place[known], np.array([value["mean"] for value in values if value is not None])))
    return Plot(title, label, parts, log_x=log_x, y_zero=True)


def picture(found: dict, atoms: dict, rays: dict) -> np.ndarray:
    """Bars of the force errors, and curves of the attention."""
    names = {"compute": "equal compute", "steps": "equal steps"}
    charts = []
    for name, chosen in SETS.items():
        groups = {
            names[budget]: [found[name][budget][arm]["test force"]["mean"] for arm in chosen.arms]
            for budget in chosen.budgets
        }
        title = f"{name}: force error, {chosen.tested}, meV/A"
        charts.append(bars(Bars(title, chosen.arms, groups)))

    by_angle = [rays[name]["angle"] for name in RENDERERS]
    panels = [
        curve("atoms: mean |A|", "distance, A", EDGES, atoms["distance"]),
        curve(
            "share of attention within ...", "... pixels", PIXELS, *(rays[n]["within"] for n in RENDERERS), log_x=True
        ),
        curve("view stage", "angle of the rays, degrees", ANGLES, *by_angle),
        curve("all source rays", "distance of the rays, unit", DISTANCES, *(rays[n]["apart"] for n in LAYERS)),
    ]
    return beside([stacked(charts), plots(panels, ("trained", "untrained"), columns=2)])


def main(arguments: Namespace) -> int:
    torch.set_num_threads(1)
    done = Finished(arguments.out / "runs.jsonl", settings(arguments))
    found, minutes = molecules(arguments, done), arguments.minutes
    native = [
        done.get(("rays", seed), lambda seed=seed: native_structure(seed, RAYS * 60 * minutes))
        for seed in arguments.seeds
    ]
    renderer = done.get(("renderer",), lambda: renderer_structure(SCENE))
    rays = {name: spreads_of([own], list(own)) for name, own in renderer.items()}
    rays |= {name: spreads_of([row[name] for row in native], list(native[0][name])) for name in native[0]}
    rows = [row["attention"] for row in found["acetylacetone"]["compute"][FIRST]]
    atoms = spreads_of([{k: v["mean"] for k, v in row.items() if k != "kinds"} for row in rows], list(rows[0])[1:])
    spreads = summary(found)
    for name, chosen in SETS.items():
        for budget in chosen.budgets:
            cli.say(f"\n{name}, equal {budget}\n\n{error_table(spreads[name][budget], chosen.tested)}")
    cli.say(f"\n{attention_tables(atoms, rows[0]['kinds'], rays)}\n")
    values = {"cpu_seconds": done.cpu_seconds, "errors": spreads, "kinds": rows[0]["kinds"], "atoms": atoms}
    values |= {"rays": rays, "scene": SCENE.name}
    script.finish(arguments, script.rounded(values), picture(spreads, atoms, rays), NAME)
    return 0


def parser():
    out = script.parser(NAME, __doc__.split("\n")[0], 0.12)
    out.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of the xyz files")
    return out


if __name__ == "__main__":
    sys.exit(cli.run(main, parser()))
