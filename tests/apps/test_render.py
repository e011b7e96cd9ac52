"""The command line and the render command, on a small scene written for the purpose."""

import json
from argparse import ArgumentParser
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import raytrans
from raytrans.apps import cli
from raytrans.apps import render as app
from raytrans.apps.captures import Capture
from raytrans.data.generate import generated_scene
from raytrans.data.readers import open_scene
from raytrans.export.files import write_depth_png, write_png, write_transforms
from raytrans.models.config import model_config
from raytrans.rendering.renderer import Renderer
from raytrans.training.checkpoint import save_model

COUNT = 10
SHIPPED = Path(app.__file__).parents[2] / "scenes" / "blocks"


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A scene of ten views of 26x32 with depth, in `scene`, and untrained weights in `tiny.safetensors`."""
    folder = tmp_path_factory.mktemp("render")
    drawn = generated_scene(7, "easy", (26, 32), COUNT)
    for i in range(COUNT):
        write_png(folder / f"scene/images/{i}.png", drawn.images[i])
        write_depth_png(folder / f"scene/depth/{i}.png", drawn.depth[i], 1e-3)
    images, depths = ([f"{kind}/{i}.png" for i in range(COUNT)] for kind in ("images", "depth"))
    write_transforms(folder / "scene/transforms.json", drawn.cameras, images, depths, 1e-3)
    torch.manual_seed(0)
    save_model(folder / "tiny.safetensors", Renderer(model_config("tiny")))
    return folder


def run(place: Path, out: Path, *more: str) -> int:
    arguments = [str(place / "scene"), "--out", str(out), "--checkpoint", str(place / "tiny.safetensors")]
    return cli.run(app.main, app.parser(), [*arguments, "--sources", "3", *more])


def test_writes_every_promised_file_and_a_scene_again(place, tmp_path):
    assert run(place, tmp_path, "--json", str(tmp_path / "numbers.json")) == 0
    source, result = open_scene(place / "scene"), open_scene(tmp_path)
    assert len(result) == 2 and (tmp_path / "video.mp4").stat().st_size > 0
    for number, index in enumerate((0, 8)):
        expected, got = source.cameras[index], result.cameras[number]
        torch.testing.assert_close(got.world_from_camera, expected.world_from_camera, rtol=0, atol=1e-12)
        torch.testing.assert_close(got.intrinsics, expected.intrinsics)
        assert result.image(number).shape == (26, 32, 3)
        depth = np.load(tmp_path / f"depth/{number:04d}.npy")
        assert depth.dtype == np.float32 and depth.shape == (26, 32)
        np.testing.assert_array_equal(result.depth(number).numpy(), depth)
        assert (tmp_path / f"depth/{number:04d}.png").is_file()
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert json.loads((tmp_path / "numbers.json").read_text()) == summary


def test_numbers_agree_with_the_files(place, tmp_path):
    run(place, tmp_path)
    summary = json.loads((tmp_path / "summary.json").read_text())
    truth, result = open_scene(place / "scene"), open_scene(tmp_path)
    found = {"psnr": [], "depth_abs_rel": []}
    for number, index in enumerate((0, 8)):
        error = ((truth.image(index).double() - result.image(number).double()) ** 2).mean().item()
        found["psnr"].append(-10 * np.log10(error))
        known, depth = truth.depth(index).double().numpy(), result.depth(number).double().numpy()
        relative = np.nan_to_num(np.abs(depth - known) / known, nan=1.0)
        found["depth_abs_rel"].append(relative[np.isfinite(known)].mean())
    assert summary["psnr"] == pytest.approx(np.mean(found["psnr"]), abs=0.02)  # 8-bit files
    assert summary["depth_abs_rel"] == pytest.approx(np.mean(found["depth_abs_rel"]), rel=1e-4)
    assert summary["rays"] == 2 * 26 * 32 and summary["rays_per_second"] > 0 and summary["peak_memory_bytes"] > 1e7
    assert summary["seed"] == 0 and summary["versions"]["torch"] == torch.__version__
    assert len(summary["checkpoint_hash"]) == 64


def test_is_what_the_python_calls_give(place, tmp_path):
    run(place, tmp_path, "--max-size", "16")
    scene, model = open_scene(place / "scene"), raytrans.load(place / "tiny.safetensors")
    camera = scene.cameras[8].resized(13, 16)
    sources = scene.views(sorted(scene.nearest(camera, 3, exclude=[0, 8])), max_size=16)
    out = raytrans.render(model, sources, camera)
    np.testing.assert_array_equal(np.load(tmp_path / "depth/0001.npy"), out.depth.numpy())


def test_sources_are_never_held_out_nor_the_view_itself(place):
    capture = Capture(open_scene(place / "scene"), COUNT, 16)
    for index in range(COUNT):
        sources = capture.sources(capture.camera(index), index)
        assert sources == [i for i in range(COUNT) if i not in (0, 8, index)]


@pytest.mark.parametrize("views", ["orbit", "spiral", "interpolate", "wander"])
def test_paths_have_the_asked_number_of_frames(place, tmp_path, views):
    assert run(place, tmp_path, "--views", views, "--frames", "3", "--max-size", "12") == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert len(summary["views"]) == 3 and summary["psnr"] is None
    assert len(open_scene(tmp_path)) == 3


def test_cameras_of_a_file_are_rendered(place, tmp_path):
    assert run(place, tmp_path / "first", "--max-size", "12") == 0
    file = tmp_path / "first" / "transforms.json"
    assert run(place, tmp_path / "second", "--max-size", "12", "--views", str(file)) == 0
    first, second = (open_scene(tmp_path / name).cameras for name in ("first", "second"))
    torch.testing.assert_close(first.world_from_camera, second.world_from_camera, rtol=0, atol=1e-12)


def viewer_path(place: Path, folder: Path) -> Path:
    """Views 1 and 2 as nerfstudio's viewer exports them, its frame being x' = 0.5 (x + (1, 2, 3))."""
    frames = json.loads((place / "scene/transforms.json").read_text())["frames"][1:3]
    shots = []
    for frame in frames:
        pose = np.array(frame["transform_matrix"])
        pose[:3, 3] = 0.5 * (pose[:3, 3] + [1, 2, 3])
        shots.append({"camera_to_world": pose.flatten().tolist(), "fov": 50.0, "aspect": 1.25})
    content = {"camera_type": "perspective", "render_height": 16, "render_width": 20, "camera_path": shots, "fps": 5}
    folder.mkdir()
    (folder / "camera_path.json").write_text(json.dumps(content))
    transform = np.concatenate([np.eye(3), [[1], [2], [3]]], 1).tolist()
    (folder / "dataparser_transforms.json").write_text(json.dumps({"transform": transform, "scale": 0.5}))
    return folder / "camera_path.json"


def test_a_camera_path_of_nerfstudio_is_rendered_in_the_frame_of_the_scene(place, tmp_path):
    file = viewer_path(place, tmp_path / "nerfstudio")
    assert run(place, tmp_path / "out", "--views", str(file)) == 0
    result, scene = open_scene(tmp_path / "out"), open_scene(place / "scene")
    torch.testing.assert_close(result.cameras.world_from_camera, scene.cameras.world_from_camera[1:3])
    assert result.image(0).shape == (16, 20, 3)
    assert result.cameras[0].intrinsics[1, 1].item() == pytest.approx(8 / np.tan(np.radians(25)))
    video = cv2.VideoCapture(str(tmp_path / "out/video.mp4"))
    assert video.get(cv2.CAP_PROP_FPS) == pytest.approx(5)


def test_a_camera_path_without_its_transforms_is_refused(place, tmp_path, capsys):
    file = viewer_path(place, tmp_path / "nerfstudio")
    moved = (tmp_path / "nerfstudio/dataparser_transforms.json").rename(tmp_path / "elsewhere.json")
    assert run(place, tmp_path / "out", "--views", str(file)) == 2
    error = capsys.readouterr().err
    assert "turned and scaled; expected dataparser_transforms.json" in error and error.count("\n") == 1
    assert run(place, tmp_path / "out", "--views", str(file), "--dataparser-transforms", str(moved)) == 0


def test_frames_per_second_are_those_asked_for(place, tmp_path):
    assert run(place, tmp_path, "--views", "wander", "--frames", "6", "--max-size", "6", "--fps", "12.5") == 0
    video = cv2.VideoCapture(str(tmp_path / "video.mp4"))
    assert video.get(cv2.CAP_PROP_FPS) == pytest.approx(12.5) and video.get(cv2.CAP_PROP_FRAME_COUNT) == 6
    assert json.loads((tmp_path / "summary.json").read_text())["fps"] == 12.5


def test_depth_as_16_bits_and_confidence(place, tmp_path):
    run(place, tmp_path)
    scale = json.loads((tmp_path / "summary.json").read_text())["depth16_scale"]
    top = 0
    for number in range(2):
        depth = np.load(tmp_path / f"depth/{number:04d}.npy")
        steps = cv2.imread(str(tmp_path / f"depth16/{number:04d}.png"), cv2.IMREAD_UNCHANGED)
        assert steps.dtype == np.uint16 and steps.shape == depth.shape
        np.testing.assert_array_equal(steps == 0, np.isnan(depth))
        np.testing.assert_allclose(np.where(steps > 0, steps * scale, np.nan), depth, rtol=0, atol=0.501 * scale)
        top = max(top, steps.max())
        opacity, spread = (np.load(tmp_path / f"{kind}/{number:04d}.npy") for kind in ("opacity", "spread"))
        trust = np.load(tmp_path / f"confidence/{number:04d}.npy")
        camera = open_scene(tmp_path).cameras[number]
        cosine = (camera.rays().direction @ camera.forward).numpy()
        expected = opacity / (1 + (spread / (0.1 * depth / cosine)) ** 2)
        np.testing.assert_allclose(trust, np.nan_to_num(expected), atol=1e-5)
    assert top == 65535


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["--views", "sideways"], "sideways"),
        (["--fps", "0"], "--fps"),
        (["--views", "missing.json"], "missing.json"),
        (["--sources", "0"], "--sources"),
        (["--max-size", "x"], "--max-size"),
        (["--checkpoint", "nothing.safetensors"], "nothing.safetensors"),
        (["--unknown"], "--unknown"),
        (["--views", "holdout", "--frames", "12"], "--frames: expected with --views orbit, "),
        (["--frames", "12"], "--frames: expected with --views orbit, "),
        (["--views", "orbit", "--dataparser-transforms", "nothere.json"], "--dataparser-transforms: expected with a "),
        (["--dataparser-transforms", "nothere.json"], "--dataparser-transforms: expected with a camera path "),
    ],
)
def test_mistakes_are_one_line_and_status_2(place, tmp_path, capsys, more, named):
    assert run(place, tmp_path, *more) == 2
    error = capsys.readouterr().err
    assert error.startswith("render: error: ") and named in error and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_an_output_folder_that_is_a_file_is_refused(place, tmp_path, capsys):
    (tmp_path / "file").write_text("kept")
    assert run(place, tmp_path / "file") == run(place, tmp_path / "file" / "below") == 2
    assert capsys.readouterr().err.count(f"got the file {tmp_path / 'file'}") == 2
    assert (tmp_path / "file").read_text() == "kept"


def test_a_broken_image_is_named(place, tmp_path, capsys):
    for folder in ("images", "depth"):
        (tmp_path / "scene" / folder).mkdir(parents=True)
        for file in (place / "scene" / folder).iterdir():
            (tmp_path / "scene" / folder / file.name).write_bytes(file.read_bytes())
    (tmp_path / "scene/transforms.json").write_bytes((place / "scene/transforms.json").read_bytes())
    broken = tmp_path / "scene/images/8.png"
    broken.write_bytes(broken.read_bytes()[:200])
    (tmp_path / "tiny.safetensors").write_bytes((place / "tiny.safetensors").read_bytes())
    assert run(tmp_path, tmp_path / "out", "--max-size", "12") == 2
    error = capsys.readouterr().err
    assert "8.png" in error and error.count("\n") == 1


def test_interruption_and_system_errors_have_their_status(capsys):
    def interrupted(_):
        raise KeyboardInterrupt

    def full(_):
        raise OSError(28, "No space left on device", "numbers.json")

    assert cli.run(interrupted, ArgumentParser(prog="t"), []) == 130
    assert cli.run(full, ArgumentParser(prog="t"), []) == 2
    assert capsys.readouterr().err == "t: error: interrupted\nt: error: numbers.json: No space left on device\n"


def test_a_table_lines_up():
    lines = cli.table(("name", "value"), [("a", 1.23456), ("long name", None)]).split("\n")
    assert lines == ["name       value", "a          1.235", "long name      -"]


def test_sizes_are_width_by_height_and_every_picture_has_a_line(place, tmp_path, capsys):
    assert run(place, tmp_path, "--max-size", "12", "--sources", "500") == 0
    first, *progress = capsys.readouterr().out.splitlines()[:3]
    assert "2 pictures of 12x10 pixels (width x height), from 8 source views each" in first and "on one core" in first
    assert progress[0].startswith("1/2  12x10  view 0")
    assert progress[1].startswith("2/2  12x10  view 8")


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "1 s"), (61, "61 s"), (150, "2 min"), (5400, "1.5 h")])
def test_durations(seconds, text):
    assert cli.duration(seconds) == text


@pytest.mark.parametrize(("views", "frames", "seconds"), [("orbit", 2, 3), ("holdout", 2, 3), ("orbit", 96, 4)])
def test_a_video_is_long_enough_to_be_seen(place, tmp_path, views, frames, seconds):
    more = [] if views == "holdout" else ["--frames", str(frames)]
    assert run(place, tmp_path, "--views", views, *more, "--max-size", "4") == 0
    video = cv2.VideoCapture(str(tmp_path / "video.mp4"))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == frames
    assert frames / video.get(cv2.CAP_PROP_FPS) == pytest.approx(seconds, rel=0.01)


def test_the_nearest_source_stands_beside_the_rendering(place, tmp_path, capsys):
    assert run(place, tmp_path) == 0
    summary, scene, found = json.loads((tmp_path / "summary.json").read_text()), open_scene(place / "scene"), []
    for index in (0, 8):
        [nearest] = scene.nearest(scene.cameras[index], 1, exclude=[0, 8])
        found.append(-10 * np.log10(((scene.image(index) - scene.image(nearest)).double() ** 2).mean().item()))
    assert [row["psnr_nearest"] for row in summary["views"]] == pytest.approx(found)
    assert summary["psnr_nearest"] == pytest.approx(np.mean(found))
    assert f"(nearest source {np.mean(found):.4g})" in capsys.readouterr().out


def test_options_that_a_file_of_cameras_does_not_listen_to_are_refused(place, tmp_path, capsys):
    cameras = str(place / "scene/transforms.json")
    for option in (["--frames", "3"], ["--dataparser-transforms", cameras]):
        assert run(place, tmp_path, "--views", cameras, *option) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"render: error: {option[0]}: expected with ") and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_one_source_is_warned_about(place, tmp_path, capsys):
    assert run(place, tmp_path, "--sources", "1", "--max-size", "12") == 0
    said = capsys.readouterr().out
    assert "warning: depth cannot be found" in said and "axes" not in said


def test_poses_are_doubted_from_two_sources_on():
    values = {"psnr": 19.0, "psnr_nearest": 20.0}
    for sources, doubts in (([1], 0), ([1, 2], 1)):
        row = {"view": 0, "psnr_nearest": 20.0, "opacity": 1.0, "sources": sources}
        assert sum("axes of the poses" in line for line in app.remarks([row], values)) == doubts
