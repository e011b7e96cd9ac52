import math
import re
from dataclasses import replace

import pytest
import torch
from torch import nn

import raytrans
from raytrans.data.generate import generated_scene
from raytrans.equivariance import check_model, models
from raytrans.equivariance.models import TOLERANCES, difference
from raytrans.equivariance.report import BROKEN
from raytrans.geometry.cameras import Cameras
from raytrans.models.config import model_config
from raytrans.rendering.compositing import Rendering
from raytrans.rendering.renderer import Renderer
from raytrans.training.checkpoint import RELEASED

NAMES = ["world_motion", "far_offset", "scale", "source_order", "target_section", "target_roll", "source_quarter_turn"]


class GivesNaN(Renderer):
    def forward(self, views, rays, background, jitter=None):
        traced = super().forward(views, rays, background, jitter)
        traced.rendering.color[0, 1] = math.nan
        return traced


class SaysGrey(Renderer):
    def forward(self, views, rays, background, jitter=None):
        traced = super().forward(views, rays, background, jitter)
        traced.rendering.color = torch.full_like(traced.rendering.color, 0.5)
        return traced


class BlendsGrey(Renderer):
    """Grey wherever a source sees, the mean colour of the sources elsewhere."""

    def shade(self, views, rays, inverse):
        shaded = super().shade(views, rays, inverse)
        return replace(shaded, color=torch.full_like(shaded.color, 0.5))


class IgnoresImages(Renderer):
    def forward(self, views, rays, background, jitter=None):
        traced = super().forward(views, rays, background, jitter)
        traced.rendering.color = (
            torch.sigmoid(rays.origin.norm(dim=-1) - rays.near)[:, None].repeat(1, 3).to(self.dtype)
        )
        return traced


class CountsInMetres(Renderer):
    def place(self, encoded, unit):
        return super().place(encoded, torch.ones_like(unit))


class TrustsTheFirstView(Renderer):
    def encode(self, views):
        encoded = super().encode(views)
        encoded.fine[0] = 1.5 * encoded.fine[0]
        return encoded


class LeansOnTheFirstView(Renderer):
    """By so little that rounding could pass for it."""

    def encode(self, views):
        encoded = super().encode(views)
        encoded.fine[0] = 1.002 * encoded.fine[0]
        return encoded


class ReadsThePixelNumber(Renderer):
    def forward(self, views, rays, background, jitter=None):
        traced = super().forward(views, rays, background, jitter)
        number = torch.arange(len(rays.near), dtype=self.dtype)
        traced.rendering.color = traced.rendering.color + 0.05 * torch.sin(number)[:, None]
        return traced


class ReadsTheSection(Renderer):
    def forward(self, views, rays, background, jitter=None):
        traced = super().forward(views, rays, background, jitter)
        across = (rays.frame[..., 0] * rays.origin).sum(-1) / rays.origin.norm(dim=-1)
        traced.rendering.color = traced.rendering.color + 0.05 * across[:, None].to(self.dtype)
        return traced


class ReadsMoments(Renderer):
    def target_rays(self, views, rays, near=None, far=None):
        targets = super().target_rays(views, rays, near, far)
        targets.near = targets.near * (1 + 0.2 * torch.sin(rays.moment[..., 0]).to(targets.near))
        return targets


class KeepsPosesInFloat32(Renderer):
    def encode(self, views):
        c = views.cameras
        rounded = Cameras(c.intrinsics, c.world_from_camera.float(), torch.stack([c.height, c.width], -1), c.distortion)
        return super().encode(raytrans.Views(views.images, rounded))


class FreeLift(nn.Module):
    """Four independent filters in place of one in four orientations."""

    def __init__(self, lift):
        super().__init__()
        shape = lift.weight.shape
        self.stride, self.padding = lift.stride, lift.padding
        self.weight = nn.Parameter(
            lift.weight.detach().repeat_interleave(4, 0) + 0.1 * torch.randn(4 * shape[0], *shape[1:])
        )

    def forward(self, image):
        return nn.functional.conv2d(image, self.weight, stride=self.stride, padding=self.padding)


def perturbed(kind=Renderer, **options):
    """A tiny model with random weights, none of them zero."""
    torch.manual_seed(0)
    model = kind(model_config("tiny", **options))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model.eval()


@pytest.fixture(scope="module")
def rig():
    """Three sources and a target of a generated scene, of sizes that the encoder need not resize."""
    scene = generated_scene(600_001, "full", (8, 16), 4)
    return raytrans.Views(scene.images[1:], scene.cameras[1:]), scene.cameras[0].cropped(1, 0, 7, 15)


