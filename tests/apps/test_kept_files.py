"""No command writes over a file of a scene or of photographs, whatever the format; reports of ours are replaced."""

import json
import os
import struct
from pathlib import Path

import numpy as np
import pytest

from raytrans.apps import (
    cli,
    demo,
    evaluate,
    export,
    import_photos,
    inspect_scene,
    refine_cameras,
    render,
    train,
    verify,
)
from raytrans.data.generate import generated_scene
from raytrans.data.readers import open_scene
from raytrans.equivariance import models
from raytrans.export.colmap import write_colmap_scene
from raytrans.export.files import write_depth_png, write_png, write_transforms

COUNT, SIZE = 6, (9, 12)
JSON_TOOLS = {
    "evaluate": (evaluate, ()),
    "verify": (verify, ()),
    "render": (render, ("--out", "OUT")),
    "export": (export, ("--out", "OUT/cloud.ply")),
    "inspect": (inspect_scene, ("--out", "OUT")),
    "refine": (refine_cameras, ("--out", "OUT")),
    "import": (import_photos, ("--out", "OUT")),
}


def run(tool, *words: object) -> int:
    return cli.run(tool.main, tool.parser(), [str(word) for word in words])


def text_of(matrix) -> str:
    return "\n".join(" ".join(f"{value:.9g}" for value in row) for row in np.asarray(matrix)) + "\n"


def write_nerfstudio(folder: Path) -> None:
    drawn = generated_scene(7, "easy", SIZE, COUNT)
    names = [f"images/{i}.png" for i in range(COUNT)]
    for i, name in enumerate(names):
        write_png(folder / name, drawn.images[i])
    cloud = {"ply_file_path": "../points/cloud.ply"}
    (folder.parent / "points").mkdir(exist_ok=True)
    (folder.parent / "points/cloud.ply").write_text(
        "ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty float y\nproperty float z\nend_header\n"
        "0 0 1\n"
    )
    write_transforms(folder / "transforms.json", drawn.cameras, names, extra=cloud)


def write_colmap(folder: Path) -> None:
    write_nerfstudio(folder)
    write_colmap_scene(folder / "sparse/0", open_scene(folder))
    (folder / "transforms.json").unlink()
    make_binary(folder / "sparse/0")


def make_binary(model: Path) -> None:
    """COLMAP's text as binary, little-endian, by its page on the output format; no points."""
    rows = {
        kind: [line.split() for line in (model / f"{kind}.txt").read_text().splitlines() if line and line[0] != "#"]
        for kind in ("cameras", "images")
    }
    assert all(row[1] == "PINHOLE" for row in rows["cameras"])
    cameras = [struct.pack("<iiQQ4d", int(r[0]), 1, int(r[2]), int(r[3]), *map(float, r[4:])) for r in rows["cameras"]]
    images = [
        struct.pack("<i7di", int(r[0]), *map(float, r[1:8]), int(r[8])) + r[9].encode() + b"\0" + struct.pack("<Q", 0)
        for r in rows["images"]
    ]
    for kind, entries in (("cameras", cameras), ("images", images), ("points3D", [])):
        (model / f"{kind}.bin").write_bytes(struct.pack("<Q", len(entries)) + b"".join(entries))
        (model / f"{kind}.txt").unlink()


def write_rgbd(folder: Path) -> None:
    drawn = generated_scene(7, "easy", SIZE, COUNT)
    for i in range(COUNT):
        stem = f"{folder}/frame-{i:06d}"
        write_png(f"{stem}.color.png", drawn.images[i])
        write_depth_png(f"{stem}.depth.png", drawn.depth[i], 1e-3)
        Path(f"{stem}.pose.txt").write_text(text_of(drawn.cameras[i].world_from_camera))
    (folder / "camera-intrinsics.txt").write_text(text_of(drawn.cameras[0].intrinsics))


def write_mvsnet(folder: Path) -> None:
    drawn = generated_scene(7, "easy", SIZE, COUNT)
    (folder / "cams").mkdir(parents=True)
    for i in range(COUNT):
        write_png(folder / f"images/{i:08d}.png", drawn.images[i])
        pose = np.linalg.inv(drawn.cameras[i].world_from_camera.double().numpy())
        matrices = f"extrinsic\n{text_of(pose)}\nintrinsic\n{text_of(drawn.cameras[i].intrinsics)}"
        (folder / f"cams/{i:08d}_cam.txt").write_text(f"{matrices}\n0.5 0.1\n")
    (folder / "pair.txt").write_text("1\n0\n1 1 9.0\n")


SCENES = {
    "nerfstudio": (write_nerfstudio, ("transforms.json", "images/3.png")),
    "colmap": (write_colmap, ("sparse/0/cameras.bin", "sparse/0/images.bin", "sparse/0/points3D.bin", "images/3.png")),
    "rgbd": (
        write_rgbd,
        ("camera-intrinsics.txt", "frame-000001.pose.txt", "frame-000001.color.png", "frame-000002.depth.png"),
    ),
    "mvsnet": (write_mvsnet, ("cams/00000003_cam.txt", "pair.txt", "images/00000002.png")),
}


