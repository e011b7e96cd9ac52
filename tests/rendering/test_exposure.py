import numpy as np
import torch
from scipy.linalg import null_space

import raytrans
from raytrans.models.config import model_config
from raytrans.models.reading import PlaneVolume
from raytrans.rendering.exposure import PRIOR, ColorPairs, balanced, color_pairs, fitted, surface
from raytrans.rendering.renderer import Renderer
from raytrans.rendering.sampling import plane_position
from raytrans.rendering.sources import source_unit, surface_volume

F64 = torch.float64
SIZE, AWAY, PLANES = (32, 40), 5.0, 64


def painted_wall(gain, bias):
    """Photos of a wall at z = 5 with waves on it, in colours (c - bias) / gain, and their exact depth volumes."""
    poses = torch.eye(4, dtype=F64).repeat(4, 1, 1)
    poses[:, :2, 3] = torch.tensor([[0.0, 0.1], [1.0, 0.0], [0.4, 0.8], [-0.3, 0.5]])
    k = torch.tensor([[36.0, 0, 20], [0, 36, 16], [0, 0, 1]], dtype=F64).repeat(4, 1, 1)
    cameras = raytrans.Cameras(k, poses, SIZE)
    images = []
    for i, camera in enumerate(cameras):
        rays = camera.rays()
        x, y, _ = (rays.origin + AWAY / rays.direction[..., 2:] * rays.direction).unbind(-1)
        color = torch.stack([0.45 + 0.25 * torch.sin(1.1 * x + c) * torch.cos(0.9 * y - 2 * c) for c in range(3)], -1)
        images.append((color - bias[i]) / gain[i])
    model = Renderer(model_config("tiny", planes=PLANES)).double()
    views = raytrans.Views(images, cameras)
    with torch.no_grad():
        placed = model.place(model.encode(views), source_unit(cameras))
    for i, camera in enumerate(cameras):
        h, w = placed.match[i].shape[-2:]
        y, x = torch.meshgrid(*(torch.arange(side, dtype=F64) + 0.5 for side in (h, w)), indexing="ij")
        direction = camera.pixel_rays(torch.stack([x * SIZE[1] / w, y * SIZE[0] / h], -1)).direction
        at = plane_position(placed.relative.unit * direction[..., 2] / AWAY, placed.near[i][0]) * (PLANES - 1)
        share = (1 - (torch.arange(PLANES, dtype=F64)[:, None, None] - at).abs()).clamp_min(0)
        placed.volume[i] = PlaneVolume(surface_volume(torch.log(share + 1e-12)))
    return placed


def test_known_gains_and_biases_are_undone():
    gain = torch.tensor([[1.3, 1.0, 0.9], [0.8, 1.1, 1.1], [1.0, 0.8, 1.2], [0.9, 1.1, 0.8]], dtype=F64)
    bias = torch.tensor([[0.05, 0.0, -0.03], [-0.05, 0.02, 0.03], [0.02, -0.02, 0.0], [-0.02, 0.0, 0.0]], dtype=F64)
    views = painted_wall(gain, bias)
    found_gain, found_bias = fitted(color_pairs(views))
    torch.testing.assert_close(found_gain, gain, rtol=0, atol=0.02)
    torch.testing.assert_close(found_bias, bias, rtol=0, atol=0.01)
    plain = painted_wall(torch.ones(4, 3, dtype=F64), torch.zeros(4, 3, dtype=F64))
    before = max((a - b).abs().max() for a, b in zip(views.colors, plain.colors, strict=True))
    after = max((a - b).abs().max() for a, b in zip(balanced(views).colors, plain.colors, strict=True))
    assert before > 0.15 and after < 0.02
    unchanged = fitted(color_pairs(plain))
    torch.testing.assert_close(unchanged[0], torch.ones(4, 3, dtype=F64), rtol=0, atol=0.01)


def test_the_fit_is_the_least_squares_solution_over_every_pixel():
    rng, n, pixels = np.random.default_rng(0), 3, 7
    colors, weight = rng.random((n, n, pixels, 2)), rng.random((n, n, pixels))
    weight[np.arange(n), np.arange(n)] = 0
    x, y = colors[..., 0], colors[..., 1]

    def mean(value):
        return torch.tensor((weight * value).mean(-1))[..., None].expand(n, n, 3)

    pairs = ColorPairs(mean(np.ones_like(x)), mean(x), mean(y), mean(x * x), mean(y * y), mean(x * y))
    gain, bias = fitted(pairs)
    rows, right = [], []
    for i in range(n):
        for j in range(n):
            for p in range(pixels):
                row, root = np.zeros(2 * n), np.sqrt(weight[i, j, p] / pixels)
                row[i] += root * x[i, j, p]
                row[j] -= root * y[i, j, p]
                row[n + i] += root
                row[n + j] -= root
                rows.append(row)
                right.append(0.0)
    start = np.concatenate([np.ones(n), np.zeros(n)])
    rows += list(np.sqrt(PRIOR) * np.eye(2 * n))
    right += list(np.sqrt(PRIOR) * start)
    free = null_space(np.kron(np.eye(2), np.ones(n)))
    rows, right = np.array(rows), np.array(right)
    change = np.linalg.lstsq(rows @ free, right - rows @ start, rcond=None)[0]
    expected = torch.tensor(start + free @ change)
    for channel in range(3):
        torch.testing.assert_close(torch.cat([gain[:, channel], bias[:, channel]]), expected)
    assert (gain - 1).abs().max() > 0.01


def test_photos_that_share_nothing_stay_as_they_are():
    for n in (1, 3):
        gain, bias = fitted(ColorPairs(*[torch.zeros(n, n, 3, dtype=F64)] * 6))
        assert torch.equal(gain, torch.ones(n, 3, dtype=F64)) and torch.equal(bias, torch.zeros(n, 3, dtype=F64))


def test_a_surface_is_as_sure_as_its_distribution_is_narrow():
    flat, peak, pair = torch.full((41,), 1 / 41), torch.zeros(41), torch.zeros(41)
    peak[10], pair[10], pair[11] = 1, 0.25, 0.75
    position, sure = surface(torch.stack([flat, peak, pair]).double())
    torch.testing.assert_close(position, torch.tensor([0.5, 0.25, 0.26875], dtype=F64))
    torch.testing.assert_close(sure, torch.tensor([2 / 41, 1, 0.25 * (1 - 0.375) + 0.75 * (1 - 0.125)], dtype=F64))


def test_it_improves_a_rendering_from_photos_of_different_exposure():
    scene = raytrans.open_scene("scenes/blocks")
    views, target = scene.views([1, 2, 3, 4, 5, 6], max_size=48), scene.views([0], max_size=48)
    released = raytrans.load()
    model = Renderer(released.config.with_changes(exposure=True)).eval()
    model.load_state_dict(released.state_dict())
    gain = torch.tensor([1.3, 0.75, 1.2, 0.8, 1.1, 0.85])
    uneven = raytrans.Views([(g * i).clamp(0, 1) for g, i in zip(gain, views.images, strict=True)], views.cameras)
    rays = target.cameras[0].rays()[::2, ::2]
    errors = {}
    for name, photos in (("even", views), ("uneven", uneven)):
        for kind, m in (("off", released), ("on", model)):
            color = raytrans.render_rays(m, photos, rays).color
            errors[name, kind] = float((color - target.images[0][::2, ::2]).square().mean())
    assert errors["uneven", "on"] < 0.7 * errors["uneven", "off"]
    assert errors["even", "on"] < 1.1 * errors["even", "off"]
