"""The study command from training to the page: its numbers by loops, arms that are equal, stops and mistakes."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import raytrans
from raytrans.apps import cli, study
from raytrans.apps.studies import runs, scores
from raytrans.apps.studies.arms import Study
from raytrans.data.generate import TEST_SETS as SETS
from raytrans.data.generate import generated_scene
from raytrans.export.files import write_png, write_transforms

ARMS = {"plain": (), "same": (), "target": ("model.directions=target",)}
COUNT = 10


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny_config) -> Path:
    """A capture of ten small views, a base configuration, and a page."""
    folder = tmp_path_factory.mktemp("study")
    drawn = generated_scene(11, "easy", (16, 20), COUNT)
    for i in range(COUNT):
        write_png(folder / f"capture/images/{i}.png", drawn.images[i])
    write_transforms(folder / "capture/transforms.json", drawn.cameras, [f"images/{i}.png" for i in range(COUNT)])
    shutil.copy(tiny_config, folder)
    (folder / "page.md").write_text("# Page\n<!-- arms -->\n<!-- /arms -->\nend\n")
    return folder


@pytest.fixture(autouse=True)
def _a_small_study(monkeypatch):
    monkeypatch.setitem(study.STUDIES, "arms", Study(ARMS, equal=True))


def run(place: Path, *more: object) -> int:
    words = ["arms", "--out", place / "runs", "--config", place / "tiny.toml", "--sources", "4", "--generated", "0"]
    words += ["--scenes", place / "capture", "--views", "1", *more]
    return cli.run(study.main, study.parser(), [str(word) for word in words])


def loop_psnr(first: np.ndarray, second: np.ndarray) -> float:
    total = sum((float(a) - float(b)) ** 2 for a, b in zip(first.ravel(), second.ravel(), strict=True))
    return -10 * np.log10(total / first.size)


@pytest.fixture(scope="module")
def done(place) -> Path:
    """The folder of a study of one step and two seeds; its numbers in numbers.json, its tables in page.md."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(study.STUDIES, "arms", Study(ARMS, equal=True))
        more = ["--steps", "1", "--seeds", "0", "1", "--protocol", "I/I", "I/SE3", "I/3"]
        assert run(place, *more, "--json", place / "numbers.json", "--write", place / "page.md") == 0
    return place / "runs"


def test_scores_are_those_of_the_renderings(place, done):
    scene = raytrans.open_scene(place / "capture")
    camera, truth = scene.cameras[0], scene.image(0).numpy()
    for arm in ARMS:
        rows = json.loads((done / arm / "1" / scores.SCORES).read_text())["scores"]
        found = {row["protocol"]: row["psnr"] for row in rows}
        model = raytrans.load(done / arm / "1")
        assert model.config.directions == ("target" if arm == "target" else "none")
        for protocol, count in (("I/I", 4), ("I/SE3", 4), ("I/3", 3)):
            chosen = sorted(scene.nearest(camera, count, exclude=[0, 8]))
            color = raytrans.render(model, scene.views(chosen), camera).color.numpy()
            assert found[protocol] == pytest.approx(loop_psnr(color, truth), abs=2e-3)
        assert {(row["set"], row["scene"], row["view"], row["sources"]) for row in rows} == {
            ("captures", "capture", "0", 4)
        }


def test_arms_that_are_equal_do_not_differ(place, done):
    values = json.loads((place / "numbers.json").read_text())
    compared = {(one["arm"], one["group"][-1]): one["paired"] for one in values["comparisons"]}
    assert set(compared) == {(arm, protocol) for arm in ("same", "target") for protocol in ("I/I", "I/SE3", "I/3")}
    for (arm, _), paired in compared.items():
        assert (paired["scenes"], paired["seeds"]) == (1, 2)
        assert (paired["mean"] == 0 and paired["deviation"] == 0) == (arm == "same")
    steps = {one["name"]: one["steps"] for one in values["arms"]}
    assert steps == dict.fromkeys(ARMS, 1)


def test_the_page_has_the_tables_and_keeps_the_rest(place, done):
    page = (place / "page.md").read_text()
    assert page.startswith("# Page\n<!-- arms -->\n") and page.endswith("\n<!-- /arms -->\nend\n")
    for line in ("| captures | 64 | 4 | I/SE3 | same | +0.00 | 0.00 | 0.00 | 0 of 1 | 2 |", "Mean SSIM:"):
        assert line in page


