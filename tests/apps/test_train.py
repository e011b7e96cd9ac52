import errno
import json
import logging
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from raytrans.apps import cli
from raytrans.apps import train as train_app
from raytrans.data.generate import generated_scene
from raytrans.export.files import write_png, write_transforms
from raytrans.training import loop
from raytrans.training.config import read_config
from raytrans.training.loop import RunOptions, train


@pytest.fixture
def told(caplog) -> list[str]:
    """What the commands log, a line each."""
    caplog.set_level(logging.INFO, "raytrans")
    return caplog.messages


def run(config: Path, out: Path, *arguments: object) -> int:
    words = [config, "--out", out, "--device", "cpu", *arguments]
    return cli.run(train_app.main, train_app.parser(), [str(word) for word in words])


def capture(folder: Path, count: int = 3, apart: bool = True, near: float | None = None) -> Path:
    """A folder of photographs whose cameras stand apart, or all where the first one stands."""
    drawn = generated_scene(7, "easy", (12, 12), count)
    for i in range(count):
        write_png(folder / f"{i}.png", drawn.images[i])
    write_transforms(folder / "transforms.json", drawn.cameras, [f"{i}.png" for i in range(count)])
    meta = json.loads((folder / "transforms.json").read_text())
    for frame in meta["frames"]:
        for row, first in zip(frame["transform_matrix"], meta["frames"][0]["transform_matrix"], strict=True):
            row[3] = row[3] if apart else first[3]
        if near is not None:
            frame["near"] = near
    (folder / "transforms.json").write_text(json.dumps(meta))
    return folder


def folders(*paths: Path) -> list[str]:
    return ["--set", f"data.folders={json.dumps([str(path) for path in paths])}", "data.folder_share=1.0"]


def test_the_first_line_says_what_will_be_done_and_the_last_what_is_written_where(tiny_config, tmp_path, caplog, told):
    scene, out = capture(tmp_path / "scene"), tmp_path / "out"
    assert run(tiny_config, out, *folders(scene)) == 0
    count = sum(value.numel() for value in load_file(out / "model.safetensors").values())
    first, last = caplog.messages[0], caplog.messages[-1]
    for part in (
        "size tiny",
        f"{count:,} parameters",
        "steps 1 to 3 of 8 rays",
        "cpu",
        "scenes on disk: 1",
        "every 2 steps",
    ):
        assert part in first
    assert "step 3 of 3" in last
    named = [Path(text.rstrip(",")) for text in re.findall(r"in (\S+)", last)]
    assert {path.name for path in named} >= {"model.safetensors", "training.safetensors"}
    assert all(path.exists() and path.parent == out for path in named)


def test_a_finished_run_that_is_resumed_says_so(tiny_config, tmp_path, caplog, told):
    assert run(tiny_config, tmp_path / "out") == 0
    caplog.clear()
    assert run(tiny_config, tmp_path / "out", "--resume", "--json", tmp_path / "numbers.json") == 0
    assert caplog.messages[0] == "already at step 3 of 3, nothing to do"
    assert json.loads((tmp_path / "numbers.json").read_text())["step"] == 3


def test_weights_to_start_from_may_be_the_folder_of_a_run(tiny_config, tmp_path, capsys, caplog, told):
    first, second = tmp_path / "first", tmp_path / "second"
    assert run(tiny_config, first) == 0
    assert run(tiny_config, second, "--init", first, "--set", "optim.steps=1", "optim.learning_rate=1e-12") == 0
    before, after = (load_file(folder / "model.safetensors") for folder in (first, second))
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, rtol=0, atol=1e-9)
    capsys.readouterr()
    assert run(tiny_config, tmp_path / "third", "--init", tmp_path) == 2
    assert f"--init: no such file {tmp_path / 'model.safetensors'}" in capsys.readouterr().err


def test_the_numbers_are_those_of_the_steps_up_to_the_end(tiny_config, tmp_path):
    settings = ["optim.steps=5", "log.evaluate_every=4"]
    assert run(tiny_config, tmp_path / "out", "--json", tmp_path / "numbers.json", "--set", *settings) == 0
    numbers, values = json.loads((tmp_path / "numbers.json").read_text()), {}
    train(read_config(tiny_config, settings), RunOptions(tmp_path / "again"), [], None, values.__setitem__)
    assert sorted(values) == [1, 2, 3, 4, 5]
    assert numbers["step"] == 5 and numbers["held-out/step"] == 4
    assert numbers["color"] == pytest.approx(values[5]["color"], rel=1e-6)
    assert numbers["color"] != pytest.approx((values[3]["color"] + values[4]["color"]) / 2, rel=1e-6)


