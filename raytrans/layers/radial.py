"""Functions of one length or of a few invariants: networks, bases of distances, and cutoffs that end smoothly.

Ray kernels read the invariants of a pair through a `RadialNetwork`; systems of atoms read a distance through a basis
first. Every function here is smooth inside its cutoff, so that second derivatives exist.
"""

import math

import torch
from torch import Tensor, nn

from raytrans.shapes import Float


class RadialNetwork(nn.Module):
    """Features of the invariants (and `extras` more invariants of the caller) -> MLP -> coefficients, all smooth."""

    def __init__(self, features: int, out: int, extras: int = 0, hidden: int = 16):
        super().__init__()
        self.features, self.extras = features, extras
        self.layers = nn.Sequential(nn.Linear(features + extras, hidden), nn.SiLU(), nn.Linear(hidden, out))
        nn.init.normal_(self.layers[-1].bias)

    def forward(self, features: Float[Tensor, "*pairs f"], extras: Tensor | None = None) -> Float[Tensor, "*pairs out"]:
        given = 0 if extras is None else extras.shape[-1]
        if given != self.extras:
            raise ValueError(f"extras: expected {self.extras} invariants per pair, got {given}")
        if extras is not None:
            features = torch.cat([features, extras.expand(*features.shape[:-1], given)], -1)
        return self.layers(features)


def _checked(count: int, cutoff: float, lower: float = 0.0) -> None:
    if count < 1:
        raise ValueError(f"count: expected at least 1, got {count}")
    if not 0 <= lower < cutoff < math.inf:
        raise ValueError(f"lower, cutoff: expected 0 <= lower < cutoff, finite, got {lower}, {cutoff}")


class ExpNormalBasis(nn.Module):
    """phi_k(d) = exp(-beta (e^{-a (d - lower)} - mu_k)^2), a = 5/(cutoff - lower), mu_k even from e^-5 to 1.

    beta = (2 (1 - e^-5)/count)^-2. Distances and cutoff in one unit. Raises ValueError for count < 1 or a cutoff that
    is not beyond `lower`. Source: Thölke and De Fabritiis, TorchMD-NET, 2022, after Unke and Meuwly, PhysNet, 2019; the
    lowest centre is the value at the cutoff whatever its unit, where the first has e^-cutoff, the same for 5 Angstrom.
    """

    def __init__(self, count: int, cutoff: float, lower: float = 0.0):
        super().__init__()
        _checked(count, cutoff, lower)
        self.count, self.cutoff, self.lower = count, cutoff, lower
        self.rate = 5 / (cutoff - lower)
        self.sharpness = (2 * (1 - math.exp(-5)) / count) ** -2
        self.register_buffer("centers", torch.linspace(math.exp(-5), 1, count), persistent=False)

    def forward(self, distance: Float[Tensor, "*b"]) -> Float[Tensor, "*b count"]:
        decay = torch.exp(-self.rate * (distance - self.lower))[..., None]
        return torch.exp(-self.sharpness * (decay - self.centers.to(distance.dtype)).square())


class BesselBasis(nn.Module):
    """phi_k(d) = sqrt(2/cutoff) sin(k pi d/cutoff)/d, k = 1 ... count, with its limit at d = 0; zero at the cutoff.

    Orthonormal over 0 <= d <= cutoff with the weight d^2. Raises ValueError for count < 1 or a cutoff that is not
    positive. Source: Gasteiger et al., DimeNet, 2020, equation 7.
    """

    def __init__(self, count: int, cutoff: float):
        super().__init__()
        _checked(count, cutoff)
        self.count, self.cutoff = count, cutoff

    def forward(self, distance: Float[Tensor, "*b"]) -> Float[Tensor, "*b count"]:
        order = torch.arange(1, self.count + 1, dtype=distance.dtype, device=distance.device)
        # torch's sinc(x) is sin(pi x)/(pi x), smooth at zero
        scale = math.sqrt(2 / self.cutoff) * math.pi / self.cutoff
        return scale * order * torch.sinc(order * distance[..., None] / self.cutoff)


class GaussianBasis(nn.Module):
    """phi_k(d) = exp(-(d - mu_k)^2/(2 s^2)), mu_k even from 0 to the cutoff, s their spacing.

    Raises ValueError for count < 2 or a cutoff that is not positive. Source: Schütt et al., SchNet, 2017, equation 5.
    """

    def __init__(self, count: int, cutoff: float):
        super().__init__()
        _checked(count - 1, cutoff)
        self.count, self.cutoff, self.width = count, cutoff, cutoff / (count - 1)
        self.register_buffer("centers", torch.linspace(0, cutoff, count), persistent=False)

    def forward(self, distance: Float[Tensor, "*b"]) -> Float[Tensor, "*b count"]:
        return torch.exp(-((distance[..., None] - self.centers.to(distance.dtype)) / self.width).square() / 2)


def cosine_cutoff(distance: Float[Tensor, "*b"], cutoff: float) -> Float[Tensor, "*b"]:
    """(1 + cos(pi d/cutoff))/2 below the cutoff and 0 beyond: value and first derivative are continuous.

    Source: Behler and Parrinello, 2007, equation 4.
    """
    return (1 + torch.cos(math.pi * (distance / cutoff).clamp(max=1))) / 2


def polynomial_cutoff(distance: Float[Tensor, "*b"], cutoff: float, p: int = 6) -> Float[Tensor, "*b"]:
    """1 - (p+1)(p+2)/2 x^p + p(p+2) x^(p+1) - p(p+1)/2 x^(p+2), x = d/cutoff, 0 beyond; two derivatives continuous.

    Raises ValueError for p < 3. Source: Gasteiger et al., DimeNet, 2020, equation 8.
    """
    if p < 3:
        raise ValueError(f"p: expected at least 3, got {p}")
    x = (distance / cutoff).clamp(max=1)
    return 1 - x**p * ((p + 1) * (p + 2) / 2 - p * (p + 2) * x + p * (p + 1) / 2 * x.square())
