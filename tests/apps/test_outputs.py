"""Where a rendering may be written, what it replaces, and what an interrupted one leaves."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from raytrans.apps import cli, outputs
from raytrans.apps import render as app
from raytrans.data.generate import generated_scene
from raytrans.data.readers import open_scene
from raytrans.export.files import write_depth_png, write_png, write_transforms
from raytrans.rendering.compositing import Rendering

COUNT, SIZE = 4, (9, 12)


def write_scene(folder: Path, images: str = "images", name: str = "transforms.json") -> Path:
    """A capture of four views with depth, its photographs in a folder of any name."""
    drawn = generated_scene(7, "easy", SIZE, COUNT)
    names = [f"{images}/{i:04d}.png" for i in range(COUNT)]
    depths = [f"known/{i:04d}.png" for i in range(COUNT)]
    for i in range(COUNT):
        write_png(folder / names[i], drawn.images[i])
        write_depth_png(folder / depths[i], drawn.depth[i], 1e-3)
    write_transforms(folder / name, drawn.cameras, names, depths, 1e-3)
    return folder


@pytest.fixture
def render(weights):
    def run(scene: Path, out: Path, *more: object) -> int:
        arguments = [scene, "--out", out, "--checkpoint", weights, "--sources", 2, "--max-size", 12, *more]
        return cli.run(app.main, app.parser(), [str(argument) for argument in arguments])

    return run


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def refused(capsys, status: int, *named: str) -> None:
    lines = capsys.readouterr().err.splitlines()
    assert status == 2 and len(lines) == 1 and all(name in lines[0] for name in named), lines


@pytest.mark.parametrize("images", ["color", "images", "."])
def test_a_capture_is_not_rendered_into_itself(render, tmp_path, capsys, images):
    scene = write_scene(tmp_path / "scene", images)
    before = contents(tmp_path)
    for out in (scene, scene / images, tmp_path, tmp_path / "elsewhere" / ".." / "scene"):
        refused(capsys, render(scene, out), "--out", str(scene))
        assert contents(tmp_path) == before


def test_a_folder_below_the_capture_is_fine(render, tmp_path):
    scene = write_scene(tmp_path / "scene", "color")
    before = contents(scene)
    assert render(scene, scene / "renderings") == 0
    assert {name: value for name, value in contents(scene).items() if name in before} == before


def test_links_do_not_hide_where_a_capture_lies(render, tmp_path, capsys):
    scene = write_scene(tmp_path / "scene", "color")
    (tmp_path / "link").symlink_to(scene, target_is_directory=True)
    before = contents(scene)
    refused(capsys, render(scene, tmp_path / "link"), "--out")
    refused(capsys, render(tmp_path / "link", scene), "--out")
    assert contents(scene) == before


@pytest.mark.parametrize("name", ["transforms.json", "transforms_train.json", "transforms_mine.json"])
@pytest.mark.parametrize("images", ["color", "train"])
def test_another_capture_is_not_written_over(render, tmp_path, capsys, images, name):
    scene, other = write_scene(tmp_path / "scene"), write_scene(tmp_path / "other", images, name)
    before = contents(other)
    refused(capsys, render(scene, other), "--out", name)
    assert contents(other) == before


@pytest.mark.parametrize(
    "name", ["color/0000.png", "depth/0001.npy", "video.mp4", "report.html", "summary.json", "unfinished.json"]
)
def test_a_file_that_no_rendering_lists_is_not_written_over(render, tmp_path, capsys, name):
    scene, file = write_scene(tmp_path / "scene"), tmp_path / "out" / name
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    refused(capsys, render(scene, tmp_path / "out", "--views", "all"), "--out", str(file))
    assert contents(tmp_path / "out") == {name: b"mine"}


def test_a_rendering_is_not_rendered_into_itself(render, tmp_path, capsys):
    out = tmp_path / "out"
    assert render(write_scene(tmp_path / "scene"), out, "--views", "all") == 0
    before = contents(out)
    refused(capsys, render(out, out, "--views", "all"), "--out", str(out))
    assert contents(out) == before


def test_an_earlier_rendering_is_replaced_and_other_files_stay(render, tmp_path):
    scene, out = write_scene(tmp_path / "scene"), tmp_path / "out"
    assert render(scene, out, "--views", "all") == 0
    for name in ("color/notes.txt", "color/0009.png", "mine.txt"):
        (out / name).write_text("mine")
    assert render(scene, out, "--views", "orbit", "--frames", 2) == 0
    expected = {
        "transforms.json",
        "summary.json",
        "video.mp4",
        "report.html",
        "color/notes.txt",
        "color/0009.png",
        "mine.txt",
    }
    expected |= {f"{kind}/{i:04d}.npy" for kind in ("depth", "opacity", "spread", "confidence") for i in range(2)}
    expected |= {f"{kind}/{i:04d}.png" for kind in ("color", "depth", "depth16") for i in range(2)}
    assert set(contents(out)) == expected
    assert len(open_scene(out)) == 2


@pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError(28, "No space left on device")])
@pytest.mark.parametrize("again", [False, True])
def test_an_interrupted_rendering_is_no_scene_and_can_be_replaced(render, tmp_path, monkeypatch, failure, again):
    scene, out = write_scene(tmp_path / "scene"), tmp_path / "out"
    if again:
        assert render(scene, out, "--views", "all") == 0
    write = outputs.write_frame

    def interrupted(folder, index, rendering):
        if index == 2:
            raise failure
        return write(folder, index, rendering)

    with monkeypatch.context() as patch:
        patch.setattr(outputs, "write_frame", interrupted)
        assert render(scene, out, "--views", "orbit", "--frames", 3) in (2, 130)
    left = set(contents(out))
    assert not left & {"transforms.json", "summary.json", "video.mp4", "report.html"}
    assert {name for name in left if "/" in name and "0002" in name or "0003" in name} == set()
    with pytest.raises(ValueError, match="not a scene"):
        open_scene(out)
    assert render(scene, out, "--views", "orbit", "--frames", 1) == 0
    frame = {"color/0000.png", "depth/0000.npy", "depth/0000.png", "opacity/0000.npy", "spread/0000.npy"}
    frame |= {"depth16/0000.png", "confidence/0000.npy"}
    assert set(contents(out)) == {"transforms.json", "summary.json", "video.mp4", "report.html", *frame}


def test_a_failure_before_the_first_frame_leaves_the_old_rendering(render, tmp_path, monkeypatch):
    scene, out = write_scene(tmp_path / "scene"), tmp_path / "out"
    assert render(scene, out, "--views", "all") == 0
    before = contents(out)
    with monkeypatch.context() as patch:
        patch.setattr(app, "encode", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert render(scene, out, "--views", "all") == 130
    assert contents(out) == before


def test_numbers_and_cameras_are_not_lost_to_an_output(render, tmp_path, capsys):
    scene, out = write_scene(tmp_path / "scene"), tmp_path / "out"
    before = contents(scene)
    refused(capsys, render(scene, out, "--json", scene / "transforms.json"), "--json", "transforms.json")
    assert contents(scene) == before and not out.exists()
    assert render(scene, out) == 0
    before = contents(out)
    refused(capsys, render(scene, out, "--views", out / "transforms.json"), "--views", "transforms.json")
    assert contents(out) == before


@pytest.mark.parametrize("text", ["[]", "{", "[" * 10**5, '{"generator": 3}'])
def test_a_broken_json_is_not_taken_for_a_rendering(render, tmp_path, capsys, text):
    scene, out = write_scene(tmp_path / "scene"), tmp_path / "out"
    out.mkdir()
    (out / "transforms.json").write_text(text)
    refused(capsys, render(scene, out), "--out", "transforms.json")
    assert (out / "transforms.json").read_text() == text


def test_names_in_an_edited_list_lead_nowhere_else(render, tmp_path):
    scene, out = write_scene(tmp_path / "scene"), tmp_path / "out"
    assert render(scene, out, "--views", "all") == 0
    meta = json.loads((out / "transforms.json").read_text())
    names = ["../kept.png", str(tmp_path / "kept.png"), "color/../../kept.png", "color/kept.png"]
    meta["frames"] += [{"file_path": name} for name in names]
    (out / "transforms.json").write_text(json.dumps(meta))
    for file in (tmp_path / "kept.png", out / "color/kept.png"):
        file.write_text("mine")
    assert render(scene, out) == 0
    assert (tmp_path / "kept.png").read_text() == (out / "color/kept.png").read_text() == "mine"


def test_frames_of_differing_sizes_are_padded_in_the_middle():
    frames = outputs.padded([np.full((2, 5, 3), 9, np.uint8), np.full((4, 3, 3), 7, np.uint8)])
    assert {frame.shape for frame in frames} == {(4, 5, 3)}
    assert frames[0][:, 0, 0].tolist() == [0, 9, 9, 0] and frames[1][0, :, 0].tolist() == [0, 7, 7, 7, 0]


def test_depth_pictures_share_one_scale_of_surfaces(tmp_path):
    near, far = np.full((4, 4), 2.0), np.full((4, 4), 5.0)
    far[0, 0] = np.nan
    scale = outputs.write_depth_pictures(tmp_path, [near, far])
    assert (scale["depth_near"], scale["depth_far"]) == pytest.approx((2.0, 5.0))
    first, second = (cv2.imread(str(tmp_path / f"depth/{i:04d}.png"))[..., ::-1] for i in (0, 1))
    turbo = cv2.applyColorMap(np.array([[255, 0]], np.uint8), cv2.COLORMAP_TURBO)[0, :, ::-1]
    assert (first == turbo[0]).all() and (second[1:] == turbo[1]).all() and not second[0, 0].any()


def test_pictures_of_depth_leave_out_what_is_hardly_there_or_guessed():
    values, opacity = torch.tensor([[1.0, 2.0, 2.0, 2.0]]), torch.tensor([[0.4, 0.6, 0.6, 1.0]])
    spread = torch.tensor([[0.0, 0.1, 0.9, 0.4]])
    out = Rendering(torch.zeros(1, 4, 3), values, values, opacity, spread, depth=values)
    np.testing.assert_array_equal(outputs.surface_depth(out), np.array([[np.nan, 2.0, np.nan, 2.0]], np.float32))
