"""Whole transformers of four algebras: motions, far frames, mirrors, sections; the tasks against closed forms."""

import pytest
import torch

from raytrans.equivariance import check_layer
from raytrans.geometry import Rays, Similarity, random_rotation
from raytrans.systems import raydepth
from raytrans.systems.algebra import VARIANTS, AlgebraRayDepth, AlgebraRays, MultivectorTransformer, RayTokens, pairs

FREE = ["P", "iP", "C"]  # of a centre


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def transformer(variant, mirrors=False, out=(2, 3)):
    return MultivectorTransformer(variant, ((2, 3), (4, 6), out), layers=2, heads=2, mirrors=mirrors)


@pytest.mark.parametrize("variant", list(VARIANTS))
def test_transformers_commute_with_motions(variant):
    report = check_layer(transformer(variant), tolerance=1e-10)
    assert {row.name for row in report.rows} == {"motion", "order"} and report.passed, report


@pytest.mark.parametrize("variant", list(VARIANTS))
def test_with_mirrors_they_commute_with_mirrors(variant):
    model = transformer(variant, mirrors=True).double()
    geometry, t = model.embedding, model.in_type
    normal = torch.nn.functional.normalize(torch.randn(3, generator=generator(), dtype=torch.float64), dim=-1)
    mirror = geometry.reflector(normal, torch.tensor(0.5 * geometry.translates, dtype=torch.float64))

    def act(features, kind):
        scalars, multivectors = kind.split(features)
        return kind.join((scalars, geometry.algebra.sandwich(mirror, multivectors)))

    features = torch.randn(6, t.dim, dtype=torch.float64)
    reference = torch.randn(6, dtype=torch.float64) if variant == "iP" else None
    expected = act(model(features, reference=reference), model.out_type)
    got = model(act(features, t), reference=None if reference is None else -reference)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-10 * float(expected.detach().abs().max()))


def test_unknown_variants_are_named():
    with pytest.raises(ValueError, match="variant: expected one of E, P, iP, C, got 'G'"):
        transformer("G")


def rays(*batch, seed=0):
    origin, direction = torch.randn(2, *batch, 3, generator=generator(seed), dtype=torch.float64)
    return Rays.from_points(origin, direction)


def backbone(variant):
    return AlgebraRays(variant, 2, 3, multivectors=4, scalars=6, layers=1, source_layers=1, heads=2).double()


@pytest.mark.parametrize("variant", list(VARIANTS))
@pytest.mark.parametrize("measured", [True, False])
def test_invariants_of_rays_do_not_see_frames_units_or_sections(variant, measured):
    model, x, y = backbone(variant), rays(2, 5), rays(2, 7, seed=1)
    features = torch.randn(2, 5, 2).double(), torch.randn(2, 7, 2).double()
    points = y.point(torch.rand(2, 7, dtype=torch.float64)) if measured else None
    centre, unit = y.origin.mean(1), torch.tensor([1.0, 2.0], dtype=torch.float64)
    out = model(x, y, features, points, centre, unit)
    assert out.shape == (2, 5, 3) and out.std() > 1e-4
    rotation, translation = random_rotation(generator=generator(2)), 100 * torch.ones(3, dtype=torch.float64)

    def place(p):
        return None if p is None else 3 * p @ rotation.mT + translation

    x, y = (r.moved(rotation, translation, 3.0).in_section(1.0, 0.7) for r in (x, y))
    moved = model(x, y, features, place(points), place(centre), 3 * unit)
    torch.testing.assert_close(moved, out, rtol=0, atol=1e-10)


@pytest.mark.parametrize("variant", list(VARIANTS))
def test_the_centre_is_a_convenience_but_of_the_euclidean_algebra(variant):
    """A whole motion of everything but the centre: exact for algebras with translations, seen by the one without."""
    model, x, y = backbone(variant), rays(1, 5), rays(1, 7, seed=1)
    features = torch.randn(1, 5, 2).double(), torch.randn(1, 7, 2).double()
    points, centre, unit = y.point(torch.ones(1, 7).double()), torch.zeros(1, 3).double(), torch.ones(1).double()
    out = model(x, y, features, points, centre, unit)
    rotation, translation = random_rotation(generator=generator(2)), 3 * torch.ones(3, dtype=torch.float64)
    x, y = (r.moved(rotation, translation) for r in (x, y))
    change = (model(x, y, features, points @ rotation.mT + translation, centre, unit) - out).abs().max()
    assert (change < 1e-10) == (variant in FREE)


