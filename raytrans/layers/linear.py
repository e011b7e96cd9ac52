"""Channel mixing that commutes with every change of frame."""

import math

import torch
from torch import Tensor, nn

from raytrans.fields.so3 import PointType
from raytrans.fields.types import FieldType
from raytrans.shapes import Float

AnyType = FieldType | PointType


def as_type(description: AnyType | str) -> AnyType:
    """Text is read as a type on rays; types at points are given as `PointType`."""
    return FieldType(description) if isinstance(description, str) else description


def signature(name: str, *types: object, out: object) -> str:
    """The typed repr of every layer, such as RayConvolution(16x0+4x1 -> 8x0+2x1)."""
    ins = ", ".join(str(t).replace(" ", "") for t in types)
    return f"{name}({ins} -> {str(out).replace(' ', '')})"


def components(field_type: AnyType, features: Float[Tensor, "*batch dim"]) -> tuple[Tensor, ...]:
    """Real numbers (*batch, multiplicity width) of every block: one split, as every slice makes a gradient."""
    return features.split([block.multiplicity * block.width for block in field_type.blocks], -1)


def complex_matrix(weight: Float[Tensor, "*b i o 2"]) -> Float[Tensor, "*b 2*i 2*o"]:
    """Real matrix M with interleaved(z) @ M = interleaved(z @ W), W = weight[..., 0] + i weight[..., 1]."""
    real, imaginary = weight.unbind(-1)
    rows = torch.stack([torch.stack([real, imaginary], -1), torch.stack([-imaginary, real], -1)], -3)
    return rows.flatten(-2).flatten(-3, -2)


def real_part_matrix(weight: Float[Tensor, "*b i o 2"]) -> Float[Tensor, "*b 2*i o"]:
    """Real matrix M with interleaved(z) @ M = Re(z @ W)."""
    return torch.stack([weight[..., 0], -weight[..., 1]], -2).flatten(-3, -2)


class TypedLinear(nn.Module):
    """out_t = W_t f_t for every type t, W complex for ray types, real for invariants and for irreps at points.

    A bias is added to invariants only. Raises ValueError for an output type that the input does not contain.
    """

    def __init__(self, in_type: AnyType | str, out_type: AnyType | str, bias: bool = True):
        super().__init__()
        self.in_type, self.out_type = as_type(in_type), as_type(out_type)
        self.weights = nn.ParameterList()
        self.bias = None
        for block in self.out_type.blocks:
            multiplicity = self.in_type.counts.get(block.key, 0)
            if not multiplicity:
                raise ValueError(
                    f"out_type: {block} cannot be mixed from in_type {self.in_type}, which lacks that type"
                )
            shape = (multiplicity, block.multiplicity) + ((2,) if block.complex else ())
            self.weights.append(
                nn.Parameter(torch.randn(shape) / math.sqrt(multiplicity * (2 if block.complex else 1)))
            )
            if bias and block.invariant:
                self.bias = nn.Parameter(torch.zeros(block.multiplicity))

    def forward(self, features: Float[Tensor, "*batch in_dim"]) -> Float[Tensor, "*batch out_dim"]:
        self.in_type.check(features)
        sources = dict(zip(self.in_type.counts, components(self.in_type, features), strict=True))
        parts = []
        for block, weight in zip(self.out_type.blocks, self.weights, strict=True):
            part = sources[block.key]
            if block.complex:
                part = part @ complex_matrix(weight)
            elif block.width == 1:
                part = part @ weight
            else:
                part = torch.einsum("...iw,io->...ow", part.unflatten(-1, (-1, block.width)), weight).flatten(-2)
            parts.append(part if self.bias is None or not block.invariant else part + self.bias)
        return torch.cat(parts, -1) if parts else features.new_zeros(*features.shape[:-1], 0)

    def __repr__(self) -> str:
        return signature("TypedLinear", self.in_type, out=self.out_type)