@pytest.fixture(scope="module")
def pair(rig):
    """Two of the sources, in which a fault shows as well; the sweep takes twice as long for three."""
    return rig[0][[0, 1]], rig[1]


def broken(model, rig):
    return check_model(model, *rig).broken


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_sound_model_passes(rig, dtype):
    report = check_model(perturbed(), *rig, dtype=dtype)
    assert report.passed, str(report)
    assert [row.name for row in report.contracts] == NAMES
    assert [row.name for row in report.reported] == ["source_roll", "mirror", "bfloat16"]
    assert all(row.error >= 0 for row in report.rows)
    assert report["mirror"].error > 1e-3 and report["source_roll"].error > 1e-3
    assert "target of 15 x 7 pixels (width x height)" in str(report)
    assert re.fullmatch("worst: rotation and a shift by (1 scene size|10 scene sizes)", report["world_motion"].note)
    assert report["far_offset"].note == "worst: rotation and a shift by 10,000 scene sizes"


@pytest.fixture(scope="module")
def of_world_directions(pair):
    return check_model(perturbed(directions="world"), *pair, dtype=torch.float64)


def test_the_check_is_repeatable_and_leaves_the_model_as_it_was(pair, of_world_directions):
    model = perturbed(directions="world")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert check_model(model, *pair, dtype=torch.float64).to_dict() == of_world_directions.to_dict()
    assert model.dtype == torch.float32
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_it_finds_the_network_that_reads_world_directions(of_world_directions):
    report = of_world_directions
    assert not report["world_motion"].passed and not report["far_offset"].passed
    assert report["world_motion"].error > 1e-3
    assert report["scale"].passed and report["source_order"].passed


def test_it_finds_the_network_that_reads_target_directions(pair):
    report = check_model(perturbed(directions="target"), *pair, dtype=torch.float64)
    assert not report["target_roll"].passed and report["target_roll"].error > 1e-3
    assert not report["target_section"].passed and "free rays" in report["target_section"].note
    assert all(report[name].passed for name in ("world_motion", "far_offset", "scale", "source_order"))


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (GivesNaN, "not finite"),
        (SaysGrey, "all pixels"),
        (BlendsGrey, "other source images"),
        (IgnoresImages, "other source images"),
    ],
)
def test_a_useless_rendering_keeps_no_promise(pair, kind, reason):
    report = check_model(perturbed(kind), *pair)
    assert report.broken == NAMES and not report.passed
    assert all(row.error == BROKEN and reason in row.note for row in report.contracts)


@pytest.mark.parametrize(
    ("kind", "rows"),
    [
        (CountsInMetres, ["scale"]),
        (TrustsTheFirstView, ["source_order"]),
        (LeansOnTheFirstView, ["source_order"]),
        (ReadsThePixelNumber, ["target_roll"]),
        (ReadsTheSection, ["target_section", "target_roll"]),
        (ReadsMoments, ["world_motion", "far_offset", "scale"]),
    ],
)
def test_each_fault_is_found_in_its_own_row(pair, kind, rows):
    assert broken(perturbed(kind), pair) == rows


def test_it_finds_poses_kept_in_single_precision(pair):
    views, camera = pair
    center = views.cameras.centers.mean(0)
    near_origin = views.moved(torch.eye(3), -center), camera.moved(torch.eye(3), -center)
    assert "far_offset" in broken(perturbed(KeepsPosesInFloat32), near_origin)


def test_it_finds_an_encoder_with_free_filters(pair):
    model = perturbed()
    model.encoder.lift = FreeLift(model.encoder.lift)
    assert broken(model, pair) == ["source_quarter_turn"]


def test_it_finds_an_encoder_that_is_exact_at_even_sizes_only(pair):
    model = perturbed()
    # fills sides up to multiples of eight on the right and at the bottom
    model.encoder.register_forward_pre_hook(
        lambda _, inputs: nn.functional.pad(inputs[0], (0, -inputs[0].shape[-1] % 8, 0, -inputs[0].shape[-2] % 8))
    )
    report = check_model(model, *pair)
    assert report.broken == ["source_quarter_turn"] and "odd sizes" in report["source_quarter_turn"].note


def test_a_refused_rendering_is_a_broken_contract(pair):
    views, camera = pair
    skewed = camera.intrinsics.clone()
    skewed[0, 1] = 2.0
    report = check_model(perturbed(), views, Cameras(skewed, camera.world_from_camera, (7, 15)))
    assert report.broken == ["target_roll"] and "skew" in report["target_roll"].note


