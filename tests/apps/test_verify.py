"""The verify command: a sound checkpoint, broken ones, and mistakes."""

import json
from pathlib import Path

import pytest
import torch

from raytrans.apps import cli
from raytrans.apps import verify as app
from raytrans.data.generate import generated_scene
from raytrans.data.readers import open_scene
from raytrans.export.files import write_png, write_transforms
from raytrans.models.config import model_config
from raytrans.rendering.renderer import Renderer
from raytrans.training.checkpoint import save_model

CONTRACTS = [
    *("world_motion", "far_offset", "scale", "source_order", "target_section", "target_roll"),
    "source_quarter_turn",
]


def weights(path: Path, **options) -> Path:
    """Random weights of the tiny model, none of them zero."""
    torch.manual_seed(0)
    model = Renderer(model_config("tiny", **options))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    save_model(path, model)
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A scene of six views of 24x32 in `scene`, and weights in `sound.safetensors` and `world.safetensors`."""
    folder = tmp_path_factory.mktemp("verify")
    drawn = generated_scene(7, "easy", (24, 32), 6)
    for i in range(6):
        write_png(folder / f"scene/images/{i}.png", drawn.images[i])
    write_transforms(folder / "scene/transforms.json", drawn.cameras, [f"images/{i}.png" for i in range(6)])
    weights(folder / "sound.safetensors")
    weights(folder / "world.safetensors", directions="world")
    return folder


def run(*arguments: object) -> int:
    return cli.run(app.main, app.parser(), [str(a) for a in arguments])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_sound_checkpoint_on_a_generated_scene(place, tmp_path, capsys, dtype):
    out = tmp_path / "numbers.json"
    small = ("--max-size", 12, "--sources", 3)
    status = run("--checkpoint", place / "sound.safetensors", "--dtype", dtype, *small, "--json", out)
    text = capsys.readouterr().out
    numbers = json.loads(out.read_text())
    assert status == 0 and numbers["passed"] is True
    assert list(numbers["contracts"]) == CONTRACTS
    for row in numbers["contracts"].values():
        assert set(row) == {"error", "tolerance", "passed"} and row["passed"] is True
        assert 0 <= row["error"] <= row["tolerance"] <= (1e-4 if dtype == "float32" else 1e-6)
    assert {name: set(row) for name, row in numbers["reported"].items()} == {
        name: {"error"} for name in ("source_roll", "mirror", "bfloat16")
    }
    assert (numbers["dtype"], numbers["sources"], numbers["size"]) == (dtype, 3, [9, 12])
    assert all(name in text for name in [*CONTRACTS, "source_roll", "every contract holds"])


def test_a_captured_scene_and_a_network_that_reads_the_world(place, tmp_path, capsys):
    out = tmp_path / "numbers.json"
    status = run(place / "scene", "--checkpoint", place / "world.safetensors", "--max-size", 16, "--json", out)
    numbers = json.loads(out.read_text())
    assert status == 1 and numbers["passed"] is False
    assert numbers["contracts"]["world_motion"]["passed"] is False
    assert numbers["contracts"]["scale"]["passed"] is True
    assert numbers["sources"] == 5 and numbers["size"] == [12, 16]
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("world_motion"))
    assert "BROKEN" in line


def test_nan_weights_break_every_contract(place, tmp_path):
    model = Renderer(model_config("tiny"))
    with torch.no_grad():
        model.head.blend_out.bias.fill_(torch.nan)
    save_model(tmp_path / "nan.safetensors", model)
    out = tmp_path / "numbers.json"
    assert run("--checkpoint", tmp_path / "nan.safetensors", "--max-size", 16, "--sources", 2, "--json", out) == 1
    contracts = json.loads(out.read_text())["contracts"]
    assert {row["error"] for row in contracts.values()} == {1e30}
    assert not any(row["passed"] for row in contracts.values())


def test_the_target_is_held_out(place):
    scene = open_scene(place / "scene")
    views, camera = app.captured_views(scene, 3, 32)
    target = scene.split("holdout")[-1]
    assert torch.equal(camera.world_from_camera, scene.cameras[target].world_from_camera)
    held_out = scene.cameras[scene.split("holdout")].centers
    assert float(torch.cdist(views.cameras.centers, held_out).min()) > 0
    assert len(views) == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], ["nowhere"]),
        (["--checkpoint", "nowhere.safetensors"], ["nowhere.safetensors"]),
        (["--dtype", "bfloat16"], ["bfloat16"]),
        (["--max-size", "0"], ["max-size", "0"]),
        (["--sources", "none"], ["sources", "none"]),
    ],
)
def test_mistakes_are_one_line_and_status_two(place, capsys, arguments, words):
    known = [] if "--checkpoint" in arguments else ["--checkpoint", place / "sound.safetensors"]
    assert run(*arguments, *known) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("verify: error: ")
    assert all(word in lines[0] for word in words)


def test_the_help_names_every_option():
    text = app.parser().format_help()
    assert all(word in text for word in ("SCENE", "--checkpoint", "--dtype", "--max-size", "--sources", "--json"))


@pytest.mark.parametrize("name", ["transforms.json", "images/3.png"])
def test_no_file_of_the_scene_is_written_over(place, tmp_path, capsys, name):
    named = tmp_path / "numbers.json"
    named.symlink_to(place / "scene" / name)
    before = named.read_bytes()
    for file in (named, place / "scene" / name):
        assert run(place / "scene", "--checkpoint", place / "sound.safetensors", "--json", file) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1 and f"--json: {file} is there already" in lines[0]
    assert named.read_bytes() == before
