"""Files made to harm, typed in: bombs, lies about counts, names that lead out, code, depth without end, hangs."""

import contextlib
import io
import json
import logging
import os
import struct
import tarfile
import zipfile
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from raytrans.apps import cli, evaluate, export, inspect_scene, refine_cameras, render, train, verify
from raytrans.data import nearest, open_scene
from raytrans.data.images import read_depth, read_image, read_mask, read_npy
from raytrans.data.parallax import farthest_apart, nearest_with_parallax
from raytrans.data.ply import read_ply
from raytrans.data.readers.llff import NAME as LLFF
from raytrans.data.shards import LONGEST, MOST_GLOBAL, Shards
from raytrans.export.files import read_json_lines
from raytrans.geometry import Cameras, spiral, wander
from raytrans.models.config import model_config
from raytrans.training.checkpoint import FORMAT, load, read_tensors
from raytrans.training.config import read_config
from raytrans.training.tensors import pack
from tests.data.readers import captures
from tests.fuzz.contract import faults
from tests.fuzz.surfaces import PLY, colmap_binary, transforms


@pytest.fixture(autouse=True)
def _silent():
    """What pytest does with the lines of a log is none of the reader's doing."""
    logging.getLogger("raytrans").setLevel(logging.CRITICAL)
    yield
    logging.getLogger("raytrans").setLevel(logging.NOTSET)


def refused(read, folder, match, **limits):
    """The contract is kept, and the error says what is wrong."""
    with pytest.raises((ValueError, OSError), match=match):
        read()
    assert faults(read, folder, **limits) == []


