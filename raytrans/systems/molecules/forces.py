"""Conservative forces: minus the gradient of a model's energy.

A model is a module with model(numbers (A,), positions (A, 3), system (A,), count B) -> energies (B,) that do not change
when a molecule moves as a whole or its atoms are listed in another order.
"""

import torch
from torch import Tensor, nn

from raytrans.shapes import Float
from raytrans.systems.molecules.batches import Batch


def energy_and_forces(
    model: nn.Module, batch: Batch, create_graph: bool = False
) -> tuple[Float[Tensor, " b"], Float[Tensor, "a 3"]]:
    """E (B,) and F = -dE/dx (A, 3); with `create_graph` a loss of the forces has gradients in the weights."""
    with torch.enable_grad():
        positions = batch.positions.detach().requires_grad_()
        energies = model(batch.numbers, positions, batch.system, batch.count)
        gradient = torch.autograd.grad(energies.sum(), positions, create_graph=create_graph)[0]
    return energies if create_graph else energies.detach(), -gradient
