"""Generated scenes against closed forms, ray casting by embreex, and one view against another."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch.nn.functional import grid_sample

from raytrans.data.generate import TEST_SETS, Shooting, generated_scene, layout
from raytrans.data.generate import test_set as frozen_set
from raytrans.data.generate.themes import THEMES


@pytest.fixture(scope="module", params=["easy", "full"])
def scene(request):
    return generated_scene(1000 if request.param == "easy" else 2009, request.param, (48, 64), 6)


def _world_points(scene, i):
    """Points (H, W, 3) seen by view i, by hand from its depth: K^-1 (u, v, 1) z, then world_from_camera."""
    depth = scene.depth[i].double()
    height, width = depth.shape
    intrinsics, pose = scene.cameras.intrinsics[i], scene.cameras.world_from_camera[i]
    v, u = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    local = torch.stack([u, v, torch.ones_like(u)], -1).double() @ torch.linalg.inv(intrinsics).T
    return (local * depth[..., None]) @ pose[:3, :3].T + pose[:3, 3]


def _reprojected(scene, i, j):
    """Pixels (H, W, 2) and z (H, W) in view j of the points seen by view i."""
    pose = torch.linalg.inv(scene.cameras.world_from_camera[j])
    local = _world_points(scene, i) @ pose[:3, :3].T + pose[:3, 3]
    image = local @ scene.cameras.intrinsics[j].T
    return image[..., :2] / image[..., 2:], local[..., 2]


def _read(image, pixels):
    """Bilinear reading of image (H, W, C) at pixels (H, W, 2)."""
    height, width = image.shape[:2]
    grid = pixels / torch.tensor([width, height]) * 2 - 1
    return grid_sample(image.movedim(-1, 0)[None].double(), grid[None], align_corners=False)[0].movedim(0, -1)


def test_views_agree_in_depth_and_colour(scene):
    """What view i sees and view j sees too has the depth and, for matt scenes, the colour that view j holds there."""
    agreeing, seen, differences = 0, 0, []
    for i, j in zip(range(0, len(scene), 2), range(1, len(scene), 2), strict=True):
        pixels, z = _reprojected(scene, i, j)
        height, width = z.shape
        inside = z.isfinite() & (pixels > 1).all(-1) & (pixels < torch.tensor([width - 1, height - 1])).all(-1)
        # reading inverse depth is exact on planes; neighbours across an edge give nonsense, hence the share below
        other = 1 / _read((1 / scene.depth[j])[..., None], pixels.nan_to_num(0))[..., 0]
        same = inside & ((other / z - 1).abs() < 0.01)
        seen, agreeing = seen + int((inside & (other > 0.99 * z)).sum()), agreeing + int(same.sum())
        difference = (_read(scene.images[j], pixels.nan_to_num(0)) - scene.images[i]).abs().mean(-1)
        differences.append(difference[same])
    assert seen > 250 * len(scene)
    assert agreeing > 0.85 * seen
    assert float(torch.cat(differences).median()) < 0.03


def test_no_view_sees_through_a_surface(scene):
    """Towards a point that view i sees, view j holds that depth or something nearer, never something farther."""
    pixels, z = _reprojected(scene, 0, 1)
    height, width = z.shape
    inside = z.isfinite() & (z > 0) & (pixels > 0).all(-1) & (pixels < torch.tensor([width, height])).all(-1)
    column, row = pixels[inside].long().unbind(-1)
    depth = scene.depth[1].nan_to_num(float("inf"))[None]
    # the nearest of the neighbouring pixels, since the point projects between pixel centres
    nearest = -torch.nn.functional.max_pool2d(-depth, 3, 1, 1)[0]
    assert len(row) > 500
    assert float((nearest[row, column] <= 1.01 * z[inside]).double().mean()) > 0.99


def test_narrow_baselines_share_the_motion_from_the_first_camera():
    """Rotation vectors and distances from camera 0, by scipy, shrink by the factor; views agree as ever."""
    wide, narrow = (generated_scene(2009, "full", (48, 64), 4, shooting=Shooting(baseline=b)) for b in (1.0, 0.2))
    moved = []
    for scene in (wide, narrow):
        pose = scene.cameras.world_from_camera.numpy()
        turn = Rotation.from_matrix(pose[0, :3, :3].T @ pose[1:, :3, :3]).as_rotvec()
        moved.append((turn, pose[1:, :3, 3] - pose[0, :3, 3]))
    for before, after in zip(*moved, strict=True):
        np.testing.assert_allclose(after, 0.2 * before, atol=1e-9 * np.abs(before).max())
    assert torch.equal(wide.images[0], narrow.images[0]) and not torch.equal(wide.images[1], narrow.images[1])
    test_views_agree_in_depth_and_colour(narrow)


def test_rolls_and_zooms_turn_and_scale_what_is_seen():
    """Rolls keep places and axes of view and stay within their limit; focal lengths are multiplied; views agree."""
    plain, changed = (
        generated_scene(1003, "easy", (48, 64), 4, shooting=Shooting(roll=roll, zoom=zoom))
        for roll, zoom in ((0.0, 1.0), (0.5, 1.4))
    )
    before, after = (scene.cameras.world_from_camera for scene in (plain, changed))
    torch.testing.assert_close(after[:, :, 2:], before[:, :, 2:])
    cosine = (after[:, :3, 0] * before[:, :3, 0]).sum(-1)
    assert float(cosine.min()) > np.cos(0.5) - 1e-9 and len(set(cosine.round(decimals=6).tolist())) == 4
    factors = changed.cameras.intrinsics / plain.cameras.intrinsics
    assert factors[0, 0, 0] == factors[0, 1, 1] == pytest.approx(1.4) and factors[0, 0, 2] == factors[0, 2, 2] == 1
    test_views_agree_in_depth_and_colour(changed)


@pytest.mark.parametrize("kind", ["easy", "full"])
def test_same_seed_same_scene(kind):
    first, second = (generated_scene(7, kind, (24, 20), 3) for _ in range(2))
    other = generated_scene(8, kind, (24, 20), 3)
    assert torch.equal(first.images, second.images)
    assert torch.equal(first.depth.nan_to_num(-1), second.depth.nan_to_num(-1))
    assert torch.equal(first.cameras.world_from_camera, second.cameras.world_from_camera)
    assert float((first.images - other.images).abs().mean()) > 0.02


def test_shapes_types_and_ranges():
    scene = generated_scene(3, "full", (20, 30), 4)
    assert scene.images.shape == (4, 20, 30, 3) and scene.images.dtype == torch.float32
    assert scene.depth.shape == (4, 20, 30) and scene.depth.dtype == torch.float32
    assert len(scene.cameras) == len(scene) == 4
    assert float(scene.images.min()) >= 0 and float(scene.images.max()) <= 1
    assert bool((scene.depth[scene.depth.isfinite()] > 0).all())


def test_mixed_sizes_come_as_lists():
    scene = generated_scene(12, "full", None, 6)
    sizes = {tuple(image.shape[:2]) for image in scene.images}
    assert len(sizes) > 1
    assert any(h > w for h, w in sizes) and any(h < w for h, w in sizes)
    for i, (image, depth) in enumerate(zip(scene.images, scene.depth, strict=True)):
        assert image.shape[:2] == depth.shape
        assert (scene.cameras[i].height, scene.cameras[i].width) == tuple(depth.shape)


@pytest.fixture
def plain_textures(monkeypatch):
    """Textures of one colour, for tests of many scenes that do not look at them and need not wait for them."""

    def one_colour(rng: np.random.Generator, style: str) -> np.ndarray:
        return np.full((4, 4, 3), rng.uniform(0.3, 0.7), np.float32)

    monkeypatch.setattr(layout, "draw_texture", one_colour)


def test_mixture_holds_every_theme_and_random_frames(plain_textures):
    scenes = [generated_scene(seed, "full", (8, 8), 3) for seed in range(30)]
    assert {scene.theme for scene in scenes} == set(THEMES) - {"object"}
    spans = torch.stack([torch.pdist(scene.cameras.world_from_camera[:, :3, 3]).max() for scene in scenes])
    assert float(spans.max() / spans.min()) > 10
    rights = torch.cat([scene.cameras.world_from_camera[:, :3, 0] for scene in scenes])
    assert float(rights.mean(0).norm()) < 0.4
    focal = torch.cat([scene.cameras.intrinsics[:, 0, 0] for scene in scenes])
    assert float(focal.max() / focal.min()) > 1.3


def test_white_background_is_plain_white(plain_textures):
    scene = next(s for s in (generated_scene(seed, "full", (24, 24), 2) for seed in range(60)) if s.theme == "white")
    nothing = scene.depth.isnan()
    assert bool(nothing.any())
    # two pixels away from the object no ray of the pixel meets it
    alone = -torch.nn.functional.max_pool2d(-nothing.float(), 5, 1, 2) > 0
    assert bool((scene.images[alone] == 1).all())


def test_easy_cameras_stand_upright_and_close_together():
    scene = generated_scene(1003, "easy", (16, 16), 10)
    pose = scene.cameras.world_from_camera
    assert float(pose[:, 2, 0].abs().max()) < 1e-9  # x axes are level: no roll in a world with z up
    forward = pose[:, :3, 2]
    flat = torch.nn.functional.normalize(forward[:, :2], dim=-1)
    assert float((flat @ flat.T).min()) > np.cos(np.radians(80))
    assert len(torch.unique(scene.cameras.intrinsics[:, 0, 0])) == 1


def test_test_sets_are_frozen():
    """Means of the first scene of each set: fails when the generator's pictures change."""
    expected = {"easy": EASY, "full": FULL}
    for name, numbers in expected.items():
        first = next(iter(frozen_set(name)))
        depth = first.depth[first.depth.isfinite()].double()
        found = [first.images.mean(), first.images.std(), depth.log().mean(), depth.log().std()]
        assert [float(value) for value in found] == pytest.approx(numbers, abs=1e-4)


def test_test_sets_leave_training_seeds_alone():
    assert {name: len(seeds) for name, seeds in TEST_SETS.items()} == {"easy": 16, "full": 16}
    assert len({*TEST_SETS["easy"], *TEST_SETS["full"]}) == 32
    assert max(map(max, TEST_SETS.values())) < 1_000_000


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"kind": "hard"}, "kind"),
        ({"count": 0}, "count"),
        ({"size": (0, 4)}, "size"),
    ],
)
def test_bad_arguments_are_named(arguments, named):
    with pytest.raises(ValueError, match=named):
        generated_scene(0, **arguments)


@pytest.mark.parametrize(
    "change", [{"baseline": 0.0}, {"baseline": 2.0}, {"roll": -0.1}, {"roll": 4.0}, {"zoom": 0.0}, {"zoom": np.inf}]
)
def test_bad_shootings_are_named(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        Shooting(**change)


def test_unknown_test_set_is_named():
    with pytest.raises(ValueError, match="easy"):
        frozen_set("medium")


EASY = [0.43824, 0.12530, 1.51956, 0.35407]
FULL = [0.40148, 0.14744, 1.81077, 0.61545]
