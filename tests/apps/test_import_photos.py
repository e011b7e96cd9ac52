"""Photographs and videos brought together, and posed by COLMAP; originals stay as they are."""

import json
import math
import os
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.distance import pdist
from scipy.spatial.transform import Rotation

import raytrans
from raytrans.apps import cli, import_photos
from raytrans.apps.photos import copy_photos, extract_frames
from raytrans.apps.posing import image_pairs, ran_away, refined_lenses
from raytrans.data.inspection import inspect_scene
from raytrans.export.files import write_video


def run(*arguments: object) -> int:
    return cli.run(import_photos.main, import_photos.parser(), [str(argument) for argument in arguments])


def picture(folder, name: str, size=(40, 30), orientation: int = 1, focal: float | None = None) -> Image.Image:
    """A file with a red corner at the top left of its stored pixels."""
    image = Image.new("RGB", size, (0, 0, 255))
    image.paste((255, 0, 0), (0, 0, size[0] // 2, size[1] // 2))
    exif = Image.Exif()
    exif[0x0112] = orientation
    if focal is not None:
        exif.get_ifd(0x8769)[0xA405] = focal
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    image.save(folder / name, exif=exif, quality=95)
    return image


def test_photographs_of_all_folders_are_copied(tmp_path):
    source, out = tmp_path / "süß photos", tmp_path / "out"
    names = ["a.jpg", "sub/b.JPG", "sub/deep/c.png", "with blank.jpg"]
    for name in names:
        picture(source, name)
    picture(source, ".hidden/d.jpg")
    (source / "notes.txt").write_text("no photograph")
    before = {file: file.read_bytes() for file in source.rglob("*") if file.is_file()}
    photos = copy_photos(source, out)
    assert [photo.name for photo in photos] == ["a.jpg", "sub/b.JPG", "sub/deep/c.png", "with_blank.jpg"]
    assert len({photo.lens for photo in photos}) == 1
    for name, photo in zip(names, photos, strict=True):
        assert (out / photo.name).read_bytes() == before[source / name]
    assert {file: file.read_bytes() for file in source.rglob("*") if file.is_file()} == before


@pytest.mark.parametrize(("orientation", "corner"), [(3, "bottom right"), (6, "top right"), (8, "bottom left")])
def test_photographs_are_turned_upright_and_keep_their_focal_length(tmp_path, orientation, corner):
    """EXIF: 3 is half a turn, 6 is to be turned clockwise, 8 anticlockwise."""
    picture(tmp_path / "in", "a.jpg", orientation=orientation, focal=28)
    [photo] = copy_photos(tmp_path / "in", tmp_path / "out")
    with Image.open(tmp_path / "out" / photo.name) as image:
        assert image.size == ((30, 40) if orientation > 4 else (40, 30)) == photo.lens[:2]
        assert image.getexif().get(0x0112, 1) == 1
        assert image.getexif().get_ifd(0x8769)[0xA405] == 28
        x = 2 if "left" in corner else image.width - 3
        y = 2 if "top" in corner else image.height - 3
        red, _, blue = image.getpixel((x, y))
        assert red > 200 and blue < 60


def test_other_focal_lengths_and_sizes_are_other_lenses(tmp_path):
    for name, size, focal in (("a", (40, 30), 28), ("b", (40, 30), 50), ("c", (30, 40), 28), ("d", (40, 30), 28)):
        picture(tmp_path / "in", f"{name}.jpg", size, focal=focal)
    a, b, c, d = (photo.lens for photo in copy_photos(tmp_path / "in", tmp_path / "out"))
    assert a == d and len({a, b, c}) == 3


def test_broken_photographs_are_left_out_by_name(tmp_path, caplog):
    source = tmp_path / "in"
    picture(source, "good.jpg")
    (source / "empty.jpg").write_bytes(b"")
    (source / "cut.jpg").write_bytes((source / "good.jpg").read_bytes()[:300])
    assert [photo.name for photo in copy_photos(source, tmp_path / "out")] == ["good.jpg"]
    assert "empty.jpg" in caplog.text and "cut.jpg" in caplog.text
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"good.jpg"}


def test_names_that_blanks_alone_tell_apart_are_refused(tmp_path):
    for name in ("a b.jpg", "a_b.jpg"):
        picture(tmp_path / "in", name)
    with pytest.raises(ValueError, match="a_b.jpg twice"):
        copy_photos(tmp_path / "in", tmp_path / "out")


def test_the_sharpest_frame_of_each_interval_is_taken(tmp_path):
    """Ten frames a second, blurred but for numbers 3, 7 and 16; grey levels tell the frames apart."""
    import cv2

    noise = np.random.default_rng(0).uniform(-0.2, 0.2, (64, 96, 3))
    levels = [0.3 + 0.02 * i for i in range(20)]
    frames = [level + (noise if i in (3, 7, 16) else cv2.blur(noise, (9, 9))) for i, level in enumerate(levels)]
    write_video(tmp_path / "film.mp4", frames, fps=10)
    photos = extract_frames(tmp_path / "film.mp4", tmp_path / "out", rate=2)
    assert [photo.name for photo in photos] == [f"frame_{i:05d}.jpg" for i in range(4)]
    found = [np.array(Image.open(tmp_path / "out" / photo.name)).mean() / 255 for photo in photos]
    assert photos[0].lens == (96, 64)
    for index, number in ((0, 3), (1, 7), (3, 16)):
        assert math.isclose(found[index], levels[number], abs_tol=0.012), found


@pytest.mark.parametrize(
    ("turn", "corner"), [(0, "top left"), (90, "bottom left"), (180, "bottom right"), (270, "top right")]
)
def test_videos_are_turned_as_their_metadata_say(tmp_path, turn, corner):
    """ffmpeg's `-display_rotation` is the angle, anticlockwise, by which a player turns what is stored."""
    import imageio_ffmpeg

    frame = np.zeros((48, 64, 3))
    frame[:24, :32, 0] = 1  # red at the top left of what is stored
    write_video(tmp_path / "stored.mp4", [frame] * 6, fps=6)
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-display_rotation", str(turn)]
    command += ["-i", str(tmp_path / "stored.mp4"), "-c", "copy", str(tmp_path / "turned.mp4")]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this ffmpeg writes no rotation")
    [photo] = extract_frames(tmp_path / "turned.mp4", tmp_path / "out", rate=1)
    with Image.open(tmp_path / "out" / photo.name) as image:
        assert image.size == ((48, 64) if turn % 180 else (64, 48)) == photo.lens
        x = 8 if "left" in corner else image.width - 9
        y = 8 if "top" in corner else image.height - 9
        assert image.getpixel((x, y))[0] > 200 and image.getpixel((image.width - 1 - x, image.height - 1 - y))[0] < 60


def test_a_file_that_is_no_video_is_refused(tmp_path):
    (tmp_path / "film.mp4").write_bytes(b"no film")
    with pytest.raises(ValueError, match="film.mp4.*cannot be read as a video"):
        extract_frames(tmp_path / "film.mp4", tmp_path / "out", rate=2)


def test_few_photographs_are_matched_with_all_others_many_with_neighbours():
    names = [f"{i:04d}" for i in range(400)]
    assert image_pairs(names[:150]) == list(combinations(names[:150], 2))
    pairs = set(image_pairs(names))
    assert len(pairs) < 10_000 < 400 * 399 / 2 and all(a < b for a, b in pairs)
    assert {(names[i], names[i + step]) for step in range(1, 11) for i in range(400 - step)} <= pairs
    assert (names[0], names[390]) in pairs  # closes a loop


def test_a_rate_of_photographs_is_refused(tmp_path, capsys):
    for name in "abc":
        picture(tmp_path / "in", f"{name}.jpg", (64, 48))
    assert run(tmp_path / "in", "--out", tmp_path / "out", "--rate", 3) == 2
    error = f"import_photos: error: --rate: expected a video to take frames from, got the folder {tmp_path / 'in'}\n"
    assert capsys.readouterr().err == error and not (tmp_path / "out").exists()


def test_pictures_of_nothing_have_status_2_and_leave_nothing(tmp_path, capsys):
    for name in "abcd":
        picture(tmp_path / "in", f"{name}.jpg", (64, 48))
    assert run(tmp_path / "in", "--out", tmp_path / "out", "--threads", 1) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "no camera poses were found" in error and "take more photographs" in error
    assert not (tmp_path / "out").exists()


def test_an_empty_folder_that_was_there_stays(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "there").mkdir()
    assert run(tmp_path / "in", "--out", tmp_path / "there") == 2 and list((tmp_path / "there").iterdir()) == []
    assert run(tmp_path / "in", "--out", tmp_path / "new/deep") == 2 and not (tmp_path / "new").exists()


def test_what_a_killed_run_left_goes_and_a_run_at_work_stays(tmp_path):
    left, out = tmp_path / "out/.unfinished-left/images", tmp_path / "out"
    left.mkdir(parents=True)
    (left / "a.png").write_text("half")
    with import_photos.working_folder(out) as work:
        assert list(out.iterdir()) == [work]
        other = os.fork()
        if not other:
            said = ""
            try:
                with import_photos.working_folder(out):
                    pass
            except ValueError as error:
                said = str(error)
            finally:
                os._exit(0 if "--out: another run is at work in" in said else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(other, 0)[1]) == 0 and work.is_dir()
    assert list(out.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere", "--out", "new"], "no such folder or video"),
        (["in", "--out", "in/new"], "outside the photographs"),
        (["in", "--out", "full"], "new or empty folder"),
        (["in", "--out", "new"], "at least 3 photographs, got 1"),
        (["full", "--out", "new"], "none readable"),
        (["full/file.txt", "--out", "new"], "expected a folder or a video"),
    ],
)
def test_mistakes_of_the_call_are_one_line_and_status_2(arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    picture(tmp_path / "in", "a.jpg")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file.txt").write_text("here")
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("import_photos: error: ") and words in error and error.count("\n") == 1


def test_without_pycolmap_the_way_to_install_it_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pycolmap", None)
    picture(tmp_path / "in", "a.jpg")
    assert run(tmp_path / "in", "--out", tmp_path / "out") == 2
    assert "`pip install --editable '.[photos]'`" in capsys.readouterr().err


@pytest.mark.parametrize("undistort", [False, True])
def test_pictures_of_a_generated_scene_are_posed(tmp_path, undistort):
    """Relative rotations, and distances up to one scale, are those that the pictures were drawn with."""
    source = Path(__file__).resolve().parents[2] / "scenes" / "blocks"
    report, flags = tmp_path / "report.json", ["--undistort"] if undistort else []
    assert run(source / "images", "--out", tmp_path / "out", "--threads", 1, "--json", report, *flags) == 0
    assert json.loads(report.read_text())["registered"] == 16
    exact, found = (raytrans.open_scene(folder).cameras for folder in (source, tmp_path / "out"))
    (r, c), (s, d) = ((x.world_from_camera[:, :3, :3].numpy(), x.centers.numpy()) for x in (exact, found))
    difference = np.swapaxes(r[0].T @ r, 1, 2) @ (s[0].T @ s)
    assert np.degrees(Rotation.from_matrix(difference).magnitude()).max() < 2.5
    ratio = pdist(d) / pdist(c)
    assert np.abs(ratio / np.median(ratio) - 1).max() < 0.12
    assert math.isclose(found.intrinsics[0, 0, 0], exact.intrinsics[0, 0, 0], rel_tol=0.05)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("name", "undistort"), [("fox", False), ("fox", True)])
