"""Depth priors in a checkpoint: read back for the same rig wherever it stands, and for no other."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

import raytrans
from raytrans.data.generate import generated_scene
from raytrans.data.priors import DepthPrior
from raytrans.data.scene import Frame, Scene
from raytrans.geometry.rigid import random_rotation
from raytrans.training.checkpoint import save_model, write_tensors
from raytrans.training.priors import load_priors, prior_tensors

NAMES = ["a/0.png", "a/1.png", "b/0.png", "b/1.png"]


def scene(folder: Path, cameras, names=NAMES) -> Scene:
    return Scene(cameras, [Frame(folder / "images" / name) for name in names], path=folder)


@pytest.fixture(scope="module")
def cameras():
    return generated_scene(7, "easy", (8, 8), 4).cameras


@pytest.fixture
def saved(tmp_path, cameras):
    """A folder with a checkpoint that holds priors of views 3, 0 and 2, and these."""
    generator = torch.Generator().manual_seed(0)
    priors = {
        i: DepthPrior(torch.randn(5, 2, 3, generator=generator), torch.rand(2, 3, generator=generator) + 0.1)
        for i in (3, 0, 2)
    }
    tensors, named = prior_tensors(priors, scene(Path("/one"), cameras))
    save_model(tmp_path / "run" / "model.safetensors", raytrans.load(), named, tensors)
    return tmp_path / "run", priors


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(
        torch.equal(a[i].logits, b[i].logits) and torch.allclose(a[i].near, b[i].near) for i in b
    )


def test_priors_come_back_by_the_names_of_their_images(saved, cameras, tmp_path):
    folder, priors = saved
    for path in (folder, folder / "model.safetensors", str(folder)):
        assert same(load_priors(path, scene(Path("/other"), cameras)), priors)
    order = [2, 0, 3, 1]
    turned = load_priors(folder, scene(tmp_path, cameras[order], [NAMES[i] for i in order]))
    assert same(turned, {order.index(i): prior for i, prior in priors.items()})
    some = load_priors(folder, scene(tmp_path, cameras[[0, 3]], [NAMES[0], NAMES[3]]))
    assert same(some, {0: priors[0], 1: priors[3]})


def test_the_file_holds_weights_and_priors_that_other_libraries_read(saved):
    folder, priors = saved
    with safe_open(folder / "model.safetensors", "pt") as file:
        metadata = json.loads(file.metadata()["raytrans"])
        assert metadata["views"] == ["b/1.png", "a/0.png", "b/0.png"]
        assert torch.equal(file.get_tensor("prior.0.logits"), priors[3].logits)
    for a, b in zip(raytrans.load(folder).parameters(), raytrans.load().parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("scale", [1.0, 1e-3, 250.0])
def test_a_rig_that_was_moved_and_scaled_has_its_lengths_in_the_priors(saved, cameras, scale):
    folder, priors = saved
    generator = torch.Generator().manual_seed(3)
    rotation, shift = (
        random_rotation(generator=generator),
        100 * torch.randn(3, generator=generator, dtype=torch.float64),
    )
    moved = load_priors(folder, scene(Path("/one"), cameras.moved(rotation, shift, scale)))
    expected = {i: DepthPrior(prior.logits, prior.near / scale) for i, prior in priors.items()}
    assert same(moved, expected)


def test_another_rig_has_none(saved, cameras):
    folder, _ = saved
    pose = cameras.world_from_camera.clone()
    pose[0, :3, 3] *= 1.05
    bent = raytrans.Cameras(cameras.intrinsics, pose, (8, 8))
    one_place = cameras.world_from_camera.clone()
    one_place[:, :3, 3] = 0
    for other, names in (
        (bent, NAMES),
        (cameras, ["c/0.png", "c/1.png", "c/2.png", "c/3.png"]),
        (cameras, [*NAMES[1::-1], *NAMES[2:]]),  # names of other views
        (cameras, [NAMES[0], "x.png", "y.png", "z.png"]),  # one alone says nothing of the scale
        (raytrans.Cameras(cameras.intrinsics, one_place, (8, 8)), NAMES),
    ):
        assert load_priors(folder, scene(Path("/one"), other, names)) == {}


def test_checkpoints_without_priors_have_none(tmp_path, cameras):
    save_model(tmp_path / "model.safetensors", raytrans.load())
    for path in (None, tmp_path):
        assert load_priors(path, scene(Path("/one"), cameras)) == {}


@pytest.mark.parametrize("change", ["centers", "0.near", "0.logits", "nan", "views", "count"])
def test_damaged_priors_are_refused(saved, cameras, change):
    folder, priors = saved
    tensors, named = prior_tensors(priors, scene(Path("/one"), cameras))
    if change == "nan":
        tensors["prior.1.logits"] = torch.full((5, 2, 3), torch.nan)
    elif change == "views":
        named = {"views": 5}
    elif change == "count":
        named = {"views": [*named["views"], "a/1.png"]}
    else:
        del tensors[f"prior.{change}"]
    file = folder / "model.safetensors"
    save_model(file, raytrans.load(), named, tensors)
    with pytest.raises(ValueError, match=rf"checkpoint: {file}: its depth priors are damaged"):
        load_priors(folder, scene(Path("/one"), cameras))
    write_tensors(file, tensors, {})
    with pytest.raises(ValueError, match="expected format"):
        load_priors(folder, scene(Path("/one"), cameras))
