"""Fits a model to energies and forces, and measures it.

    L = w_E mean_b (E_b - c_kind(b) - model_b)^2 + w_F mean_a,i (F_ai - (-d model/dx)_ai)^2

with one constant c for every composition: absolute energies of different compositions, or of different references, do
not share a zero. The constants start at the mean energies, are trained along, and are fitted by least squares to the
model that comes out. Energies in eV, forces in eV/Angstrom.
"""

import copy
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from raytrans.geometry.rigid import random_rotation
from raytrans.shapes import Float
from raytrans.systems.molecules.batches import Batch, Composition, collate
from raytrans.systems.molecules.forces import energy_and_forces
from raytrans.systems.molecules.xyz import Molecule

WARM_UP = 0.03
"""Of the budget, over which the learning rate rises."""


@dataclass(frozen=True)
class Loss:
    """The weights w_E (1/eV^2) and w_F (Angstrom^2/eV^2); one of them may be zero."""

    energy: float = 0.2
    forces: float = 0.8

    def __post_init__(self):
        if not (self.energy >= 0 and self.forces >= 0 and 0 < self.energy + self.forces < math.inf):
            raise ValueError(f"loss: expected weights of at least 0, not both, got {self.energy} and {self.forces}")


@dataclass(frozen=True)
class Options:
    """How long and how to train: a budget in steps or in CPU seconds of this process, whichever ends first.

    `average` is the decay of the mean of the weights, which is what remains; `augment` turns every molecule anew each
    time it is seen; `clip` bounds the norm of the gradient. Without `offsets` the constants are zero: the model has to
    explain the energies as they are given.
    """

    loss: Loss = field(default_factory=Loss)
    steps: int | None = None
    cpu_seconds: float | None = None
    batch: int = 8
    learning_rate: float = 1e-3
    average: float = 0.99
    clip: float = 10.0
    augment: bool = False
    offsets: bool = True
    seed: int = 0

    def __post_init__(self):
        if self.steps is None and self.cpu_seconds is None:
            raise ValueError("options: expected a budget, steps or cpu_seconds, got neither")
        for name in ("steps", "cpu_seconds", "batch", "learning_rate", "clip"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name}: expected more than 0, got {value}")
        if not 0 <= self.average < 1:
            raise ValueError(f"average: expected at least 0 and less than 1, got {self.average}")


@dataclass(frozen=True)
class Fit:
    """A trained model, the constants of the compositions in eV, what it cost, and the loss of every step."""

    model: nn.Module
    offsets: dict[Composition, float]
    steps: int
    cpu_seconds: float
    losses: list[float]


@dataclass(frozen=True)
class Errors:
    """Means over a set: |F component| error in meV/Angstrom, energy error in meV after the constant of the composition
    that fits the set best, and how far the force of a turned molecule is from the turned force, in meV/Angstrom.
    """

    force: float
    energy: float
    rotation: float


def constants(energies: Float[Tensor, " b"], batch: Batch) -> Float[Tensor, " kinds"]:
    """The constant c of every composition with the least sum (E_b - c_kind(b))^2: the mean; NaN where none is known."""
    known = energies.isfinite()
    kind, count = batch.kind[known], len(batch.kinds)
    total = energies.new_zeros(count).index_add(0, kind, energies[known])
    return total / torch.bincount(kind, minlength=count)


def loss_of(model: nn.Module, batch: Batch, offsets: Float[Tensor, " kinds"], loss: Loss) -> Tensor:
    """The loss above, with a graph."""
    energies, forces = energy_and_forces(model, batch, create_graph=True)
    total = energies.new_zeros(())
    if loss.energy:
        expected = (batch.energies - offsets[batch.kind]).to(energies.dtype)
        total = total + loss.energy * (energies - expected).square().mean()
    if loss.forces:
        total = total + loss.forces * (forces - batch.forces).square().mean()
    return total


def fit(model: nn.Module, molecules: Sequence[Molecule], options: Options) -> Fit:
    """Trains `model` in place by Adam with a cosine schedule. A budget of steps gives the same result every time.

    Raises ValueError where an energy or a force that the loss reads is not known.
    """
    dtype = next(model.parameters()).dtype
    everything = collate(molecules, dtype)
    _check_known(everything, options.loss)
    start_at = constants(everything.energies, everything)
    offsets = nn.Parameter(start_at if options.offsets else torch.zeros_like(start_at), options.offsets)
    generator = torch.Generator().manual_seed(options.seed)
    optimizer = torch.optim.Adam([*model.parameters(), offsets], options.learning_rate, fused=True)
    mean, order, losses = copy.deepcopy(model), torch.empty(0, dtype=torch.long), []
    start = time.process_time()
    while (progress := _progress(len(losses), time.process_time() - start, options)) < 1:
        if not len(order):
            order = torch.randperm(everything.count, generator=generator)
        batch, order = everything.select(order[: options.batch]), order[options.batch :]
        if options.augment:
            batch = batch.rotated(random_rotation(batch.count, generator=generator))
        rate = options.learning_rate * min(1.0, (progress + 1e-3) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * progress))
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        value = loss_of(model, batch, offsets, options.loss)
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), options.clip)
        optimizer.step()
        losses.append(value.item())
        _approach(mean, model, min(options.average, len(losses) / (len(losses) + 10)))
    spent = time.process_time() - start
    model.load_state_dict(mean.state_dict())
    residual = everything.energies - predictions(model, everything)[0]
    fitted = dict(zip(everything.kinds, constants(residual, everything).tolist(), strict=True))
    return Fit(model, fitted, len(losses), spent, losses)


def _progress(steps: int, seconds: float, options: Options) -> float:
    shares = (steps / options.steps if options.steps else 0.0, seconds / (options.cpu_seconds or math.inf))
    return max(shares)


def _check_known(batch: Batch, loss: Loss) -> None:
    for name, weight in (("energies", loss.energy), ("forces", loss.forces)):
        if weight and not getattr(batch, name).isfinite().all():
            raise ValueError(f"molecules: expected {name} of all of them, as the loss weighs them by {weight}")


@torch.no_grad()
def _approach(mean: nn.Module, model: nn.Module, decay: float) -> None:
    for slow, fast in zip(mean.parameters(), model.parameters(), strict=True):
        slow.lerp_(fast, 1 - decay)


def predictions(model: nn.Module, batch: Batch, size: int = 64) -> tuple[Float[Tensor, " b"], Float[Tensor, "a 3"]]:
    """Energies (float64, without constants) and forces of any number of molecules, `size` of them at a time."""
    found = [energy_and_forces(model, batch.select(part)) for part in torch.arange(batch.count).split(size)]
    return torch.cat([e for e, _ in found]).double(), torch.cat([f for _, f in found])


def errors(model: nn.Module, molecules: Sequence[Molecule], seed: int = 0) -> Errors:
    """Measures a model on molecules whose energies and forces are known; `seed` draws the rotations."""
    batch = collate(molecules, next(model.parameters()).dtype)
    _check_known(batch, Loss(1.0, 1.0))
    rotation = random_rotation(batch.count, generator=torch.Generator().manual_seed(seed))
    energies, forces = predictions(model, batch)
    _, of_turned = predictions(model, batch.rotated(rotation))
    turned = torch.einsum("aij,aj->ai", rotation.to(forces)[batch.system], forces)
    residual = batch.energies - energies
    residual = residual - constants(residual, batch)[batch.kind]
    values = ((forces - batch.forces), residual, of_turned - turned)
    return Errors(*(1000 * value.abs().mean().item() for value in values))
