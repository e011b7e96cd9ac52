"""Shards: tar files in WebDataset's convention, a scene a sample, read at any position; nothing in them is unpickled.

A sample is a run of members with one key, which is the name up to the first dot: KEY.json, a `transforms.json` whose
files are members of the sample, then KEY.0000.png or .jpg, KEY.0000.depth.png, and so on. Unpacked, every KEY.json is a
scene. Source of the convention: github.com/webdataset/webdataset.
"""

import logging
import re
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from raytrans.data.guards import parse_json
from raytrans.data.patterns import paths_of
from raytrans.data.readers import transforms
from raytrans.data.scene import Scene

KEYED = re.compile(r"((?:.*/|)[^./]+)\.([^/]+)")
META = re.compile(r"__[^/]*__(?:$|/)")  # members that are of no sample
NAME = re.compile(r"[\w-][\w. -]{0,199}")
FILES = ("file_path", "depth_file_path", "mask_path")
EXTENDED = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
LONGEST = 2048  # bytes of a header that only says more of the next; tarfile's time for one grows with their square
MOST_GLOBAL = 100  # entries that hold for all members from there on; tarfile goes through them for every one
MOST_VIEWS = 2000  # of a scene, whose images are in memory together
# what tarfile raises for a file that is cut, or made to harm
TAR_ERRORS = (tarfile.TarError, OSError, EOFError, ValueError, OverflowError, RecursionError)

log = logging.getLogger(__name__)


class _Header(tarfile.TarInfo):
    """A header of a member that is refused before a long extension is read; tarfile wants a class of its own kind."""

    __slots__ = ()

    @classmethod
    def frombuf(cls, buf: bytes, encoding: str, errors: str) -> "_Header":
        header = super().frombuf(buf, encoding, errors)
        if header.type in EXTENDED and not 0 <= header.size <= LONGEST:
            raise ValueError(f"expected extended headers of at most {LONGEST} bytes, got {header.size}")
        return header


@dataclass(frozen=True)
class Shards:
    """Scenes of tar files by number: `spans` (scenes, 3) are the file, the first byte and the end of every one."""

    files: tuple[Path, ...] = ()
    spans: np.ndarray = field(default_factory=lambda: np.zeros((0, 3), np.int64))

    def __len__(self) -> int:
        return len(self.spans)

    @classmethod
    def of(cls, patterns: Sequence[str]) -> "Shards":
        """The scenes of the shards that texts like `shards/{000..127}.tar` and `shards/*.tar` stand for, in order.

        One pass over the headers of every file; a file that is cut counts as far as it goes, with a warning. Raises
        ValueError for a file that does not exist, a text that stands for none, and files without a scene.
        """
        files = []
        for pattern in patterns:
            found = paths_of(pattern)
            missing = [file for file in found if not file.is_file()]
            if missing or not found:
                got = f"{len(missing)} of {len(found)} missing, first {missing[0]}" if missing else "none found"
                raise ValueError(f"data.shards: {pattern}: expected tar files, got {got}")
            files += found
        spans = [(number, *span) for number, file in enumerate(files) for span in _spans(file)]
        if files and not spans:
            raise ValueError(f"data.shards: expected scenes in {', '.join(patterns)}, got none")
        return cls(tuple(files), np.array(spans, np.int64).reshape(-1, 3))

    @contextmanager
    def opened(self, number: int) -> Iterator[Scene]:
        """The scene of a number, unpacked for the length of the block.

        Raises ValueError naming shard and key for a sample that is cut, lacks a member, or names a file that is none of
        its own.
        """
        which, start, end = self.spans[number].tolist()
        file = self.files[which]
        with TemporaryDirectory(prefix="raytrans-shard-") as name:
            folder = Path(name)
            try:
                yield transforms.read([_unpacked(file, start, end, folder)])
            except TAR_ERRORS as error:
                told = str(error).replace(f"{folder}/", "")
                raise ValueError(f"{file}: {told or type(error).__name__}") from None