def test_tokens_are_lines_origins_planes_and_points():
    geometry = VARIANTS["P"].embedding
    given, points = rays(1, 4), torch.randn(1, 4, 3).double()
    centre, unit = torch.randn(1, 3).double(), torch.tensor([2.0]).double()
    token = RayTokens(geometry, centre, unit)(given, torch.ones(1, 4, 2).double(), points)
    assert torch.equal(token[..., :2], torch.ones(1, 4, 2).double())
    line, origin, plane, point = token[..., 2:].unflatten(-1, (4, 16)).unbind(-2)
    torch.testing.assert_close(geometry.point_of(origin), (given.origin - centre) / 2)
    torch.testing.assert_close(geometry.point_of(point), (points - centre) / 2)
    depth = ((points - given.origin) * given.direction).sum(-1) / 2
    torch.testing.assert_close(geometry.algebra.exterior(plane, point)[..., -1], -depth)
    # a point of the line lies on it: the join of both is no plane
    assert geometry.algebra.join(line, origin).abs().max() < 1e-12


@pytest.mark.parametrize("variant", list(VARIANTS))
def test_depth_is_free_of_frame_and_scale(variant):
    scenes = raydepth.draw(3, generator(), rays=4, targets=3)
    change = Similarity.random(3, generator=generator(1), extent=30.0)
    model = AlgebraRayDepth(variant, multivectors=4, scalars=8).double()
    out = model(scenes)
    assert out.shape == scenes.truth.shape and out.std() > 1e-4
    moved = model(scenes.moved(change.rotation, change.translation, change.scale))
    torch.testing.assert_close(moved, out, rtol=0, atol=1e-10)


def test_answers_are_those_of_a_search():
    """The nearest two points among many of both things."""
    along = torch.linspace(-12, 12, 2401, dtype=torch.float64)[:, None]
    for task, kinds in pairs.TASKS.items():
        drawn = pairs.draw(task, 3, generator())
        for i in range(3):
            first, second = (
                drawn.points[i, k] + (along * drawn.directions[i, k] if kinds[k] == "line" else 0 * along[:1])
                for k in range(2)
            )
            apart = torch.cdist(first, second)
            if task == "foot":
                assert (first[apart[:, 0].argmin()] - drawn.answer[i]).norm() < 0.02
            else:
                assert apart.min().item() == pytest.approx(drawn.answer[i].item(), abs=0.02)
    with pytest.raises(ValueError, match="task: expected one of points, lines, foot, got 'planes'"):
        pairs.draw("planes", 3, generator())


@pytest.mark.parametrize("task", list(pairs.TASKS))
@pytest.mark.parametrize("arm", [*VARIANTS, "plain"])
def test_answers_move_along_in_every_arm_but_the_plain_one(task, arm):
    drawn = pairs.draw(task, 5, generator(1))
    model = pairs.PlainPairs(task, 16) if arm == "plain" else pairs.AlgebraPairs(arm, task, 3)
    model = model.double()
    motion = random_rotation(generator=generator(2)), torch.full((3,), 5.0, dtype=torch.float64)
    moved = drawn.moved(*motion)
    out, expected = model(drawn), model(drawn)
    if task == "foot":
        expected = expected @ motion[0].mT + motion[1]
    assert out.shape == drawn.answer.shape
    assert ((model(moved) - expected).abs().max() < 1e-10) == (arm != "plain")
    # the centre matters where no translation is exact
    if arm in ("E", "plain"):
        model.centred = False
        shifted = drawn.moved(torch.eye(3, dtype=torch.float64), motion[1])
        back = model(shifted) - motion[1] if task == "foot" else model(shifted)
        assert (back - model(drawn)).abs().max() > 1e-3
