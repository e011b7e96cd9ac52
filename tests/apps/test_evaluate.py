"""The evaluate command: its numbers against loops, its protocols against the renderings they must not change."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import raytrans
from raytrans.apps import cli
from raytrans.apps import evaluate as app
from raytrans.apps.captures import Capture
from raytrans.apps.evaluate import PROTOCOLS, Case, Scores
from raytrans.data.generate import generated_scene
from raytrans.data.generate import scene as scene_module
from raytrans.data.images import read_image
from raytrans.data.selection import nearest
from raytrans.data.views import Views
from raytrans.export.files import write_depth_png, write_png, write_transforms
from raytrans.models.config import model_config
from raytrans.rendering.renderer import Renderer
from raytrans.reports.pictures import SHEET_GAP, SHEET_HEIGHT
from raytrans.training.checkpoint import save_model

COUNT = 10
EXACT = ("I/I", "I/SE3", "I/roll", "I/target-roll")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A scene of ten views of 24x30 without depth, in `scene`, and untrained weights in `tiny.safetensors`."""
    folder = tmp_path_factory.mktemp("evaluate")
    drawn = generated_scene(11, "easy", (24, 30), COUNT)
    for i in range(COUNT):
        write_png(folder / f"scene/images/{i}.png", drawn.images[i])
    write_transforms(folder / "scene/transforms.json", drawn.cameras, [f"images/{i}.png" for i in range(COUNT)])
    torch.manual_seed(0)
    save_model(folder / "tiny.safetensors", Renderer(model_config("tiny")))
    return folder


@pytest.fixture(scope="module")
def case() -> Case:
    return next(app.generated_cases(generated_scene(5, "full", (20, 23), COUNT), 4))


def run(place: Path, *more: str) -> int:
    arguments = [str(place / "scene"), "--checkpoint", str(place / "tiny.safetensors"), "--sources", "3"]
    return cli.run(app.main, app.parser(), [*arguments, *more])


def loop_psnr(first: np.ndarray, second: np.ndarray) -> float:
    total = sum((float(a) - float(b)) ** 2 for a, b in zip(first.ravel(), second.ravel(), strict=True))
    return -10 * np.log10(total / first.size)


def test_numbers_table_and_sheet(place, tmp_path, capsys):
    out, sheet = tmp_path / "numbers.json", tmp_path / "sheet.png"
    assert run(place, "--json", str(out), "--contact-sheet", str(sheet), "--protocol", "I/I", "I/roll") == 0
    results = json.loads(out.read_text())["scenes"]
    assert [one["protocol"] for one in results] == ["I/I", "I/roll"]
    scene, model = raytrans.open_scene(place / "scene"), raytrans.load(place / "tiny.safetensors")
    margins = []
    for row, index in zip(results[0]["views"], (0, 8), strict=True):
        camera, truth = scene.cameras[index], scene.image(index).numpy()
        chosen = scene.nearest(camera, 3, exclude=[0, 8])
        color = raytrans.render(model, scene.views(sorted(chosen)), camera).color.numpy()
        expected = loop_psnr(color, truth), loop_psnr(scene.image(chosen[0]).numpy(), truth)
        assert (row["model"]["psnr"], row["nearest"]["psnr"]) == pytest.approx(expected, abs=1e-3)
        margins.append(expected[0] - expected[1])
    assert results[0]["worst_margin"] == pytest.approx(min(margins), abs=1e-3)
    assert results[0]["model"]["depth_mean"] is None and results[0]["sweep"]["ssim"] <= 1
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("nearest", "mean", "sweep", "model", "margin", "I/roll"))
    assert read_image(sheet).shape[0] <= SHEET_HEIGHT + SHEET_GAP


def test_sources_from_all_over_a_capture_by_a_loop(place):
    scene = raytrans.open_scene(place / "scene")
    near, spread = (Capture(scene, 4, 16, spread).sources(scene.cameras[0], 0) for spread in (False, True))
    usable, centers = scene.split("train"), scene.cameras.centers.numpy()
    first = scene.nearest(scene.cameras[0], len(usable), exclude=scene.split("holdout"))[:2]
    chosen = list(first)
    while len(chosen) < 4:
        others = [i for i in usable if i not in chosen]
        chosen.append(max(others, key=lambda i: min(np.linalg.norm(centers[i] - centers[k]) for k in chosen)))
    assert spread == sorted(chosen) != near and set(first) <= set(near)


def test_some_of_the_held_out_views(place, tmp_path):
    assert run(place, "--views", "1", "--json", str(tmp_path / "numbers.json")) == 0
    (one,) = json.loads((tmp_path / "numbers.json").read_text())["scenes"]
    assert [row["view"] for row in one["views"]] == ["0"]


