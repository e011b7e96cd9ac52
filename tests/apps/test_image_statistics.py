"""The command that judges the mixture: its numbers against means taken by hand, its verdict both ways."""

import json

import numpy as np
import pytest
import torch

from raytrans.apps import cli, image_statistics
from raytrans.data.readers import open_scene
from raytrans.data.statistics import gradient_magnitude, luminance
from raytrans.training.config import train_config
from raytrans.training.mixture import mixture_scene

CONFIG = "configs/tiny.toml"
QUICK = ["--views", "2", "--sides", "16", "--seeds", "500200", "500202", "--set", "data.easy_share=1.0"]


def run(*arguments):
    return cli.run(image_statistics.main, image_statistics.parser(), [CONFIG, *arguments])


def test_numbers_are_means_over_views_and_scenes(tmp_path, capsys):
    status = run("scenes/blocks", "scenes/room", *QUICK, "--json", str(tmp_path / "out.json"))
    found = json.loads((tmp_path / "out.json").read_text())
    side = found["sides"]["16"]
    scene = open_scene("scenes/blocks")
    shrunk = [scene.views([i], max_size=16).images[0] for i in (0, len(scene) - 1)]  # square: as many pixels as 16x16
    expected = np.mean([gradient_magnitude(luminance(image)) for image in shrunk])
    assert side["scenes"]["scenes/blocks"]["gradient"] == pytest.approx(expected, rel=1e-5)
    config = train_config({"data": {"views": 2, "sizes": [16], "easy_share": 1.0, "sources": [1, 1]}}).data
    scenes = [mixture_scene(config, seed, np.random.default_rng([seed, 1])) for seed in (500200, 500201, 500202)]
    generated = np.mean([[gradient_magnitude(luminance(image)) for image in s.images] for s in scenes])
    assert side["mixture"]["gradient"] == pytest.approx(generated, rel=1e-5)
    assert side["themes"].keys() == {"easy"} and side["themes"]["easy"]["scenes"] == 3
    both = [row["gradient"] for row in side["scenes"].values()]
    assert len(both) == 2 and side["captures"]["gradient"] == pytest.approx(np.mean(both))
    for name in ("gradient", "slope"):
        ratio = side["mixture"][name] / side["captures"][name]
        assert side["ratio"][name] == pytest.approx(ratio) and side["within"][name] == (abs(ratio - 1) <= 0.2)
    assert status == (0 if found["within"] else 1) and found["within"] == all(side["within"].values())
    printed = capsys.readouterr().out
    assert "scenes/blocks" in printed and "generated: easy" in printed and "20% of the mean of the captures" in printed


def test_a_mixture_is_within_or_outside_by_its_means():
    inside = image_statistics.compared(
        {"a": (0.1, -3.0), "b": (0.3, -2.0)}, {"easy": [(0.2, -2.5)], "table": [(0.22, -2.9)]}
    )
    assert inside["ratio"] == pytest.approx({"gradient": 1.05, "slope": 1.08})
    assert inside["within"] == {"gradient": True, "slope": True}
    outside = image_statistics.compared({"a": (0.1, -3.0)}, {"easy": [(0.13, -3.0), (0.13, float("nan"))]})
    assert outside["within"] == {"gradient": False, "slope": True}


def test_pictures_shrink_to_the_area_of_a_square_and_never_grow():
    for size in ((960, 540), (480, 640), (200, 200)):
        height, width = image_statistics.equal_area(*size, 64)
        assert height * width == pytest.approx(64**2, rel=0.02) and height / width == pytest.approx(
            size[0] / size[1], rel=0.02
        )
    assert image_statistics.equal_area(30, 50, 64) == (30, 50)


def test_plain_pictures_count_for_the_gradient_alone():
    noise = torch.rand(16, 16, 3)
    gradient, slope = image_statistics.statistics([noise, torch.full((16, 16, 3), 0.5)])
    alone = image_statistics.statistics([noise])
    assert gradient == pytest.approx(alone[0] / 2) and slope == alone[1]
    assert np.isnan(image_statistics.statistics([torch.ones(16, 16, 3)])[1])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["scenes/blocks", "--seeds", "9", "3"], "--seeds: expected the first one not after the last, got 9 and 3"),
        (["scenes/nowhere"], "nowhere"),
        (["scenes/blocks", "--set", "data.mesh_share=0.5"], "mesh_share: expected 0 where meshes names none"),
    ],
)
def test_mistakes_are_one_line(arguments, said, capsys):
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert said in error and error.startswith("image_statistics: error: ") and error.count("\n") == 1
