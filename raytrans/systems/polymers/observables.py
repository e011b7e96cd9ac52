"""What trajectories are compared by: bond lengths, the radius of gyration, and how energy drifts."""

import torch
from torch import Tensor

from raytrans.shapes import Float, Int


def bond_lengths(positions: Float[Tensor, "*batch atoms 3"], bonds: Int[Tensor, "bonds 2"]) -> Tensor:
    """Lengths of the bonds, (*batch, bonds), in the unit of the positions."""
    return (positions[..., bonds[:, 0], :] - positions[..., bonds[:, 1], :]).norm(dim=-1)


def radius_of_gyration(positions: Float[Tensor, "*batch atoms 3"], masses: Float[Tensor, " atoms"]) -> Tensor:
    """sqrt(sum m |x - c|^2/sum m) about the centre of mass c, (*batch,)."""
    share = (masses / masses.sum())[:, None]
    centre = (share * positions).sum(-2, keepdim=True)
    return (share * (positions - centre).square()).sum((-1, -2)).sqrt()


def drift(times: Float[Tensor, " n"], energies: Float[Tensor, "n *walkers"]) -> Float[Tensor, " *walkers"]:
    """Slope of the line through energies that fits best, in their unit over that of the times.

    Raises ValueError for fewer than two times.
    """
    if len(times) < 2:
        raise ValueError(f"times: expected at least two, got {len(times)}")
    centred = (times - times.mean()).reshape(-1, *[1] * (energies.ndim - 1))
    return (centred * energies).sum(0) / centred.square().sum()


def distance_of(first: Float[Tensor, " n"], second: Float[Tensor, " m"]) -> float:
    """Distance of the distributions of two samples: the mean way that probability has to move, integral |F - G| dx.

    In the unit of the samples. Raises ValueError for an empty one.
    """
    if not len(first) or not len(second):
        raise ValueError(f"samples: expected at least one value in each, got {len(first)} and {len(second)}")
    places = torch.cat([first, second]).sort().values
    below = [
        torch.searchsorted(sample.sort().values, places[:-1], right=True) / len(sample) for sample in (first, second)
    ]
    return float(((below[0] - below[1]).abs() * places.diff()).sum())
