"""Intersections against closed forms, point-by-point search and embreex."""

import numpy as np
import pytest
import torch

from raytrans.data.generate.layout import Layout, Material, haar
from raytrans.data.generate.solids import BOX, CONE, CYLINDER, PLANE, ROOM, SPHERE, intersect, surface
from raytrans.data.generate.textures import STYLES, Atlas, draw_texture, fractal_noise


def _built(kind, center=(0, 0, 0), half=(1, 1, 1), rotation=None):
    layout = Layout(np.random.default_rng(0))
    layout.pictures = [np.full((256, 256, 3), 0.5, np.float32)]
    layout.add(kind, center, half, Material(0), rotation)
    return layout.built()


def _rays(count, rng, reach=3.0):
    """Origins outside a ball of radius 2 and directions that roughly point inwards, (3, count) each."""
    origin = rng.standard_normal((3, count))
    origin *= rng.uniform(2, reach, count) / np.linalg.norm(origin, axis=0)
    return torch.from_numpy(origin), torch.from_numpy(rng.uniform(-1, 1, (3, count)) - origin)


def test_sphere_meets_its_closed_form():
    rng = np.random.default_rng(1)
    center, radius = np.array([0.3, -0.2, 0.1]), 0.8
    origin, direction = _rays(500, rng)
    found = intersect(_built(SPHERE, center, radius), origin, direction)[0].numpy()
    o, d = origin.numpy() - center[:, None], direction.numpy()
    a, b, c = (d * d).sum(0), (o * d).sum(0), (o * o).sum(0) - radius**2
    inside = b * b - a * c
    expected = np.where((inside > 0) & (b < 0), (-b - np.sqrt(np.maximum(inside, 0))) / a, np.inf)
    assert np.isfinite(expected).sum() > 100 and np.isinf(expected).sum() > 20
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_plane_meets_its_closed_form():
    rng = np.random.default_rng(2)
    rotation, center = haar(rng), rng.standard_normal(3)
    origin, direction = _rays(300, rng)
    found = intersect(_built(PLANE, center, 1, rotation), origin, direction)[0].numpy()
    normal = rotation[:, 2]
    t = normal @ (center[:, None] - origin.numpy()) / (normal @ direction.numpy())
    np.testing.assert_allclose(found, np.where(t > 0, t, np.inf), rtol=1e-10)


def _inside(kind, local):
    x, y, z = local
    return {
        SPHERE: x * x + y * y + z * z < 1,
        BOX: np.abs(local).max(0) < 1,
        CYLINDER: (x * x + y * y < 1) & (np.abs(z) < 1),
        CONE: (np.hypot(x, y) < (1 - z) / 2) & (np.abs(z) < 1),
        ROOM: np.abs(local).max(0) > 1,
    }[kind]


@pytest.mark.parametrize("kind", [SPHERE, BOX, CYLINDER, CONE, ROOM])
def test_solid_is_entered_where_a_march_enters_it(kind):
    """Along each ray, small steps find the first point inside the solid's own inequality."""
    rng = np.random.default_rng(kind)
    rotation, center, half = haar(rng), rng.uniform(-0.3, 0.3, 3), rng.uniform(0.4, 1.0, 3)
    origin, direction = _rays(200, rng)
    if kind == ROOM:
        origin = torch.from_numpy(center[:, None] + rotation @ (half[:, None] * rng.uniform(-0.9, 0.9, (3, 200))))
    found = intersect(_built(kind, center, half, rotation), origin, direction)[0].numpy()
    steps = np.linspace(0, 4 if kind != ROOM else 8, 8001)
    o, d = (rotation.T @ (origin.numpy() - center[:, None])) / half[:, None], rotation.T @ direction.numpy()
    d = d / half[:, None]
    points = o[:, :, None] + steps * d[:, :, None]
    inside = _inside(kind, points.reshape(3, -1)).reshape(200, -1)
    marched = np.where(inside.any(1), steps[inside.argmax(1)], np.inf)
    # rays that graze may slip between two steps
    both = np.isfinite(marched) & np.isfinite(found)
    assert both.sum() > 40
    assert (np.isfinite(marched) != np.isfinite(found)).mean() < 0.02
    assert np.abs(marched[both] - found[both]).max() < 2 * (steps[1] - steps[0])


@pytest.mark.parametrize("kind", [SPHERE, BOX, CYLINDER, CONE])
def test_depth_meets_embree(kind):
    trimesh = pytest.importorskip("trimesh")
    pytest.importorskip("embreex")
    rng = np.random.default_rng(10 + kind)
    rotation, center, half = haar(rng), rng.uniform(-0.3, 0.3, 3), rng.uniform(0.4, 1.0, 3)
    mesh = {
        SPHERE: lambda: trimesh.creation.icosphere(subdivisions=5),
        BOX: lambda: trimesh.creation.box(extents=(2, 2, 2)),
        CYLINDER: lambda: trimesh.creation.cylinder(radius=1, height=2, sections=720),
        CONE: lambda: trimesh.creation.cone(radius=1, height=2, sections=720),
    }[kind]()
    if kind == CONE:
        mesh.apply_translation([0, 0, -1])
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation * half, center
    mesh.apply_transform(matrix)
    origin, direction = _rays(400, rng)
    points, ray, _ = mesh.ray.intersects_location(origin.numpy().T, direction.numpy().T, multiple_hits=False)
    direction_hit, origin_hit = direction.numpy().T[ray], origin.numpy().T[ray]
    expected = ((points - origin_hit) * direction_hit).sum(1) / (direction_hit**2).sum(1)
    found = intersect(_built(kind, center, half, rotation), origin, direction)[0].numpy()
    assert len(ray) > 80
    assert abs(int(np.isfinite(found).sum()) - len(ray)) <= 4
    error = np.abs(found[ray] / expected - 1)
    assert np.median(error) < 1e-3 and np.mean(error > 1e-2) < 0.02