@pytest.mark.parametrize("protocol", EXACT)
def test_no_exact_protocol_changes_what_an_equivariant_model_renders(case, protocol):
    torch.manual_seed(1)
    model = Renderer(model_config("tiny")).eval()
    plain = raytrans.render(model, case.views, case.camera)
    color, depth = app.render_case(model, case, protocol, 3)
    torch.testing.assert_close(color, plain.color, rtol=0, atol=1e-4)
    torch.testing.assert_close(depth, plain.depth, rtol=1e-3, atol=0, equal_nan=True)


def test_the_other_protocols_change_the_sources_as_they_say(case):
    assert set(PROTOCOLS) == {*EXACT, "I/any-roll", "I/disc", "I/3"}
    torch.manual_seed(1)
    model = Renderer(model_config("tiny")).eval()
    order = nearest(case.views.cameras, case.camera, 4)
    three = raytrans.render(model, case.views[sorted(order[:3])], case.camera).color
    torch.testing.assert_close(app.render_case(model, case, "I/3", 3)[0], three, rtol=0, atol=1e-6)
    grey = []
    for image, camera in case.views:
        y, x = np.mgrid[0 : image.shape[0], 0 : image.shape[1]] + 0.5
        fx, fy, cx, cy = (float(camera.intrinsics[i, j]) for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
        radius = np.hypot((x - cx) / fx, (y - cy) / fy)
        edge = min(radius[0].min(), radius[-1].min(), radius[:, 0].min(), radius[:, -1].min())
        grey.append(torch.where(torch.as_tensor(radius <= edge + 1e-9)[..., None], image, torch.tensor(0.5)))
    disc = raytrans.render(model, Views(grey, case.views.cameras), case.camera).color
    torch.testing.assert_close(app.render_case(model, case, "I/disc", 3)[0], disc, rtol=0, atol=1e-3)
    assert (app.render_case(model, case, "I/any-roll", 3)[0] - disc).abs().max() > 1e-2


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_sources_encoded_beforehand_serve_the_protocols_that_leave_them_alone(case, protocol):
    torch.manual_seed(1)
    model = Renderer(model_config("tiny")).eval()
    others = Views([image.flip(1) for image in case.views.images], case.views.cameras)
    given = app.render_case(model, case, protocol, 3)[0]
    torch.testing.assert_close(app.render_case(model, case, protocol, 3, raytrans.encode(model, case.views))[0], given)
    used = not torch.equal(app.render_case(model, case, protocol, 3, raytrans.encode(model, others))[0], given)
    assert used == (protocol in ("I/I", "I/target-roll"))


@pytest.mark.parametrize(
    ("change", "protocol"),
    [
        ({"directions": "world"}, "I/SE3"),
        ({"directions": "target"}, "I/target-roll"),
        ({"encoder": "plain"}, "I/roll"),
    ],
)
def test_the_controls_are_caught_by_their_protocol(case, change, protocol):
    torch.manual_seed(1)
    model = Renderer(model_config("tiny").with_changes(**change)).eval()
    plain = raytrans.render(model, case.views, case.camera).color
    assert (app.render_case(model, case, protocol, 3)[0] - plain).abs().max() > 1e-3


def test_sources_of_the_test_sets_leave_the_targets_out():
    scene = generated_scene(1000, "easy", (12, 12), COUNT)
    cases = list(app.generated_cases(scene, 6))
    assert [c.name for c in cases] == ["1000/0", "1000/8"]
    held_out = [scene.images[0], scene.images[8]]
    for case in cases:
        assert len(case.views) == 6
        assert not any(torch.equal(image, other) for image in case.views.images for other in held_out)


def test_the_larger_test_sets_are_the_same_scenes_at_128_pixels_from_eight_sources(monkeypatch):
    drawing = scene_module.rendered_view

    def target_alone(stage, shots, index):
        if index == 0:
            return drawing(stage, shots, index)
        height, width = (int(side) for side in shots.sizes[index])
        return torch.zeros(height, width, 3), torch.ones(height, width)

    # the pictures of the sources are not looked at, and would take most of the time
    monkeypatch.setattr(scene_module, "rendered_view", target_alone)
    case, small = next(app.set_cases("full-128")), next(app.set_cases("full"))
    assert case.image.shape == (128, 128, 3) and small.image.shape == (64, 64, 3)
    assert (len(case.views), len(small.views)) == (8, 6) and case.name == small.name
    torch.testing.assert_close(case.camera.world_from_camera, small.camera.world_from_camera)
    assert (case.image.unflatten(0, (64, 2)).unflatten(2, (64, 2)).mean((1, 3)) - small.image).abs().mean() < 0.02


def test_depth_errors_are_pooled_over_pixels_of_all_views(case):
    scores, errors = Scores(), []
    for scale in (1.1, 1.5):
        scores.add(case.image, case.depth * scale, case)
        errors += [scale - 1] * int(torch.isfinite(case.depth).sum())
    values = scores.values()
    assert values["depth_mean"] == pytest.approx(np.mean(errors), rel=1e-5)
    assert values["depth_median"] == pytest.approx(sorted(errors)[(len(errors) - 1) // 2], rel=1e-5)
    assert values["depth_close"] == 0
    scores.add(case.image, case.depth * 1.02, case)
    assert scores.values()["depth_close"] == pytest.approx(1 / 3)


def test_depth_metrics_are_means_over_the_views(case):
    scores = Scores()
    for factor in (1.1, 1.3):
        scores.add(case.image, case.depth * factor, case)
    values = scores.values()
    assert values["depth_metrics"]["abs_rel"] == pytest.approx(0.2, rel=1e-5)
    assert values["depth_metrics"]["delta_1"] == pytest.approx(0.5)
    assert values["depth_metrics"]["rmse_log"] == pytest.approx(np.log([1.1, 1.3]).mean(), rel=1e-5)
    assert values["depth_metrics_scaled"]["abs_rel"] == pytest.approx(0, abs=1e-6)
    assert Scores().values()["depth_metrics"] is None


def test_depth_metrics_are_printed_and_written_where_depth_is_known(place, tmp_path, capsys):
    drawn = generated_scene(11, "easy", (24, 30), COUNT)
    for i in range(COUNT):
        write_png(tmp_path / f"deep/images/{i}.png", drawn.images[i])
        write_depth_png(tmp_path / f"deep/depth/{i}.png", drawn.depth[i], 1e-3)
    names = [[f"{kind}/{i}.png" for i in range(COUNT)] for kind in ("images", "depth")]
    write_transforms(tmp_path / "deep/transforms.json", drawn.cameras, *names, 1e-3)
    weights = ["--checkpoint", str(place / "tiny.safetensors"), "--sources", "3"]
    arguments = [str(tmp_path / "deep"), *weights, "--json", str(tmp_path / "numbers.json")]
    assert cli.run(app.main, app.parser(), arguments) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("AbsRel", "SqRel", "RMSE log", "d < 1.25^3", "median"))
    [one] = json.loads((tmp_path / "numbers.json").read_text())["scenes"]
    scene, model, found = raytrans.open_scene(tmp_path / "deep"), raytrans.load(place / "tiny.safetensors"), []
    for index in (0, 8):
        chosen = sorted(scene.nearest(scene.cameras[index], 3, exclude=[0, 8]))
        depth = raytrans.render(model, scene.views(chosen), scene.cameras[index]).depth.double()
        truth = scene.depth(index).double()
        both = depth.isfinite() & truth.isfinite()
        found.append(((depth - truth).abs() / truth)[both].mean().item())
    assert one["model"]["depth_metrics"]["abs_rel"] == pytest.approx(np.mean(found), rel=1e-6)
    assert one["nearest"]["depth_metrics"] is None and one["sweep"]["depth_metrics_scaled"]["delta_3"] <= 1


@pytest.mark.parametrize(
    ("name", "hint"),
    [("nowhere", ""), ("eazy-128", " (is it the test set easy-128?)"), ("fulll", " (is it the test set full?)")],
)
def test_a_scene_that_is_not_there_is_one_line(tmp_path, monkeypatch, capsys, name, hint):
    monkeypatch.chdir(tmp_path)
    assert cli.run(app.main, app.parser(), [name]) == 2
    assert capsys.readouterr().err == f"evaluate: error: {name}: no such file or folder{hint}\n"
    (tmp_path / name).mkdir()
    assert cli.run(app.main, app.parser(), [name]) == 2
    assert "test set" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["--protocol", "I/X"], "I/X"),
        (["stray"], "stray"),
        (["--json", "."], "--json"),
        (["--contact-sheet", "sheet.jpg"], "sheet.jpg"),
    ],
)
def test_mistakes_are_one_line_and_status_2(place, capsys, more, named):
    assert run(place, *more) == 2
    error = capsys.readouterr().err
    assert error.startswith("evaluate: error: ") and named in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("option", "name"),
    [("--json", "transforms.json"), ("--json", "images/3.png"), ("--contact-sheet", "images/9.png")],
)
def test_no_file_of_a_scene_is_written_over(place, capsys, option, name):
    file = place / "scene" / name
    before = file.read_bytes()
    assert run(place, option, str(file)) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and f"{option}: {file} is there already" in lines[0]
    assert file.read_bytes() == before
