"""The safetensors format against its own library, in both directions."""

import json
import struct

import hypothesis.strategies as st
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings

from raytrans.training.tensors import DTYPES, pack, unpack


def example(dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
    values = 10 * torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return (values > 0) if dtype == torch.bool else values.abs().to(dtype)


TENSORS = {
    f"{name} {shape}": example(dtype, shape)
    for name, dtype in DTYPES.items()
    for shape in ((), (3,), (2, 0), (4, 5, 2))
}


def same(got: dict, expected: dict) -> bool:
    return got.keys() == expected.keys() and all(
        got[k].dtype == v.dtype and got[k].shape == v.shape and torch.equal(got[k], v) for k, v in expected.items()
    )


def test_the_library_reads_what_is_packed():
    assert same(safetensors.torch.load(pack(TENSORS, {"a": "b"})), TENSORS)


def test_what_the_library_writes_is_unpacked():
    tensors, metadata = unpack(safetensors.torch.save(TENSORS, {"author": "né"}))
    assert same(tensors, TENSORS) and metadata == {"author": "né"}


def test_the_bytes_are_those_of_the_library():
    assert pack({"w": torch.arange(6.0).reshape(2, 3)}, {}).endswith(torch.arange(6.0).numpy().tobytes())
    assert unpack(pack({}, {})) == ({}, {})


def test_views_and_transposes_are_written_as_they_look():
    value = torch.arange(12.0).reshape(3, 4).T[1:]
    assert torch.equal(safetensors.torch.load(pack({"v": value}, {}))["v"], value)


def test_complex_numbers_are_refused():
    with pytest.raises(ValueError, match="z: expected one of .*float64.*, got torch.complex64"):
        pack({"z": torch.zeros(2, dtype=torch.complex64)}, {})


def file(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(dtype="F32", shape=(1,), offsets=(0, 4)) -> dict:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "header, got 0 bytes"),
        (struct.pack("<Q", 2**60) + b"{}", "header of"),
        (file(b"{"), "Expecting"),
        (file([1, 2]), "not understood"),
        (file({"a": 3}), "not understood"),
        (file({"a": entry(dtype="F128")}, bytes(4)), "got 'F128'"),
        (file({"a": entry(shape=(2,))}, bytes(4)), "expected 8 bytes"),
        (file({"a": entry(shape=(-1,))}, bytes(4)), "whole numbers"),
        (file({"a": entry(shape=(1.0,))}, bytes(4)), "whole numbers"),
        (file({"a": entry(offsets=(4, 8))}, bytes(8)), "from 0"),
        (file({"a": entry()}, bytes(3)), "of 3"),
        (file({"a": entry()}, bytes(5)), "expected 4 bytes of data, got 5"),
        (file({"a": entry(), "b": entry()}, bytes(4)), "from 4"),
        (file(b'{"a": 1, "a": 2}'), "twice"),
    ],
)
def test_what_the_format_forbids_is_refused(content, reason):
    with pytest.raises(ValueError, match=reason):
        unpack(content)
    with pytest.raises(Exception):  # noqa: B017 the library has its own kinds of errors
        safetensors.torch.load(content)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=64), st.integers(0, 200))
def test_damage_is_a_value_error_or_harmless(noise, place):
    content = bytearray(pack({"a": torch.arange(5.0), "b": torch.ones(2, 2, dtype=torch.int64)}, {"k": "v"}))
    content[place : place + len(noise)] = noise
    try:
        tensors, _ = unpack(bytes(content))
    except ValueError:
        return
    assert all(isinstance(value, torch.Tensor) for value in tensors.values())
