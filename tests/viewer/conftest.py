"""What the viewer is tried on: a tiny model with random weights, and a small drawn scene."""

import pytest
import torch

from raytrans.data.generate import generated_scene
from raytrans.data.views import Views
from raytrans.models.config import model_config
from raytrans.rendering.renderer import Renderer
from raytrans.viewer.sources import Sources

COUNT, USABLE = 7, (1, 2, 3, 4, 5, 6)


@pytest.fixture(scope="session")
def drawn():
    return generated_scene(7, "easy", (20, 24), COUNT)


@pytest.fixture(scope="session")
def model() -> Renderer:
    torch.manual_seed(0)
    made = Renderer(model_config("tiny"))
    with torch.no_grad():
        for p in made.parameters():
            p += 0.05 * torch.randn_like(p)
    return made.eval()


@pytest.fixture
def views(drawn) -> Views:
    return Views(drawn.images, drawn.cameras)


@pytest.fixture
def sources(model, views) -> Sources:
    return Sources(model, views.cameras, USABLE, views.__getitem__)