def test_real_photographs_are_posed(real_data, tmp_path, name, undistort):
    files = sorted((real_data(name) / "images").iterdir(), key=lambda file: int(file.stem))[:16]
    (tmp_path / "in").mkdir()
    for file in files:
        with Image.open(file) as image:
            image.thumbnail((640, 640))
            image.save(tmp_path / "in" / f"{int(file.stem):04d}.jpg", quality=95)
    report = tmp_path / "report.json"
    flags = ["--undistort"] if undistort else []
    assert run(tmp_path / "in", "--out", tmp_path / "out", "--threads", 1, "--json", report, *flags) == 0
    values = json.loads(report.read_text())
    assert values["registered"] >= 14 and values["mean_reprojection_error"] < 1
    done = inspect_scene(raytrans.open_scene(tmp_path / "out"))
    assert done.usable and done.score.median < 1, done.verdict


def test_a_lens_that_left_its_focal_length_is_none():
    """The second was found for photographs of one carton in the middle: given poses have 508 pixels, mapping 512."""
    good = [500.0, 505.0, 320, 240, -0.1, 0.05, 1e-3, 1e-3]
    wild = [657.3, 651.8, 320, 240, -0.0099, 0.84, 7e-4, -4.6e-3]
    assert not ran_away(good, 490.0) and ran_away(good, 470.0) and ran_away(wild, 511.6)
    assert ran_away([500.0, 500.0, 320, 240, -1.2, 0, 0, 0], 500.0)


