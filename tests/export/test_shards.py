"""Shards as we write them: webdataset reads them, and they are the scenes that went in."""

import io
import json
import tarfile

import numpy as np
import pytest
import torch
import webdataset
from PIL import Image

from raytrans.apps.make_scenes import write_generated
from raytrans.data.generate import generated_scene
from raytrans.data.readers import open_scene
from raytrans.data.shards import Shards
from raytrans.export.shards import scene_members, write_shards


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A scene with exact depth."""
    out = tmp_path_factory.mktemp("drawn")
    write_generated(out, generated_scene(11, "full", (24, 32), 3))
    return out


def test_webdataset_reads_what_is_written(folder, tmp_path):
    scene = open_scene(folder)
    keys = [f"{i:03d}-scene" for i in range(5)]
    files = write_shards(tmp_path, (scene_members(scene, key, with_depth=True) for key in keys), megabytes=0.03)
    assert [file.name for file in files] == [f"{i:06d}.tar" for i in range(len(files))] and len(files) > 1
    names = f"{tmp_path}/{{000000..{len(files) - 1:06d}}}.tar"
    found = list(webdataset.WebDataset(names, shardshuffle=False))
    assert [sample["__key__"] for sample in found] == keys
    for sample in found:
        assert {"json", *(f"{i:04d}.png" for i in range(3)), *(f"{i:04d}.depth.png" for i in range(3))} <= set(sample)
        frames = json.loads(sample["json"])["frames"]
        assert [frame["file_path"] for frame in frames] == [f"{sample['__key__']}.{i:04d}.png" for i in range(3)]
        for i, frame in enumerate(frames):
            pixels = np.array(Image.open(io.BytesIO(sample[f"{i:04d}.png"])))
            assert np.array_equal(pixels, np.array(Image.open(folder / f"images/{i:04d}.png")))
            depth = np.array(Image.open(io.BytesIO(sample[f"{i:04d}.depth.png"]))) * frame["depth_unit_scale_factor"]
            known = scene.depth(i).isfinite().numpy()
            np.testing.assert_allclose(depth[known], scene.depth(i).numpy()[known], rtol=0, atol=2e-4)
            assert (depth[~known] == 0).all()
    assert len(Shards.of([names])) == 5
    assert write_shards(tmp_path / "again", (scene_members(scene, key, with_depth=True) for key in keys), 0.03)
    assert all(file.read_bytes() == (tmp_path / "again" / file.name).read_bytes() for file in files)


def test_a_shard_unpacked_is_a_folder_of_scenes(folder, tmp_path):
    scene = open_scene(folder)
    (shard,) = write_shards(tmp_path, [scene_members(scene, key, max_size=16) for key in ("one", "two")])
    with tarfile.open(shard) as tar:
        tar.extractall(tmp_path / "unpacked")
    expected = scene.views(range(3), max_size=16)
    for key in ("one", "two"):
        views = open_scene(tmp_path / "unpacked" / f"{key}.json").views(range(3))
        assert (views.images - expected.images).abs().max() <= 0.5001 / 255
        torch.testing.assert_close(views.cameras.intrinsics, expected.cameras.intrinsics, rtol=1e-12, atol=0)
        torch.testing.assert_close(
            views.cameras.world_from_camera, expected.cameras.world_from_camera, rtol=0, atol=1e-12
        )


def test_splits_lens_and_bounds_go_along_and_jpeg_is_near(folder, tmp_path):
    meta = json.loads((folder / "transforms.json").read_text())
    names = [frame["file_path"] for frame in meta["frames"]]
    meta |= {"camera_model": "OPENCV", "k1": 0.03, "p2": -0.01, "test_filenames": names[2:], "near": 0.5, "far": 90.0}
    (folder / "other.json").write_text(json.dumps(meta))
    scene = open_scene(folder / "other.json")
    write_shards(tmp_path, [scene_members(scene, "bent", jpeg=95)])
    with Shards.of([str(tmp_path / "*.tar")]).opened(0) as read:
        assert read.splits == scene.splits == {"test": [2]} and read.split("train") == [0, 1]
        assert read.frames[0].image.suffix == ".jpg" and read.frames[0].depth is None
        assert 0 < (read.image(1) - scene.image(1)).abs().mean() < 0.02
        lens, given = read.cameras.distortion, scene.cameras.distortion
        assert lens.model == given.model and torch.equal(lens.coefficients, given.coefficients)
        assert torch.equal(read.cameras.near, scene.cameras.near) and torch.equal(read.cameras.far, scene.cameras.far)


def test_a_failure_leaves_no_part_of_a_shard(folder, tmp_path):
    def samples():
        yield scene_members(open_scene(folder), "one")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_shards(tmp_path, samples())
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "000000.tar").touch()
    with pytest.raises(ValueError, match="000000.tar: expected a new file"):
        write_shards(tmp_path, [scene_members(open_scene(folder), "one")])
    assert write_shards(tmp_path / "none", []) == [] and not (tmp_path / "none").exists()
