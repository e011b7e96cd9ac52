"""Types of features: (n, nu) on rays, irreps of SO(3) at points."""

from raytrans.fields.so3 import PointType, clebsch_gordan, solid_harmonics, wigner
from raytrans.fields.types import FieldType

__all__ = ["FieldType", "PointType", "clebsch_gordan", "solid_harmonics", "wigner"]
