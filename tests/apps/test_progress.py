"""Bars on a terminal, which a pseudo-terminal stands for; elsewhere nothing."""

import fcntl
import os
import pty
import re
import struct
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from raytrans.apps import cli, evaluate, export, finetuning, import_photos, inspect_scene, progress, render, study
from raytrans.apps import shard as shard_app
from raytrans.apps import train as train_app
from raytrans.apps import verify as verify_app
from raytrans.apps.make_scenes import write_generated
from raytrans.apps.posing import largest_model, match
from raytrans.apps.progress import Beside, Progress, Stages
from raytrans.apps.studies import runs
from raytrans.data.generate import generated_scene
from raytrans.models.config import model_config
from raytrans.rendering.renderer import Renderer
from raytrans.training.checkpoint import save_model

SPEED, MEMORY, LEFT = r"\d[\d.]*[kM]? rays/s", r"\d+ MB", r"\[\d\d:\d\d<(\d\d:\d\d|\?)"


@contextmanager
def terminal(columns: int = 160) -> Iterator[list[str]]:
    """Stderr as a terminal for the block; what it was sent is in the list afterwards."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    sent, shown = [], []

    def read() -> None:
        while True:
            try:
                part = os.read(leader, 4096)
            except OSError:
                return
            if not part:
                return
            sent.append(part)

    reader = threading.Thread(target=read)
    reader.start()
    before, interval = sys.stderr, progress.INTERVAL
    with os.fdopen(follower, "w", buffering=1) as stream:
        sys.stderr, progress.INTERVAL = stream, 0.0
        try:
            yield shown
        finally:
            sys.stderr, progress.INTERVAL = before, interval
    reader.join(10)
    os.close(leader)
    shown.append(b"".join(sent).decode())


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A small scene with depth, and random weights."""
    torch.manual_seed(0)
    out = tmp_path_factory.mktemp("place")
    write_generated(out / "scene", generated_scene(3046, "easy", (24, 24), 6))
    save_model(out / "tiny.safetensors", Renderer(model_config("tiny")))
    return out


def words(place: Path, name: str, tmp_path: Path) -> tuple[object, list[object]]:
    """A command with its arguments."""
    scene, weights = place / "scene", ["--checkpoint", place / "tiny.safetensors"]
    small = ["--max-size", 8, "--sources", 2]
    return {
        "render": (render, [scene, "--out", tmp_path / "out", "--no-report", *weights, *small]),
        "evaluate": (evaluate, [scene, *weights, *small]),
        "export": (export, [scene, "--out", tmp_path / "out", "--views", 2, *weights, *small]),
        "verify": (verify_app, [scene, *weights, *small]),
        "inspect": (inspect_scene, [scene, "--out", tmp_path / "out", "--max-size", 24, "--views", 2]),
        "shard": (shard_app, [scene, "--out", tmp_path / "out", "--max-size", 8]),
        "finetune": (
            train_app,
            ["--finetune", scene, "--init", place / "tiny.safetensors", "--out", tmp_path / "out", "--no-report"]
            + ["--set", "steps=2", "rays=8", "max_size=8", "checks=1", "sources=2", "drawn=2"],
        ),
    }[name]


TRACES = ("render", "evaluate", "export", "verify", "finetune")


def run(app, arguments) -> int:
    return cli.run(app.main, app.parser(), [str(argument) for argument in arguments])


@pytest.mark.parametrize("name", [*TRACES, "inspect", "shard"])
def test_every_long_command_shows_time_left_and_memory_on_a_terminal(place, name, tmp_path, capfd):
    app, arguments = words(place, name, tmp_path)
    with terminal() as shown:
        status = run(app, arguments)
    assert status in (0, 1), shown
    assert re.search(LEFT, shown[0]) and re.search(MEMORY, shown[0])
    assert bool(re.search(SPEED, shown[0])) == (name in TRACES)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", ["render", "evaluate", "inspect", "shard"])
def test_nothing_is_shown_elsewhere(place, name, tmp_path, capfd):
    app, arguments = words(place, name, tmp_path)
    assert run(app, arguments) in (0, 1)
    out, err = capfd.readouterr()
    assert err == "" and "rays/s" not in out and " left" not in out and "\r" not in out


def test_training_shows_its_means_and_the_wait_for_data(tiny_config, tmp_path):
    settings = [
        "--out",
        tmp_path / "out",
        "--device",
        "cpu",
        "--no-report",
        "--set",
        "log.log_every=1",
        "optim.steps=4",
    ]
    with terminal() as shown:
        assert run(train_app, [tiny_config, *settings]) == 0
    for part in (SPEED, MEMORY, LEFT, r"psnr \d", r"waiting \d+%", "4/4 steps"):
        assert re.search(part, shown[0]), part


