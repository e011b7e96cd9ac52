"""Bad input through the commands: one clear line naming file or argument, status 2, nothing lost or half-written."""

import json
import math
import os
import shutil
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import raytrans
from raytrans.apps import cli
from raytrans.apps import evaluate as evaluate_app
from raytrans.apps import render as render_app
from raytrans.apps import train as train_app
from raytrans.data.generate import generated_scene
from raytrans.export.files import write_depth_png, write_png, write_transforms
from raytrans.models.config import model_config
from raytrans.rendering.renderer import Renderer
from raytrans.training.checkpoint import read_tensors, save_model, write_tensors

COUNT, SIZE = 3, (9, 12)
APPS = {"render": render_app, "evaluate": evaluate_app, "train": train_app}


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny_config, textures_once) -> Path:
    """A scene of three views of 9x12 with depth in `scene`, untrained weights, and a training configuration."""
    folder = tmp_path_factory.mktemp("bad")
    drawn = generated_scene(7, "easy", SIZE, COUNT)
    for i in range(COUNT):
        write_png(folder / f"scene/images/{i}.png", drawn.images[i])
        write_depth_png(folder / f"scene/depth/{i}.png", drawn.depth[i], 1e-3)
    images, depths = ([f"{kind}/{i}.png" for i in range(COUNT)] for kind in ("images", "depth"))
    write_transforms(folder / "scene/transforms.json", drawn.cameras, images, depths, 1e-3)
    torch.manual_seed(0)
    save_model(folder / "tiny.safetensors", Renderer(model_config("tiny")))
    shutil.copy(tiny_config, folder)
    return folder


@pytest.fixture
def scene(place, tmp_path) -> Path:
    """A copy of the scene to spoil."""
    return Path(shutil.copytree(place / "scene", tmp_path / "my scene äöü"))


def run(name: str, *arguments: object) -> int:
    app = APPS[name]
    return cli.run(app.main, app.parser(), [str(argument) for argument in arguments])


def render(place: Path, scene: Path, out: Path, *more: object) -> int:
    return run("render", scene, "--out", out, "--checkpoint", place / "tiny.safetensors", "--sources", "2", *more)


def refused(capsys, status: int, *named: str) -> None:
    """The command failed with one line that holds every name."""
    lines = capsys.readouterr().err.splitlines()
    assert status == 2 and len(lines) == 1 and ": error: " in lines[0], lines
    for name in named:
        assert name in lines[0]


def changed(scene: Path, top: dict | None = None, **frame: object) -> None:
    """Change shared values, and values of the second frame."""
    file = scene / "transforms.json"
    meta = json.loads(file.read_text()) | (top or {})
    meta["frames"][1] |= frame
    file.write_text(json.dumps(meta))


FRAMES = {
    "near behind far": ({"near": 3.0, "far": 2.0}, "near < far, got near 3.0 and far 2.0"),
    "no positive near": ({"near": 0.0, "far": 2.0}, "positive near, got 0.0"),
    "NaN pose": ({"transform_matrix": [[math.nan] * 4] * 4}, "finite transform_matrix"),
    "no pose": ({"transform_matrix": None}, "transform_matrix (4, 4), got none"),
    "wrong entry": (
        {"transform_matrix": np.diag([9.0, 1, 1, 1]).tolist()},
        "expected a rotation within 0.001, got one off by 8",
    ),
    "wrong entry that mirrors": ({"transform_matrix": np.diag([-9.0, 1, 1, 1]).tolist()}, "got one off by 8"),
    "left-handed": ({"transform_matrix": np.diag([-1.0, 1, 1, 1]).tolist()}, "got a left-handed one (-1)"),
    "negative focal length": ({"fl_y": -3}, "positive focal length fl_y, got -3"),
    "number for a mask": ({"mask_path": 3}, "name of a mask file, got 3"),
    "list for a depth map": ({"depth_file_path": ["d.png"]}, "name of a depth file, got ['d.png']"),
    "name too long": ({"file_path": "a" * 5000}, "is no file name"),
}


