"""Complete kernels between rays: every linear map of a typed feature that commutes with rigid motions.

A generic pair of rays has no symmetry, so inside the pair's own frame any matrix is allowed, on the feature and on its
conjugate, as a function of the pair's invariants. `RayPairs.phase` carries features in and out and makes the entries
that cannot exist at parallel or opposite rays vanish there.
"""

import math
from collections.abc import Iterator
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor, nn

from raytrans.fields.types import Block, FieldType
from raytrans.geometry.pairs import RayPairs
from raytrans.geometry.spaces import FootPairs
from raytrans.layers.linear import complex_matrix, real_part_matrix, signature
from raytrans.layers.neighborhood import Gathered, PairList
from raytrans.layers.radial import RadialNetwork
from raytrans.shapes import Complex, Float

Neighborhood = Gathered | PairList
Pairs = RayPairs | FootPairs


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

    def carried(self, pairs: Pairs, features: Float[Tensor, "..."]) -> Iterator[tuple[Tensor, Tensor]]:
        """For every output block: E f and E conj f of all its terms as real numbers (*pairs, d), and the real matrix
        (basis, d, out) that mixes them.
        """
        self.in_type.check(features)
        parts = dict(zip(self.in_type.blocks, self.in_type.split(features), strict=True))
        weights = zip(self.terms, self.weights, strict=True)
        # terms come ordered by output
        for _, own in groupby(weights, key=lambda item: item[0].out):
            values, matrices = [], []
            for term, weight in own:
                value = _carry(term, parts[term.source], pairs)
                if value.is_complex():
                    value = torch.view_as_real(value).flatten(-2)
                    weight = real_part_matrix(weight) if term.out.real else complex_matrix(weight)
                values.append(value.expand(*pairs.shape, -1))
                matrices.append(weight)
            yield torch.cat(values, -1), torch.cat(matrices, -2)

    def forward(self, pairs: Pairs, features: Tensor, extras: Tensor | None = None) -> Float[Tensor, "*pairs out"]:
        """k(x, y) f(y) of every pair, from features (*pairs, in_type.dim) laid on the pairs."""
        phi, out = self.coefficients(pairs, extras).unbind(-1), []
        for value, matrix in self.carried(pairs, features):
            out.append(sum(p[..., None] * (value @ m) for p, m in zip(phi, matrix, strict=True)))
        return torch.cat(out, -1)

    def summed(
        self, pairs: Pairs, features: Tensor, neighborhood: Neighborhood, weights: Tensor, extras=None
    ) -> Tensor:
        """sum_y w_y k(x, y) f(y), (*targets, out_type.dim); the sum is taken before the channels are mixed."""
        phi, out = self.coefficients(pairs, extras) * weights[..., None], []
        for value, matrix in self.carried(pairs, features):
            out.append(torch.einsum("...bd,bdo->...o", neighborhood.contract(phi, value), matrix))
        return torch.cat(out, -1)

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