def test_a_study_counts_the_steps_of_all_its_models(tmp_path, monkeypatch):
    names = list(study.STUDIES["frames"].arms)[:2]
    monkeypatch.setattr(runs, "planned_arm", lambda folder, *_: runs.Arm(folder.name, (), runs.Budget(None, 3), 3, 1))
    monkeypatch.setattr(runs, "check_equal", lambda *_: None)
    monkeypatch.setattr(runs, "steps_done", lambda folder: 0)
    monkeypatch.setattr(runs, "trained", lambda folder, config, device, tell: [tell(1, 64) for _ in range(3)])
    monkeypatch.setattr(runs.Arm, "config", lambda *_: None)
    for name in ("held_out_views", "load", "score"):
        monkeypatch.setattr(study, name, lambda *_: [])
    arguments = study.parser().parse_args(["frames", "--out", str(tmp_path), "--seeds", "0", "1"])
    with terminal() as shown:
        study.run_study(study.STUDIES["frames"], names, arguments)
    assert "12/12 steps" in shown[0] and re.search(SPEED, shown[0])


def test_the_stages_of_an_import_are_named(tmp_path, monkeypatch):
    """By what pycolmap calls; the whole of it takes minutes."""
    calls = []

    class Quiet:
        """Stands for pycolmap, whose mapping registers five images after the first two."""

        class IncrementalPipelineOptions:
            pass

        class ImportedPairingOptions:
            pass

        class Device:
            cpu = "cpu"

        @staticmethod
        def match_image_pairs(*_, **__):
            calls.append("match")

        @staticmethod
        def incremental_mapping(*_, next_image_callback, **__):
            for _ in range(5):
                next_image_callback()
            return {}

    monkeypatch.setattr("raytrans.apps.posing.require_pycolmap", lambda: Quiet)
    told = []
    tell = lambda *what: told.append(what)  # noqa: E731
    match(tmp_path / "d", tmp_path, [("a", "b")] * 450, None, tell)
    assert told == [("matching pairs", 200, 450), ("matching pairs", 400, 450), ("matching pairs", 450, 450)]
    told.clear()
    largest_model(tmp_path / "d", tmp_path, tmp_path, 7, 1, told.append, tell)
    assert told == [("mapping images", n, 7) for n in range(3, 8)] and len(calls) == 3
    with terminal() as shown, Stages() as stages:
        for what in [("features of images", 3, 7), *told]:
            stages(*what)
    assert "features of images" in shown[0] and "3/7" in shown[0] and "mapping images" in shown[0]
    assert import_photos.Stages is Stages


def test_lines_stand_above_the_bar(capfd):
    """On stdout, which a terminal mixes with stderr: the bar goes, the line comes, the bar comes back."""
    with terminal() as shown, Progress("work", 10, "steps") as bar:
        bar(3)
        Beside(sys.stderr).write("a line\n")
        bar(1)
    before, after = shown[0].split("a line")
    assert before.rstrip(" ").endswith("\r") and "3/10 steps" in before
    assert "3/10 steps" in after


def test_progress_counts_where_nothing_is_shown():
    bar = Progress("work", 10, "steps", done=2)
    bar(3, rays=50)
    bar.to(9)
    bar.traced(1)
    assert bar.bar is None and bar.done == 10 and bar.rays == 51
    assert list(bar.over("ab")) == ["a", "b"]


def test_rates_are_those_of_the_rays_since_the_start(monkeypatch):
    clock = iter([0.0, 2.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with terminal() as shown, Progress("work", 20_000, "rays", done=5_000) as bar:
        bar.traced(10_000)
        bar.bar.refresh()
    assert "5.00k rays/s" in shown[0] and "15.0k/20.0k rays" in shown[0]


@pytest.mark.parametrize("absent", ["tqdm", "psutil"])
def test_it_does_without_what_is_not_installed(monkeypatch, absent):
    monkeypatch.setitem(sys.modules, absent, None)
    with terminal() as shown, Progress("work", 10, "steps") as bar:
        bar(10)
        cli.say("said")
    assert ("10/10 steps" in shown[0]) == (absent == "psutil") and not re.search(MEMORY, shown[0])


def test_one_of_several_processes_shows_it(monkeypatch):
    for name, value in (("TORCHELASTIC_RUN_ID", "x"), ("WORLD_SIZE", "2"), ("RANK", "1")):
        monkeypatch.setenv(name, value)
    with terminal() as shown, Progress("work", 10, "steps") as bar:
        bar(10)
    assert shown[0] == "" and finetuning.Progress is Progress


def test_a_terminal_that_does_not_know_how_wide_it_is_has_a_bar_too():
    with terminal(columns=0) as shown, Progress("rendering", 4, "rays") as bar:
        bar.traced(2)
    assert re.search(r"rendering  50% \|█+", shown[0])
