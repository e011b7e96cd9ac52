"""`curves` on a small log: a small picture and the numbers."""

import json
import re

import cv2
import numpy as np
import pytest

from raytrans.apps import cli
from raytrans.apps import curves as app


def run(*words: object) -> int:
    return cli.run(app.main, app.parser(), [str(word) for word in words])


@pytest.fixture
def log(tmp_path):
    rng = np.random.default_rng(0)
    names = ("color", "opacity", "depth", "proposal", "sweep", "total", "psnr")
    lines = [{"step": s, **dict(zip(names, rng.random(7).tolist(), strict=True))} for s in range(50, 10050, 50)]
    lines += [{"step": 1000 * k, "held-out/psnr": 20.0 + k, "held-out/depth": 1 / (k + 1)} for k in range(1, 11)]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path / "mine"


def test_a_folder_becomes_a_small_picture_and_a_table(log, tmp_path, capsys):
    assert run(log, "--out", tmp_path / "c.png", "--json", tmp_path / "c.json") == 0
    assert (tmp_path / "c.png").stat().st_size < 60_000
    assert cv2.imread(str(tmp_path / "c.png")).std() > 5
    said = capsys.readouterr().out
    last = [line for line in said.splitlines() if re.match(r" *10000 ", line)]
    assert len(last) == 1 and "30" in last[0].split() and "0.09091" in last[0].split()
    held = json.loads((tmp_path / "c.json").read_text())["mine"]["held-out/psnr"]
    assert held == {"step": [1000.0 * k for k in range(1, 11)], "value": [20.0 + k for k in range(1, 11)]}


def test_bad_logs_are_named(log, tmp_path, capsys):
    for words, named in (
        ((log,), "--out: expected a .png file"),
        ((tmp_path / "none",), "log: no such file"),
        ((log, log / "log.jsonl"), "expected folders of different names, got mine twice"),
    ):
        out = "c.jpg" if "png" in named else "c.png"
        assert run(*words, "--out", tmp_path / out) == 2
        assert named in capsys.readouterr().err
    (log / "log.jsonl").write_text('{"step": 3}\n')
    assert run(log, "--out", tmp_path / "c.png") == 2
    assert "expected lines with one of color" in capsys.readouterr().err and not (tmp_path / "c.png").exists()
