"""Geometric-algebra transformers: Euclidean, projective, improved projective, conformal, over tokens or rays."""

from raytrans.systems.algebra.rays import AlgebraRayDepth, AlgebraRays, RayTokens
from raytrans.systems.algebra.transformer import VARIANTS, MultivectorTransformer, Variant

__all__ = ["VARIANTS", "AlgebraRayDepth", "AlgebraRays", "MultivectorTransformer", "RayTokens", "Variant"]