def test_one_source_and_coinciding_sources_are_checked(rig):
    views, camera = rig
    poses = views.cameras.world_from_camera.clone()
    poses[:, :3, 3] = poses[0, :3, 3]
    together = Cameras(views.cameras.intrinsics, poses, (8, 16))
    for few in (views[[0]], raytrans.Views(views.images, together)):
        report = check_model(perturbed(), few, camera, dtype=torch.float64)
        assert report.passed, str(report)


def test_a_wrong_dtype_is_refused(rig):
    with pytest.raises(ValueError, match="dtype.*float32, torch.float64, torch.bfloat16, got torch.float16"):
        check_model(perturbed(), *rig, dtype=torch.float16)


def test_errors_in_bfloat16_are_reported_not_judged(rig, monkeypatch):
    monkeypatch.setattr(models, "_CONTRACTS", {"target_section": models._CONTRACTS["target_section"]})
    monkeypatch.setattr(models, "_REPORTED", {})
    coarse, fine = (check_model(raytrans.load(), *rig, dtype=dtype) for dtype in (torch.bfloat16, torch.float32))
    assert [row.name for row in coarse.reported] == ["target_section"] == [row.name for row in fine.contracts]
    assert coarse.title.startswith("bfloat16, ") and not coarse.contracts and not coarse.passed
    assert fine["target_section"].error < 1e-5 < coarse["target_section"].error < 0.5


def released(views, camera, dtype=torch.float32):
    if not RELEASED.is_file():
        pytest.skip(f"no released weights at {RELEASED.name}")
    return check_model(raytrans.load(), views, camera, dtype)


def test_the_released_weights_keep_every_contract_at_odd_sizes():
    scene = generated_scene(600_002, "full", [(21, 15), (15, 25), (19, 19), (13, 23)], 4)
    views = raytrans.Views(scene.images[1:], scene.cameras[1:])
    report = released(views, scene.cameras[0])
    assert report.passed, str(report)


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [57, 200])
def test_the_released_weights_keep_every_contract_on_photographs(real_data, size, dtype):
    scene = raytrans.open_scene(real_data("fox"))
    holdout = scene.split("holdout")
    views = scene.views(scene.nearest(scene.cameras[holdout[1]], 6, exclude=holdout), max_size=size)
    target = scene.views([holdout[1]], max_size=min(size, 96)).cameras[0]
    report = released(views, target, dtype)
    assert report.passed, str(report)


def test_tolerances_are_those_of_the_design():
    in_float32 = [1e-4, 1e-4, 1e-4, 1e-5, 1e-4, 1e-4, 1e-4]
    in_float64 = [1e-9, 1e-6, 1e-9, 1e-12, 1e-9, 1e-9, 1e-9]
    assert [TOLERANCES[name][torch.float32] for name in NAMES] == in_float32
    assert [TOLERANCES[name][torch.float64] for name in NAMES] == in_float64


def rendering(color, opacity, depth):
    color, opacity, depth = (torch.as_tensor(v, dtype=torch.float64) for v in (color, opacity, depth))
    return Rendering(color, depth, depth, opacity, depth, depth_mean=depth)


def test_the_difference_is_that_of_the_worst_pixel():
    expected = rendering([[0.5, 0.2, 0.8]] * 3, [1.0, 0.9, 0.05], [2.0, 4.0, math.nan])
    colors = rendering([[0.5, 0.2, 0.8], [0.5, 0.2, 0.76], [0.5, 0.2, 0.8]], [1.0, 0.9, 0.05], [2.0, 4.0, math.nan])
    depths = rendering([[0.5, 0.2, 0.8]] * 3, [1.0, 0.9, 0.05], [2.4, 4.0, 100.0])
    assert difference(expected, expected) == 0
    assert difference(colors, expected) == pytest.approx(0.05)
    assert difference(depths, expected) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("color", "opacity", "depth"),
    [
        ([[math.nan] * 3, [0.0] * 3], [1.0, 1.0], [1.0, 1.0]),
        ([[0.5] * 3, [math.inf] * 3], [1.0, 1.0], [1.0, 1.0]),
        ([[0.5] * 3, [0.2] * 3], [1.0, 1.0], [1.0, math.nan]),
        ([[0.5] * 3, [0.2] * 3], [math.nan, 1.0], [1.0, 1.0]),
        ([[0.5] * 3, [0.2] * 3], [0.0, 0.0], [math.nan, math.nan]),
        ([[0.5] * 3], [1.0], [1.0]),
    ],
)
def test_no_nan_no_other_shape_and_no_vanished_surface_passes(color, opacity, depth):
    expected = rendering([[0.5] * 3, [0.2] * 3], [1.0, 1.0], [1.0, 1.0])
    assert difference(rendering(color, opacity, depth), expected) == BROKEN
    assert not difference(rendering(color, opacity, depth), expected) <= 1e-4