@pytest.mark.parametrize("kind", [SPHERE, BOX, CYLINDER, CONE, PLANE, ROOM])
def test_normals_are_gradients_of_the_distance_met(kind):
    """t(origin) has gradient -n / (n . direction): finite differences of the intersection itself."""
    rng = np.random.default_rng(20 + kind)
    rotation, center, half = haar(rng), rng.uniform(-0.2, 0.2, 3), rng.uniform(0.5, 1.0, 3)
    solids = _built(kind, center, half, rotation)
    origin, direction = _rays(200, rng)
    if kind == ROOM:
        origin = torch.from_numpy(center[:, None] + rotation @ (half[:, None] * rng.uniform(-0.9, 0.9, (3, 200))))
    t = intersect(solids, origin, direction)[0]
    hit = t.isfinite()
    origin, direction, t = origin[:, hit], direction[:, hit], t[hit]
    normal = surface(solids, torch.zeros(len(t), dtype=torch.long), origin + t * direction)[0]
    step = 1e-6
    gradient = torch.stack(
        [
            (intersect(solids, origin + shift, direction)[0] - intersect(solids, origin - shift, direction)[0])
            / (2 * step)
            for shift in step * torch.eye(3, dtype=torch.float64)[:, :, None]
        ]
    )
    expected = -normal / (normal * direction).sum(0)
    error = (gradient - expected).norm(dim=0) / expected.norm(dim=0)
    assert len(t) > 40
    assert float((error < 1e-3).double().mean()) > 0.97  # the rest straddle an edge
    if kind != PLANE:
        assert bool(((normal * direction).sum(0) < 0).all())


def test_depth_in_float32_matches_float64():
    rng = np.random.default_rng(5)
    solids = _built(SPHERE, (0, 0, 0), 0.3)
    origin = torch.from_numpy(rng.standard_normal((3, 1000)))
    origin = 5 * origin / origin.norm(dim=0)
    direction = torch.from_numpy(rng.uniform(-0.2, 0.2, (3, 1000))) - origin
    exact = intersect(solids, origin, direction)[0]
    single = intersect(solids.to(torch.float32), origin.float(), direction.float())[0]
    both = exact.isfinite() & single.isfinite()
    assert int(both.sum()) > 300
    assert float((single - exact)[both].abs().max()) < 1e-3
    assert float((single - exact)[both].abs().median()) < 1e-6


@pytest.mark.parametrize("style", sorted(STYLES))
def test_textures_are_pictures(style):
    picture = draw_texture(np.random.default_rng(3), style)
    assert picture.shape == (256, 256, 3) and picture.dtype == np.float32
    assert 0 < picture.min() and picture.max() < 1
    assert picture.reshape(-1, 3).std(0).max() > 0.005


def test_noise_has_the_spectrum_asked_for():
    """The slope of log amplitude over log frequency is minus the exponent."""
    noise = fractal_noise(np.random.default_rng(0), 1.3)
    frequency = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.fftfreq(256)[None]) * 256
    kept = (frequency > 3) & (frequency < 100)
    slope = np.polyfit(np.log(frequency[kept]), np.log(np.abs(np.fft.fft2(noise))[kept]), 1)[0]
    assert slope == pytest.approx(-1.3, abs=0.05)


def test_atlas_reads_texels_and_averages():
    rng = np.random.default_rng(4)
    pictures = [rng.uniform(0.1, 0.9, (256, 256, 3)).astype(np.float32) for _ in range(2)]
    atlas = Atlas.build(pictures)
    row, column = torch.tensor([0, 17, 255]), torch.tensor([3, 255, 128])
    texture = torch.tensor([1, 1, 0])
    centers = (torch.stack([column, row]).float() + 0.5) / 256
    found = atlas.read(texture, centers + torch.tensor([[2.0], [-5.0]]), torch.zeros(3))
    expected = np.stack([pictures[t][r, c] for t, r, c in zip([1, 1, 0], row, column, strict=True)]) ** 2.2
    np.testing.assert_allclose(found.T.numpy(), expected, rtol=2e-3)
    wide = atlas.read(texture, centers, torch.full((3,), 4.0))
    means = np.stack([(pictures[t].astype(float) ** 2.2).mean((0, 1)) for t in (1, 1, 0)])
    np.testing.assert_allclose(wide.T.numpy(), means, atol=0.02)
