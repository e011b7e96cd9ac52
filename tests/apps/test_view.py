"""The view command: what it refuses, in one line, and how it ends; what it serves is tested in tests/viewer/."""

import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from functools import partial
from pathlib import Path

import pytest
import torch

import raytrans
from raytrans.apps import cli
from raytrans.apps import view as app
from raytrans.apps.captures import Capture
from raytrans.data.readers import open_scene
from raytrans.models.config import model_config
from raytrans.rendering.renderer import Renderer
from raytrans.training.checkpoint import save_model

ROOT = Path(raytrans.__file__).parents[1]
SCENE = str(ROOT / "scenes" / "blocks")


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> str:
    file = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    torch.manual_seed(0)
    save_model(file, Renderer(model_config("tiny")))
    return str(file)


def run(*arguments: object) -> int:
    return cli.run(app.main, app.parser(), [str(argument) for argument in arguments])


def refused(capsys, *arguments: object) -> str:
    """The one line that a mistake becomes."""
    assert run(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith("view: error: ")
    return err


def test_mistakes_are_one_line(capsys, weights, tmp_path):
    assert "nowhere" in refused(capsys, tmp_path / "nowhere")
    for port in ("-1", "65536", "http", "8 0"):
        assert "argument --port: expected a port from 0 to 65535" in refused(capsys, SCENE, f"--port={port}")
    (tmp_path / "bad.safetensors").write_bytes(b"x" * 100)
    assert "bad.safetensors" in refused(capsys, SCENE, "--checkpoint", tmp_path / "bad.safetensors")
    assert "argument --sources" in refused(capsys, SCENE, "--sources", 0)
    assert "argument --cloud-views" in refused(capsys, SCENE, "--cloud-views", -1)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"got port {port} of 127.0.0.1" in refused(capsys, SCENE, "--checkpoint", weights, "--port", port)
    assert "nowhere.invalid" in refused(capsys, SCENE, "--checkpoint", weights, "--host", "nowhere.invalid")


def test_without_viser_the_extra_is_named(capsys, weights, monkeypatch):
    monkeypatch.setitem(sys.modules, "viser", None)
    assert "install the extra `view`" in refused(capsys, SCENE, "--checkpoint", weights)


def test_it_serves_until_ctrl_c(weights):
    command = [sys.executable, ROOT / "tools/view.py", SCENE, "--checkpoint", weights, "--port", "0"]
    command += ["--max-size", "32", "--cloud-views", "2"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    # shells let what runs in the background ignore Ctrl-C, and that is inherited
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(list(map(str, command)), **pipes, env=environment, preexec_fn=heed)
    timer = threading.Timer(60, process.kill)
    timer.start()
    try:
        line = process.stdout.readline()
        assert line.startswith(f"{SCENE}: http://127.0.0.1:"), process.stderr.read()
        with urllib.request.urlopen(line.split(": ", 1)[1].strip(), timeout=20) as page:
            assert page.status == 200 and b"<html" in page.read()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        timer.cancel()
        process.kill()
    assert (process.returncode, out, err) == (130, "", "view: error: interrupted\n")


def test_held_out_views_render_nothing(weights):
    capture = Capture(open_scene(SCENE), 3, 32)
    sources = app.sources_of(raytrans.load(weights), capture)
    held = set(capture.scene.split("holdout"))
    assert held and not held & set(sources.usable) and len(sources.cameras) == len(capture.scene)


def test_more_than_this_machine_is_warned_about(weights, capsys, monkeypatch):
    monkeypatch.setattr(app.Viewer, "run", lambda self: None)
    assert run(SCENE, "--checkpoint", weights, "--port", 0, "--cloud-views", 0, "--host", "0.0.0.0") == 0
    out = capsys.readouterr().out.splitlines()
    assert "http://localhost:" in out[0] and out[1].startswith("warning: everybody who can reach this machine")
