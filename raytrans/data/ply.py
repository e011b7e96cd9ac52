"""Points of a PLY file: ascii, binary little-endian or big-endian.

Source: paulbourke.net/dataformats/ply, the description of the format by its author, Greg Turk.
"""

from pathlib import Path

import numpy as np

from raytrans.data.guards import whole_of
from raytrans.data.points import SparsePoints

FORMATS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
TYPES = {"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4"}
TYPES |= {"float": "f4", "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4"}
TYPES |= {"uint32": "u4", "float32": "f4", "float64": "f8"}
COLORS = ("red", "green", "blue")
GREY = 128
LONGEST_HEAD = 1 << 16  # bytes


def read_ply(path: Path) -> SparsePoints:
    """Vertices of a PLY file: x, y, z and red, green, blue (grey where it has none; floats are taken in [0, 1]).

    Raises ValueError naming the file for what is no PLY, cut short, not finite, or laid out so that vertices cannot be
    told apart (lists in them or before them).
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
    kind, count, fields, start = _head(path, content)
    layout = np.dtype([(name, kind + TYPES[stored]) for name, stored in fields])
    rows = (_ascii if kind == "" else _binary)(path, content[start:], count, layout)
    xyz = np.stack([rows[name].astype(np.float64) for name in "xyz"], -1)
    if not np.isfinite(xyz).all():
        raise ValueError(
            f"{path}: expected finite x, y, z, got NaN or infinity at vertex {np.argmin(np.isfinite(xyz).all(1))}"
        )
    if not set(COLORS) <= set(layout.names):
        return SparsePoints(xyz, np.full((count, 3), GREY, np.uint8))
    rgb = np.stack([rows[name] for name in COLORS], -1)
    if np.issubdtype(rgb.dtype, np.floating):
        rgb = np.round(np.nan_to_num(rgb).clip(0, 1) * 255)
    return SparsePoints(xyz, rgb.clip(0, 255).astype(np.uint8))


def _head(path: Path, content: bytes) -> tuple[str, int, list[tuple[str, str]], int]:
    """Byte order ("" for ascii), number of vertices, their fields (name, type), and where the vertices start."""
    mark = content.find(b"end_header", 0, LONGEST_HEAD)
    end = content.find(b"\n", mark)
    if not content.startswith(b"ply") or mark < 0 or end < 0:
        raise ValueError(f"{path}: expected a PLY file, from `ply` to `end_header`, got {content[:20]!r}")
    kind, elements = None, []
    for line in content[:mark].decode("latin-1").splitlines():
        words = line.split()
        if words[:1] == ["format"] and len(words) == 3:
            kind = FORMATS.get(words[1])
        elif words[:1] == ["element"] and len(words) == 3:
            elements.append((words[1], whole_of(words[2], f"{path}: element {words[1][:60]}"), []))
        elif words[:1] == ["property"] and len(words) >= 3 and elements:
            elements[-1][2].append((words[-1], words[1]))
    if kind is None:
        raise ValueError(f"{path}: expected a format of {', '.join(FORMATS)}, got none of them")
    if not elements or elements[0][0] != "vertex":
        raise ValueError(f"{path}: expected vertex as first element, got {[name for name, _, _ in elements]}")
    _, count, fields = elements[0]
    names = [name for name, _ in fields]
    if not set("xyz") <= set(names) or len(set(names)) < len(names) or not {t for _, t in fields} <= set(TYPES):
        raise ValueError(
            f"{path}: expected vertices with x, y, z and no lists, got {', '.join(f'{t} {n}' for n, t in fields)}"
        )
    return kind, count, fields, end + 1


def _binary(path: Path, body: bytes, count: int, layout: np.dtype) -> np.ndarray:
    if len(body) < count * layout.itemsize:
        raise ValueError(
            f"{path}: cut short: expected {count} vertices of {layout.itemsize} bytes, got {len(body)} bytes"
        )
    return np.frombuffer(body, layout, count)


def _ascii(path: Path, body: bytes, count: int, layout: np.dtype) -> np.ndarray:
    width = len(layout.names)
    if count * width > len(body):  # even digits without spaces would be too few
        raise ValueError(f"{path}: cut short: expected {count} vertices of {width} numbers, got {len(body)} bytes")
    words = body.split(maxsplit=count * width)[: count * width]
    if len(words) < count * width:
        raise ValueError(f"{path}: cut short: expected {count} vertices of {width} numbers, got {len(words)} numbers")
    try:
        table = np.array(words, dtype=np.float64).reshape(count, width)
    except ValueError as error:
        raise ValueError(f"{path}: expected numbers, got something else ({error})") from None
    # whole numbers stay exact in float64, and the type of a colour says how it is scaled
    rows = np.empty(count, layout)
    for index, name in enumerate(layout.names):
        kind, column = layout[name], table[:, index]
        if kind.kind != "f" and not ((column >= np.iinfo(kind).min) & (column <= np.iinfo(kind).max)).all():
            raise ValueError(f"{path}: {name}: expected numbers of {kind}, got {column.min():g} to {column.max():g}")
        with np.errstate(over="ignore"):  # infinity is refused where it counts
            rows[name] = column
    return rows