def _members(file: Path, start: int = 0, end: int | None = None) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """The members of an uncompressed tar file from a byte on, up to another or the end of the archive.

    Raises ValueError where a member does not lie behind the last, and where what follows them is neither.
    """
    with open(file, "rb") as stream:
        whole = stream.seek(0, 2)
        stream.seek(start)
        with tarfile.open(fileobj=stream, mode="r:", tarinfo=_Header) as tar:
            after = start
            while after == start or end is None or tar.offset < end:
                member = tar.next()
                if member is None:
                    break
                tar.members = []  # kept otherwise, without end
                if member.offset < after or not 0 <= member.size <= whole:
                    raise ValueError(f"its member {member.name[:80]!r} has an impossible size")
                if len(tar.pax_headers) > MOST_GLOBAL:
                    raise ValueError(f"expected at most {MOST_GLOBAL} global entries, got {len(tar.pax_headers)}")
                after = member.offset + tarfile.BLOCKSIZE
                yield tar, member
            stream.seek(tar.offset)
            if end is None and stream.read(tarfile.BLOCKSIZE).strip(b"\0"):  # which tarfile takes for the end
                raise ValueError(f"no member begins at byte {tar.offset}")


def _is_plain(member: tarfile.TarInfo) -> bool:
    """Whether a member is a file with all of its bytes: no link, folder, device or file with holes."""
    return member.isreg() and not member.issparse() and not META.match(member.name)


def _spans(file: Path) -> list[tuple[int, int]]:
    """First byte and end of every sample."""
    spans, key = [], None
    try:
        for tar, member in _members(file):
            named = KEYED.fullmatch(member.name) if _is_plain(member) else None
            if named is None:
                continue
            if named[1] == key:
                spans[-1] = (spans[-1][0], tar.offset)
            else:
                key = named[1]
                spans.append((member.offset, tar.offset))
    except TAR_ERRORS as error:
        log.warning("%s: no whole, uncompressed tar file; %d scenes are found in it (%s)", file, len(spans), error)
    return spans


def _unpacked(file: Path, start: int, end: int, folder: Path) -> Path:
    """Write the members of a sample into a folder, and give the json among them, all of whose files are there."""
    key, names = None, set()
    for tar, member in _members(file, start, end):
        named = KEYED.fullmatch(member.name) if _is_plain(member) else None
        if named is None:
            continue
        key, name = named[1], Path(member.name).name
        if not NAME.fullmatch(name) or name in names:
            raise ValueError(f"{name[:80]!r} is twice in its sample, or no name of a plain file")
        names.add(name)
        with open(folder / name, "xb") as out:
            try:
                shutil.copyfileobj(tar.extractfile(member), out)
            except TAR_ERRORS:
                raise ValueError(f"{name} is cut") from None
    cameras = f"{Path(key or '').name}.json"
    if cameras not in names:
        raise ValueError(f"{key}: the sample has no member {cameras}")
    _check_files(folder / cameras, names)
    return folder / cameras


def _check_files(cameras: Path, names: set[str]) -> None:
    """Refuse frames that name files outside of the sample, one file twice, or too many; the reader checks the rest."""
    meta = parse_json(cameras.read_bytes(), cameras.name)
    frames = meta.get("frames") if isinstance(meta, dict) else None
    if not isinstance(frames, list) or not 0 < len(frames) <= MOST_VIEWS:
        raise ValueError(f"{cameras.name}: expected a list `frames` of 1 to {MOST_VIEWS} views")
    for values in (meta, *frames):
        named = {k: v for k, v in values.items() if k.endswith("path")} if isinstance(values, dict) else {}
        for kind, value in named.items():
            if kind not in FILES or value not in names:
                raise ValueError(f"{cameras.name}: {kind}: expected a member of the sample, got {str(value)[:80]!r}")
    images = [str(frame.get("file_path")) for frame in frames if isinstance(frame, dict)]
    if len(set(images)) < len(frames):
        raise ValueError(f"{cameras.name}: expected an image of its own for every frame")