@pytest.mark.parametrize("key", ["transform_matix", "transformation_matrix", "transform", "Transform_Matrix"])
def test_a_pose_under_nearly_the_right_name_is_found(place, scene, tmp_path, capsys, key):
    file = scene / "transforms.json"
    file.write_text(file.read_text().replace("transform_matrix", key))
    refused(capsys, render(place, scene, tmp_path / "out"), "frame 0", f"got none (is it {key}?)")


@pytest.mark.parametrize("case", FRAMES)
def test_a_bad_frame_is_named(place, scene, tmp_path, capsys, case):
    change, message = FRAMES[case]
    changed(scene, **change)
    refused(capsys, render(place, scene, tmp_path / "out"), str(scene / "transforms.json"), "frame 1", message)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("names", [3, [1], "images/0.png"])
def test_a_split_that_is_no_list_of_names_is_refused(place, scene, tmp_path, capsys, names):
    changed(scene, {"test_filenames": names})
    refused(capsys, render(place, scene, tmp_path / "out"), "transforms.json", "test_filenames")


def test_names_of_a_split_without_a_frame_are_warned_of(scene, caplog):
    changed(scene, {"test_filenames": ["images/2.png", "images/gone.png"]})
    assert raytrans.open_scene(scene).split("test") == [2]
    assert "1 of 2 test_filenames name no frame (first: images/gone.png)" in caplog.text


def test_json_nested_without_end_is_refused(place, scene, tmp_path, capsys):
    (scene / "transforms.json").write_text("[" * 100_000)
    refused(capsys, render(place, scene, tmp_path / "out"), "transforms.json", "not valid JSON")


def test_lenses_that_do_not_mix_name_the_file(place, scene, tmp_path, capsys):
    changed(scene, camera_model="OPENCV_FISHEYE")
    refused(capsys, render(place, scene, tmp_path / "out"), "transforms.json", "one lens model")


@pytest.mark.parametrize("kind", ["archive", "complex", "text", "empty", "cut"])
def test_a_bad_depth_map_is_found_before_anything_is_written(place, scene, tmp_path, capsys, kind):
    file = scene / "depth" / "0.npy"
    shape = SIZE if kind != "empty" else (0, 12)
    values = np.zeros(shape, {"complex": complex, "text": "U1"}.get(kind, float))
    with open(file, "wb") as opened:
        np.savez(opened, values) if kind == "archive" else np.save(opened, values)
    if kind == "cut":
        file.write_bytes(file.read_bytes()[:200])
    meta = json.loads((scene / "transforms.json").read_text())
    meta["frames"][0]["depth_file_path"] = "depth/0.npy"
    (scene / "transforms.json").write_text(json.dumps(meta))
    refused(capsys, render(place, scene, tmp_path / "out"), "0.npy")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (1, 40), (90, 120)])
def test_images_of_any_size_render(place, scene, tmp_path, size):
    meta = json.loads((scene / "transforms.json").read_text())
    for i, frame in enumerate(meta["frames"]):
        Image.open(scene / f"images/{i}.png").resize(size[::-1]).save(scene / f"images/{i}.png")
        frame["fl_x"], frame["cx"] = (frame[key] * size[1] / SIZE[1] for key in ("fl_x", "cx"))
        frame["fl_y"], frame["cy"] = (frame[key] * size[0] / SIZE[0] for key in ("fl_y", "cy"))
        frame |= {"h": size[0], "w": size[1]}
        del frame["depth_file_path"]
    (scene / "transforms.json").write_text(json.dumps(meta))
    assert render(place, scene, tmp_path / "out", "--max-size", "40") == 0
    assert raytrans.open_scene(tmp_path / "out").image(0).shape == (min(size[0], 30), min(size[1], 40), 3)


@pytest.mark.parametrize("views", ["all", "holdout"])
def test_a_scene_with_no_source_left_is_refused_at_once(place, scene, tmp_path, capsys, views):
    meta = json.loads((scene / "transforms.json").read_text())
    meta["frames"] = meta["frames"][: 2 if views == "all" else 1]
    (scene / "transforms.json").write_text(json.dumps(meta))
    refused(capsys, render(place, scene, tmp_path / "out", "--views", views), str(scene))
    assert not (tmp_path / "out").exists()


