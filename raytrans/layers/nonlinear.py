"""Nonlinearities: they act on invariants, or scale a typed channel by an invariant, or multiply two typed channels."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from raytrans.fields.types import FieldType
from raytrans.layers.linear import AnyType, as_type, complex_matrix, components, real_part_matrix, signature
from raytrans.shapes import Float


def _invariants(field_type: AnyType) -> int:
    return sum(block.multiplicity for block in field_type.blocks if block.invariant)


def channel_invariants(
    field_type: AnyType, features: Float[Tensor, "*batch dim"], eps: float = 1e-5
) -> Float[Tensor, "*batch channels"]:
    """One invariant of every channel: an invariant itself, sqrt(|z|^2 + eps) of any other, with gradients at z = 0."""
    parts = []
    for block, part in zip(field_type.blocks, components(field_type, features), strict=True):
        if not block.invariant:
            part = (part.unflatten(-1, (block.multiplicity, block.width)).square().sum(-1) + eps).sqrt()
        parts.append(part)
    return torch.cat(parts, -1)


def smooth_leaky_relu(x: Tensor, slope: float = 0.2) -> Tensor:
    """slope x + (1 - slope) silu(x): a leaky rectifier with all derivatives.

    Source: public code of Liao and Smidt, Equiformer, 2023, where it is written with 2 sigmoid(x) - 1.
    """
    return slope * x + (1 - slope) * functional.silu(x)


class TypedNorm(nn.Module):
    """Layer norm per type: invariants (f - mean)/std, other types z / rms of |z| over the channels of that type.

    For types on rays and, given as `PointType`, at points. One learnable scale per channel, a bias for invariants.
    Features carry no length, so eps is a pure number.
    """

    def __init__(self, in_type: AnyType | str, eps: float = 1e-5):
        super().__init__()
        self.in_type = self.out_type = as_type(in_type)
        self.eps = eps
        self.scales = nn.ParameterList([nn.Parameter(torch.ones(b.multiplicity)) for b in self.in_type.blocks])
        self.bias = nn.Parameter(torch.zeros(_invariants(self.in_type)))

    def forward(self, features: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        self.in_type.check(features)
        parts = []
        parts_in = components(self.in_type, features)
        for block, part, scale in zip(self.in_type.blocks, parts_in, self.scales, strict=True):
            if block.invariant:
                part = functional.layer_norm(part, (block.multiplicity,), scale, self.bias, self.eps)
            else:
                square = part.square().sum(-1, keepdim=True) / block.multiplicity
                part = part * (square + self.eps).rsqrt() * scale.repeat_interleave(block.width)
            parts.append(part)
        return torch.cat(parts, -1)

    def __repr__(self) -> str:
        return signature("TypedNorm", self.in_type, out=self.out_type)


class Gate(nn.Module):
    """SiLU on invariants, z -> z sigmoid(g) on every other channel, g = linear(invariants, |z|).

    |z| is sqrt(|z|^2 + eps), so that gradients exist at z = 0; with no invariants the gates read the norms alone. For
    types on rays and, given as `PointType`, at points.
    """

    def __init__(self, in_type: AnyType | str, eps: float = 1e-5):
        super().__init__()
        self.in_type = self.out_type = as_type(in_type)
        self.eps = eps
        self.invariants = _invariants(self.in_type)
        self.typed = self.in_type.channels - self.invariants
        self.gates = nn.Linear(self.in_type.channels, self.typed) if self.typed else None

    def forward(self, features: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        self.in_type.check(features)
        if self.gates is None:
            return functional.silu(features)
        blocks = [b for b in self.in_type.blocks if not b.invariant]
        found = components(self.in_type, features)
        # ascending order of types puts the invariants first
        invariants = found[0] if self.invariants else features[..., :0]
        parts = [part.unflatten(-1, (-1, b.width)) for part, b in zip(found[-len(blocks) :], blocks, strict=True)]
        gates = torch.sigmoid(self.gates(channel_invariants(self.in_type, features, self.eps)))
        gates = gates.split([b.multiplicity for b in blocks], -1)
        gated = [(p * g[..., None]).flatten(-2) for p, g in zip(parts, gates, strict=True)]
        return torch.cat([functional.silu(invariants), *gated], -1)

    def __repr__(self) -> str:
        return signature("Gate", self.in_type, out=self.out_type)


def _canonical(n: int, nu: float) -> tuple[tuple[int, float], bool]:
    """Stored key of the type (n, nu) and whether it is stored conjugated; nu is rounded so that sums compare equal."""
    flip = n < 0 or (n == 0 and nu < 0)
    n, nu = (-n, -nu) if flip else (n, nu)
    return (n, round(nu, 9) + 0.0), flip


class TensorProduct(nn.Module):
    """Bilinear mixing of two fields: z1 z2 is of type (n1 + n2, nu1 + nu2), z1 conj z2 of type (n1 - n2, nu1 - nu2).

    Every pair of channels reaches every output channel of its type with its own (complex) weight. Raises ValueError
    for an output type that no product reaches.
    """

    def __init__(self, in_type1: FieldType | str, in_type2: FieldType | str, out_type: FieldType | str):
        super().__init__()
        self.in_type1, self.in_type2, self.out_type = FieldType(in_type1), FieldType(in_type2), FieldType(out_type)
        products = self._products()
        self.paths: list[list[tuple[int, int, bool, bool]]] = []
        self.weights = nn.ParameterList()
        for block in self.out_type.blocks:
            key = _canonical(block.n, block.nu)[0]
            paths = [path for path in products if path[0] == key]
            if not paths:
                reachable = FieldType({path[0]: 1 for path in products})
                raise ValueError(f"out_type: expected types among {reachable}, the products of the inputs, got {block}")
            self.paths.append([path[1:] for path in paths])
            sizes = [
                self.in_type1.blocks[i].multiplicity * self.in_type2.blocks[j].multiplicity for _, i, j, *_ in paths
            ]
            for size, (_, i, j, *_) in zip(sizes, paths, strict=True):
                real = self.in_type1.blocks[i].real and self.in_type2.blocks[j].real
                shape = (size, block.multiplicity) if real else (size, block.multiplicity, 2)
                self.weights.append(nn.Parameter(torch.randn(shape) / math.sqrt(sum(sizes))))

    def _products(self) -> list[tuple[tuple[int, float], int, int, bool, bool]]:
        """(key, index1, index2, conjugate the second factor, conjugate the product) of every product."""
        products = []
        for i, a in enumerate(self.in_type1.blocks):
            for j, b in enumerate(self.in_type2.blocks):
                key, flip = _canonical(a.n + b.n, a.nu + b.nu)
                products.append((key, i, j, False, flip))
                if not a.real and not b.real:
                    key, flip = _canonical(a.n - b.n, a.nu - b.nu)
                    products.append((key, i, j, True, flip))
        return products

    def forward(self, features1: Float[Tensor, "*#batch d1"], features2: Float[Tensor, "*#batch d2"]) -> Tensor:
        """(*batch, out_type.dim); batch axes broadcast."""
        parts1, parts2 = self.in_type1.split(features1), self.in_type2.split(features2)
        weights, out = iter(self.weights), []
        for block, paths in zip(self.out_type.blocks, self.paths, strict=True):
            total = 0.0
            for i, j, conjugate, flip in paths:
                second = parts2[j].conj() if conjugate else parts2[j]
                product = (parts1[i][..., :, None] * second[..., None, :]).flatten(-2)
                product = product.conj() if flip else product
                total = total + _mix(product, next(weights), block.real)
            out.append(total)
        return torch.cat(out, -1)

    def __repr__(self) -> str:
        return signature("TensorProduct", self.in_type1, self.in_type2, out=self.out_type)


def _mix(product: Tensor, weight: Tensor, invariant: bool) -> Tensor:
    if not product.is_complex():
        return product @ weight
    flat = torch.view_as_real(product.resolve_conj()).flatten(-2)
    return flat @ (real_part_matrix(weight) if invariant else complex_matrix(weight))
