import math

import pytest
import torch

import raytrans
from raytrans.models.config import model_config
from raytrans.rendering.head import Head, same_ray
from raytrans.rendering.renderer import Renderer

F64 = torch.float64


def views(count=4, size=(16, 20)):
    """Noise as images, so that no colour can be guessed, of cameras beside each other that look ahead."""
    generator = torch.Generator().manual_seed(0)
    poses = torch.eye(4, dtype=F64).repeat(count, 1, 1)
    poses[:, 0, 3] = torch.arange(count, dtype=F64)
    k = torch.tensor([[18.0, 0, 10], [0, 18, 8], [0, 0, 1]], dtype=F64).repeat(count, 1, 1)
    images = [torch.rand(*size, 3, generator=generator) for _ in range(count)]
    return raytrans.Views(images, raytrans.Cameras(k, poses, size))


def test_where_a_source_stands_every_model_renders_its_photo():
    torch.manual_seed(1)
    model, sources = Renderer(model_config("tiny")), views()
    error = (raytrans.render(model, sources, sources.cameras[2]).color - sources.images[2]).abs()
    others = (raytrans.render(model, sources, sources.cameras[2]).color - sources.images[1]).abs()
    assert error.mean() < 0.02 < 0.2 < others.mean()


@pytest.mark.parametrize("degrees", [0.0, 0.1, 0.25, 1.0, 10.0, 90.0, 180.0])
def test_the_gain_is_its_formula_and_fades_beyond_a_degree(degrees):
    s, a = (math.sin(math.radians(x) / 2) ** 2 for x in (degrees, 0.25))
    gain = same_ray(torch.tensor(s, dtype=F64)).item()
    assert gain == pytest.approx(2 * math.log(1 + a / (s + a / 1000)), rel=1e-9)
    assert degrees < 1 or gain < 0.13


def test_one_ray_among_others_gives_its_colour_whatever_the_weights_say():
    torch.manual_seed(2)
    head = Head(8, 3)
    colors, sine2 = torch.rand(3, 5, 2, 3), torch.full((3, 5, 2), 0.01)
    sine2[1] = 0.0
    out, share = head.color(torch.randn(5, 2, 8), torch.randn(3, 5, 2, 8), colors, torch.rand(3, 5, 2) + 0.1, sine2)
    torch.testing.assert_close(out, colors[1], rtol=0, atol=1e-3)
    torch.testing.assert_close(share.sum(0), torch.ones(5, 2))
    assert bool((share[1] > 0.999).all())
