"""The command that puts scenes into shards."""

import json

import pytest

from raytrans.apps import cli, shard
from raytrans.apps import train as train_app
from raytrans.apps.make_scenes import write_generated
from raytrans.data.generate import generated_scene
from raytrans.data.shards import Shards


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    out = tmp_path_factory.mktemp("scenes")
    for seed, name in enumerate(("a scene", "b.c", "d")):
        write_generated(out / name, generated_scene(seed, "easy", (12, 12), 4))
    (out / "e").mkdir()
    return out


def run(*arguments: object) -> int:
    return cli.run(shard.main, shard.parser(), [str(argument) for argument in arguments])


def test_scenes_go_in_and_train_takes_them_out(scenes, tiny_config, tmp_path, capsys, caplog):
    out, numbers = tmp_path / "shards", tmp_path / "numbers.json"
    assert run(f"{scenes}/*", "--out", out, "--max-size", 8, "--megabytes", 0.005, "--json", numbers) == 0
    said, values = capsys.readouterr(), json.loads(numbers.read_text())
    assert said.err == "" and f"warning: left out: {scenes / 'e'}" in said.out and "3 scenes in" in said.out
    assert values["scenes"] == 3 and list(values["left_out"]) == [str(scenes / "e")]
    assert values["bytes"] == sum(file.stat().st_size for file in out.iterdir()) and len(values["files"]) > 1
    shards = Shards.of([f"{out}/*.tar"])
    with shards.opened(1) as scene:
        assert scene.path.name == "000001-b.json" and scene.image(0).shape == (8, 8, 3)
    words = said.out.splitlines()[-1].partition("--set ")[2].replace("'", "").split()
    settings = ["--device", "cpu", "--out", str(tmp_path / "run"), "--set", *words, "data.rays=4"]
    assert cli.run(train_app.main, train_app.parser(), [str(tiny_config), *settings]) == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere", "--out", "new"], "expected one that can be read, got none: nowhere: no such file"),
        (["x*", "--out", "new"], "x* names no scene"),
        (["x*", "--out", "full"], "--out: expected a new or empty folder"),
        (["x*", "--out", "new", "--jpeg", "101"], "expected a whole number from 1 to 100"),
        (["x*", "--out", "new", "--megabytes", "0"], "expected a number above 0"),
    ],
)
def test_mistakes_of_the_call_are_one_line_and_status_2(arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    assert run(*arguments) == 2
    err = capsys.readouterr().err
    assert words in err and err.count("\n") == 1 and not (tmp_path / "new").exists()
