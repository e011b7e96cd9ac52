"""Pages that the commands write: from whole runs of them, against the JSON of the same run."""

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import raytrans
from raytrans.apps import cli, pixels
from raytrans.apps import evaluate as evaluate_app
from raytrans.apps import render as render_app
from raytrans.apps import train as train_app
from raytrans.apps import verify as verify_app
from raytrans.apps.reporting import chosen
from raytrans.data.generate import generated_scene
from raytrans.data.readers import open_scene
from raytrans.equivariance.report import Report, Row
from raytrans.export.files import write_depth_png, write_png, write_transforms
from raytrans.models.config import model_config
from raytrans.rendering.renderer import Renderer
from raytrans.reports.page import Page
from raytrans.training.checkpoint import save_model

COUNT, NAME = 10, "<script>alert(1)<"


def save_weights(path: Path, **options) -> None:
    torch.manual_seed(0)
    model = Renderer(model_config("tiny", **options))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    save_model(path, model)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A scene of ten views of 20x24 with depth, in a folder with a name of evil, and weights of two models."""
    folder = tmp_path_factory.mktemp("place")
    drawn = generated_scene(7, "easy", (20, 24), COUNT)
    for i in range(COUNT):
        write_png(folder / f"{NAME}/images/{i}.png", drawn.images[i])
        write_depth_png(folder / f"{NAME}/depth/{i}.png", drawn.depth[i], 1e-3)
    images, depths = ([f"{kind}/{i}.png" for i in range(COUNT)] for kind in ("images", "depth"))
    write_transforms(folder / NAME / "transforms.json", drawn.cameras, images, depths, 1e-3)
    save_weights(folder / "tiny.safetensors")
    save_weights(folder / "target.safetensors", directions="target")
    return folder


def run(app, place: Path, *more: object, weights: str = "tiny") -> int:
    arguments = [place / NAME, "--checkpoint", place / f"{weights}.safetensors", "--sources", "3", *more]
    return cli.run(app.main, app.parser(), [str(word) for word in arguments])


def test_render_writes_a_page_with_the_numbers_of_the_summary(place, tmp_path, read_html, capsys):
    assert run(render_app, place, "--out", tmp_path) == 0
    reader = read_html((tmp_path / "report.html").read_text())
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert reader.lacks_nothing() and f"Rendering of {place / NAME}" in reader.of("h1")
    shown = [("psnr", 1), ("psnr_nearest", 2), ("ssim", 3), ("depth_abs_rel", 4), ("depth_median", 5)]
    numbers = reader.numbers()
    assert numbers[:5] == [f"{summary[name]:.4g}" for name, _ in shown]
    rows = [numbers[5 + 9 * n : 14 + 9 * n] for n in range(2)]
    for row, view in zip(rows, summary["views"], strict=True):
        assert row[:2] == [str(view["number"]), str(view["view"])]
        assert row[2:7] == [f"{view[name]:.4g}" for name, _ in shown]
    for row in summary["pixel"]["sources"]:
        assert f"{row['share']:.4g}" in numbers and f"{row['angle']:.4g}" in numbers
    assert f"report: {tmp_path / 'report.html'}" in capsys.readouterr().out


def test_the_pixel_is_that_of_the_rendering_and_of_the_geometry(place, tmp_path):
    assert run(render_app, place, "--out", tmp_path, "--pixel", "1", "17", "6") == 0
    pixel = json.loads((tmp_path / "summary.json").read_text())["pixel"]
    assert (pixel["picture"], pixel["x"], pixel["y"]) == (1, 17, 6)
    scene, result = open_scene(place / NAME), open_scene(tmp_path)
    assert pixel["color"] == pytest.approx(result.image(1)[6, 17].tolist(), abs=0.5 / 255 + 1e-4)
    depth = np.load(tmp_path / "depth/0001.npy")[6, 17]
    assert pixel["depth"] == pytest.approx(float(depth), rel=1e-4)
    assert sum(row["share"] for row in pixel["sources"]) == pytest.approx(1, abs=1e-4)
    assert sum(row["attention"] for row in pixel["sources"]) == pytest.approx(1, abs=1e-4)
    camera = scene.cameras[8]
    k, pose = camera.intrinsics.numpy(), camera.world_from_camera.numpy()
    local = np.array([(17.5 - k[0, 2]) / k[0, 0], (6.5 - k[1, 2]) / k[1, 1], 1.0])
    point = pose[:3, 3] + pixel["depth"] * pose[:3, :3] @ local
    for row in pixel["sources"]:
        source = scene.cameras[row["view"]]
        toward = point - source.centers.numpy()
        axis = point - pose[:3, 3]
        cosine = toward @ axis / np.linalg.norm(toward) / np.linalg.norm(axis)
        assert row["angle"] == pytest.approx(np.degrees(np.arccos(cosine)), abs=0.01)
        assert row["distance"] == pytest.approx(np.linalg.norm(toward), rel=1e-4)
        seen = source.intrinsics.numpy() @ source.world_from_camera.numpy()[:3, :3].T @ toward
        inside = (seen[:2] / seen[2] >= 0).all() and (seen[:2] / seen[2] < [24, 20]).all()
        assert (row["place"] is not None) == bool(inside)
        if inside:
            assert row["place"] == pytest.approx((seen[:2] / seen[2]).tolist(), abs=0.01)


def test_a_rolled_camera_changes_the_answer_of_the_arm_that_reads_its_axes_only(place, tmp_path):
    changes = {}
    for weights in ("tiny", "target"):
        assert run(render_app, place, "--out", tmp_path / weights, weights=weights) == 0
        pixel = json.loads((tmp_path / weights / "summary.json").read_text())["pixel"]
        changes[weights] = [row["change"] for row in pixel["rolls"]]
    assert max(changes["tiny"]) < 1e-5 < 2e-4 < min(changes["target"])


def test_the_sure_pixel_is_sure_and_near_the_middle(place):
    model, scene = raytrans.load(place / "tiny.safetensors"), open_scene(place / NAME)
    out = raytrans.render(model, scene.views([1, 2, 3]), scene.cameras[0])
    x, y = pixels.sure_pixel(out)
    trust = out.opacity / (1 + (out.spread / (0.1 * out.distance)) ** 2)
    best = float(trust.nan_to_num(0.0).max())
    assert float(trust[y, x]) >= 0.9 * best
    nearer = [
        (i, j)
        for i in range(24)
        for j in range(20)
        if (i - 11.5) ** 2 + (j - 9.5) ** 2 < (x - 11.5) ** 2 + (y - 9.5) ** 2
    ]
    assert all(not float(trust[j, i]) >= 0.9 * best for i, j in nearer)


def test_a_page_that_is_not_wanted_is_not_written_and_changes_nothing_else(place, tmp_path):
    for name, more in (("with", ()), ("without", ("--no-report",))):
        assert run(render_app, place, "--out", tmp_path / name, "--max-size", "16", *more) == 0
    assert not (tmp_path / "without/report.html").exists()
    summary = json.loads((tmp_path / "without/summary.json").read_text())
    assert summary["pixel"] is None
    for file in sorted(path for path in (tmp_path / "without").rglob("*") if path.suffix in (".png", ".npy")):
        assert file.read_bytes() == (tmp_path / "with" / file.relative_to(tmp_path / "without")).read_bytes()
    assert run(render_app, place, "--out", tmp_path / "with", "--max-size", "16", "--no-report") == 0
    assert not (tmp_path / "with/report.html").exists()  # that of the earlier rendering


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("a fault")])
def test_a_page_that_fails_is_one_line_after_the_results(place, tmp_path, monkeypatch, capsys, error):
    def fail(page, path):
        assert (tmp_path / "summary.json").is_file() and not (tmp_path / "unfinished.json").exists()
        raise error

    monkeypatch.setattr(Page, "save", fail)
    assert run(render_app, place, "--out", tmp_path, "--max-size", "16") == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "the report" in line]
    assert len(lines) == 1 and lines[0].startswith("warning: the report") and str(error) in lines[0]


@pytest.mark.parametrize(
    "more, message",
    [
        (("--pixel", "2", "0", "0"), "--pixel: expected a picture from 0 to 1, got 2"),
        (("--pixel", "0", "24", "0"), "--pixel: expected a place in 24x20 pixels, got 24 0"),
        (("--pixel", "0", "-1", "0"), "expected a whole number of at least 0, got '-1'"),
        (("--pixel", "0", "1", "1", "--no-report"), "--pixel: expected without --no-report"),
    ],
)
def test_pixels_that_do_not_exist_are_refused(place, tmp_path, capsys, more, message):
    assert run(render_app, place, "--out", tmp_path / "out", *more) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_path_has_a_page_without_truth(place, tmp_path, read_html):
    assert run(render_app, place, "--out", tmp_path, "--views", "orbit", "--frames", "3", "--max-size", "12") == 0
    reader = read_html((tmp_path / "report.html").read_text())
    assert reader.lacks_nothing() and not any("target" in text for text in reader.of("figcaption"))


@pytest.mark.parametrize("more", [("--precision", "bfloat16"), ("--sources", "1")])
def test_other_arithmetic_and_a_single_source_have_a_page_too(place, tmp_path, capsys, more):
    assert run(render_app, place, "--out", tmp_path, "--max-size", "12", *more) == 0
    assert (tmp_path / "report.html").is_file() and "the report" not in capsys.readouterr().out
    pixel = json.loads((tmp_path / "summary.json").read_text())["pixel"]
    assert sum(row["share"] for row in pixel["sources"]) == pytest.approx(1, abs=0.02)
    assert (pixel["tolerance"] is None) == ("bfloat16" in more)


def test_cameras_at_one_place_have_a_page_without_lengths(place, tmp_path, capsys):
    meta = json.loads((place / NAME / "transforms.json").read_text())
    for frame in meta["frames"]:
        for row in frame["transform_matrix"][:3]:
            row[3] = 0.0
        del frame["depth_file_path"]
    shutil.copytree(place / NAME / "images", tmp_path / "turning/images")
    (tmp_path / "turning/transforms.json").write_text(json.dumps(meta))
    words = [
        tmp_path / "turning",
        "--checkpoint",
        place / "tiny.safetensors",
        "--out",
        tmp_path / "out",
        "--sources",
        3,
    ]
    words = [str(word) for word in [*words, "--max-size", 12]]
    assert cli.run(render_app.main, render_app.parser(), words) == 0
    pixel = json.loads((tmp_path / "out/summary.json").read_text())["pixel"]
    assert pixel["depth"] is None and all(row["distance"] is None for row in pixel["sources"])
    assert (tmp_path / "out/report.html").is_file() and "the report" not in capsys.readouterr().out


def test_evaluate_writes_a_page_of_every_scene(place, tmp_path, read_html):
    file, numbers = tmp_path / "new/page.html", tmp_path / "numbers.json"
    assert run(evaluate_app, place, "--report", file, "--json", numbers, "--protocol", "I/I", "I/roll") == 0
    reader, values = read_html(file.read_text()), json.loads(numbers.read_text())
    assert reader.lacks_nothing() and str(place / NAME) in reader.of("h2")
    cells = reader.numbers()
    for one in values["scenes"]:
        assert f"{one['worst_margin']:.4g}" in cells
        for method in ("model", "nearest", "mean", "sweep"):
            assert f"{one[method]['psnr']:.4g}" in cells
    captions = reader.of("figcaption")
    assert captions.count("view 8: target") == 1 and captions.count("its true z-depth") == 2


def test_verify_writes_a_page_of_its_contracts(place, tmp_path, read_html, monkeypatch):
    rows = Row("scale", 3e-7, 1e-4), Row("target_roll", 0.5, 1e-4), Row("mirror", 0.25)
    monkeypatch.setattr(verify_app, "check_model", lambda *_: Report(rows))
    file, numbers = tmp_path / "page.html", tmp_path / "numbers.json"
    assert run(verify_app, place, "--max-size", "12", "--report", file, "--json", numbers) == 1
    reader, values = read_html(file.read_text()), json.loads(numbers.read_text())
    assert reader.numbers() == ["3e-07", "0.0001", "0.5", "0.0001", "0.25"] and len(values["contracts"]) == 2
    assert reader.lacks_nothing() and "Broken: target_roll." in reader.of("p")
    assert len(reader.sources) == 1 + values["sources"] == 4


@pytest.mark.parametrize("app", [evaluate_app, verify_app])
def test_a_page_never_takes_the_place_of_the_scene(place, capsys, app):
    file = place / NAME / "transforms.json"
    before = file.read_text()
    assert run(app, place, "--report", file) == 2
    assert "--report" in capsys.readouterr().err and file.read_text() == before


def test_train_writes_a_page_of_its_curves(tiny_config, tmp_path, read_html, caplog):
    caplog.set_level(logging.INFO, "raytrans")
    for name, more in (("with", ()), ("without", ("--no-report",))):
        words = [tiny_config, "--out", tmp_path / name, "--device", "cpu", *more]
        assert cli.run(train_app.main, train_app.parser(), [str(word) for word in words]) == 0
    reader = read_html((tmp_path / "with/report.html").read_text())
    lines = [json.loads(line) for line in (tmp_path / "with/log.jsonl").read_text().splitlines()]
    assert reader.lacks_nothing() and len(reader.sources) == 1 and "3 of 3" in reader.of("td")
    color = [line["color"] for line in lines if "color" in line]
    assert {f"{color[0]:.4g}", f"{color[-1]:.4g}"} <= set(reader.numbers())
    assert not (tmp_path / "without/report.html").exists()


def test_pictures_run_from_the_worst_to_the_best():
    assert chosen([20.0, 10.0, 30.0, 25.0, 15.0], 3) == [1, 0, 2]
    assert chosen([None] * 5, 3) == [0, 2, 4] and chosen([3.0, None, 1.0], 6) == [0, 1, 2] and chosen([5.0], 3) == [0]