def png(width, height, rows=b"", bits=8, kind=0) -> bytes:
    """A PNG that states a size and holds some compressed rows."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(7000, 7000), (60_000, 60_000), (2**31 - 1, 2**31 - 1), (1 << 27, 1)])
def test_pictures_that_state_more_pixels_than_files_of_their_length_hold(tmp_path, size):
    file = tmp_path / "a.png"
    file.write_bytes(png(*size))
    for read in (read_image, read_mask, lambda path: read_depth(path, 1.0)):
        refused(lambda read=read: read(file), tmp_path, r"a\.png: ", memory=64 << 20, seconds=2)
    captures.llff(tmp_path, lambda path: captures.picture(path).write_bytes(png(*size)))
    refused(lambda: open_scene(tmp_path), tmp_path, r"0\.png: ", memory=64 << 20, seconds=2)


def test_large_photographs_are_no_bombs(tmp_path, monkeypatch):
    """The bounds, made small: a picture of few bytes for its pixels is refused, the same one with many is not."""
    from raytrans.data import guards

    monkeypatch.setattr(guards, "PIXELS", 1000)
    Image.new("RGB", (100, 100)).save(tmp_path / "flat.png")
    noise = np.random.default_rng(0).integers(0, 256, (100, 100, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    with pytest.raises(
        ValueError, match=r"flat\.png: expected at most \d+ pixels in a file of \d+ bytes, got 100 x 100"
    ):
        read_image(tmp_path / "flat.png")
    assert torch.equal(read_image(tmp_path / "noise.png"), torch.from_numpy(noise).float() / 255)


@pytest.mark.slow
def test_the_largest_picture_of_few_bytes_stays_below_a_gigabyte(tmp_path):
    Image.new("RGBA", (6900, 6900), (1, 2, 3, 128)).save(tmp_path / "a.png")
    assert faults(lambda: read_image(tmp_path / "a.png"), tmp_path, seconds=60) == []
    assert faults(lambda: read_image(tmp_path / "a.png"), tmp_path, seconds=60, memory=400 << 20) != []


def test_a_picture_that_another_program_would_draw_is_none(tmp_path):
    (tmp_path / "a.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(x) run\n%%EOF\n"
    )
    assert Image.open(tmp_path / "a.png").format == "EPS"  # for which PIL runs Ghostscript
    refused(lambda: read_image(tmp_path / "a.png"), tmp_path, "not a readable image")


def test_text_in_a_picture_that_unfolds_without_end(tmp_path):
    head, end = png(4, 4, bytes(20)), b"\0\0\0\0IEND\xaeB`\x82"
    text = b"zTXtx\0\0" + zlib.compress(bytes(100_000_000))
    bomb = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
    (tmp_path / "a.png").write_bytes(head[: -len(end)] + bomb + end)
    assert faults(lambda: read_image(tmp_path / "a.png"), tmp_path, memory=64 << 20) == []


class Attack:
    def __reduce__(self):
        return os.system, ("touch pwned",)


def npy_head(text: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text) + 1) + text.encode() + b"\n"


def test_arrays_that_lie_or_hold_code(tmp_path):
    for shape in ("(1000000000000, 17)", "(-1, 17)", "(4, 17)"):
        (tmp_path / LLFF).write_bytes(npy_head(f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}}}"))
        refused(lambda: read_npy(tmp_path / LLFF), tmp_path, "expected -?[0-9]+ bytes for shape", memory=16 << 20)
    (tmp_path / LLFF).write_bytes(npy_head("__import__('os').system('touch pwned')"))
    refused(lambda: read_npy(tmp_path / LLFF), tmp_path, "cannot be read as a .npy array")
    np.save(tmp_path / LLFF, np.array([Attack()], dtype=object), allow_pickle=True)
    refused(lambda: open_scene(tmp_path), tmp_path, "holds pickled objects")


def test_archives_that_unfold_or_hold_code(tmp_path):
    def archive(content, kind=zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(tmp_path / "cameras.npz", "w", kind) as file:
            file.writestr("world_mat_0.npy", content)
        assert (tmp_path / "cameras.npz").stat().st_size < 100_000

    buffer = io.BytesIO()
    np.save(buffer, np.zeros((4, 4_000_000), np.uint8))
    archive(buffer.getvalue())
    refused(lambda: open_scene(tmp_path), tmp_path, "expected a matrix of numbers, got 16000128 bytes", memory=4 << 20)
    archive(b"\0" * 1000, zipfile.ZIP_LZMA)
    refused(lambda: open_scene(tmp_path), tmp_path, "expected a matrix of numbers")
    np.savez(tmp_path / "cameras.npz", world_mat_0=np.array([Attack()], dtype=object))
    refused(lambda: open_scene(tmp_path), tmp_path, "holds pickled objects")


@pytest.mark.parametrize("count", [10**12, 10**18 - 1, 10**30])
@pytest.mark.parametrize("kind", ["ascii", "binary_little_endian"])
def test_clouds_of_more_points_than_bytes(tmp_path, count, kind):
    (tmp_path / "a.ply").write_text(PLY.format(kind).replace("vertex 2", f"vertex {count}") + "0 0 1 1 2 3\n")
    refused(lambda: read_ply(tmp_path / "a.ply"), tmp_path, "cut short|expected a whole number", memory=16 << 20)


@pytest.mark.parametrize("part", ["cameras", "images", "points3D"])
@pytest.mark.parametrize("count", [10**9, 2**63, 2**64 - 1])
def test_models_of_more_entries_than_bytes(tmp_path, part, count):
    colmap_binary(tmp_path)
    file = tmp_path / f"sparse/0/{part}.bin"
    file.write_bytes(struct.pack("<Q", count) + file.read_bytes()[8:])
    refused(lambda: open_scene(tmp_path).sparse_points(), tmp_path, "cut short", memory=16 << 20, seconds=2)


def checkpoint(folder, header=None, model=None, length=None):
    """A file of weights with a header or a configuration of one's own."""
    if header is None:
        metadata = {"raytrans": json.dumps({"format": FORMAT, "model": model})}
        content = pack({"model.x": torch.zeros(3)}, metadata)
    else:
        content = struct.pack("<Q", len(header) if length is None else length) + header
    (folder / "model.safetensors").write_bytes(content)