def test_what_is_there_is_neither_trained_nor_measured_again(place, done, monkeypatch, capsys):
    monkeypatch.setattr(runs, "train", None)
    monkeypatch.setattr(scores, "render_case", None)
    assert run(place, "--seeds", "0", "1", "--protocol", "I/SE3", "I/3") == 0
    assert run(place, "--table", "--arms", "plain", "same", "--seeds", "0") == 0
    assert "| " not in capsys.readouterr().out


def test_new_protocols_and_sizes_join_the_scores_that_are_there(place, done):
    file = done / "same/0" / scores.SCORES
    before = json.loads(file.read_text())["scores"]
    assert run(place, "--arms", "same", "--seeds", "0", "--max-size", "12", "--protocol", "I/disc") == 0
    after = json.loads(file.read_text())["scores"]
    assert after[: len(before)] == before
    assert [(row["size"], row["protocol"]) for row in after[len(before) :]] == [(12, "I/disc")]


def test_scores_of_other_weights_are_not_believed(done):
    folder = done / "plain/0"
    assert scores.read_scores(folder)
    values = json.loads((folder / scores.SCORES).read_text())
    (done / "other").mkdir()
    (done / "other/model.safetensors").write_bytes((done / "target/0/model.safetensors").read_bytes())
    (done / "other" / scores.SCORES).write_text(json.dumps(values))
    assert scores.read_scores(done / "other") == []
    (done / "other" / scores.SCORES).write_text("[")
    with pytest.raises(ValueError, match="damaged"):
        scores.read_scores(done / "other")


def test_what_was_measured_before_ctrl_c_is_kept(place, done, tmp_path, monkeypatch):
    (tmp_path / "model.safetensors").write_bytes((done / "plain/0/model.safetensors").read_bytes())
    wanted = scores.Evaluation(0, (place / "capture",), 2, 3, 16, ("I/I",))
    views, measure = list(scores.held_out_views(wanted)), scores.scored

    def stop_at_the_second(model, view, *rest):
        if view.case.name == "8":
            raise KeyboardInterrupt
        return measure(model, view, *rest)

    monkeypatch.setattr(scores, "scored", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        scores.score(tmp_path, raytrans.load(tmp_path), views, wanted)
    assert [row["view"] for row in scores.read_scores(tmp_path)] == ["0"]


def test_a_run_that_diverges_is_left_out(place, tmp_path, monkeypatch, capsys):
    def diverge(*arguments, **options):
        raise FloatingPointError("the loss is not finite at step 0")

    monkeypatch.setattr(runs, "train", diverge)
    assert run(place, "--out", tmp_path / "runs", "--steps", "1", "--seeds", "5") == 0
    assert "plain, seed 5: the loss is not finite at step 0" in capsys.readouterr().out


def test_generated_scenes_are_a_view_each_of_both_sets(monkeypatch):
    small = {name: [generated_scene(seed, name, (12, 12), COUNT) for seed in seeds[:2]] for name, seeds in SETS.items()}
    monkeypatch.setattr(scores, "test_set", small.__getitem__)
    wanted = scores.Evaluation(1, (), 2, 6, 64, ("I/I",))
    found = [(one.set, one.scene, one.case.name, one.size) for one in scores.held_out_views(wanted)]
    assert found == [("easy", "1000", "1000/0", 12), ("full", "2000", "2000/0", 12)]


def test_without_the_repository_a_study_says_what_it_needs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.run(study.main, study.parser(), ["arms", "--out", "runs"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("study: error: --config: no such file configs/study.toml; ") and error.count("\n") == 1
    assert "clone of the repository" in error and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["--arms", "nobody"], "nobody"),
        (["--steps", "2"], "other budget"),
        (["--steps", "2", "--minutes", "1"], "not allowed with"),
        (["--minutes", "1", "--device", "cuda"], "--minutes"),
        (["--write", "nowhere.md"], "nowhere.md"),
        (["--scenes", "nowhere"], "nowhere"),
        (["--scenes", "one/scene", "two/scene"], "'scene' twice"),
        (["--config", "nowhere.toml", "--out", "fresh"], "nowhere.toml"),
    ],
)
def test_mistakes_are_one_line_and_status_2(place, done, capsys, more, named):
    assert run(place, *more) == 2
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 1 and error[0].startswith("study: error: ") and named in error[0]
