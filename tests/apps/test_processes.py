"""Commands in several processes: the files and numbers of one, and an error of one process that ends them all.

They are forked from this one and find each other through a file; two tests start torchrun itself.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from raytrans.apps import cli, evaluate, export, render, verify
from raytrans.apps import train as train_app
from raytrans.data.generate import generated_scene
from raytrans.export.files import write_depth_png, write_png, write_transforms
from raytrans.models.config import model_config
from raytrans.rendering.renderer import Renderer
from raytrans.training.checkpoint import load_model, read_tensors, save_model
from raytrans.training.claim import claimed
from raytrans.training.loop import STATE
from raytrans.training.samples import SampleStream

ROOT = Path(__file__).resolve().parents[2]
SAMPLE, RENDER_CASE = SampleStream.__getitem__, evaluate.render_case

TINY = """
size = "tiny"
[data]
views = 4
sizes = [16]
sources = [2, 2]
rays = 8
batch = 2
workers = 0
[optim]
steps = 4
[log]
log_every = 1
evaluate_every = 4
evaluate_scenes = 3
checkpoint_every = 1
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A captured scene in `scene`, untrained weights in `tiny.safetensors`, a training in `tiny.toml`."""
    folder = tmp_path_factory.mktemp("place")
    drawn = generated_scene(7, "easy", (16, 20), 10)
    for i in range(len(drawn)):
        write_png(folder / f"scene/images/{i}.png", drawn.images[i])
        write_depth_png(folder / f"scene/depth/{i}.png", drawn.depth[i], 1e-3)
    images, depths = ([f"{kind}/{i}.png" for i in range(len(drawn))] for kind in ("images", "depth"))
    write_transforms(folder / "scene/transforms.json", drawn.cameras, images, depths, 1e-3)
    torch.manual_seed(0)
    save_model(folder / "tiny.safetensors", Renderer(model_config("tiny")))
    (folder / "tiny.toml").write_text(TINY)
    return folder


def command(app, *words: object) -> int:
    return cli.run(app.main, app.parser(), [str(word) for word in words])


def commands(place: Path, out: Path) -> list[int]:
    """Render three frames of a path, measure two views under two protocols, export a cloud and depths of three."""
    common = [place / "scene", "--checkpoint", place / "tiny.safetensors", "--sources", "3"]
    path, depths = ["--views", "spiral", "--frames", "3"], ["--views", "3", "--agree", "1", "--confidence", "0.01"]
    numbers = ["--json", out / "numbers.json", "--contact-sheet", out / "sheet.png"]
    return [
        command(render, *common, *path, "--pixel", "1", "3", "4", "--out", out / "path"),
        command(evaluate, *common, "--protocol", "I/I", "I/SE3", *numbers),
        command(export, *common, *depths, "--tolerance", "9", "--out", out / "depths", out / "cloud.ply"),
    ]


TIMES = ("seconds", "memory", "per_second", "processes")


def timeless(value: object) -> object:
    """Numbers of a command without those of its time, its memory and its processes."""
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if not any(name in k for name in TIMES)}
    return [timeless(one) for one in value] if isinstance(value, list) else value


def contents(folder: Path) -> dict[str, object]:
    """Every file of a folder but pages, which hold times: numbers without times, other files by their bytes."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".html"]
    return {
        str(path.relative_to(folder)): timeless(json.loads(path.read_text()))
        if path.suffix == ".json"
        else path.read_bytes()
        for path in files
    }


@pytest.fixture(scope="module")
def alone(tmp_path_factory, place) -> Path:
    """What one process writes."""
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("alone")
    assert commands(place, out) == [0, 0, 0]
    return out


def test_pictures_numbers_and_exports_of_two_processes_are_those_of_one(ran, tmp_path, place, alone):
    assert ran(tmp_path / "runs", lambda: commands(place, tmp_path / "two")) == [[0, 0, 0], [0, 0, 0]]
    one, two = contents(alone), contents(tmp_path / "two")
    assert sorted(one) == sorted(two) and len([name for name in one if name.startswith("path/color")]) == 3
    assert [name for name in one if one[name] != two[name]] == []
    assert one["path/summary.json"]["pixel"]["picture"] == 1 and len(one["numbers.json"]["scenes"]) == 2
    assert (tmp_path / "two/path/report.html").is_file()
    said = (tmp_path / "runs/0.out").read_text().splitlines()
    assert [line[:3] for line in said if "CPU-seconds" in line[:60]] == ["1/3", "2/3", "3/3"]
    assert [line.split("  ")[0] for line in said if " dB" in line] == [f"{place / 'scene'} 0", f"{place / 'scene'} 8"]
    assert (tmp_path / "runs/1.out").read_text() == (tmp_path / "runs/1.err").read_text() == ""


def test_a_view_that_the_second_process_measures_otherwise_would_be_noticed(ran, tmp_path, place, alone, monkeypatch):
    def other(model, case, protocol, seed, encoded=None, tell=None):
        fewer = replace(case, views=case.views[[0, 1]])
        return RENDER_CASE(model, case if os.environ["RANK"] == "0" else fewer, protocol, seed)

    monkeypatch.setattr(evaluate, "render_case", other)
    weights, numbers = place / "tiny.safetensors", tmp_path / "two.json"
    words = [place / "scene", "--checkpoint", weights, "--sources", "3", "--json", numbers]
    assert ran(tmp_path, lambda: command(evaluate, *words)) == [0, 0]
    one, two = (json.loads(file.read_text())["scenes"][0]["views"] for file in (alone / "numbers.json", numbers))
    assert [a["model"] == b["model"] for a, b in zip(one, two, strict=True)] == [True, False]