def test_weights_that_lie(tmp_path):
    file = tmp_path / "model.safetensors"
    for length in (2**63, 2**64 - 1, 10**9):
        checkpoint(tmp_path, b"{}", length=length)
        refused(lambda: read_tensors(file), tmp_path, "expected a header of", memory=16 << 20)
    huge = {"x": {"dtype": "F32", "shape": [10**5, 10**5, 10**5], "data_offsets": [0, 4 * 10**15]}}
    none = {"x": {"dtype": "F32", "shape": [0, 10**17], "data_offsets": [0, 0]}}
    for header, text in ((huge, "expected 4000000000000000 bytes"), (none, "expected sides of at most")):
        checkpoint(tmp_path, json.dumps(header).encode())
        refused(lambda: read_tensors(file), tmp_path, text, memory=16 << 20)
    checkpoint(tmp_path, b'{"x":' * 100_000)
    refused(lambda: read_tensors(file), tmp_path, "not valid JSON")


@pytest.mark.parametrize(
    "change",
    [
        {"widths": [4096, 4096, 4096], "hidden": 4096, "fine_type": "2048x0 + 1x1"},
        {"widths": [10**9, 1, 1]},
        {"fine_type": "999999999999x0"},
        {"fine_type": "1x0 + 1x100000"},
        {"view_layers": 10**9},
        {"view_layers": 4096, "ray_layers": 4096},
        {"planes": 10**12},
        {"hidden": 10**400},
    ],
)
def test_models_larger_than_their_file_are_never_made(tmp_path, change):
    known = json.loads(json.dumps(model_config("tiny").to_dict()))
    checkpoint(tmp_path, model={**known, **change})
    refused(lambda: load(tmp_path), tmp_path, "checkpoint: .*", memory=128 << 20, seconds=5)


def test_texts_nested_without_end(tmp_path):
    deep = "[" * 100_000
    for name, text in (
        ("transforms.json", '{"frames": ' + deep),
        ("a.toml", f"seed = {deep}"),
        ("a.jsonl", deep + "\n"),
    ):
        (tmp_path / name).write_text(text)
    refused(lambda: open_scene(tmp_path), tmp_path, "not valid JSON")
    refused(lambda: read_config(tmp_path / "a.toml"), tmp_path, "is not valid TOML")
    refused(lambda: read_json_lines(tmp_path / "a.jsonl"), tmp_path, "line 1: expected JSON")
    (tmp_path / "a.toml").write_text("a." * 500_000 + "a = 1")
    refused(lambda: read_config(tmp_path / "a.toml"), tmp_path, "expected at most 65536 bytes", seconds=1)


def test_a_long_way_to_no_file_is_not_walked(tmp_path):
    file = captures.transforms(tmp_path, captures.picture)
    meta = json.loads(file.read_text())
    meta["frames"] *= 200
    for number, frame in enumerate(meta["frames"][1:]):
        meta["frames"][number + 1] = {**frame, "file_path": "../" + "x/" * 2000 + str(number)}
    file.write_text(json.dumps(meta))
    assert faults(lambda: open_scene(tmp_path), tmp_path, seconds=5) == []


@pytest.mark.parametrize("write", [captures.transforms, captures.colmap, captures.middlebury, captures.tum])
@pytest.mark.parametrize("name", ["../secret.png", "{outside}/secret.png", "x/../../secret.png"])
def test_names_that_lead_out_of_the_scene_open_nothing(tmp_path, write, name):
    scene = tmp_path / "scene"
    write(scene, captures.picture)
    captures.picture(tmp_path / "secret.png")
    (scene / "x").mkdir()
    [image] = [path for path in scene.rglob("*.png")]
    own = str(image.relative_to(scene)) if write in (captures.transforms, captures.tum) else image.name
    for file in scene.rglob("*"):
        if file.suffix in (".txt", ".json"):
            file.write_text(file.read_text().replace(own, name.format(outside=tmp_path)))
    image.unlink()
    refused(lambda: open_scene(scene), scene, "left out|exists|can be used")