@pytest.fixture(params=SCENES)
def scene(request, tmp_path) -> tuple[Path, tuple[str, ...]]:
    write, names = SCENES[request.param]
    write(tmp_path / "scene")
    assert len(open_scene(tmp_path / "scene")) == COUNT
    return tmp_path / "scene", names


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def refused(capsys, status: int, *named: object) -> None:
    lines = capsys.readouterr().err.splitlines()
    assert status == 2 and len(lines) == 1 and all(str(name) in lines[0] for name in named), (status, lines)


def test_numbers_do_not_replace_a_file_of_a_scene(scene, tmp_path, capsys):
    folder, names = scene
    before = contents(tmp_path)
    for name in names:
        file = folder / name
        for tool, more in JSON_TOOLS.values():
            words = [word.replace("OUT", str(tmp_path / "out")) for word in more]
            refused(capsys, run(tool, folder, *words, "--json", file), "--json", file, "is there already")
        finetune = ("--finetune", folder, "--out", tmp_path / "out", "--json", file)
        refused(capsys, run(train, *finetune), "--json", file, "is there already")
        for tool in (evaluate, verify):
            refused(capsys, run(tool, folder, "--report", file), "--report", file, "is there already")
    assert contents(tmp_path) == before


def test_links_do_not_hide_a_file_of_a_scene(scene, tmp_path, capsys):
    folder, names = scene
    link = tmp_path / "link.png"
    for name in names:
        link.unlink(missing_ok=True)
        link.symlink_to(folder / name)
        before = contents(tmp_path)
        refused(capsys, run(evaluate, folder, "--json", link), "--json", link)
        refused(capsys, run(evaluate, folder, "--contact-sheet", link), "--contact-sheet", link)
        assert contents(tmp_path) == before and link.is_symlink()


def test_pictures_and_clouds_do_not_replace_what_lies_in_a_scene(scene, tmp_path, capsys):
    folder, names = scene
    for name in ("mine.png", "sparse/mine.ply"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"mine")
    before = contents(tmp_path)
    for name in (*(name for name in names if name.endswith(".png")), "mine.png"):
        refused(capsys, run(evaluate, folder, "--contact-sheet", folder / name), "--contact-sheet", folder / name)
    refused(capsys, run(export, folder, "--out", folder / "sparse/mine.ply"), "--out", folder / "sparse/mine.ply")
    assert contents(tmp_path) == before


def test_points_that_lie_elsewhere_are_kept(tmp_path, capsys):
    write_nerfstudio(tmp_path / "scene")
    file = tmp_path / "points/cloud.ply"
    before = contents(tmp_path)
    refused(capsys, run(export, tmp_path / "scene", "--out", file), "--out", file)
    assert contents(tmp_path) == before


def test_pages_in_the_folder_of_other_files_are_kept(tmp_path, capsys):
    write_nerfstudio(tmp_path / "scene")
    for tool, name, more in ((inspect_scene, "inspection.html", ()), (demo, "index.html", ("--scene",))):
        file = tmp_path / "out" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text("<!doctype html>\n<p>mine")
        refused(capsys, run(tool, *more, tmp_path / "scene", "--out", tmp_path / "out"), file)
        assert file.read_text() == "<!doctype html>\n<p>mine"


def test_reports_of_ours_are_replaced(tmp_path, weights, capsys, monkeypatch):
    for table in ("_CONTRACTS", "_REPORTED"):  # one row each, of what takes longest
        monkeypatch.setattr(models, table, dict([*getattr(models, table).items()][:1]))
    folder = tmp_path / "scene"
    out = folder / "out"  # where every other file is refused
    write_nerfstudio(folder)
    before, numbers, page = contents(folder), out / "report.json", out / "report.html"
    words = (folder, "--checkpoint", weights, "--max-size", 12, "--sources", 2, "--json", numbers, "--report", page)
    for again in (False, True):
        assert run(verify, *words, *(("--seed", 5) if again else ())) == 0, capsys.readouterr().err
        assert json.loads(numbers.read_text())["seed"] == 5 * again and page.stat().st_size > 1000
        capsys.readouterr()
    assert {name: content for name, content in contents(folder).items() if name in before} == before


def test_only_what_is_empty_or_ours_gives_way(tmp_path, capsys):
    file = tmp_path / "numbers"
    for content, taken in (
        (b"", True),
        (b'{"step": 3, "versions": {"raytrans": "0.1"}}', True),
        (b'{"step": 3}', False),
        (b'{"versions": {"theirs": 1}}', False),
        (b'{"versions": "raytrans"}', False),
        (b"[1, 2]", False),
        (b"{ cut", False),
        (os.urandom(64), False),
    ):
        file.write_bytes(content)
        status = run(verify, tmp_path / "no scene", "--json", file)
        error = capsys.readouterr().err
        assert status == 2 and ("is there already" in error) is not taken, content
        assert file.read_bytes() == content
    cli.write_report(file, {"step": 4})
    assert cli.report_file(str(file)) == file and json.loads(file.read_text())["step"] == 4