def failing_at(position: int, what: Callable[[], None]) -> Callable:
    def item(stream, asked):
        if asked == position:
            what()
        return SAMPLE(stream, asked)

    return item


def no_image() -> None:
    raise ValueError("images: expected a picture, got none")


def test_an_error_of_one_process_ends_both_with_one_line(ran, tmp_path, place, monkeypatch):
    monkeypatch.setattr(SampleStream, "__getitem__", failing_at(5, no_image))
    run = tmp_path / "out"
    words = [place / "tiny.toml", "--out", run, "--set", "log.evaluate_scenes=1"]
    assert ran(tmp_path, lambda: command(train_app, *words)) == [2, 2]
    first, second = ((tmp_path / f"{rank}.err").read_text().splitlines() for rank in range(2))
    assert second == ["train: error: images: expected a picture, got none (process 1 of 2)"]
    assert first == []
    assert read_tensors(run / STATE)[1]["step"] == 2 and load_model(run / STATE) is not None


def test_a_process_that_is_gone_ends_the_other(ran, tmp_path, place, monkeypatch):
    monkeypatch.setattr(SampleStream, "__getitem__", failing_at(5, lambda: os.kill(os.getpid(), signal.SIGKILL)))
    words = [place / "tiny.toml", "--out", tmp_path / "out", "--set", "log.evaluate_scenes=1"]
    statuses = ran(tmp_path, lambda: command(train_app, *words))
    assert statuses == [2, -signal.SIGKILL]
    assert "train: error: another process is gone" in (tmp_path / "0.err").read_text().splitlines()[-1]
    assert read_tensors(tmp_path / "out" / STATE)[1]["step"] == 2


def mistakes(place: Path, out: Path) -> list[int]:
    """Trainings that fail for the first process, for both, and by what both have told each other; one that does not."""
    own, few = int(os.environ["RANK"]) + 4, ["--set", "log.evaluate_scenes=1"]
    train = [train_app, place / "tiny.toml", "--out"]
    return [
        command(*train, out / "nothing", "--resume"),
        command(*train, out / "busy", *few),
        command(*train, out / "new", "--set", "data.batch=3"),
        command(*train, out / "new", *few, f"data.rays={own}"),
        command(*train, out / "new", *few, "optim.learning_rate=1e30"),
        command(train_app, "--finetune", place / "scene", "--out", out / "new"),
        command(verify, place / "scene"),
        command(*train, out / "short", *few, "--minutes", "1e-6"),
    ]


def test_mistakes_are_told_once(ran, tmp_path, place):
    with claimed(tmp_path / "busy"):
        assert ran(tmp_path, lambda: mistakes(place, tmp_path)) == [[2] * 7 + [0]] * 2
    first, second = ((tmp_path / f"{rank}.err").read_text().splitlines() for rank in range(2))
    errors = [line.split("error: ")[1] for line in first if "error" in line]
    assert errors == [
        f"--resume: no training.safetensors in {tmp_path / 'nothing'}",
        f"--out: another run is at work in {tmp_path / 'busy'}; wait for its end or stop it",
        "data.batch: expected a multiple of the number of processes, 2, got 3",
        "CONFIG: expected the same values for all processes, got different ones",
        "the loss is not finite at step 1, seed 0; the state of step 1 is kept; try a smaller optim.learning_rate",
        "--finetune: expected one process, as its steps are not shared, got 2",
        "torchrun: expected one process, as this work is not shared, got 2",
    ]
    # the last is told before they meet, where torchrun ends the second one for the first
    assert [line.split("error: ")[1] for line in second] == errors[-1:]
    assert read_tensors(tmp_path / "short" / STATE)[1]["step"] == 1


def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def torchrun(*options: str) -> list[str]:
    return [sys.executable, "-m", "torch.distributed.run", *options, str(ROOT / "tools/train.py")]


def logged(out: Path) -> list[dict]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("rays_per_second", "waiting")} for line in lines]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


@pytest.mark.timeout(300)
def test_torchrun_on_one_machine(tmp_path, place):
    torch.set_num_threads(1)
    assert command(train_app, place / "tiny.toml", "--out", tmp_path / "one") == 0
    words = [place / "tiny.toml", "--out", tmp_path / "two"]
    run = [*torchrun("--standalone", "--nproc-per-node", "2"), *map(str, words)]
    done = subprocess.run(run, env=environment(), capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    assert "of 2 x 8 rays on 2 processes" in done.stderr and done.stderr.count("step 4 of 4") == 1
    one, other = logged(tmp_path / "one"), logged(tmp_path / "two")
    assert [line["step"] for line in one] == [1, 2, 3, 4, 4] and "held-out/psnr" in one[-1]
    for line, expected in zip(other, one, strict=True):
        assert line == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_torchrun_on_two_machines_that_are_this_one(tmp_path, place):
    """Two agents of torchrun over loopback; neither the second nor its process writes anything."""
    assert command(train_app, place / "tiny.toml", "--out", tmp_path / "one") == 0
    options = ["--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d", "--rdzv-id", "test"]
    options += ["--rdzv-endpoint", f"localhost:{port()}"]
    runs = []
    for name in ("two", "nothing"):
        run = [*torchrun(*options), str(place / "tiny.toml"), "--out", str(tmp_path / name)]
        runs.append(subprocess.Popen(run, env=environment(), stderr=subprocess.PIPE, text=True))
    said = [run.communicate(timeout=280)[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    written = [name for name in ("two", "nothing") if (tmp_path / name).exists()]
    assert len(written) == 1 and sum("2 processes" in text for text in said) == 1
    for line, expected in zip(logged(tmp_path / written[0]), logged(tmp_path / "one"), strict=True):
        assert line == pytest.approx(expected, rel=1e-5)