def test_other_files_that_a_list_names_outside_are_left_out(tmp_path):
    scene = tmp_path / "scene"
    scene.mkdir()
    [file] = transforms(scene)
    captures.picture(tmp_path / "masks/0.png")
    (tmp_path / "points.ply").write_text(PLY.format("ascii") + "0 0 1 1 2 3\n1 0 1 4 5 6\n")
    meta = json.loads(file.read_text())
    meta["ply_file_path"] = "../points.ply"
    meta["frames"][0] |= {"mask_path": "../masks/0.png", "depth_file_path": str(tmp_path / "masks/0.png")}
    file.write_text(json.dumps(meta))
    (scene / "masks/0.png").unlink()
    (scene / "points.ply").unlink()

    def read():
        opened = open_scene(scene)
        assert (opened.mask(0), opened.depth(0), opened.sparse_points()) == (None, None, None)

    assert faults(read, scene) == []
    assert open_scene(scene, trusted=[tmp_path]).mask(0) is not None


def test_a_pipe_in_place_of_a_picture_is_no_file(tmp_path):
    captures.transforms(tmp_path, captures.picture)
    (tmp_path / "images/0.png").unlink()
    os.mkfifo(tmp_path / "images/0.png")
    refused(lambda: open_scene(tmp_path), tmp_path, "none of the 1 listed images exists")


def tar_head(kind: bytes, content: bytes = b"", size: int | None = None) -> bytes:
    """A header of a tar file with what lies behind it."""
    head = tarfile.TarInfo("a.json")
    head.type, head.size = kind, len(content) if size is None else size
    return head.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512)


def records(count: int, start: int = 0) -> bytes:
    """Entries of an extended header, each with a name of its own."""
    return b"".join(b"12 k%05d=v\n" % (start + i) for i in range(count))


MEMBER = tar_head(tarfile.REGTYPE, b"{}")
TARS = {
    "digits": tar_head(b"x", b"1" * 200_000) + MEMBER,
    "digits behind a short one": tar_head(b"x", records(1)) + tar_head(b"x", b"1" * 200_000) + MEMBER,
    "digits for all": tar_head(b"g", b"1" * 200_000) + MEMBER,
    "digits of Solaris": tar_head(b"X", b"1" * 200_000) + MEMBER,
    "a long name": tar_head(b"L", b"a" * 200_000) + MEMBER,
    "a long link behind a long name": tar_head(b"L", b"a" * 200) + tar_head(b"K", b"a" * 200_000) + MEMBER,
    "less than nothing": tar_head(b"x", size=-200_000) + b"1" * 200_192 + MEMBER,
    "stacked": tar_head(b"x", b"1" * LONGEST) * 2000 + MEMBER,
    "stacked, empty": tar_head(b"x") * 2000 + MEMBER,
    "stacked names": tar_head(b"L", b"a" * LONGEST) * 2000 + MEMBER,
    "names for all": b"".join(tar_head(b"g", records(100, 100 * i)) + MEMBER for i in range(2000)),
}


@pytest.mark.parametrize("kind", TARS)
def test_headers_of_a_shard_without_end(tmp_path, kind):
    (tmp_path / "a.tar").write_bytes(TARS[kind] + bytes(1024))

    def read():
        shards = Shards.of([str(tmp_path / "a.tar")])
        raise ValueError(f"expected scenes only before the harm, got {len(shards)}")

    few = "got 1$" if kind == "names for all" else "expected scenes in .*, got none"
    refused(read, tmp_path, few, memory=64 << 20)