def test_one_view_renders_a_path(place, scene, tmp_path):
    meta = json.loads((scene / "transforms.json").read_text())
    meta["frames"] = meta["frames"][:1]
    (scene / "transforms.json").write_text(json.dumps(meta))
    assert render(place, scene, tmp_path / "out", "--views", "orbit", "--frames", "2", "--sources", "99") == 0
    assert len(raytrans.open_scene(tmp_path / "out")) == 2


def test_a_capture_is_never_written_over_but_a_rendering_may_be(place, scene, tmp_path, capsys):
    before = (scene / "transforms.json").read_bytes()
    refused(capsys, render(place, scene, scene), "--out", str(scene))
    assert (scene / "transforms.json").read_bytes() == before
    assert [render(place, scene, tmp_path / "out") for _ in range(2)] == [0, 0]


@pytest.mark.parametrize("name", ["0000.npy", "0000.png", "transforms.json", "summary.json"])
def test_a_full_disk_while_rendering_leaves_whole_files(place, scene, tmp_path, capsys, monkeypatch, name):
    replace = os.replace

    def full(source, target):
        if Path(target).name == name:
            raise OSError(28, os.strerror(28))
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    status = render(place, scene, tmp_path / "out")
    refused(capsys, status, name, "No space left on device")
    assert not [file for file in (tmp_path / "out").rglob("*") if file.name.startswith(".") or file.name == name]


def spoiled(place: Path, file: Path, kind: str) -> None:
    tensors, metadata = read_tensors(place / "tiny.safetensors")
    model = metadata["model"]
    if kind in ("NaN", "whole numbers"):
        tensors = {k: v * math.nan if kind == "NaN" else v.int() for k, v in tensors.items()}
    if kind == "one more":
        tensors["model.more"] = torch.zeros(1)
    metadata["model"] = {
        "no table": "small",
        "words": {**model, "hidden": "wide"},
        "unknown key": {**model, "depth": 3},
        "types": {**model, "fine_type": "many"},
        "lengths": {**model, "widths": [4]},
    }.get(kind, model)
    write_tensors(file, tensors, metadata)
    if kind == "list":
        save_file(tensors, file, {"raytrans": "[1]"})


KINDS = ("NaN", "whole numbers", "one more", "no table", "words", "unknown key", "types", "lengths", "list")


@pytest.mark.parametrize("kind", KINDS)
def test_a_spoiled_checkpoint_is_named(place, tmp_path, capsys, kind):
    file = tmp_path / "spoiled.safetensors"
    spoiled(place, file, kind)
    status = run("render", place / "scene", "--out", tmp_path / "out", "--checkpoint", file)
    refused(capsys, status, "spoiled.safetensors")
    assert not (tmp_path / "out").exists()


def test_weights_of_nan_are_not_evaluated(place, tmp_path, capsys):
    spoiled(place, tmp_path / "spoiled.safetensors", "NaN")
    status = run("evaluate", place / "scene", "--checkpoint", tmp_path / "spoiled.safetensors")
    refused(capsys, status, "spoiled.safetensors", "NaN")


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("data=3", "data: expected a section"),
        ("model=[]", "model: expected a section"),
        ("optim.steps.x=3", "optim.steps.x=3"),
        ("size=[1]", "size"),
        ("seed=-1", "seed must be an integer from 0"),
        ("data.sizes=[]", "data: sizes"),
        ("data.sizes=['a']", "sizes"),
        ("data.sources=[8, 4]", "data: sources: expected two rising"),
        ("data.sources=[0, 0]", "data: sources"),
        ("data.views=1", "data: views: expected an integer of at least 2, got 1"),
        ("data.rays=0", "data: rays"),
        ("data.reuse=0", "data: reuse"),
        ("data.workers=-1", "data: workers"),
        ("data.folders=[3]", "folders"),
        ("data.folder_share=0.5", "data.folder_share"),
        ("data.easy_share=nan", "data: easy_share"),
        ("data.narrow_share=1.5", "data: narrow_share"),
        ("optim.steps=0", "optim: steps"),
        ("optim.learning_rate=inf", "optim: learning_rate"),
        ("optim.clip=0.0", "optim: clip"),
        ("optim.precision='float16'", "optim: precision: expected one of float32, bfloat16"),
        ("log.evaluate_every=0", "log: evaluate_every"),
        ("log.evaluate_scenes=0", "log: evaluate_scenes"),
        ("model.hidden='wide'", "hidden"),
        ("model.heads=3", "hidden: expected a multiple of heads (3)"),
        ("model.widths=[1]", "widths"),
        ("model.planes=1", "planes: expected at least 2"),
        ("model.fine_type='x'", "fine_type"),
    ],
)
def test_a_bad_setting_is_named_before_anything_is_written(place, tmp_path, capsys, setting, named):
    status = run("train", place / "tiny.toml", "--out", tmp_path / "out", "--device", "cpu", "--set", setting)
    refused(capsys, status, named)
    assert not (tmp_path / "out").exists()


