"""What the study of spins measures: samples, arms with their errors and acceptance, chains with their observables."""

import math
import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor

from raytrans.shapes import Float
from raytrans.systems.spins.double_exchange import (
    DoubleExchange,
    magnetisation,
    staggered_magnetisation,
    sublattices,
)
from raytrans.systems.spins.effective import EffectiveModel
from raytrans.systems.spins.fitting import Schedule, squared_error, train, warm_up
from raytrans.systems.spins.sampling import (
    LogWeight,
    State,
    Turned,
    chain_mean,
    expected_acceptance,
    local_updates,
    random_spins,
    self_learning_update,
)


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
    exact_chains: int = 40
    exact_sweeps: tuple[int, int] = (30, 45)  # discarded and kept

    def __post_init__(self):
        _ = self.system  # which refuses what it cannot be

    @property
    def system(self) -> DoubleExchange:
        return DoubleExchange(self.size, self.size, coupling=self.coupling, beta=self.beta)

    @property
    def arms(self) -> list[tuple[int, int]]:
        """Layers and heads of every arm, the linear model first."""
        return [(0, 1), *((layers, heads) for heads in self.heads for layers in self.depths)]

    @property
    def updates(self) -> int:
        return self.sweeps * self.size**2


@dataclass
class Sample:
    """States of self-learning chains under a linear model, (rounds, chains, ...), and how often they accepted."""

    spins: Float[Tensor, "rounds chains sites 3"]
    log_weight: Float[Tensor, "rounds chains"]
    acceptance: float
    cpu_seconds: float

    def training(self, chains: int) -> tuple[Tensor, Tensor]:
        """Spins and log weights of the first chains, in float32."""
        return self.spins[:, :chains].flatten(0, 1).float(), self.log_weight[:, :chains].flatten().float()

    def testing(self, chains: int) -> tuple[Tensor, Tensor]:
        """Those of the rest, which share no state with them."""
        return self.spins[:, chains:].flatten(0, 1).float(), self.log_weight[:, chains:].flatten().float()


def single(model: EffectiveModel) -> LogWeight:
    """The model's weight of spins in float64, computed in its own precision: one function of the spins all the same."""
    return lambda spins: model(spins.float()).double()


def sampled(plan: Plan, generator: Generator) -> Sample:
    """Equilibrium by self-learning updates under a linear model, from random spins."""
    start, turn, kept, rates = time.process_time(), Turned(plan.width), [], []
    linear, state = warm_up(plan.system, plan.chains + plan.test_chains, turn, generator)
    for number in range(plan.discarded + plan.rounds):
        state, rate = self_learning_update(plan.system.log_weight, linear, state, plan.updates, turn, generator)
        kept += [state] if number >= plan.discarded else []
        rates += [rate.mean().item()] if number >= plan.discarded else []
    spins, weights = torch.stack([s.spins for s in kept]), torch.stack([s.log_weight for s in kept])
    return Sample(spins, weights, float(np.mean(rates)), time.process_time() - start)


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


def arm(plan: Plan, layers: int, heads: int, sample: Sample, generator: Generator) -> dict:
    """Train and measure one model; of the linear one and the smallest other also long proposals and whole chains."""
    begin = time.process_time()
    model = EffectiveModel(plan.system.space, layers, heads)
    schedule = Schedule(plan.steps, rate=plan.rate / math.sqrt(heads))
    train(model, *sample.training(plan.chains), schedule, generator)
    model.requires_grad_(False)
    trained = time.process_time()
    rates = acceptance(plan, model, sample, plan.sweeps, generator)
    update = (time.process_time() - trained) / (plan.acceptance_rounds * plan.acceptance_chains)
    error = squared_error(model, *sample.testing(plan.chains))
    row = {
        "layers": layers,
        "heads": heads if layers else 0,
        "parameters": model.parameter_count(),
        "flops": model.flops(),
        "train_seconds": trained - begin,
        "update_ms": 1e3 * update,  # of one chain
        "train_mse": squared_error(model, *sample.training(plan.chains)),
        "mse": error,
        "expected": expected_acceptance(error),
        "acceptance": float(np.mean(rates)),
        "acceptance_error": float(np.std(rates, ddof=1)) / math.sqrt(len(rates)),
    }
    chains = {}
    if layers == 0 or (layers, heads) == plan.arms[1]:
        row["long_acceptance"] = float(np.mean(acceptance(plan, model, sample, plan.long_sweeps, generator)))
        name = "linear" if layers == 0 else f"{layers} layer, {heads} head"
        spins = sample.spins if layers == 0 else learned_chain(plan, model, sample, True, generator)
        chains[f"self-learning, {name}"] = observed(plan.system, spins)
        chains[f"uncorrected, {name}"] = observed(plan.system, learned_chain(plan, model, sample, False, generator))
    return {"row": row, "chains": chains, "cpu_seconds": time.process_time() - begin}


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


def exact(plan: Plan, generator: Generator) -> dict:
    """Observables of the exact chain, also of those that began in order and at random alone, and what a sweep costs."""
    start = time.process_time()
    spins = exact_chain(plan, generator)
    seconds = time.process_time() - start
    chains = {
        "exact": observed(plan.system, spins),
        "exact, from order": observed(plan.system, spins[:, ::2]),
        "exact, from random": observed(plan.system, spins[:, 1::2]),
    }
    sweep = 1e3 * seconds / (plan.exact_chains * sum(plan.exact_sweeps))
    return {"sweep_ms": sweep, "chains": chains, "cpu_seconds": time.process_time() - start}
