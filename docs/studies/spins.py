"""Spins with electrons on a 6x6 lattice: effective weights of 0 to 4 attention layers in self-learning Monte Carlo.

    .venv/bin/python docs/studies/spins.py

samples the double-exchange model, trains every arm for every seed, measures the error of the log weight and the
acceptance of self-learning updates, compares self-learning chains with the exact one, prints the tables of
docs/studies/spins.md and writes spins.json and spins.png. Every seed has chains and data of its own, and is kept in
seed_N.json: the same command goes on where it was stopped.
"""

import json
import math
import sys
import time
from argparse import ArgumentParser, Namespace
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Generator, Tensor

from raytrans.apps import cli
from raytrans.apps.studies import script
from raytrans.export.files import write_json
from raytrans.reports.charts import Plot, plots
from raytrans.systems.scaling.fits import fit_power_law
from raytrans.systems.spins.double_exchange import (
    DoubleExchange,
    magnetisation,
    staggered_magnetisation,
    sublattices,
)
from raytrans.systems.spins.effective import EffectiveModel
from raytrans.systems.spins.fitting import Schedule, squared_error, train, warm_up
from raytrans.systems.spins.sampling import (
    State,
    Turned,
    chain_mean,
    expected_acceptance,
    local_updates,
    pooled,
    random_spins,
    self_learning_update,
)

NAME = "spins"
STEPS_PER_MINUTE = 2000  # of every arm; the largest takes about that many
OBSERVABLES = {"log_weight": "log W", "energy": "energy/site", "uniform": "|m|", "staggered": "|m_s|"}


@dataclass(frozen=True)
class Plan:
    """What one seed does; rounds are self-learning updates, all chains at once."""

    size: int = 6
    coupling: float = 1.0
    beta: float = 20.0
    width: float = 0.5  # of the turn of a spin in self-learning updates
    exact_width: float = 1.5  # in the exact chain, which forgets twice as fast with it
    sweeps: int = 4  # of local updates in a self-learning update
    long_sweeps: int = 32
    chains: int = 128  # for training
    test_chains: int = 32
    discarded: int = 20  # rounds, after warming up
    rounds: int = 80
    depths: tuple[int, ...] = (1, 2, 3, 4)
    heads: tuple[int, ...] = (1, 4)
    steps: int = 600
    rate: float = 1e-2  # over sqrt(heads): what the heads do adds up
    acceptance_chains: int = 96
    acceptance_rounds: int = 5
    comparison: tuple[int, int] = (10, 30)  # rounds discarded and kept of chains under one layer
    exact_chains: int = 48
    exact_sweeps: tuple[int, int] = (30, 50)  # discarded and kept

    @property
    def system(self) -> DoubleExchange:
        return DoubleExchange(self.size, self.size, coupling=self.coupling, beta=self.beta)

    @property
    def updates(self) -> int:
        return self.sweeps * self.size**2


@dataclass
class Sample:
    """States of self-learning chains under the linear model, (rounds, chains, ...), and that model."""

    linear: EffectiveModel
    spins: Tensor
    log_weight: Tensor
    acceptance: float

    def training(self, chains: int) -> tuple[Tensor, Tensor]:
        """Spins and log weights of the first chains, in float32."""
        return self.spins[:, :chains].flatten(0, 1).float(), self.log_weight[:, :chains].flatten().float()

    def testing(self, chains: int) -> tuple[Tensor, Tensor]:
        """Those of the rest, which share no state with them."""
        return self.spins[:, chains:].flatten(0, 1).float(), self.log_weight[:, chains:].flatten().float()


def single(model: EffectiveModel):
    """The model's weight of spins in float64, computed in its own precision: one function of the spins all the same."""
    return lambda spins: model(spins.float()).double()


