"""A model as a folder: the layout, what `load` makes of it, and what is refused."""

import json
import os

import pytest
import torch
from safetensors.torch import load_file

import raytrans
from raytrans.models.config import model_config
from raytrans.rendering.renderer import Renderer


@pytest.fixture
def model() -> Renderer:
    return Renderer(model_config("tiny", hidden=8))


def test_a_folder_holds_weights_and_configuration(model, tmp_path):
    raytrans.save_pretrained(model, str(tmp_path / "new" / "mine"))
    folder = tmp_path / "new" / "mine"
    assert {file.name for file in folder.iterdir()} == {"model.safetensors", "config.json"}
    tensors = load_file(folder / "model.safetensors")  # by the format's own library
    assert {name.removeprefix("model.") for name in tensors} == set(model.state_dict())
    assert all(torch.equal(tensors[f"model.{name}"], value) for name, value in model.state_dict().items())
    config = json.loads((folder / "config.json").read_text())
    assert config["model_type"] == "raytrans" and config["hidden"] == 8 and config["fine"] == model.config.fine


def test_load_gives_the_model_back_by_the_weights_alone(model, tmp_path):
    raytrans.save_pretrained(model, tmp_path)
    (tmp_path / "config.json").unlink()
    loaded = raytrans.load(tmp_path)
    assert loaded.config == model.config and not loaded.training
    assert all(
        torch.equal(a, b) for a, b in zip(loaded.state_dict().values(), model.state_dict().values(), strict=True)
    )


def test_a_file_in_the_place_of_the_folder_is_refused(model, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="folder: expected a folder, got the file .*file"):
        raytrans.save_pretrained(model, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_full_disk_leaves_a_folder_that_loads(model, tmp_path, monkeypatch, name):
    raytrans.save_pretrained(model, tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()
    replace = os.replace

    def full(source, target):
        if os.path.basename(target) == name:
            raise OSError(28, os.strerror(28))
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises((OSError, ValueError), match=f"{name}.*No space left"):
        raytrans.save_pretrained(Renderer(model_config("tiny")), tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"model.safetensors", "config.json"}
    assert (tmp_path / "model.safetensors").read_bytes() == before
    assert raytrans.load(tmp_path).config == model.config
