"""The export command on generated scenes, whose exact surface is known, in two world frames."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from scipy.spatial import cKDTree

import raytrans
from raytrans.apps import cli
from raytrans.apps import export as app
from raytrans.apps.captures import Capture
from raytrans.data.generate import generated_scene
from raytrans.data.images import read_image
from raytrans.data.readers import open_scene
from raytrans.export.clouds import point_map
from raytrans.export.files import write_png, write_transforms
from raytrans.export.fusion import DepthMaps
from raytrans.geometry.rigid import Similarity

COUNT, SIDE, USED = 9, 28, 5
FILES = ("scene.ply", "mesh.ply", "mesh.glb", "depths")


def run(scene: Path, out: Path, *more: str, files: tuple[str, ...] = FILES) -> int:
    named = [str(out / name) for name in files]
    return cli.run(app.main, app.parser(), [str(scene), "--out", *named, "--sources", "4", "--views", str(USED), *more])


@pytest.fixture(scope="module")
def drawn():
    return generated_scene(7, "easy", (SIDE, SIDE), COUNT)


@pytest.fixture(scope="module")
def motion():
    return Similarity.random(generator=torch.Generator().manual_seed(3), extent=300.0, octaves=5.0)


@pytest.fixture(scope="module")
def place(tmp_path_factory, drawn, motion) -> Path:
    """The scene as drawn in `plain`, in another world in `moved`, and what the command makes of both beside them."""
    folder = tmp_path_factory.mktemp("export")
    moved = drawn.cameras.moved(motion.rotation, motion.translation, motion.scale)
    for name, cameras in (("plain", drawn.cameras), ("moved", moved)):
        for i in range(COUNT):
            write_png(folder / name / f"images/{i}.png", drawn.images[i])
        write_transforms(folder / name / "transforms.json", cameras, [f"images/{i}.png" for i in range(COUNT)])
        assert run(folder / name, folder / f"{name}-out", "--json", str(folder / f"{name}.json")) == 0
    return folder


def loaded(file: Path):
    read = trimesh.load(file, process=False)
    return read.to_geometry() if isinstance(read, trimesh.Scene) else read


@pytest.mark.parametrize("name", ["scene.ply", "mesh.ply", "mesh.glb"])
def test_lies_on_the_exact_surface(place, drawn, name):
    maps = [point_map(drawn.cameras[i], drawn.depth[i]).reshape(-1, 3) for i in range(COUNT)]
    exact = torch.cat(maps).numpy()
    exact = exact[np.isfinite(exact).all(1)]
    size = np.linalg.norm(np.quantile(exact, 0.95, 0) - np.quantile(exact, 0.05, 0))
    points = loaded(place / "plain-out" / name).vertices
    distance = cKDTree(exact).query(points)[0]
    assert len(points) > 300 and np.median(distance) < 0.02 * size
    away = points + np.array([0.0, 0.0, 0.1 * size])  # the same measure sees a cloud that is off
    assert np.median(cKDTree(exact).query(away)[0]) > 0.02 * size


@pytest.mark.parametrize("name", ["scene.ply", "mesh.glb"])
def test_another_world_gives_the_same_points_moved(place, motion, name):
    plain, moved = (loaded(place / f"{world}-out" / name).vertices for world in ("plain", "moved"))
    expected = motion.apply(torch.from_numpy(np.array(plain))).numpy()
    assert abs(len(moved) - len(plain)) < 0.01 * len(plain)  # a rounding may take a pixel over a threshold
    nearest = cKDTree(moved).query(expected)[0] / float(motion.scale)
    voxel = json.loads((place / "plain.json").read_text())["voxel"]
    assert np.median(nearest) < 1e-3 * voxel and np.quantile(nearest, 0.95) < 0.1 * voxel
    assert json.loads((place / "moved.json").read_text())["voxel"] == pytest.approx(
        float(motion.scale) * voxel, rel=1e-3
    )


def test_the_folder_of_depths_is_a_scene_with_what_estimate_depth_gives(place):
    folder, source = place / "plain-out" / "depths", open_scene(place / "plain")
    result, chosen = open_scene(folder), json.loads((place / "plain.json").read_text())["views"]
    assert chosen == [0, 2, 4, 6, 8] and len(result) == USED
    found = raytrans.estimate_depth(raytrans.load(), source.views(range(COUNT)), chosen[:2], sources=4)
    scale = json.loads((folder / "transforms.json").read_text())["depth16_scale"]
    for number, index in enumerate(chosen[:2]):
        torch.testing.assert_close(result.cameras[number].world_from_camera, source.cameras[index].world_from_camera)
        np.testing.assert_array_equal(result.image(number), source.image(index))
        np.testing.assert_array_equal(result.depth(number), found.depth[number])
        np.testing.assert_array_equal(np.load(folder / f"confidence/{number:04d}.npy"), found.confidence[number])
        steps = cv2_read(folder / f"depth16/{number:04d}.png")
        assert steps.dtype == np.uint16
        known = found.depth[number].isfinite().numpy()
        np.testing.assert_array_equal(steps > 0, known)
        np.testing.assert_allclose(steps[known] * scale, found.depth[number].numpy()[known], rtol=0, atol=0.51 * scale)
    assert read_image(folder / "depth/0000.png").shape == (SIDE, SIDE, 3)


def cv2_read(file: Path) -> np.ndarray:
    import cv2

    return cv2.imread(str(file), cv2.IMREAD_UNCHANGED)


def test_numbers_say_what_was_written(place):
    values = json.loads((place / "plain.json").read_text())
    assert values["points"] == len(loaded(place / "plain-out/scene.ply").vertices)
    assert values["faces"] == len(loaded(place / "plain-out/mesh.glb").faces)
    assert values["pixels"] == USED * SIDE * SIDE > values["pixels_confident"] > values["pixels_confirmed"] > 500
    assert len(values["checkpoint_hash"]) == 64 and values["peak_memory_bytes"] > 1e7


@pytest.mark.parametrize(
    ("files", "more", "named"),
    [
        (("scene.obj",), (), "expected a file .ply or .glb, or a folder"),
        (("scene.ply",), ("--confidence", "1.5"), "--confidence: expected a number from 0 to 1, got 1.5"),
        (("scene.ply",), ("--agree", "0"), "--agree"),
        (("scene.ply",), ("--agree", str(USED)), f"--agree: expected at most {USED - 1}, "),
        (("mesh.glb", "depths"), ("--views", "2", "--agree", "2"), "--agree: expected at most 1, "),
        (("mesh.glb", "depths"), ("--views", "2"), "--views: expected at least 3 views, "),
        (("a.ply", "a.ply"), (), "--out: expected different names, got "),
        (("a.ply", "b/../a.ply"), (), "--out: expected different names, got "),
        (("scene.ply",), ("--voxel", "-1"), "--voxel"),
        (("scene.ply",), ("--checkpoint", "nothing.safetensors"), "nothing.safetensors"),
    ],
)
def test_mistakes_are_one_line_and_status_2(place, tmp_path, capsys, files, more, named):
    assert run(place / "plain", tmp_path, *more, files=files) == 2
    error = capsys.readouterr().err
    assert error.startswith("export: error: ") and named in error and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_no_file_of_the_scene_is_written_over(place, capsys):
    before = {file: file.read_bytes() for file in (place / "plain").rglob("*.*") if file.is_file()}
    assert run(place / "plain", place / "plain", files=("images",)) == 2
    assert run(place / "plain", place, files=("plain",)) == 2
    assert capsys.readouterr().err.count("holds a file of the scene") == 2
    assert before == {file: file.read_bytes() for file in (place / "plain").rglob("*.*") if file.is_file()}


@pytest.mark.parametrize("name", ["scene.ply", "mesh.glb"])
def test_a_folder_with_the_name_of_a_file_is_refused(place, tmp_path, capsys, name):
    (tmp_path / name).mkdir()
    assert run(place / "plain", tmp_path, files=(name,)) == 2
    assert (
        capsys.readouterr().err == f"export: error: --out: expected a file to write, got the folder {tmp_path / name}\n"
    )


def test_depth_of_one_view_needs_no_other_to_confirm_it(place, tmp_path, capsys):
    assert run(place / "plain", tmp_path, "--views", "1", files=("depths",)) == 0
    assert "depth of 1 view, each" in capsys.readouterr().out and len(open_scene(tmp_path / "depths")) == 1


def test_nothing_confirmed_is_said(place, tmp_path, capsys):
    assert run(place / "plain", tmp_path, "--views", "3", "--tolerance", "1e-12", files=("scene.ply",)) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"export: error: depth: of {3 * SIDE * SIDE} pixels ") and error.count("\n") == 1
    assert "other views confirm 0; pictures must overlap" in error and list(tmp_path.iterdir()) == []


def test_little_confirmed_is_said(place, capsys):
    drawn = DepthMaps(open_scene(place / "plain").cameras[:1], [torch.full((20, 20), torch.nan)], [], [])
    drawn.depth[0][3, :2] = 1.0
    arguments = app.parser().parse_args(["s", "--out", "x.ply"])
    app.check_confirmed(drawn, 7, arguments)
    assert "of 400 pixels 7 have a confidence of 0.5, and other views confirm 2;" in capsys.readouterr().out
    drawn.depth[0][3:5] = 1.0
    app.check_confirmed(drawn, 50, arguments)
    assert capsys.readouterr().out == "of 400 pixels 50 have a confidence of 0.5, and other views confirm 40\n"


def test_what_a_mask_hides_is_left_out(place, tmp_path, drawn):
    mask = torch.zeros(SIDE, SIDE, 3)
    mask[:, : SIDE // 2] = 1.0
    content = json.loads((place / "plain/transforms.json").read_text())
    for i, frame in enumerate(content["frames"]):
        write_png(tmp_path / f"images/{i}.png", drawn.images[i])
        write_png(tmp_path / f"masks/{i}.png", mask)
        frame["mask_path"] = f"masks/{i}.png"
    (tmp_path / "transforms.json").write_text(json.dumps(content))
    maps, _ = app.estimated(raytrans.load(), Capture(open_scene(tmp_path), 4, SIDE), [0, 4], [], None)
    for trust in maps.confidence:
        assert (trust[:, SIDE // 2 :] == 0).all() and (trust[:, : SIDE // 2] > 0.5).double().mean() > 0.3
    plain, _ = app.estimated(raytrans.load(), Capture(open_scene(place / "plain"), 4, SIDE), [0], [], None)
    assert (plain.confidence[0][:, SIDE // 2 :] > 0.5).any()


def test_one_view_is_refused(place, tmp_path, capsys):
    content = json.loads((place / "plain/transforms.json").read_text())
    content["frames"] = content["frames"][:1]
    (tmp_path / "one").mkdir()
    write_png(tmp_path / "one/images/0.png", torch.zeros(SIDE, SIDE, 3))
    (tmp_path / "one/transforms.json").write_text(json.dumps(content))
    assert run(tmp_path / "one", tmp_path, files=("scene.ply",)) == 2
    assert "expected at least two views" in capsys.readouterr().err