def sampled(plan: Plan, generator: Generator) -> Sample:
    """Equilibrium by self-learning updates under a linear model, from random spins."""
    turn, kept, rates = Turned(plan.width), [], []
    linear, state = warm_up(plan.system, plan.chains + plan.test_chains, turn, generator)
    for number in range(plan.discarded + plan.rounds):
        state, rate = self_learning_update(plan.system.log_weight, linear, state, plan.updates, turn, generator)
        kept += [state] if number >= plan.discarded else []
        rates += [rate.mean().item()] if number >= plan.discarded else []
    spins, weights = torch.stack([s.spins for s in kept]), torch.stack([s.log_weight for s in kept])
    return Sample(linear, spins, weights, float(np.mean(rates)))


def acceptance(plan: Plan, model: EffectiveModel, sample: Sample, sweeps: int, generator: Generator) -> list[float]:
    """Mean over rounds of the probability of acceptance for every chain, from equilibrium."""
    chosen = torch.arange(plan.acceptance_chains) % sample.spins.shape[1]
    state = State(sample.spins[-1, chosen], sample.log_weight[-1, chosen])
    rates = []
    updates, turn, weight = sweeps * plan.size**2, Turned(plan.width), single(model)
    for _ in range(plan.acceptance_rounds):
        state, rate = self_learning_update(plan.system.log_weight, weight, state, updates, turn, generator)
        rates.append(rate)
    return torch.stack(rates).mean(0).tolist()


def arm(plan: Plan, layers: int, heads: int, sample: Sample, generator: Generator) -> tuple[dict, EffectiveModel]:
    """Train and measure one model."""
    model, start = EffectiveModel(plan.system.space, layers, heads), time.process_time()
    schedule = Schedule(plan.steps, rate=plan.rate / math.sqrt(heads))
    train(model, *sample.training(plan.chains), schedule, generator)
    model.requires_grad_(False)
    seconds = time.process_time() - start
    start = time.process_time()
    rates = acceptance(plan, model, sample, plan.sweeps, generator)
    update = (time.process_time() - start) / (plan.acceptance_rounds * plan.acceptance_chains)
    error = squared_error(model, *sample.testing(plan.chains))
    row = {
        "layers": layers,
        "heads": heads if layers else 0,
        "parameters": model.parameter_count(),
        "flops": model.flops(),
        "train_seconds": seconds,
        "update_ms": 1e3 * update,  # of one chain
        "train_mse": squared_error(model, *sample.training(plan.chains)),
        "mse": error,
        "expected": expected_acceptance(error),
        "acceptance": float(np.mean(rates)),
        "acceptance_error": float(np.std(rates, ddof=1)) / math.sqrt(len(rates)),
    }
    return row, model


def observed(system: DoubleExchange, spins: Tensor) -> dict[str, dict[str, float]]:
    """Means over rounds and chains (rounds, chains, sites, 3), with errors from the independent chains."""
    levels = system.eigenvalues(spins)
    values = {
        "log_weight": system.log_weight_of(levels),
        "energy": system.energy_of(levels) / system.space.sites,
        "uniform": magnetisation(spins),
        "staggered": staggered_magnetisation(system.space, spins),
    }
    return {name: chain_mean(value) for name, value in values.items()}


def exact_chain(plan: Plan, generator: Generator) -> Tensor:
    """Local updates under the exact weight, half of the chains from random spins, half from the ordered ones."""
    sites, system = plan.size**2, plan.system
    spins = random_spins(plan.exact_chains, sites, generator)
    spins[::2] = sublattices(system.space)[:, None] * torch.tensor([0.0, 0.0, 1.0], dtype=spins.dtype)
    state, kept = State.of(system.log_weight, spins), []
    for sweep in range(sum(plan.exact_sweeps)):
        state, _ = local_updates(system.log_weight, state, sites, Turned(plan.exact_width), generator)
        kept += [state.spins] if sweep >= plan.exact_sweeps[0] else []
    return torch.stack(kept)


