"""Shards that are whole, cut, or made to harm; the oracles are the folders they are made of, and tarfile."""

import io
import json
import logging
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from raytrans.data.generate import generated_scene
from raytrans.data.readers import open_scene
from raytrans.data.shards import MOST_VIEWS, Shards
from raytrans.export.files import png_bytes, write_png, write_transforms

KEYS = ("one", "two", "three")


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> list[Path]:
    """Three small scenes."""
    out = tmp_path_factory.mktemp("folders")
    for seed, key in enumerate(KEYS):
        drawn = generated_scene(seed, "easy", (12, 16), 3)
        for i, image in enumerate(drawn.images):
            write_png(out / key / f"{key}.{i:04d}.png", image)
        write_transforms(out / key / f"{key}.json", drawn.cameras, [f"{key}.{i:04d}.png" for i in range(3)])
    return [out / key for key in KEYS]


def members_of(folder: Path) -> dict[str, bytes]:
    """Names and contents of a sample, the json first."""
    files = sorted(folder.iterdir(), key=lambda path: (path.suffix != ".json", path.name))
    return {path.name: path.read_bytes() for path in files}


def write_tar(path: Path, members: list[tuple[str | tarfile.TarInfo, bytes]], **options) -> Path:
    with tarfile.open(path, "w", **options) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name) if isinstance(name, str) else name
            info.size = len(content) if isinstance(name, str) else info.size
            tar.addfile(info, io.BytesIO(content))
    return path


def read(shards: Shards, number: int) -> list[torch.Tensor]:
    with shards.opened(number) as scene:
        return [scene.image(i) for i in range(len(scene))]


def refused(path: Path, number: int = 0) -> str:
    """Why a sample cannot be read."""
    with pytest.raises(ValueError) as caught:
        read(Shards.of([str(path)]), number)
    assert str(caught.value).startswith(f"{path}: ") and "raytrans-shard-" not in str(caught.value)
    return str(caught.value)


def changed(folder: Path, **frame) -> dict[str, bytes]:
    """A sample whose first frame has other values."""
    members = members_of(folder)
    name = next(iter(members))
    meta = json.loads(members[name])
    meta["frames"][0] |= frame
    return members | {name: json.dumps(meta).encode()}


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_sample_is_its_folder_in_any_order(folders, tmp_path, format):
    """Folders, links and members without a key between the samples belong to none."""
    link, place = tarfile.TarInfo("two.0009.png"), tarfile.TarInfo("deep")
    link.type, link.linkname, place.type = tarfile.SYMTYPE, "/etc/hostname", tarfile.DIRTYPE
    one, two, three = (list(members_of(folder).items()) for folder in folders)
    long = [(f"deep/{'x' * 100}/{name}", content) for name, content in three]
    write_tar(
        tmp_path / "0.tar", [("readme", b"text"), *one, (place, b""), *two[:2], (link, b""), *two[2:]], format=format
    )
    write_tar(tmp_path / "1.tar", [("__meta__", b"m"), *long], format=format)
    shards = Shards.of([str(tmp_path / "{0..1}.tar")])
    assert len(shards) == 3 and shards.spans[:, 0].tolist() == [0, 0, 1]
    for number in (2, 0, 1, 0):
        whole = open_scene(folders[number] / f"{KEYS[number]}.json")
        with shards.opened(number) as scene:
            assert torch.equal(scene.cameras.world_from_camera, whole.cameras.world_from_camera)
            assert all(torch.equal(scene.image(i), whole.image(i)) for i in range(3))


def test_nothing_is_left_of_what_was_unpacked(folders, tmp_path, monkeypatch):
    (tmp_path / "space").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "space"))
    path = write_tar(tmp_path / "a.tar", list(members_of(folders[0]).items()))
    with Shards.of([str(path)]).opened(0) as scene:
        assert scene.frames[0].image.is_relative_to(tmp_path / "space") and scene.frames[0].image.is_file()
    assert list((tmp_path / "space").iterdir()) == []


