"""Monte Carlo of spins: Metropolis updates of one spin, and self-learning updates proposed by a whole chain of them.

A self-learning update runs a chain of local Metropolis updates that leaves W_eff alone, from S to S', and accepts S'
with min(1, W(S') W_eff(S) / (W(S) W_eff(S'))). The local chain obeys detailed balance for W_eff, since the site of
every update is drawn at random: sites in a fixed order would not, and the update would be wrong. So the exact weight is
kept, however good or bad the effective one, and costs one evaluation instead of one per local update.

All chains of a batch run at once and know nothing of each other. Source: Liu, Qi, Meng and Fu, 2016; Tomiya and Nagai,
PoS LATTICE2023 001, for the effective weight.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional

from raytrans.shapes import Bool, Float

LogWeight = Callable[[Tensor], Tensor]
Proposal = Callable[[Tensor, Generator], Tensor]


@dataclass(frozen=True)
class Turned:
    """S -> N(S + width xi), xi a normal vector: from S to S' as likely as back, as the angle between both decides.

    Raises ValueError for a width that is not positive.
    """

    width: float = 0.5

    def __post_init__(self):
        if not 0 < self.width < math.inf:
            raise ValueError(f"width: expected a positive number, got {self.width}")

    def __call__(self, spin: Float[Tensor, "*b 3"], generator: Generator) -> Float[Tensor, "*b 3"]:
        noise = torch.randn(spin.shape, dtype=spin.dtype, device=spin.device, generator=generator)
        return functional.normalize(spin + self.width * noise, dim=-1)


@dataclass
class State:
    """Spins (chains, sites, 3) and their log weight (chains,)."""

    spins: Float[Tensor, "chains sites 3"]
    log_weight: Float[Tensor, " chains"]

    @classmethod
    def of(cls, log_weight: LogWeight, spins: Tensor) -> "State":
        return cls(spins, log_weight(spins))

    def moved(self, accepted: Bool[Tensor, " chains"], other: "State") -> "State":
        """The other state in chains that accepted, this one in the rest."""
        spins = torch.where(accepted[:, None, None], other.spins, self.spins)
        return State(spins, torch.where(accepted, other.log_weight, self.log_weight))


def random_spins(chains: int, sites: int, generator: Generator) -> Float[Tensor, "chains sites 3"]:
    """Independent directions, uniform on the sphere, in float64, on the generator's device."""
    shape, device = (chains, sites, 3), generator.device
    return functional.normalize(torch.randn(shape, dtype=torch.float64, device=device, generator=generator), dim=-1)


def metropolis(log_ratio: Float[Tensor, "*b"], generator: Generator) -> Bool[Tensor, "*b"]:
    """True with probability min(1, e^log_ratio)."""
    draws = torch.rand(log_ratio.shape, dtype=log_ratio.dtype, device=log_ratio.device, generator=generator)
    return draws.log() < log_ratio


@torch.no_grad()
def local_updates(
    log_weight: LogWeight, state: State, updates: int, propose: Proposal, generator: Generator
) -> tuple[State, Float[Tensor, " chains"]]:
    """`updates` Metropolis updates of one spin of every chain, at random sites; with them the share accepted."""
    chains, sites = state.spins.shape[:2]
    device = state.spins.device
    rows, share = torch.arange(chains, device=device), torch.zeros_like(state.log_weight)
    for _ in range(updates):
        chosen = torch.randint(sites, (chains,), device=device, generator=generator)
        spins = state.spins.clone()
        spins[rows, chosen] = propose(spins[rows, chosen], generator)
        other = State.of(log_weight, spins)
        accepted = metropolis(other.log_weight - state.log_weight, generator)
        state, share = state.moved(accepted, other), share + accepted / updates
    return state, share


@torch.no_grad()
def self_learning_update(
    exact: LogWeight, effective: LogWeight, state: State, updates: int, propose: Proposal, generator: Generator
) -> tuple[State, Float[Tensor, " chains"]]:
    """One update of every chain, proposed by `updates` local ones; with it the probability that it was accepted."""
    start = State.of(effective, state.spins)
    end, _ = local_updates(effective, start, updates, propose, generator)
    other = State.of(exact, end.spins)
    ratio = (other.log_weight - state.log_weight) - (end.log_weight - start.log_weight)
    return state.moved(metropolis(ratio, generator), other), ratio.clamp(max=0.0).exp()


def chain_mean(values: Float[Tensor, "rounds chains"]) -> dict[str, float]:
    """Mean over rounds and chains, its standard error, and the autocorrelation time that this error implies.

    The error is that of the means of the chains, which are independent: no model of their autocorrelation enters. The
    time, in rounds, is half the variance of those means over that of independent rounds; 0.5 for independent ones.
    Raises ValueError for fewer than two chains.
    """
    rounds, chains = values.shape
    if chains < 2 or not rounds:
        raise ValueError(f"values: expected at least one round of two chains, got {rounds} of {chains}")
    error = values.mean(0).std().item() / math.sqrt(chains)
    single = values.var().item()
    time = 0.5 * error**2 * rounds * chains / single if single > 0 else 0.5
    return {"mean": values.mean().item(), "error": error, "autocorrelation": time}


def pooled(means: Sequence[dict[str, float]]) -> dict[str, float]:
    """Mean of several independent results of `chain_mean`, and its standard error."""
    count = len(means)
    error = math.sqrt(sum(one["error"] ** 2 for one in means)) / count
    return {"mean": sum(one["mean"] for one in means) / count, "error": error}


def expected_acceptance(mse: float) -> float:
    """erfc(sqrt(mse)/2): acceptance of independent proposals whose log W - log W_eff is normal with variance `mse`.

    The difference of two such residuals, x' - x, is normal with mean -mse and variance 2 mse where x is drawn from W
    and x' from W_eff, and the mean of min(1, e^(x' - x)) is this.
    """
    return math.erfc(math.sqrt(mse) / 2)
