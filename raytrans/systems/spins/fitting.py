"""Fitting the effective weight to the exact one on sampled spins: least squares, and AdamW for what is not linear."""

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from raytrans.shapes import Float
from raytrans.systems.spins.double_exchange import DoubleExchange
from raytrans.systems.spins.effective import EffectiveModel
from raytrans.systems.spins.sampling import Proposal, State, local_updates, random_spins


@dataclass(frozen=True)
class Schedule:
    """Steps of AdamW, spins in each, greatest norm of a gradient, and the rate: a ramp, then a cosine to zero."""

    steps: int = 800
    batch: int = 128
    rate: float = 1e-2
    decay: float = 1e-4
    clip: float = 1.0
    ramp: float = 0.1

    def share(self, step: int) -> float:
        """Share of the rate at a step."""
        return min(1.0, (step + 1) / (self.ramp * self.steps)) * (1 + math.cos(math.pi * step / self.steps)) / 2


def least_squares(features: Float[Tensor, "n k"], log_weight: Float[Tensor, " n"]) -> Float[Tensor, " k+1"]:
    """Couplings, then the offset, that bring features . couplings + offset closest to log W; in float64."""
    columns = functional.pad(features.detach().double(), (0, 1), value=1.0).cpu()  # where shells may depend on others
    solved = torch.linalg.lstsq(columns, log_weight.double().cpu()[:, None], driver="gelsd")
    return solved.solution[:, 0].to(features.device)


@torch.no_grad()
def solve_couplings(model: EffectiveModel, spins: Float[Tensor, "n sites 3"], log_weight: Float[Tensor, " n"]) -> None:
    """Set couplings and offset to the least squares of log W over the model's features; layers stay as they are."""
    solution = least_squares(torch.cat([model.features(part) for part in spins.split(512)]), log_weight)
    model.couplings.copy_(solution[:-1])
    model.offset.copy_(solution[-1])


def warm_up(
    system: DoubleExchange, chains: int, propose: Proposal, generator: Generator, rounds: int = 10, sweeps: int = 8
) -> tuple[EffectiveModel, State]:
    """A linear effective model that fits where its own chains go, and those chains, from random spins.

    Every round fits the model to the last three rounds of spins and moves them by `sweeps` sweeps under it, accepting
    all. The chains are near equilibrium, not in it: discard what self-learning updates make of them at first.
    """
    model = EffectiveModel(system.space).double().requires_grad_(False)
    spins, seen = random_spins(chains, system.space.sites, generator), []
    for _ in range(rounds):
        seen = [*seen[-2:], State.of(system.log_weight, spins)]
        solve_couplings(model, torch.cat([s.spins for s in seen]), torch.cat([s.log_weight for s in seen]))
        updates = sweeps * system.space.sites
        spins = local_updates(model, State.of(model, spins), updates, propose, generator)[0].spins
    return model, State.of(system.log_weight, spins)


def train(
    model: EffectiveModel,
    spins: Float[Tensor, "n sites 3"],
    log_weight: Float[Tensor, " n"],
    schedule: Schedule,
    generator: Generator,
) -> None:
    """Minimise the mean of (log W - log W_eff)^2 over layers, couplings and offset.

    The couplings enter linearly: every step solves them on its batch, where the gradient of the layers is that of the
    solved problem (variable projection), and at the end they are solved on all the spins.
    """
    weights = list(model.blocks.parameters())
    if weights and schedule.steps:
        optimizer = torch.optim.AdamW(weights, schedule.rate, weight_decay=schedule.decay)
        slowing = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule.share)
        for _ in range(schedule.steps):
            chosen = torch.randint(len(spins), (schedule.batch,), device=spins.device, generator=generator)
            features = model.features(spins[chosen])
            solution = least_squares(features, log_weight[chosen])
            residual = features.double() @ solution[:-1] + solution[-1] - log_weight[chosen]
            optimizer.zero_grad()
            residual.square().mean().backward()
            nn.utils.clip_grad_norm_(weights, schedule.clip)
            optimizer.step()
            slowing.step()
    solve_couplings(model, spins, log_weight)


@torch.no_grad()
def squared_error(model: EffectiveModel, spins: Float[Tensor, "n sites 3"], log_weight: Float[Tensor, " n"]) -> float:
    """Mean of (log W - log W_eff)^2."""
    errors = [(model(s) - w).double() for s, w in zip(spins.split(512), log_weight.split(512), strict=True)]
    return torch.cat(errors).square().mean().item()