def test_a_shard_that_is_cut_counts_as_far_as_it_goes(folders, tmp_path, caplog):
    members = [item for folder in folders for item in members_of(folder).items()]
    whole = write_tar(tmp_path / "a.tar", members).read_bytes()
    starts = Shards.of([str(tmp_path / "a.tar")]).spans[:, 1].tolist()
    with tarfile.open(tmp_path / "a.tar") as tar:
        data = {member.name: member.offset_data for member in tar}
    caplog.set_level(logging.WARNING, "raytrans")
    cut = tmp_path / "cut.tar"
    for size, scenes, whole_ones in ((starts[2], 2, 2), (data["three.0001.png"] + 20, 3, 2), (starts[1] + 100, 1, 1)):
        cut.write_bytes(whole[:size])
        caplog.clear()
        shards = Shards.of([str(cut)])
        assert len(shards) == scenes and all(len(read(shards, i)) == 3 for i in range(whole_ones))
        assert len(caplog.messages) == (size != starts[2]) and all(str(cut) in told for told in caplog.messages)
        if scenes > whole_ones:
            assert "three.0001.png is cut" in refused(cut, whole_ones)
    cut.write_bytes(whole[: starts[1]] + b"no header" * 200)
    caplog.clear()
    assert len(Shards.of([str(cut)])) == 1 and f"no member begins at byte {starts[1]}" in caplog.text


def test_files_that_are_no_shards_are_refused(folders, tmp_path):
    for name, content in (("empty", b""), ("text", b"no tar at all" * 100)):
        (tmp_path / f"{name}.tar").write_bytes(content)
        with pytest.raises(ValueError, match="data.shards: expected scenes in .*, got none"):
            Shards.of([str(tmp_path / f"{name}.tar")])
    write_tar(tmp_path / "packed.tar.gz", [("a.json", b"{}")])
    with tarfile.open(tmp_path / "packed.tar", "w:gz") as tar:
        tar.add(folders[0], "a")
    with pytest.raises(ValueError, match="got none"):
        Shards.of([str(tmp_path / "packed.tar")])
    with pytest.raises(ValueError, match="2 of 3 missing, first .*1.tar"):
        write_tar(tmp_path / "0.tar", [("a.json", b"{}")])
        Shards.of([str(tmp_path / "{0..2}.tar")])
    with pytest.raises(ValueError, match="none found"):
        Shards.of([str(tmp_path / "x*.tar")])


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        ({"file_path": "one.0007.png"}, "file_path: expected a member of the sample, got 'one.0007.png'"),
        ({"file_path": "../../../etc/hostname"}, "expected a member of the sample, got '../../../etc/hostname'"),
        ({"file_path": "/etc/hostname"}, "expected a member of the sample, got '/etc/hostname'"),
        ({"file_path": 7}, "expected a member of the sample, got '7'"),
        ({"depth_file_path": "../depth.png"}, "depth_file_path: expected a member"),
        ({"mask_path": "/dev/zero"}, "mask_path: expected a member"),
        ({"ply_file_path": "one.0000.png"}, "ply_file_path: expected a member"),
        ({"file_path": "one.0001.png"}, "an image of its own for every frame"),
        ({"fl_x": "wide"}, "expected a finite number fl_x"),
        ({"w": 99}, "expected height and width"),
    ],
)
def test_a_sample_may_name_its_own_members_alone(folders, tmp_path, frame, reason):
    assert reason in refused(write_tar(tmp_path / "a.tar", list(changed(folders[0], **frame).items())))


def without(members: dict[str, bytes], name: str) -> dict[str, bytes]:
    return {key: value for key, value in members.items() if key != name}


SPOILED = {
    "lacks its json": (lambda m: without(m, "one.json"), "one: the sample has no member one.json"),
    "lacks an image": (lambda m: without(m, "one.0002.png"), "expected a member of the sample, got 'one.0002.png'"),
    "cut image": (lambda m: m | {"one.0001.png": m["one.0001.png"][:300]}, "one.0001.png: broken or cut image"),
    "image of nothing": (lambda m: m | {"one.0001.png": b""}, "one.0001.png: an empty file"),
    "no image": (lambda m: m | {"one.0001.png": b"#!/bin/sh"}, "one.0001.png: not a readable image"),
    "other size": (lambda m: m | {"one.0001.png": png_bytes(np.zeros((5, 90, 3)))}, "expected height and width"),
    "no JSON": (lambda m: m | {"one.json": b"{'a': 1"}, "one.json: not valid JSON"),
    "deep JSON": (lambda m: m | {"one.json": b"[" * 100_000}, "one.json: not valid JSON"),
    "a list": (lambda m: m | {"one.json": b"[]"}, "one.json: expected a list `frames`"),
    "no frames": (lambda m: m | {"one.json": b'{"frames": []}'}, "of 1 to 2000 views"),
    "frames of nothing": (lambda m: m | {"one.json": b'{"frames": [1, 2]}'}, "an image of its own"),
    "too many": (lambda m: m | {"one.json": json.dumps({"frames": [{}] * (MOST_VIEWS + 1)}).encode()}, "1 to 2000"),
    "a pickle": (lambda m: m | {"one.0001.png": b"\x80\x04cos\nsystem\n."}, "not a readable image"),
}


