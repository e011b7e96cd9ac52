"""Equivariant layers between typed fields on rays, points and directions."""

from raytrans.layers.attention import RayAttention, attend
from raytrans.layers.convolution import RayConvolution, convolve
from raytrans.layers.kernel import RayKernel
from raytrans.layers.linear import TypedLinear
from raytrans.layers.neighborhood import Gathered, PairList
from raytrans.layers.nonlinear import Gate, TensorProduct, TypedNorm
from raytrans.layers.points import PointKernel, PointToRayKernel, RayToPointKernel

__all__ = [
    "Gate",
    "Gathered",
    "PairList",
    "PointKernel",
    "PointToRayKernel",
    "RayAttention",
    "RayConvolution",
    "RayKernel",
    "RayToPointKernel",
    "TensorProduct",
    "TypedLinear",
    "TypedNorm",
    "attend",
    "convolve",
]