def test_shards_say_what_is_wrong_with_their_headers(tmp_path, caplog):
    logging.getLogger("raytrans").setLevel(logging.NOTSET)
    for kind, text in (
        ("digits", f"expected extended headers of at most {LONGEST} bytes, got 200000"),
        ("names for all", f"expected at most {MOST_GLOBAL} global entries, got 200"),
    ):
        (tmp_path / "a.tar").write_bytes(TARS[kind] + bytes(1024))
        with pytest.raises(ValueError) if kind == "digits" else contextlib.nullcontext():
            Shards.of([str(tmp_path / "a.tar")])
        assert text in caplog.text


def long_list(count: int) -> Cameras:
    """A walk of many cameras, as a list of poses of a few kilobytes for each hundred may name."""
    pose = torch.eye(4, dtype=torch.float64).repeat(count, 1, 1)
    pose[:, :3, 3] = torch.from_numpy(np.random.default_rng(0).normal(size=(count, 3)))
    intrinsics = torch.tensor([[50.0, 0, 20], [0, 50, 15], [0, 0, 1]], dtype=torch.float64)
    return Cameras(intrinsics.expand(count, 3, 3), pose, size=(30, 40))


def test_long_lists_of_cameras_take_no_table_of_all_pairs(tmp_path):
    cameras = long_list(20_000)
    pool = list(range(20_000))
    assert faults(lambda: nearest(cameras, cameras[0], 8, [0]), tmp_path, memory=400 << 20) == []
    assert faults(lambda: farthest_apart(cameras, pool, 8), tmp_path, memory=400 << 20) == []
    assert faults(lambda: nearest_with_parallax(cameras[:6000], cameras[0], 8), tmp_path, memory=200 << 20) == []
    for path in (wander, spiral):
        assert faults(lambda path=path: path(cameras[:6000], 4), tmp_path, memory=200 << 20) == []


COMMANDS = {
    "render": (render, ["{scene}", "--out", "{out}"]),
    "inspect": (inspect_scene, ["{scene}", "--out", "{out}"]),
    "refine": (refine_cameras, ["{scene}", "--out", "{out}"]),
    "verify": (verify, ["{scene}"]),
    "evaluate": (evaluate, ["{scene}"]),
    "export": (export, ["{scene}", "--out", "{out}/a.ply"]),
    "finetune": (train, ["--finetune", "{scene}", "--out", "{out}"]),
}


def one_line(tool, words, capsys) -> str:
    status = cli.run(tool.main, tool.parser(), words)
    lines = capsys.readouterr().err.splitlines()
    assert status == 2 and len(lines) == 1 and ": error: " in lines[0], (status, lines)
    return lines[0]


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_answer_with_one_line(tmp_path, capsys, command):
    tool, words = COMMANDS[command]
    for name in ("numbers", "bomb", "deep"):
        (tmp_path / name).mkdir()
    words = [
        [word.format(scene=tmp_path / name, out=tmp_path / "out") for word in words]
        for name in ("numbers", "bomb", "deep")
    ]
    file = captures.transforms(tmp_path / "numbers", captures.picture)
    file.write_text(file.read_text().replace("50.0", "1e999"))
    captures.llff(tmp_path / "bomb", lambda path: captures.picture(path).write_bytes(png(12_000, 12_000)))
    (tmp_path / "deep/transforms.json").write_text("[" * 100_000)
    assert "expected a finite number fl_x, got inf" in one_line(tool, words[0], capsys)
    assert "got 12000 x 12000" in one_line(tool, words[1], capsys)
    assert "not valid JSON" in one_line(tool, words[2], capsys)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in ("inspect", "refine")])
def test_commands_refuse_broken_weights_in_one_line(tmp_path, capsys, command):
    captures.transforms(tmp_path / "scene", captures.picture)
    checkpoint(tmp_path, b"{}", length=2**63)
    tool, words = COMMANDS[command]
    words = [word.format(scene=tmp_path / "scene", out=tmp_path / "out") for word in words]
    option = "--init" if tool is train else "--checkpoint"
    line = one_line(tool, [*words, option, str(tmp_path / "model.safetensors")], capsys)
    assert "expected a header of 9223372036854775808 bytes" in line or "view" in line