def learned_chain(plan: Plan, model: EffectiveModel, sample: Sample, correct: bool, generator: Generator) -> Tensor:
    """Self-learning chains under a model; without `correct`, chains that trust it and accept everything."""
    chosen = torch.arange(plan.acceptance_chains) % sample.spins.shape[1]
    state, weight, kept = State(sample.spins[0, chosen], sample.log_weight[0, chosen]), single(model), []
    turn = Turned(plan.width)
    for number in range(sum(plan.comparison)):
        if correct:
            state, _ = self_learning_update(plan.system.log_weight, weight, state, plan.updates, turn, generator)
        else:
            state, _ = local_updates(weight, State.of(weight, state.spins), plan.updates, turn, generator)
        kept += [state.spins] if number >= plan.comparison[0] else []
    return torch.stack(kept)


def comparison(plan: Plan, sample: Sample, models: dict, generator: Generator) -> tuple[dict[str, dict], float]:
    """Observables of the exact chain and of what claims its distribution; milliseconds of an exact sweep of a chain."""
    start = time.process_time()
    spins = exact_chain(plan, generator)
    sweep = (time.process_time() - start) / (plan.exact_chains * sum(plan.exact_sweeps))
    out = {
        "exact": observed(plan.system, spins),
        "exact, from order": observed(plan.system, spins[:, ::2]),
        "exact, from random": observed(plan.system, spins[:, 1::2]),
        "self-learning, linear": observed(plan.system, sample.spins),
    }
    for name, model in models.items():
        for correct in (True, False):
            label = f"self-learning, {name}" if correct else f"uncorrected, {name}"
            if label not in out:
                out[label] = observed(plan.system, learned_chain(plan, model, sample, correct, generator))
    return out, 1e3 * sweep


def one_seed(plan: Plan, seed: int) -> dict:
    """Everything that is measured with one seed: its own chains, data, models."""
    start, generator = time.process_time(), Generator().manual_seed(seed)
    torch.manual_seed(seed)
    sample = sampled(plan, generator)
    cli.say(f"seed {seed}: {sample.log_weight.numel()} spins, {time.process_time() - start:.0f} CPU s")
    rows, first = [], {}
    for layers, heads in [(0, 1), *((layers, heads) for heads in plan.heads for layers in plan.depths)]:
        row, model = arm(plan, layers, heads, sample, generator)
        name = "linear" if not layers else f"{layers} layer, {heads} head"
        if layers == 0 or (layers, heads) == (plan.depths[0], plan.heads[0]):
            first[name] = model
            row["long_acceptance"] = float(np.mean(acceptance(plan, model, sample, plan.long_sweeps, generator)))
        rows.append(row)
        cli.say(f"  {layers} layers, {heads} heads: mse {row['mse']:.4f}, acceptance {row['acceptance']:.3f}")
    chains, sweep = comparison(plan, sample, first, generator)
    return {
        "seed": seed,
        "plan": asdict(plan),
        "cpu_seconds": time.process_time() - start,
        "deviation": sample.log_weight.std().item(),
        "sampling_acceptance": sample.acceptance,
        "exact_sweep_ms": sweep,
        "arms": rows,
        "chains": chains,
    }


def kept_seed(plan: Plan, seed: int, arguments: Namespace) -> dict:
    """The seed's results from its file, where that is of the same plan; else measured, and written there."""
    arguments.out.mkdir(parents=True, exist_ok=True)
    file = arguments.out / f"seed_{seed}.json"
    expected = json.loads(json.dumps(asdict(plan)))
    if file.is_file() and (found := json.loads(file.read_text()))["plan"] == expected:
        return found
    found = one_seed(plan, seed)
    write_json(file, found)
    return json.loads(json.dumps(found))


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
        choices[f"{width} heads, layers >= 1"] = [i for i, row in enumerate(rows) if row["heads"] == width]
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
    """All seeds and their summary."""
    seeds = [kept_seed(plan, seed, arguments) for seed in arguments.seeds]
    facts = {"plan": asdict(plan), "cpu_seconds": sum(one["cpu_seconds"] for one in seeds)}
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
