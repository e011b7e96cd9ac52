"""Complete kernels between rays: every linear map of a typed feature that commutes with rigid motions.

A generic pair of rays has no symmetry, so inside the pair's own frame any matrix is allowed, on the feature and on its
conjugate, as a function of the pair's invariants. `RayPairs.phase` carries features in and out and makes the entries
that cannot exist at parallel or opposite rays vanish there.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn

from raytrans.fields.types import Block, FieldType, as_complex
from raytrans.geometry.pairs import RayPairs
from raytrans.geometry.spaces import FootPairs
from raytrans.layers.linear import complex_matrix, real_part_matrix, signature
from raytrans.layers.neighborhood import Gathered, PairList

Neighborhood = Gathered | PairList
Pairs = RayPairs | FootPairs


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


class Term(NamedTuple):
    """One weight of the kernel: from the block `source` (or its conjugate) to the block `out`."""

    out: Block
    source: Block
    conjugate: bool


def kernel_terms(in_type: FieldType, out_type: FieldType) -> list[Term]:
    """All terms of the complete kernel.

    An invariant equals its conjugate, and the real part of W' conj z is that of conj(W') z, so only channels that are
    complex on both sides have a second term.
    """
    terms = []
    for out in out_type.blocks:
        for source in in_type.blocks:
            terms.append(Term(out, source, False))
            if not out.real and not source.real:
                terms.append(Term(out, source, True))
    return terms


class RayKernel(nn.Module):
    """Kernel of a ray x and a ray y, linear in f(y), with B basis coefficients phi_b of the invariants:

        k(x, y) f = sum_b phi_b [ W_b E(n_out, n_in) f + W'_b E(n_out, -n_in) conj f ],    real part for invariants
        E(n_out, n_in) = u^|n_out - n_in| v^|n_out + n_in| e^{i(n_out phi_x + nu_out t_x - n_in phi_y - nu_in t_y)}

    `pairs` is the pair geometry: RayPairs, or another class with `of`, `features`, `FEATURES` and `phase`.
    """

    def __init__(
        self,
        in_type: FieldType | str,
        out_type: FieldType | str,
        basis: int = 8,
        extras: int = 0,
        pairs: type = RayPairs,
    ):
        super().__init__()
        self.in_type, self.out_type, self.basis = FieldType(in_type), FieldType(out_type), basis
        self.geometry = pairs
        self.radial = RadialNetwork(pairs.FEATURES, basis, extras)
        self.terms = kernel_terms(self.in_type, self.out_type)
        self.weights = nn.ParameterList()
        for term in self.terms:
            fan = basis * sum(t.source.multiplicity for t in self.terms if t.out == term.out)
            complex_weight = not (term.out.real and term.source.real)
            shape = (basis, term.source.multiplicity, term.out.multiplicity) + ((2,) if complex_weight else ())
            self.weights.append(nn.Parameter(torch.randn(shape) / math.sqrt(fan)))

    def pairs(self, x: object, y: object, unit: Tensor | float) -> Pairs:
        """Geometry of targets and sources that a neighbourhood has laid on its pairs."""
        return self.geometry.of(x, y, unit)

    def coefficients(self, pairs: Pairs, extras: Tensor | None = None) -> Float[Tensor, "*pairs basis"]:
        """phi_b of every pair."""
        return self.radial(pairs.features(), extras)

    def carried(self, pairs: Pairs, features: Float[Tensor, "..."]) -> Iterator[tuple[Term, Tensor, Tensor]]:
        """For every term: E f or E conj f as real numbers (*pairs, d) and the matrix (basis, d, out) that mixes it."""
        self.in_type.check(features)
        parts = {
            b: features[..., b.slice] if b.real else as_complex(features[..., b.slice]) for b in self.in_type.blocks
        }
        for term, weight in zip(self.terms, self.weights, strict=True):
            value = _carry(term, parts[term.source], pairs)
            if weight.ndim == 3:
                yield term, value, weight
            else:
                matrix = real_part_matrix(weight) if term.out.real else complex_matrix(weight)
                yield term, torch.view_as_real(value).flatten(-2), matrix

    def forward(self, pairs: Pairs, features: Tensor, extras: Tensor | None = None) -> Float[Tensor, "*pairs out"]:
        """k(x, y) f(y) of every pair, from features (*pairs, in_type.dim) laid on the pairs."""
        phi = self.coefficients(pairs, extras)
        out: dict[Block, Tensor] = {}
        for term, value, matrix in self.carried(pairs, features):
            mixed = (value @ matrix.permute(1, 0, 2).flatten(1)).unflatten(-1, (self.basis, -1))
            part = (mixed * phi[..., None]).sum(-2)
            out[term.out] = out[term.out] + part if term.out in out else part
        return torch.cat([out[b] for b in self.out_type.blocks], -1)

    def summed(
        self, pairs: Pairs, features: Tensor, neighborhood: Neighborhood, weights: Tensor, extras=None
    ) -> Tensor:
        """sum_y w_y k(x, y) f(y), (*targets, out_type.dim); the sum is taken before the channels are mixed."""
        phi = self.coefficients(pairs, extras) * weights[..., None]
        out: dict[Block, Tensor] = {}
        for term, value, matrix in self.carried(pairs, features):
            part = torch.einsum("...bd,bdo->...o", neighborhood.contract(phi, value), matrix)
            out[term.out] = out[term.out] + part if term.out in out else part
        return torch.cat([out[b] for b in self.out_type.blocks], -1)

    def __repr__(self) -> str:
        return signature("RayKernel", self.in_type, out=self.out_type)


def _carry(term: Term, part: Tensor, pairs: Pairs) -> Complex[Tensor, "*pairs c"] | Float[Tensor, "*pairs c"]:
    """E(n_out, n_in) f, or E(n_out, -n_in) conj f; an invariant that stays one needs no phase."""
    out, source = term.out, term.source
    if out.real and source.real:
        return part
    if term.conjugate:
        return part.conj() * pairs.phase(out.n, -source.n, out.nu, -source.nu)[..., None]
    return part * pairs.phase(out.n, source.n, out.nu, source.nu)[..., None]
