"""Addresses `hub://owner/name`: what is asked of huggingface_hub, a stand-in here, and what is refused before that."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import raytrans
from raytrans.apps import cli
from raytrans.models.config import model_config
from raytrans.rendering.renderer import Renderer
from raytrans.training.hub import local


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Stands in for huggingface_hub: keeps what was asked for, and answers with a folder that holds a model."""
    model = Renderer(model_config("tiny"))
    raytrans.save_pretrained(model, tmp_path / "snapshot")
    asked = []

    def snapshot_download(repo_id: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((repo_id, revision, allow_patterns))
        return str(tmp_path / "snapshot")

    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(snapshot_download=snapshot_download))
    return SimpleNamespace(model=model, asked=asked, folder=tmp_path / "snapshot")


@pytest.mark.parametrize(
    ("address", "name", "revision"),
    [
        ("hub://someone/rays-small", "someone/rays-small", None),
        ("hub://a/b@v1.0", "a/b", "v1.0"),
        ("hub://A_b/c.d@refs/pr/1", "A_b/c.d", "refs/pr/1"),
    ],
)
def test_two_files_of_a_revision_are_fetched_and_loaded(hub, address, name, revision):
    loaded = raytrans.load(address)
    assert hub.asked == [(name, revision, ["model.safetensors", "config.json"])]
    assert loaded.config == hub.model.config
    for (key, a), b in zip(hub.model.state_dict().items(), loaded.state_dict().values(), strict=True):
        assert torch.equal(a, b), key


@pytest.mark.parametrize(
    "rest",
    [
        "",
        "a",
        "a/",
        "/b",
        "../x/y",
        "../x",
        "x/..",
        "a/b/c",
        "a/b@",
        "a/b@../c",
        "a/b@-c",
        "a b/c",
        "a/b\n",
        "a/-b",
        "ä/b",
    ],
)
def test_other_addresses_are_refused_before_anything_is_asked(hub, rest):
    with pytest.raises(ValueError, match="checkpoint: expected hub://owner/name"):
        raytrans.load(f"hub://{rest}")
    assert hub.asked == []


def test_paths_are_left_alone(hub, tmp_path):
    assert local("hub/owner") == Path("hub/owner") and local(tmp_path) == tmp_path
    assert hub.asked == []


def test_without_the_package_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ValueError, match=r"huggingface_hub is needed .*pip install --editable '\.\[hub\]'"):
        raytrans.load("hub://a/b")


@pytest.mark.parametrize("error", [OSError("no network"), ValueError("no such revision")])
def test_a_failed_download_names_the_address(hub, monkeypatch, error):
    def fails(*_, **__):
        raise error

    monkeypatch.setattr(sys.modules["huggingface_hub"], "snapshot_download", fails)
    with pytest.raises(ValueError, match=f"hub://a/b could not be downloaded: {error}"):
        raytrans.load("hub://a/b")


def test_a_repository_without_a_model_is_named(hub):
    (hub.folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="checkpoint: no such file .*model.safetensors"):
        raytrans.load("hub://a/b")


def test_commands_take_addresses(hub):
    assert cli.checkpoint("hub://a/b") == hub.folder and len(hub.asked) == 1
    assert cli.checkpoint("runs/mine") == Path("runs/mine")
    with pytest.raises(cli.ArgumentTypeError, match="expected hub://owner/name"):
        cli.checkpoint("hub://a")
