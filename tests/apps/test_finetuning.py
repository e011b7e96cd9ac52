"""`train --finetune` as a command: what is written, said and refused."""

import json
import logging
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

import raytrans
from raytrans.apps import cli
from raytrans.apps import render as render_app
from raytrans.apps import train as train_app
from raytrans.apps.captures import Capture
from raytrans.data.generate import generated_scene
from raytrans.data.readers import open_scene
from raytrans.export.files import write_depth_png, write_png, write_transforms

SETTINGS = ["rays=32", "drawn=2", "sources=2", "checks=2", "max_size=12"]


def capture(folder: Path, count: int = 6, depth: bool = False) -> Path:
    drawn = generated_scene(7, "easy", (12, 12), count)
    for i in range(count):
        write_png(folder / f"{i}.png", drawn.images[i])
        write_depth_png(folder / f"d{i}.png", drawn.depth[i], 1e-3)
    depths = [f"d{i}.png" for i in range(count)] if depth else None
    write_transforms(folder / "transforms.json", drawn.cameras, [f"{i}.png" for i in range(count)], depths, 1e-3)
    return folder


def run(scene: Path, out: Path, weights: Path, *settings: str, more: tuple = ()) -> int:
    words = ["--finetune", scene, "--out", out, "--device", "cpu", "--init", weights, *more]
    words += ["--set", *SETTINGS, *settings]
    return cli.run(train_app.main, train_app.parser(), [str(word) for word in words])


def same(a: Path, b: Path) -> bool:
    first, second = load_file(a), load_file(b)
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


def test_weights_that_rose_are_written_and_said(tmp_path, weights, caplog):
    caplog.set_level(logging.INFO, "raytrans")
    out = tmp_path / "out"
    more = ("--json", tmp_path / "numbers.json")
    assert run(capture(tmp_path / "scene", depth=True), out, weights, "steps=12", "learning_rate=0.01", more=more) == 0
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    assert [line["step"] for line in lines] == [0, 6, 12] and lines[0]["check/psnr"] == numbers["start"]
    assert numbers["best"] > numbers["start"] and not same(out / "model.safetensors", weights)
    said = caplog.messages[-1]
    assert f"from {numbers['start']:.2f} to {numbers['best']:.2f} dB" in said
    assert f"{out / 'model.safetensors'} holds priors and weights of step {numbers['step']}" in said
    assert "colour and depth" in caplog.messages[0] and "what is held out is not looked at" in caplog.messages[0]


def test_what_was_learned_of_depth_is_used_by_what_renders_the_scene(tmp_path, weights, caplog, capsys):
    folder, out = capture(tmp_path / "scene", depth=True), tmp_path / "out"
    assert run(folder, out, weights, "steps=12", "learning_rate=0.01") == 0
    for name, checkpoint in (("tuned", out), ("plain", weights)):
        words = [folder, "--checkpoint", checkpoint, "--out", tmp_path / name, "--sources", 2, "--device", "cpu"]
        assert cli.run(render_app.main, render_app.parser(), [str(w) for w in [*words, "--no-report"]]) == 0
    said = capsys.readouterr().out
    assert said.count("depth priors of 5 views come with the checkpoint") == 1
    scene, model = open_scene(folder), raytrans.load(out)
    chosen = Capture(scene, 2, 400).sources(scene.cameras[0], 0)
    without = raytrans.render(model, scene.views(chosen), scene.cameras[0])
    scene.priors = raytrans.load_priors(out, scene)
    expected = raytrans.render(model, scene.views(chosen), scene.cameras[0])
    opacity = np.load(tmp_path / "tuned/opacity/0000.npy")
    np.testing.assert_allclose(opacity, expected.opacity, rtol=0, atol=1e-5)
    assert abs(without.opacity - expected.opacity).max() > 1e-3


def test_weights_that_did_not_rise_are_the_start_and_it_is_said(tmp_path, weights, caplog):
    caplog.set_level(logging.INFO, "raytrans")
    assert run(capture(tmp_path / "scene"), tmp_path / "out", weights, "steps=3", "learning_rate=1e30") == 0
    assert same(tmp_path / "out/model.safetensors", weights)
    assert "nothing was better on the check views" in caplog.messages[-1]
    assert "holds the start" in caplog.messages[-1]


def test_views_that_are_held_out_change_nothing(tmp_path, weights):
    scene = capture(tmp_path / "scene")
    held = open_scene(scene).split("holdout")
    assert run(scene, tmp_path / "a", weights, "steps=12", "learning_rate=0.01") == 0
    for i in held:
        write_png(scene / f"{i}.png", torch.rand(12, 12, 3))
    assert run(scene, tmp_path / "b", weights, "steps=12", "learning_rate=0.01") == 0
    assert held and same(tmp_path / "a/model.safetensors", tmp_path / "b/model.safetensors")
    assert not same(tmp_path / "a/model.safetensors", weights)
    write_png(scene / "2.png", torch.rand(12, 12, 3))
    assert run(scene, tmp_path / "c", weights, "steps=12", "learning_rate=0.01") == 0
    assert not same(tmp_path / "a/model.safetensors", tmp_path / "c/model.safetensors")


def test_what_cannot_be_fine_tuned_is_refused_before_anything_is_written(tmp_path, weights, capsys):
    scene, out = capture(tmp_path / "scene"), tmp_path / "out"
    (tmp_path / "a.toml").write_text('size = "tiny"')
    few = capture(tmp_path / "few", 4)
    for folder, settings, more, named in (
        (scene, (), (tmp_path / "a.toml",), "CONFIG: expected either a configuration or --finetune SCENE, got both"),
        (scene, (), ("--precision", "bfloat16"), "--finetune: expected without --precision"),
        (scene, ("optim.steps=3",), (), "unknown key 'optim', expected one of seed, steps"),
        (scene, ("prior_rate=0.0",), (), "prior_rate: expected a finite number above 0, got 0.0"),
        (few, (), (), f"--finetune: {few}: expected at least 4 views not held out, got 3"),
    ):
        assert run(folder, out, weights, *settings, more=more) == 2
        assert named in capsys.readouterr().err
        assert not out.exists()
    assert run(scene, scene, weights) == 2 and "holds a file of the scene" in capsys.readouterr().err
    words = ["--finetune", str(scene), "--out", str(out), "--resume"]
    assert cli.run(train_app.main, train_app.parser(), words) == 2
    assert "--finetune: expected without --resume" in capsys.readouterr().err
    assert cli.run(train_app.main, train_app.parser(), ["--out", str(out)]) == 2
    assert "--finetune SCENE, got neither" in capsys.readouterr().err


def test_a_folder_that_holds_a_run_is_kept(tmp_path, weights, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "model.safetensors").write_bytes(b"earlier")
    assert run(capture(tmp_path / "scene"), out, weights) == 2
    assert "--out" in capsys.readouterr().err and (out / "model.safetensors").read_bytes() == b"earlier"
