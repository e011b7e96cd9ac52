import json
import os

import pytest
import torch
from safetensors.torch import save_file

import raytrans
from raytrans.models.config import model_config
from raytrans.rendering.renderer import Renderer
from raytrans.training.checkpoint import FORMAT, load_model, save_model, write_tensors


@pytest.fixture
def saved(tmp_path):
    model = Renderer(model_config("tiny"))
    save_model(tmp_path / "model.safetensors", model)
    return model, tmp_path / "model.safetensors"


def test_one_file_gives_the_model_back(saved):
    model, path = saved
    for place in (path, path.parent):
        loaded = raytrans.load(place)
        assert loaded.config == model.config
        for (name, a), b in zip(model.state_dict().items(), loaded.state_dict().values(), strict=True):
            assert torch.equal(a, b), name


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.999])
def test_a_file_cut_short_is_refused(saved, share):
    _, path = saved
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ValueError, match="damaged"):
        load_model(path)


def test_other_versions_foreign_files_and_other_shapes_are_refused(saved, tmp_path):
    model, path = saved
    tensors = {"model." + k: v for k, v in model.state_dict().items()}
    write_tensors(path, tensors, {"format": "raytrans-0", "model": model.config.to_dict()})
    with pytest.raises(ValueError, match=f"expected format {FORMAT}, got 'raytrans-0'"):
        load_model(path)
    save_file({"a": torch.zeros(2)}, tmp_path / "foreign.safetensors")
    with pytest.raises(ValueError, match="no raytrans configuration"):
        load_model(tmp_path / "foreign.safetensors")
    other = model_config("tiny", hidden=32).to_dict()
    write_tensors(path, tensors, {"format": FORMAT, "model": other})
    with pytest.raises(ValueError, match="expected shape"):
        load_model(path)
    with pytest.raises(ValueError, match="no such file"):
        load_model(tmp_path / "none.safetensors")
    (tmp_path / "text.safetensors").write_text(json.dumps({"not": "weights"}))
    with pytest.raises(ValueError, match="damaged"):
        load_model(tmp_path / "text.safetensors")


def test_a_full_disk_leaves_the_earlier_file(saved, monkeypatch):
    model, path = saved
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ValueError, match="could not write.*No space left"):
        save_model(path, model)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_file_in_the_place_of_the_folder_is_an_error_that_says_so(saved):
    model, path = saved
    before = path.read_bytes()
    with pytest.raises(ValueError, match="could not write"):
        save_model(path / "model.safetensors", model)
    assert path.read_bytes() == before
