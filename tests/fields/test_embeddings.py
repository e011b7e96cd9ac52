"""Points, planes, lines and motions against their coordinates; equivariant maps against counts and versors."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from raytrans.fields.algebra import Algebra
from raytrans.fields.commutant import intertwiners
from raytrans.fields.embeddings import Embedding, embedding
from raytrans.geometry import RayPairs, Rays, distance, random_rotation

SPACES = ["euclidean", "projective", "conformal"]
GENERATOR = torch.Generator()


@pytest.fixture(autouse=True)
def seeded():
    GENERATOR.manual_seed(0)


def randn(*size):
    return torch.randn(size, generator=GENERATOR, dtype=torch.float64)


def units(*size):
    return torch.nn.functional.normalize(randn(*size, 3), dim=-1)


def motion(space, count=6):
    """Rotations and translations, which are zero where the centre moves along."""
    rotation, translation = random_rotation(count, generator=GENERATOR), 3 * randn(count, 3)
    return rotation, translation * embedding(space).translates


def turned(rotation, v):
    return (rotation @ v[..., None])[..., 0]


@pytest.mark.parametrize("space", SPACES)
def test_motions_act_on_everything_as_on_coordinates(space):
    geometry = embedding(space)
    rotation, translation = motion(space)
    p, v, offset = randn(6, 3), units(6), randn(6)
    versor = geometry.motion(rotation, translation)
    moved, normal = turned(rotation, p) + translation, turned(rotation, v)
    pairs = [
        (geometry.point(p), geometry.point(moved)),
        (geometry.direction(v), geometry.direction(normal)),
        (geometry.plane(v, offset), geometry.plane(normal, offset + (normal * translation).sum(-1))),
        (geometry.line(Rays.from_points(p, v)), geometry.line(Rays.from_points(moved, normal))),
    ]
    for before, after in pairs:
        torch.testing.assert_close(geometry.algebra.sandwich(versor, before), after, rtol=1e-12, atol=1e-12)
        assert (before - after).abs().max() > 0.1


@pytest.mark.parametrize("space", SPACES)
def test_rotors_turn_vectors_as_scipy_does_and_compose(space):
    geometry = embedding(space)
    first, second = (Rotation.random(random_state=seed) for seed in (1, 2))
    v = randn(3)
    rotor = geometry.rotor(torch.tensor(first.as_matrix()))
    got = geometry.point_of(geometry.algebra.sandwich(rotor, geometry.point(v)))
    torch.testing.assert_close(got, torch.tensor(first.apply(v.numpy())))
    product = geometry.algebra.product(geometry.rotor(torch.tensor(second.as_matrix())), rotor)
    composed = geometry.rotor(torch.tensor((second * first).as_matrix()))
    torch.testing.assert_close(product * (product[0] * composed[0]).sign(), composed)


@pytest.mark.parametrize("space", ["projective", "conformal"])
def test_translators_add_up(space):
    geometry = embedding(space)
    a, b = randn(2, 3)
    product = geometry.algebra.product(geometry.translator(a), geometry.translator(b))
    torch.testing.assert_close(product, geometry.translator(a + b))


@pytest.mark.parametrize("space", SPACES)
def test_mirrors_reflect_points(space):
    geometry = embedding(space)
    p, n, offset = randn(6, 3), units(6), randn(6) * embedding(space).translates
    mirrored = geometry.algebra.sandwich(geometry.reflector(n, offset), geometry.point(p))
    expected = p - 2 * ((p * n).sum(-1) - offset)[:, None] * n
    torch.testing.assert_close(geometry.point_of(mirrored), expected)


@pytest.mark.parametrize("space", SPACES)
def test_points_come_back_and_distances_are_distances(space):
    geometry = embedding(space)
    p, q = randn(2, 6, 3)
    scale = 1.0 if space == "euclidean" else -2.5
    x, y = scale * geometry.point(p), geometry.point(q)
    torch.testing.assert_close(geometry.point_of(x), p)
    torch.testing.assert_close(geometry.distance(x, y), (p - q).norm(dim=-1))


def test_the_product_of_points_is_blind_in_the_projective_algebra_and_their_distance_in_the_conformal_one():
    p, q = randn(2, 6, 3)
    square = (p - q).square().sum(-1)
    for space, expected in (("projective", torch.ones(6, dtype=torch.float64)), ("conformal", -square / 2)):
        geometry = embedding(space)
        torch.testing.assert_close(geometry.algebra.inner(geometry.point(p), geometry.point(q)), expected)
    weights = embedding("conformal").algebra.weights
    assert (weights == 1).sum() == (weights == -1).sum() == 16
    assert (embedding("projective").algebra.weights != 0).sum() == 8


def test_points_on_planes_and_lines_through_points():
    geometry = embedding("projective")
    algebra = geometry.algebra
    p, q, n = randn(6, 3), randn(6, 3), units(6)
    through = geometry.plane(n, (n * p).sum(-1))
    assert algebra.exterior(through, geometry.point(p)).abs().max() < 1e-12
    assert algebra.exterior(through, geometry.point(p + n)).abs().max() > 0.1
    line = geometry.line(Rays.from_points(p, q - p))
    joined = algebra.join(geometry.point(p), geometry.point(q))
    torch.testing.assert_close(joined, (p - q).norm(dim=-1)[:, None] * -line * _sign(joined, -line))
    # three points span the plane through them
    plane = algebra.join(joined, geometry.point(p + n))
    for point in (p, q, p + n):
        assert algebra.exterior(plane, geometry.point(point)).abs().max() < 1e-12
    assert plane.abs().max() > 0.1


def _sign(a, b):
    """One sign for all rows."""
    signs = (a * b).sum(-1).sign()
    assert (signs == signs[0]).all()
    return signs[0]


def test_directions_are_differences_of_points_and_stay_under_translations():
    geometry = embedding("projective")
    p, v = randn(2, 3)
    torch.testing.assert_close(geometry.point(p + v) - geometry.point(p), geometry.direction(v))
    for space in ("projective", "conformal"):
        geometry = embedding(space)
        moved = geometry.algebra.sandwich(geometry.translator(p), geometry.direction(v))
        torch.testing.assert_close(moved, geometry.direction(v))


@pytest.mark.parametrize("space", ["projective", "conformal"])
def test_grades_0_and_4_of_two_lines_are_the_invariants_of_two_rays(space):
    geometry = embedding(space)
    x, y = (Rays.from_points(randn(50, 3), units(50)) for _ in range(2))
    pairs = RayPairs.of(x, y)
    product = geometry.algebra.product(geometry.line(x), geometry.line(y))
    torch.testing.assert_close(product[:, 0], -pairs.cosine, rtol=0, atol=1e-12)
    four = geometry.algebra.squares(geometry.algebra.grade(geometry.algebra.dual(product), 0, 1))
    assert four.shape == (50, len(geometry.algebra.metric) + 1)
    invariants = geometry.ray_invariants(geometry.line(x), geometry.line(y))
    expected = torch.stack([pairs.cosine, pairs.reciprocal], -1)
    torch.testing.assert_close(invariants, expected, rtol=0, atol=1e-12)
    reciprocal = (x.direction * y.moment + y.direction * x.moment).sum(-1)
    torch.testing.assert_close(invariants[:, 1], reciprocal, rtol=0, atol=1e-12)


def test_of_parallel_lines_the_ideal_part_of_grade_2_is_the_distance():
    geometry = embedding("projective")
    algebra = geometry.algebra
    d = units(20)
    x, y = Rays.from_points(randn(20, 3), d), Rays.from_points(randn(20, 3), d)
    product = algebra.product(geometry.line(x), geometry.line(y))
    assert product[:, -1].abs().max() < 1e-12
    ideal = algebra.norms(algebra.dual(algebra.grade(product, 2)))[:, 2]
    torch.testing.assert_close(ideal, distance(x, y))
    assert algebra.norms(product)[:, 2].abs().max() < 1e-12


COUNTS = {"euclidean": (4, 8), "projective": (9, 16), "conformal": (20, 40)}


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("mirrors", [True, False])
def test_equivariant_maps_are_4_9_20_with_mirrors_and_8_16_40_without(space, mirrors):
    geometry = embedding(space)
    maps, made, read = geometry.maps(mirrors)
    assert len(maps) == COUNTS[space][0 if mirrors else 1]
    flat = maps.flatten(1)
    torch.testing.assert_close(flat @ flat.mT, torch.eye(len(maps), dtype=torch.float64))
    rotation, translation = motion(space, 1)
    x = randn(geometry.algebra.dim)
    versors = [geometry.motion(rotation, translation)[0]]
    if mirrors:
        versors.append(geometry.reflector(units(), randn() * geometry.translates))
    for versor in versors:
        act = lambda z, v=versor: geometry.algebra.sandwich(v, z)  # noqa: E731
        torch.testing.assert_close(act(maps @ x), maps @ act(x), rtol=0, atol=1e-11)
        torch.testing.assert_close(act(made[..., 0]), made[..., 0], rtol=0, atol=1e-11)
        torch.testing.assert_close(read @ act(x), read @ x, rtol=0, atol=1e-11)


def test_maps_without_mirrors_do_not_commute_with_mirrors():
    geometry = embedding("projective")
    maps, x, mirror = geometry.maps()[0], randn(16), geometry.reflector(units(), randn())
    act = lambda z: geometry.algebra.sandwich(mirror, z)  # noqa: E731
    assert (act(maps @ x) - maps @ act(x)).abs().max() > 0.1


def test_the_nine_maps_are_grades_and_products_with_the_null_vector():
    """The span of the basis that is known in closed form, against that of the null space."""
    geometry = embedding("projective")
    algebra = geometry.algebra
    eye = torch.eye(16, dtype=torch.float64)
    grades = [algebra.grade(eye, k).mT for k in range(5)]
    known = torch.stack([*grades, *(algebra.left(algebra.blade(3)) @ g for g in grades[:4])]).flatten(1)
    basis = geometry.maps(mirrors=True)[0].flatten(1)
    assert torch.linalg.matrix_rank(known) == 9
    torch.testing.assert_close(known @ basis.mT @ basis, known)


def test_the_origin_in_the_place_of_infinity_gives_as_many_maps_that_do_not_commute_with_translations():
    """A trap: e_i o generates translations of the origin's sphere, not of space."""
    geometry = embedding("conformal")
    algebra = geometry.algebra
    eye = torch.eye(3, dtype=torch.float64)
    origin = geometry.point(torch.zeros(3, dtype=torch.float64))
    wrong = [(algebra.left(b) - algebra.right(b)).numpy() for b in algebra.product(algebra.vector(_five(eye)), origin)]
    generators = [*geometry.generators()[:3], *wrong]
    maps = torch.tensor(intertwiners(generators, generators))
    assert len(maps) == 40
    x, versor = randn(32), geometry.translator(randn(3))
    act = lambda z: algebra.sandwich(versor, z)  # noqa: E731
    assert (act(maps @ x) - maps @ act(x)).abs().max() > 0.1