def test_mistakes_with_earlier_weights_are_named(place, tmp_path, capsys):
    weights, out = place / "tiny.safetensors", tmp_path / "out"
    arguments = ("train", place / "tiny.toml", "--out", out, "--device", "cpu")
    refused(capsys, run(*arguments, "--init", tmp_path / "none.safetensors"), "none.safetensors")
    spoiled(place, tmp_path / "spoiled.safetensors", "NaN")
    refused(capsys, run(*arguments, "--init", tmp_path / "spoiled.safetensors"), "--init", "spoiled.safetensors")
    refused(capsys, run(*arguments, "--resume"), "--resume", str(out))
    assert not out.exists()
    out.mkdir()
    shutil.copy(weights, out / "training.safetensors")
    refused(capsys, run(*arguments, "--resume", "--init", weights), "--init: expected without --resume")
    refused(capsys, run(*arguments, "--resume"), "training.safetensors", "weights alone")
    refused(capsys, run(*arguments), "--out", "--resume")


def test_a_folder_with_too_few_views_is_named(place, scene, tmp_path, capsys):
    changed(scene, {"test_filenames": ["images/0.png", "images/1.png"]})
    settings = ["--set", f'data.folders=["{scene}"]', "data.folder_share=1.0"]
    status = run("train", place / "tiny.toml", "--out", tmp_path / "out", "--device", "cpu", *settings)
    refused(capsys, status, "data.folders", str(scene), "got 1 of 3")


def test_a_full_disk_in_training_keeps_the_last_state(place, tmp_path, capsys, monkeypatch):
    replace, written = os.replace, []

    def full(source, target):
        written.append(target)
        if len(written) > 1:
            raise OSError(28, os.strerror(28))
        replace(source, target)

    arguments = ("train", place / "tiny.toml", "--out", tmp_path / "out", "--device", "cpu")
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        refused(capsys, run(*arguments), "training.safetensors", "No space left on device")
    assert read_tensors(tmp_path / "out/training.safetensors")[1]["step"] == 1
    assert [file.name for file in (tmp_path / "out").glob("*.safetensors*")] == ["training.safetensors"]
    assert run(*arguments, "--resume") == 0
    assert read_tensors(tmp_path / "out/training.safetensors")[1]["step"] == 3


def test_ctrl_c_within_a_step_saves_the_whole_step(place, tmp_path, capsys, caplog, monkeypatch):
    step, calls = torch.optim.AdamW.step, []

    def interrupted(self, *arguments, **named):
        calls.append(len(calls))
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, *arguments, **named)

    assert threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(torch.optim.AdamW, "step", interrupted)
    assert run("train", place / "tiny.toml", "--out", tmp_path / "out", "--device", "cpu") == 130
    assert "error" not in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) == handler
    said = [message for message in caplog.messages if "interrupted" in message]
    assert len(said) == 1 and f"step 2 of 3; the state is saved in {tmp_path / 'out'}" in said[0]
    assert "--resume continues" in said[0] and "the same CONFIG, --set and --precision" in said[0]
    assert read_tensors(tmp_path / "out/training.safetensors")[1]["step"] == 2
    assert run("train", place / "tiny.toml", "--out", tmp_path / "out", "--device", "cpu", "--resume") == 0
    assert len(calls) == 3


def test_a_number_too_large_to_seed_with_is_refused(place, tmp_path, capsys):
    refused(capsys, render(place, place / "scene", tmp_path / "out", "--seed", 10**30), "--seed")
