"""The safetensors format: named tensors in one file that nothing has to unpickle, written and read with torch alone.

A little-endian 64-bit length, a JSON header {name: {dtype, shape, data_offsets}} with text under "__metadata__", and
the bytes of all tensors, one after the other. Source: https://github.com/huggingface/safetensors, section Format.
"""

import json
import math
import struct

import torch
from torch import Tensor

from raytrans.data.guards import one_line, parse_json

METADATA = "__metadata__"
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
LARGEST = 1 << 31
NAMES = {dtype: name for name, dtype in DTYPES.items()}


def pack(tensors: dict[str, Tensor], metadata: dict[str, str]) -> bytes:
    """The content of a safetensors file; ValueError for a dtype that the format does not hold."""
    header: dict[str, object] = {METADATA: metadata}
    parts, start = [], 0
    # widest first, as the format's own library has it: every tensor then starts at a multiple of its width
    for name, value in sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0])):
        if value.dtype not in NAMES:
            raise ValueError(f"tensors: {name}: expected one of {', '.join(map(str, NAMES))}, got {value.dtype}")
        parts.append(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        stop = start + len(parts[-1])
        header[name] = {"dtype": NAMES[value.dtype], "shape": list(value.shape), "data_offsets": [start, stop]}
        start = stop
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([struct.pack("<Q", len(text)), text, *parts])


def unpack(content: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file; ValueError for anything but a whole one.

    Every byte of the data must belong to one tensor, of the length that dtype and shape ask for.
    """
    if len(content) < 8:
        raise ValueError(f"expected a header, got {len(content)} bytes")
    (length,) = struct.unpack_from("<Q", content)
    if length > len(content) - 8:
        raise ValueError(f"expected a header of {length} bytes, got {len(content) - 8}")
    try:
        header = parse_json(content[8 : 8 + length].decode(), "header", object_pairs_hook=_unique)
        metadata = dict(header.pop(METADATA, None) or {})
        entries = sorted((_entry(name, value) for name, value in header.items()), key=lambda entry: entry[3:])
    except (AttributeError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise ValueError(f"header not understood: {one_line(error)}") from None
    data, tensors, reached = bytearray(content[8 + length :]), {}, 0
    for name, dtype, shape, start, stop in entries:
        expected = math.prod(shape) * dtype.itemsize
        if start != reached or stop - start != expected or stop > len(data):
            place = f"bytes {start} to {stop} of {len(data)}"
            raise ValueError(f"{name}: expected {expected} bytes from {reached} for shape {shape}, got {place}")
        tensors[name] = _tensor(data, dtype, shape, start)
        reached = stop
    if reached != len(data):
        raise ValueError(f"expected {reached} bytes of data, got {len(data)}")
    return tensors, metadata


def _tensor(data: bytearray, dtype: torch.dtype, shape: list[int], start: int) -> Tensor:
    count = math.prod(shape)
    if not count:
        if max(shape) > LARGEST:
            raise ValueError(f"expected sides of at most {LARGEST}, got shape {shape}")
        return torch.empty(shape, dtype=dtype)
    # cloned: a slice may lie at an address that its dtype does not like
    part = torch.frombuffer(data, dtype=torch.uint8, count=count * dtype.itemsize, offset=start).clone()
    return part.view(dtype).reshape(shape)


def _unique(pairs: list[tuple[str, object]]) -> dict:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("header names a tensor twice")
    return found


def _entry(name: str, value: dict) -> tuple[str, torch.dtype, list[int], int, int]:
    dtype, shape, (start, stop) = value["dtype"], value["shape"], value["data_offsets"]
    if dtype not in DTYPES:
        raise ValueError(f"{name}: expected one of {', '.join(DTYPES)}, got {dtype!r}")
    if any(type(number) is not int or number < 0 for number in (*shape, start, stop)):
        raise ValueError(f"{name}: expected whole numbers, got shape {shape}, data_offsets {[start, stop]}")
    return name, DTYPES[dtype], list(shape), start, stop