def _five(v):
    return torch.nn.functional.pad(v, (0, 2))


@pytest.mark.parametrize("space", SPACES)
def test_generators_are_derivatives_of_motions(space):
    geometry = embedding(space)
    x, step = randn(geometry.algebra.dim), 1e-5
    generators = [torch.tensor(g) for g in geometry.generators()]
    bivectors = 3 if space == "euclidean" else 6
    assert len(generators) == bivectors
    for axis in range(3):
        turns = [Rotation.from_rotvec(s * step * np.eye(3)[axis]).as_matrix() for s in (1, -1)]
        versors = [geometry.rotor(torch.tensor(t)) for t in turns]
        if geometry.translates:
            shift = step * torch.eye(3, dtype=torch.float64)[axis]
            versors += [geometry.translator(shift), geometry.translator(-shift)]
        for place in range(0, len(versors), 2):
            plus, minus = (geometry.algebra.sandwich(v, x) for v in versors[place : place + 2])
            slope = (plus - minus) / (2 * step)
            torch.testing.assert_close(slope, -generators[axis + 3 * (place // 2)] @ x / 2, rtol=1e-6, atol=1e-8)


def test_algebras_that_cannot_hold_space_are_named():
    with pytest.raises(ValueError, match="algebra: expected squares .* got .1, 1, 1, 1."):
        Embedding(Algebra((1, 1, 1, 1)))
    with pytest.raises(ValueError, match="name: expected one of euclidean, projective, conformal, got 'flat'"):
        embedding("flat")
    euclidean, one = embedding("euclidean"), torch.ones(3, dtype=torch.float64)
    line = euclidean.line(Rays.from_points(one, one))
    for call, name in (
        (lambda: euclidean.translator(one), "translation: expected an algebra with a null vector"),
        (lambda: euclidean.ray_invariants(line, line), "lines: expected an algebra with a null vector"),
        (lambda: euclidean.reflector(one, one[0]), "offset: expected mirrors through the centre"),
    ):
        with pytest.raises(ValueError, match=name):
            call()