@pytest.mark.parametrize("what", SPOILED)
def test_a_sample_that_is_spoiled_is_named(folders, tmp_path, what):
    spoil, reason = SPOILED[what]
    path = write_tar(tmp_path / "a.tar", list(spoil(members_of(folders[0])).items()))
    assert reason in refused(path)


@pytest.mark.parametrize("name", ["one.00\n1.png", "one.\x1b[31m", "one." + "x" * 300, "one.a\\..\\b"])
def test_names_that_are_no_plain_ones_are_refused(folders, tmp_path, name):
    members = [*members_of(folders[0]).items(), (name, b"x")]
    assert "no name of a plain file" in refused(write_tar(tmp_path / "a.tar", members))


def test_a_member_that_is_twice_there_and_links_and_devices_in_the_place_of_images_are_refused(folders, tmp_path):
    members = list(members_of(folders[0]).items())
    assert "is twice in its sample" in refused(write_tar(tmp_path / "a.tar", [*members, members[-1]]))
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
        other = tarfile.TarInfo("one.0002.png")
        other.type, other.linkname = kind, "/dev/zero"
        path = write_tar(tmp_path / "a.tar", [*members[:-1], (other, b"")])
        assert "expected a member of the sample, got 'one.0002.png'" in refused(path)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("size", ["-1024", "-512", "99999999999999999999"])
def test_impossible_sizes_end(folders, tmp_path, size, caplog):
    """Negative ones send readers of tar files in circles."""
    bad = tarfile.TarInfo("two.json")
    bad.pax_headers = {"size": size}
    members = [*members_of(folders[0]).items(), (bad, b"")]
    path = write_tar(tmp_path / "a.tar", members, format=tarfile.PAX_FORMAT)
    assert size.encode() in path.read_bytes()
    shards = Shards.of([str(path)])
    assert len(read(shards, 0)) == 3 and len(shards) <= 2 and str(path) in caplog.text


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_long_names_and_what_tar_files_say_beside_them_are_read(folders, tmp_path, format):
    deep = "/".join(["a long folder " * 5] * 20)  # of more than 1,000 bytes
    members = []
    for name, content in members_of(folders[0]).items():
        info = tarfile.TarInfo(f"{deep}/{name}")
        info.size, info.mtime, info.uname = len(content), 1.25, "Zoë"
        info.pax_headers = {"SCHILY.xattr.user.note": "x" * 500}
        members.append((info, content))
    options = {"pax_headers": {"comment": "made by hand"}} if format == tarfile.PAX_FORMAT else {}
    shards = Shards.of([str(write_tar(tmp_path / "a.tar", members, format=format, **options))])
    assert len(shards) == 1
    expected = read(Shards.of([str(write_tar(tmp_path / "b.tar", list(members_of(folders[0]).items())))]), 0)
    assert all(torch.equal(a, b) for a, b in zip(read(shards, 0), expected, strict=True))


def test_shards_of_webdataset_with_long_names_are_read(folders, tmp_path):
    webdataset = pytest.importorskip("webdataset")
    deep = "/".join(["folder" * 10] * 10)
    sample = {name.partition(".")[2]: content for name, content in members_of(folders[0]).items()}
    with webdataset.TarWriter(str(tmp_path / "a.tar"), encoder=False) as writer:
        writer.write({"__key__": f"{deep}/one", **sample})
    assert b"path=folder" in (tmp_path / "a.tar").read_bytes() or b"@LongLink" in (tmp_path / "a.tar").read_bytes()
    expected = read(Shards.of([str(write_tar(tmp_path / "b.tar", list(members_of(folders[0]).items())))]), 0)
    assert all(torch.equal(a, b) for a, b in zip(read(Shards.of([str(tmp_path / "a.tar")]), 0), expected, strict=True))
