"""Sets of rays in which every pair of a target and a source lies on one stratum: generic, or singular in some way."""

import torch
from torch import Tensor

from raytrans.geometry.rays import Rays

STRATA = (
    "generic",
    "intersecting",
    "parallel",
    "opposite",
    "coincident",
    "opposite on one line",
    "nearly parallel",
    "nearly opposite",
)


def unit_vectors(*shape: int, generator: torch.Generator) -> Tensor:
    return torch.nn.functional.normalize(torch.randn(*shape, 3, dtype=torch.float64, generator=generator), dim=-1)


def ray_sets(stratum: str, count: int, generator: torch.Generator, tilt: float = 1e-7) -> tuple[Rays, Rays]:
    """Targets (count,) and sources (count + 1,), in float64, all of whose pairs lie on `stratum`; random sections.

    `tilt` is the angle that nearly parallel rays make, in radians. Raises ValueError for an unknown stratum.
    """
    if stratum not in STRATA:
        raise ValueError(f"stratum: expected one of {', '.join(STRATA)}, got {stratum!r}")
    numbers = (count, count + 1)
    anchors = [torch.randn(n, 3, dtype=torch.float64, generator=generator) for n in numbers]
    directions = [unit_vectors(n, generator=generator) for n in numbers]
    common = unit_vectors(generator=generator)
    signs = (1.0, -1.0) if "opposite" in stratum else (1.0, 1.0)
    if "parallel" in stratum or "opposite" in stratum or stratum == "coincident":
        tilts = [tilt * d if stratum.startswith("nearly") else 0.0 * d for d in directions]
        directions = [sign * common + t for sign, t in zip(signs, tilts, strict=True)]
    if stratum in ("coincident", "opposite on one line"):
        anchors = [anchors[0][:1] + a[:, :1] * common for a in anchors]
    if stratum == "intersecting":
        anchors = [anchors[0][:1] + a[:, :1] * d for a, d in zip(anchors, directions, strict=True)]
    x, y = (Rays.from_points(a, d) for a, d in zip(anchors, directions, strict=True))
    return tuple(rays.in_section(_angles(len(rays), generator)) for rays in (x, y))


def _angles(count: int, generator: torch.Generator) -> Tensor:
    return 2 * torch.pi * torch.rand(count, dtype=torch.float64, generator=generator)