@pytest.mark.parametrize(("count", "refined"), [(10, True), (6, False)])
def test_lenses_shared_by_many_photographs_are_refined(count, refined):
    """Points seen through fx 510, fy 500, k1 -0.1, k2 0.03, p1 1e-3, p2 -1e-3 by pycolmap's own camera model."""
    pycolmap = pytest.importorskip("pycolmap")
    true = [510.0, 500.0, 320.0, 240.0, -0.1, 0.03, 1e-3, -1e-3]
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs, options.num_cameras_per_rig, options.num_frames_per_rig = 1, 1, count
    options.num_points3D, options.camera_width, options.camera_height = 300, 640, 480
    options.camera_model_id, options.camera_params = pycolmap.CameraModelId.OPENCV, true
    pycolmap.set_random_seed(0)
    model = pycolmap.synthesize_dataset(options)
    [camera] = model.cameras.values()
    camera.model, camera.params = pycolmap.CameraModelId.SIMPLE_RADIAL, [505.0, 320.0, 240.0, -0.08]
    done = refined_lenses(model)
    [found] = done.cameras.values()
    if refined:
        assert found.model.name == "OPENCV"
        np.testing.assert_allclose(found.params[:2], true[:2], rtol=2e-3)
        np.testing.assert_allclose(found.params[4:], true[4:], atol=5e-3)
        assert camera.model.name == "SIMPLE_RADIAL"  # the model that was handed in stays as it was
    else:
        assert found.model.name == "SIMPLE_RADIAL" and found.params.tolist() == [505.0, 320.0, 240.0, -0.08]