def test_rates_count_only_steps_that_were_timed(tiny_config, tmp_path, monkeypatch):
    clock = iter(range(0, 1000, 2))
    monkeypatch.setattr(train_app.time, "monotonic", lambda: float(next(clock)))
    report = train_app.Report(read_config(tiny_config), tmp_path)
    for step in (1, 2):
        report(step, {"color": 0.1, "waited": 0.5})
    assert report.last["rays_per_second"] == 8 / 2  # one step of 8 rays between two looks at the clock
    assert report.last["waiting"] == 0.5 / 2 and "waited" not in report.last
    report.close()
    alone = train_app.Report(read_config(tiny_config), tmp_path)
    alone(1, {"color": 0.1, "waited": 0.5})
    alone.close()
    assert alone.last["psnr"] == pytest.approx(10) and not {"rays_per_second", "waiting"} & set(alone.last)


def test_resuming_without_the_settings_says_to_repeat_them(tiny_config, tmp_path, capsys):
    assert run(tiny_config, tmp_path / "out", "--set", "data.rays=4", "log.log_every=1") == 0
    assert run(tiny_config, tmp_path / "out", "--resume") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "data.rays: 4 -> 8; repeat its CONFIG, --set and --precision" in error and "log_every" not in error
    assert run(tiny_config, tmp_path / "out", "--resume", "--set", "data.rays=4") == 0


def test_a_folder_whose_cameras_share_one_place_is_refused_when_it_is_opened(tiny_config, tmp_path, capsys):
    good, bad = capture(tmp_path / "good"), capture(tmp_path / "bad", apart=False)
    assert run(tiny_config, tmp_path / "out", *folders(good, bad)) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "data.folders" in error and str(bad) in error and "different places" in error
    assert not (tmp_path / "out").exists()
    bounded = capture(tmp_path / "bounded", apart=False, near=1.0)
    assert run(tiny_config, tmp_path / "out", *folders(bounded)) == 0


@pytest.mark.parametrize("content", [b"no picture", b""])
def test_a_photograph_that_cannot_be_read_is_named_before_training(tiny_config, tmp_path, capsys, content):
    scene = capture(tmp_path / "scene", 4)
    (scene / "3.png").write_bytes(content)
    assert run(tiny_config, tmp_path / "out", *folders(scene)) == 2
    assert str(scene / "3.png") in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def lines_of(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def test_the_log_of_a_resumed_run_is_that_of_the_uninterrupted_one(tiny_config, tmp_path, told):
    """Killed in the line of step 6, with the state of step 1: steps 2 to 6 are done again, and logged once."""
    settings = ["--set", "optim.steps=6", "log.log_every=1", "log.evaluate_every=2"]
    assert run(tiny_config, tmp_path / "whole", *settings) == 0
    whole = lines_of(tmp_path / "whole")
    assert [line["step"] for line in whole] == [1, 2, 2, 3, 4, 4, 5, 6, 6]
    assert [line["step"] for line in whole if "held-out/psnr" in line] == [2, 4, 6]

    assert run(tiny_config, tmp_path / "parts", *settings, "--minutes", "1e-6") == 0
    text = (tmp_path / "whole" / "log.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "parts" / "log.jsonl").write_text("".join(text[:7]) + '{"step": 6, "col')
    assert run(tiny_config, tmp_path / "parts", *settings, "--resume") == 0
    timeless = [
        [{k: v for k, v in x.items() if k not in ("rays_per_second", "waiting")} for x in lines_of(tmp_path / name)]
        for name in ("whole", "parts")
    ]
    assert timeless[0] == timeless[1]


def test_a_run_that_begins_leaves_nothing_of_an_older_log(tiny_config, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "log.jsonl").write_text('{"step": 700, "color": 0.5}\n')
    assert run(tiny_config, tmp_path / "out") == 0
    lines = lines_of(tmp_path / "out")
    assert [line["step"] for line in lines] == [2, 3] and all(line["color"] != 0.5 for line in lines)


def test_a_full_disk_ends_the_curves_and_not_the_training(tiny_config, tmp_path, monkeypatch, caplog):
    from torch.utils import tensorboard

    class Full:
        def __init__(self, folder):
            pass

        def add_scalar(self, *values):
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self):
            raise AssertionError("closed after it had failed")

    monkeypatch.setattr(tensorboard, "SummaryWriter", Full)
    assert run(tiny_config, tmp_path / "run") == 0
    assert len(lines_of(tmp_path / "run")) >= 2
    assert [r.levelname for r in caplog.records if "no more curves for tensorboard" in r.message] == ["WARNING"]


def test_a_run_that_is_refused_leaves_nothing_in_the_folder_of_the_other(tiny_config, tmp_path, capsys, monkeypatch):
    """The claim is that of another process here, which `tests/training/test_crash.py` has in truth."""

    def taken(folder):
        raise ValueError(f"--out: another run trains in {folder}")

    monkeypatch.setattr(loop, "claimed", taken)
    assert run(tiny_config, tmp_path / "run") == 2
    assert list(tmp_path.rglob("run/*")) == [] and "another run trains" in capsys.readouterr().err
