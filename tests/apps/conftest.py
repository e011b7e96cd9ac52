"""What commands run on: generated scenes whose textures are drawn once, and untrained weights."""

from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="module", autouse=True)
def _textures_once(textures_once):
    """For every module here."""


@pytest.fixture(scope="session")
def weights(tmp_path_factory) -> Path:
    """File of untrained weights of the tiny model."""
    from raytrans.models.config import model_config
    from raytrans.rendering.renderer import Renderer
    from raytrans.training.checkpoint import save_model

    file = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    torch.manual_seed(0)
    save_model(file, Renderer(model_config("tiny")))
    return file
