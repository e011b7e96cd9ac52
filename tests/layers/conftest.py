import math

import pytest
import torch

from raytrans.geometry.rays import Rays

# angle between the rays, distance between them
STRATA = {
    "generic": (0.9, 0.7),
    "nearly parallel": (1e-7, 0.7),
    "nearly opposite": (math.pi - 1e-7, 0.7),
    "parallel": (0.0, 0.7),
    "opposite": (math.pi, 0.7),
    "intersecting": (0.9, 0.0),
    "coincident": (0.0, 0.0),
    "opposite on one line": (math.pi, 0.0),
}
SINGULAR = [name for name in STRATA if name not in ("generic", "nearly parallel", "nearly opposite")]


def _pairs_at(stratum: str, count: int = 6) -> tuple[Rays, Rays]:
    theta, offset = STRATA[stratum]
    direction = torch.nn.functional.normalize(torch.randn(count, 3), dim=-1)
    normal = torch.nn.functional.normalize(torch.linalg.cross(direction, torch.randn(count, 3)), dim=-1)
    turned = math.cos(theta) * direction + math.sin(theta) * torch.linalg.cross(normal, direction)
    turned = {0.0: direction, math.pi: -direction}.get(theta, turned)
    foot = torch.randn(count, 3)
    x = Rays.from_points(foot, direction)
    y = Rays.from_points(foot + offset * normal, turned)
    return tuple(rays.in_section(torch.randn(count), torch.randn(count)) for rays in (x, y))


@pytest.fixture(autouse=True)
def double_precision():
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def pairs_at():
    """Function of a stratum's name: target and source rays (count,), pair i being x[i], y[i]."""
    return _pairs_at


@pytest.fixture
def random_rays():
    def make(*batch):
        return Rays.from_points(torch.randn(*batch, 3), torch.randn(*batch, 3)).in_section(torch.randn(batch), 0.0)

    return make


@pytest.fixture(params=list(STRATA))
def stratum(request):
    return request.param


@pytest.fixture(params=SINGULAR)
def singular(request):
    return request.param
