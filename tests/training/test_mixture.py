"""The mixture that is trained on: shapes, cameras, meshes and exposures as the configuration says."""

import numpy as np
import pytest
import torch

from raytrans.data.generate import generated_scene
from raytrans.data.statistics import luminance
from raytrans.training.config import train_config
from raytrans.training.mixture import mesh_files, mixture_scene
from raytrans.training.samples import SampleStream, draw_sample, exposed

BASE = {"views": 3, "sizes": [8], "sources": [2, 2], "rays": 6}


def config(**changes):
    return train_config({"size": "tiny", "data": {**BASE, **changes}}).data


def drawn(count=8, **changes):
    settings = config(**changes)
    return [mixture_scene(settings, 700_000 + i, np.random.default_rng([i, 1])) for i in range(count)]


def test_defaults_are_the_generator_itself():
    for scene, share in ((drawn(1, easy_share=1.0)[0], "easy"), (drawn(1, easy_share=0.0)[0], "full")):
        same = generated_scene(700_000, share, (8, 8), 3)
        assert torch.equal(scene.images, same.images) and torch.equal(scene.cameras.intrinsics, same.cameras.intrinsics)


def test_aspects_keep_the_area_and_come_both_ways():
    shapes = np.array([scene.images.shape[1:3] for scene in drawn(aspect=2.0, sizes=[24])])
    ratios = shapes[:, 0] / shapes[:, 1]
    assert (ratios > 1).any() and (ratios < 1).any() and len(set(ratios)) > 5
    assert ratios.min() > 0.45 and ratios.max() < 2.2
    assert (abs(shapes.prod(1) / 24**2 - 1) < 0.1).all()


def test_zooms_lengthen_focal_lengths_up_to_their_limit():
    plain, zoomed = drawn(easy_share=1.0), drawn(easy_share=1.0, zoom=1.5)
    pairs = zip(plain, zoomed, strict=True)
    factors = [float(b.cameras.intrinsics[0, 0, 0] / a.cameras.intrinsics[0, 0, 0]) for a, b in pairs]
    assert min(factors) >= 1 and max(factors) <= 1.5 and np.ptp(factors) > 0.2


def test_easy_cameras_are_rolled_in_their_share_of_scenes():
    """Level x axes in the upright world of easy scenes, unless rolled."""
    level = [float(s.cameras.world_from_camera[:, 2, 0].abs().max()) < 1e-9 for s in drawn(easy_share=1.0)]
    rolled = [float(s.cameras.world_from_camera[:, 2, 0].abs().max()) for s in drawn(easy_share=1.0, roll_share=1.0)]
    assert all(level) and max(rolled) > 0.25 and any(0 < roll < 0.25 for roll in rolled)


def test_photographic_scenes_come_in_their_share():
    plain, mixed, all_ = (drawn(8, photographic_share=share) for share in (0.0, 0.5, 1.0))
    is_plain = [torch.equal(a.images, b.images) for a, b in zip(plain, mixed, strict=True)]
    is_photo = [torch.equal(a.images, b.images) for a, b in zip(all_, mixed, strict=True)]
    assert [not p for p in is_plain] == is_photo and 2 <= sum(is_photo) <= 6


def test_mesh_files_are_listed_by_name_and_absent_ones_refused(tmp_path):
    for name in ("b.glb", "a.glb", "readme.txt"):
        (tmp_path / name).touch()
    assert [file.name for file in mesh_files([str(tmp_path), str(tmp_path / "b.glb")])] == ["a.glb", "b.glb", "b.glb"]
    (tmp_path / "empty").mkdir()
    for missing in ("empty", "c.glb"):
        with pytest.raises(ValueError, match=f"data.meshes: expected a .glb file or a folder.*{missing}"):
            mesh_files([str(tmp_path / missing)])
    with pytest.raises(ValueError, match="data.meshes"):
        SampleStream(config(meshes=[str(tmp_path / "c.glb")], mesh_share=0.5), 0, 4, [])


def test_meshes_join_their_share_of_scenes(tmp_path):
    trimesh = pytest.importorskip("trimesh")
    pytest.importorskip("embreex")
    trimesh.creation.icosphere(subdivisions=2).export(tmp_path / "ball.glb")
    with_meshes = dict(meshes=[str(tmp_path)], easy_share=1.0)
    streams = [SampleStream(config(mesh_share=share, **with_meshes), 0, 8, []) for share in (0.0, 0.5, 1.0)]
    scenes = [[stream.load(number) for number in range(6)] for stream in streams]
    depths = [torch.stack([scene.depth[0].nan_to_num(0) for scene in some]) for some in scenes]
    joined = [(depth != depths[0]).flatten(1).any(1).tolist() for depth in depths[1:]]
    assert 1 <= sum(joined[0]) <= 5 and sum(joined[1]) > sum(joined[0])


def test_exposures_change_sources_alone_by_one_gain_and_bias_each():
    scene = SampleStream(config(photographic_share=0.0), 0, 1, []).load(0)
    plain, changed = (draw_sample(scene, config(exposure=s), np.random.default_rng(5)) for s in (0.0, 0.1))
    assert torch.equal(plain.color, changed.color) and torch.equal(plain.rays.direction, changed.rays.direction)
    gains = []
    for before, after in zip(plain.views.images, changed.views.images, strict=True):
        inside = (after > 0) & (after < 1)
        gain, bias = np.polyfit(before[inside].numpy(), after[inside].numpy(), 1)
        np.testing.assert_allclose(after, (gain * before + bias).clamp(0, 1), atol=1e-5)
        gains.append(gain)
    assert len(set(np.round(gains, 6))) == len(gains)


def test_exposures_spread_as_their_strength_says():
    rng, gray = np.random.default_rng(0), torch.full((1, 1, 3), 0.5)
    pairs = [(exposed(gray, 0.1, rng), exposed(0.2 * gray, 0.1, np.random.default_rng(i))) for i in range(300)]
    logs = [float(torch.log(2 * luminance(first))) for first, _ in pairs]
    assert np.std(logs) == pytest.approx(
        np.hypot(0.1, 0.02 / 0.5), rel=0.15
    )  # the bias counts twice at half brightness
