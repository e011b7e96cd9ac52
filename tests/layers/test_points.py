"""Kernels between rays and points: motions, sections, the axis of the ray, coincident points, e3nn as oracle."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from e3nn import o3
from scipy.spatial.transform import Rotation

from raytrans.fields.so3 import PointType, clebsch_gordan
from raytrans.fields.types import FieldType
from raytrans.geometry.rays import Rays
from raytrans.geometry.spaces import FOOT_SOFTENING, DirectionPairs
from raytrans.layers.attention import RayAttention
from raytrans.layers.convolution import RayConvolution
from raytrans.layers.kernel import RayKernel
from raytrans.layers.linear import TypedLinear
from raytrans.layers.neighborhood import Gathered, PairList
from raytrans.layers.nonlinear import Gate, TypedNorm
from raytrans.layers.points import POINT_SOFTENING, PointKernel, PointToRayKernel, RayToPointKernel

ON_RAYS = FieldType("2x0 + 2x1 + 1x2 + 1x(1,0.7) + 1x(0,0.4)")
AT_POINTS = PointType("2x0 + 2x1 + 1x2 + 1x3")
UNIT = 1.7
RADII = {"generic": 0.8, "nearly on it": 1e-7, "on it": 0.0}
MOTION = torch.tensor(Rotation.random(random_state=1).as_matrix()), torch.tensor([0.3, -2.0, 1.0]).double(), 2.5


def moved_points(points):
    rotation, shift, scale = MOTION
    return scale * points @ rotation.mT + shift


def rig(radius, count=6):
    """Rays, and points at a distance from them."""
    direction = torch.nn.functional.normalize(torch.randn(count, 3), dim=-1)
    across = torch.nn.functional.normalize(torch.linalg.cross(direction, torch.randn(count, 3)), dim=-1)
    foot = torch.randn(count, 3)
    rays = Rays.from_points(foot, direction).in_section(torch.randn(count), torch.randn(count))
    return rays, foot + radius * across


def relative(a, b):
    assert torch.isfinite(a).all() and b.std() > 1e-3
    return ((a - b).abs().max() / b.abs().max()).item()


def own(layer, x, y, features, unit=UNIT):
    """Every target sees its own source."""
    y = y.reshape(-1, 1) if isinstance(y, Rays) else y[:, None]
    return layer(x, y, features[:, None], Gathered.laid_out((len(features),), 1), unit)


@pytest.mark.parametrize("radius", RADII.values(), ids=RADII)
def test_rays_to_points(radius):
    layer = RayConvolution(ON_RAYS, AT_POINTS, kernel=RayToPointKernel)
    rays, points = rig(radius)
    features, turn, slide = torch.randn(6, ON_RAYS.dim), torch.randn(6), torch.randn(6)
    out = own(layer, points, rays, features)
    changed = own(layer, points, rays.in_section(turn, slide * UNIT), ON_RAYS.transform(features, turn, slide))
    assert relative(changed, out) < 1e-9
    moved = own(layer, moved_points(points), rays.moved(*MOTION), features, UNIT * MOTION[2])
    assert relative(moved, AT_POINTS.transform(out, MOTION[0])) < 1e-9
    assert relative(moved, out) > 1e-2


@pytest.mark.parametrize("radius", RADII.values(), ids=RADII)
def test_points_to_rays(radius):
    layer = RayConvolution(AT_POINTS, ON_RAYS, kernel=PointToRayKernel)
    rays, points = rig(radius)
    features, turn, slide = torch.randn(6, AT_POINTS.dim), torch.randn(6), torch.randn(6)
    out = own(layer, rays, points, features)
    changed = own(layer, rays.in_section(turn, slide * UNIT), points, features)
    assert relative(changed, ON_RAYS.transform(out, turn, slide)) < 1e-9
    turned = AT_POINTS.transform(features, MOTION[0])
    moved = own(layer, rays.moved(*MOTION), moved_points(points), turned, UNIT * MOTION[2])
    assert relative(moved, out) < 1e-9


@pytest.mark.parametrize("radius", RADII.values(), ids=RADII)
def test_points_to_points(radius):
    layer = RayConvolution(AT_POINTS, AT_POINTS, kernel=PointKernel)
    x = torch.randn(6, 3)
    y, features = x + radius * torch.nn.functional.normalize(torch.randn(6, 3), dim=-1), torch.randn(6, AT_POINTS.dim)
    out = own(layer, x, y, features)
    turned = AT_POINTS.transform(features, MOTION[0])
    moved = own(layer, moved_points(x), moved_points(y), turned, UNIT * MOTION[2])
    assert relative(moved, AT_POINTS.transform(out, MOTION[0])) < 1e-9


def test_kernels_are_complete():
    """A generic ray and point have no symmetry; the turns about the line of two points leave 2 min(l, l') + 1."""
    for kernel in (RayToPointKernel(ON_RAYS, AT_POINTS, 1), PointToRayKernel(AT_POINTS, ON_RAYS, 1)):
        assert sum(w.numel() for w in kernel.inner.weights) == ON_RAYS.dim * AT_POINTS.dim
    weights = PointKernel("1x2", "1x3", 1).weights
    assert sum(w.numel() for w in weights) == 5


def test_ray_to_point_is_the_kernel_in_the_frame_of_the_foot():
    """D^l([e, foot direction, d]) K(r) by e3nn, with the phase from the foot."""
    kernel = RayToPointKernel(ON_RAYS, AT_POINTS)
    rays, points = rig(0.8, 1)
    feature = torch.randn(1, ON_RAYS.dim)
    pairs = kernel.pairs(points, rays, UNIT)
    phi = kernel.radial(pairs.features())[0].detach().numpy()
    frame, local = rays.frame[0].numpy(), (points[0] - rays.anchor[0]).numpy() / UNIT
    along = local @ frame[:, 2]
    outward = local - along * frame[:, 2]
    r = np.linalg.norm(outward)
    first = outward / r
    angle = math.atan2(first @ frame[:, 1], first @ frame[:, 0])
    q = r / math.hypot(r, FOOT_SOFTENING)
    inner = {}
    parts = dict(zip(ON_RAYS.blocks, ON_RAYS.split(feature), strict=True))
    for term, weight in zip(kernel.inner.terms, kernel.inner.weights, strict=True):
        weight = weight.detach().numpy()
        weight = weight if weight.ndim == 3 else weight[..., 0] + 1j * weight[..., 1]
        value = parts[term.source][0].numpy() * np.exp(-1j * (term.source.n * angle + term.source.nu * along))
        sign = -1 if term.conjugate else 1
        value = (np.conj(value) if term.conjugate else value) * q ** abs(term.out.n - sign * term.source.n)
        inner[term.out.n] = inner.get(term.out.n, 0) + value @ np.einsum("b,bio->io", phi, weight)
    pair_frame = np.stack([first, np.cross(frame[:, 2], first), frame[:, 2]], -1)
    out, used = [], dict.fromkeys(range(4), 0)
    for l, multiplicity in AT_POINTS.counts.items():
        matrix = o3.Irrep(l, 1).D_from_matrix(torch.tensor(pair_frame[:, [1, 2, 0]])).numpy()
        for _ in range(multiplicity):
            vector = np.zeros(2 * l + 1)
            for m in range(l + 1):
                vector[l + m] = inner[m][used[m]].real
                if m:
                    vector[l - m] = inner[m][used[m]].imag
                used[m] += 1
            out.append(matrix @ vector)
    np.testing.assert_allclose(kernel(pairs, feature)[0].detach(), np.concatenate(out), atol=1e-9)


def test_on_the_ray_invariants_give_harmonics_of_its_direction():
    kernel = RayToPointKernel("3x0", "1x0 + 1x1 + 1x2 + 1x3")
    rays, points = rig(0.0)
    out = kernel.out_type.split(kernel(kernel.pairs(points, rays, UNIT), torch.randn(6, 3)))
    for l, part in enumerate(out):
        axis = o3.spherical_harmonics(l, rays.direction, normalize=True, normalization="norm")
        size = (part[:, 0] * axis).sum(-1, keepdim=True)
        assert size.abs().max() > 1e-2
        torch.testing.assert_close(part[:, 0], size * axis, rtol=0, atol=1e-10)


def test_point_kernel_is_the_sum_over_clebsch_gordan():
    kernel = PointKernel("1x1 + 1x2", "1x2", basis=3)
    x, y, feature = torch.randn(3), torch.randn(3), torch.randn(8)
    pairs = kernel.pairs(x, y, UNIT)
    phi, shift = kernel.radial(pairs.features()), (y - x) / UNIT
    q = shift.norm() / (shift.norm() ** 2 + POINT_SOFTENING**2).sqrt()
    expected, path = torch.zeros(5), 0
    for l, part in ((1, feature[:3]), (2, feature[3:])):
        for degree in range(2 - l, 2 + l + 1):
            harmonic = q**degree * o3.spherical_harmonics(degree, shift, normalize=True, normalization="norm")
            coupled = torch.einsum("abc,a,b->c", clebsch_gordan(l, degree, 2), part, harmonic) * math.sqrt(5)
            expected = expected + (phi @ kernel.weights[0][:, path, 0]) * coupled
            path += 1
    torch.testing.assert_close(kernel(pairs, feature), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ["ray to point", "point to ray", "point to point"])
def test_values_and_gradients_are_continuous_at_radius_zero(name):
    kernel, features = {
        "ray to point": (RayToPointKernel(ON_RAYS, AT_POINTS), torch.randn(1, ON_RAYS.dim)),
        "point to ray": (PointToRayKernel(AT_POINTS, ON_RAYS), torch.randn(1, AT_POINTS.dim)),
        "point to point": (PointKernel(AT_POINTS, AT_POINTS), torch.randn(1, AT_POINTS.dim)),
    }[name]
    rays, points = rig(0.0, 1)
    probe = torch.randn(kernel.out_type.dim)

    def value(shift):
        moved = points + shift
        ends = {"ray to point": (moved, rays), "point to ray": (rays, moved), "point to point": (points, moved)}[name]
        return (kernel(kernel.pairs(*ends, UNIT), features) * probe).sum()

    gradient = torch.autograd.functional.jacobian(value, torch.zeros(3))
    assert torch.isfinite(gradient).all() and gradient.norm() > 0.1
    for axis in torch.eye(3):
        slope = (value(1e-6 * axis) - value(-1e-6 * axis)) / 2e-6
        torch.testing.assert_close(gradient @ axis, slope, rtol=0, atol=1e-5)
    for away in torch.nn.functional.normalize(torch.randn(6, 3), dim=-1):
        near = torch.autograd.functional.jacobian(value, 1e-9 * away)
        torch.testing.assert_close(near, gradient, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["ray to point", "point to ray", "point to point"])
def test_both_layouts_and_any_batch(name, random_rays):
    kernel, types = {
        "ray to point": (RayToPointKernel, (ON_RAYS, AT_POINTS)),
        "point to ray": (PointToRayKernel, (AT_POINTS, ON_RAYS)),
        "point to point": (PointKernel, (AT_POINTS, AT_POINTS)),
    }[name]
    layer = RayConvolution(*types, kernel=kernel, extras=1)
    x = random_rays(2, 2) if name == "point to ray" else torch.randn(2, 2, 3)
    y = random_rays(5) if name == "ray to point" else torch.randn(5, 3)
    features, weights, extras = torch.randn(5, types[0].dim), torch.rand(2, 2, 5), torch.randn(2, 2, 5, 1)
    dense = layer(x, y, features, None, UNIT, weights, extras)
    assert dense.shape == (2, 2, types[1].dim)
    listed = PairList(torch.arange(4).repeat_interleave(5), torch.arange(5).repeat(4), (2, 2), (5,))
    paired = layer(x, y, features, listed, UNIT, weights.flatten(), extras.reshape(-1, 1))
    torch.testing.assert_close(paired, dense, rtol=0, atol=1e-11)
    single = x.reshape(4)[3] if isinstance(x, Rays) else x[1, 1]
    alone = layer.kernel(layer.kernel.pairs(single, y, UNIT), features, extras[1, 1])
    torch.testing.assert_close((weights[1, 1, :, None] * alone).sum(0), dense[1, 1], rtol=0, atol=1e-11)


def test_attention_of_points_over_rays(random_rays):
    query_type, out_type = PointType("2x0 + 1x1"), PointType("2x0 + 2x1 + 1x2")
    layer = RayAttention(ON_RAYS, query_type, out_type, heads=2, kernel=RayToPointKernel)
    x, y, query, features = torch.randn(3, 3), random_rays(4), torch.randn(3, 5), torch.randn(4, ON_RAYS.dim)
    out, turn, slide = layer(x, y, query, features, unit=UNIT), torch.randn(4), torch.randn(4)
    changed = y.in_section(turn, slide * UNIT).moved(*MOTION)
    turned = query_type.transform(query, MOTION[0])
    moved = layer(moved_points(x), changed, turned, ON_RAYS.transform(features, turn, slide), unit=UNIT * MOTION[2])
    assert relative(moved, out_type.transform(out, MOTION[0])) < 1e-9
    assert relative(layer(moved_points(x), changed, query, features, unit=UNIT * MOTION[2]), out) > 1e-2


def test_attention_of_rays_over_points(random_rays):
    query_type = FieldType("1x0 + 2x1")
    layer = RayAttention(AT_POINTS, query_type, ON_RAYS, heads=2, kernel=PointToRayKernel)
    x, y, query, features = random_rays(3), torch.randn(4, 3), torch.randn(3, 5), torch.randn(4, AT_POINTS.dim)
    out, turn, slide = layer(x, y, query, features, unit=UNIT), torch.randn(3), torch.randn(3)
    changed = x.in_section(turn, slide * UNIT).moved(*MOTION)
    turned = AT_POINTS.transform(features, MOTION[0])
    moved = layer(changed, moved_points(y), query_type.transform(query, turn, slide), turned, unit=UNIT * MOTION[2])
    assert relative(moved, ON_RAYS.transform(out, turn, slide)) < 1e-9


def test_attention_of_points_over_points():
    layer = RayAttention(AT_POINTS, PointType("1x1"), AT_POINTS, kernel=PointKernel)
    x, y, query, features = torch.randn(3, 3), torch.randn(4, 3), torch.randn(3, 3), torch.randn(4, AT_POINTS.dim)
    out = layer(x, y, query, features, unit=UNIT)
    turned = AT_POINTS.transform(features, MOTION[0])
    moved = layer(moved_points(x), moved_points(y), query @ MOTION[0].mT, turned, unit=UNIT * MOTION[2])
    assert relative(moved, AT_POINTS.transform(out, MOTION[0])) < 1e-9


@pytest.mark.parametrize("make", [TypedNorm, Gate, lambda t: TypedLinear(t, PointType("3x0 + 1x1 + 2x2"))])
def test_pointwise_layers_turn_with_the_world(make):
    layer, features = make(AT_POINTS), torch.randn(7, AT_POINTS.dim)
    out = layer(features)
    turned = layer(AT_POINTS.transform(features, MOTION[0]))
    assert relative(turned, layer.out_type.transform(out, MOTION[0])) < 1e-9
    assert relative(turned, out) > 1e-2


def test_convolution_over_directions(random_rays):
    """The same kernel on the sphere: typed, and blind to where the rays are."""
    in_type, out_type = FieldType("2x0 + 2x1 + 1x2"), FieldType("1x0 + 2x1 + 1x3")
    layer = RayConvolution(in_type, out_type, kernel=partial(RayKernel, pairs=DirectionPairs))
    x, y, features = random_rays(3), random_rays(4), torch.randn(4, in_type.dim)
    out, turn_x, turn_y = layer(x, y, features), torch.randn(3), torch.randn(4)
    elsewhere = Rays.from_points(torch.randn(4, 3), y.direction, y.frame).moved(*MOTION)
    changed = layer(
        x.in_section(turn_x).moved(*MOTION), elsewhere.in_section(turn_y), in_type.transform(features, turn_y)
    )
    assert relative(changed, out_type.transform(out, turn_x)) < 1e-9


def test_kernels_say_their_types():
    assert repr(RayToPointKernel("1x0 + 1x(1,0.5)", "2x1")) == "RayToPointKernel(1x0+1x(1,0.5) -> 2x1)"
    assert repr(PointToRayKernel("2x1", "1x2")) == "PointToRayKernel(2x1 -> 1x2)"
    assert repr(PointKernel("2x1", "1x2")) == "PointKernel(2x1 -> 1x2)"
    assert repr(RayConvolution("1x0", "2x1", kernel=RayToPointKernel)) == "RayConvolution(1x0 -> 2x1)"
