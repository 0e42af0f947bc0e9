"""safetensors: eight bytes of length, a JSON header, then the tensors one after another."""

from __future__ import annotations

import math

import torch
from pydantic import JsonValue
from torch import Tensor

from workers.faults import quoted
from workers.readers.mapped import MAX_TENSORS, Mapped, Unreadable, as_bool, checked_name, checked_shape, strict_json

_MAX_HEADER_BYTES = 8 * 2**20

_METADATA = "__metadata__"
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.uint8,
}


def is_safetensors(source: Mapped) -> bool:
    """Whether the bytes begin as a safetensors file does."""
    return len(source) >= 10 and source.read(8, 1) == b"{"


def read_safetensors(source: Mapped) -> dict[str, Tensor]:
    """Tensors by name, as views of the mapped file.

    Raises:
        Unreadable: unless header and data agree to the byte, without hole or overlap.
    """
    header_bytes = int.from_bytes(source.read(0, 8), "little")
    if header_bytes > _MAX_HEADER_BYTES:
        raise Unreadable(f"the safetensors header claims {header_bytes} bytes; at most {_MAX_HEADER_BYTES} are taken")
    header = strict_json(source.read(8, header_bytes), "the safetensors header")
    metadata = header.pop(_METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise Unreadable("the metadata of the safetensors header must map names to text")
    if len(header) > MAX_TENSORS:
        raise Unreadable(f"the file holds {len(header)} tensors; at most {MAX_TENSORS} are taken")
    data = source.part(8 + header_bytes, len(source) - 8 - header_bytes)
    tensors: dict[str, Tensor] = {}
    ranges: list[tuple[int, int, str]] = []
    for name, entry in header.items():
        checked_name(name)
        dtype, shape, start, stop = _described(name, entry)
        size = math.prod(shape) * _DTYPES[dtype].itemsize
        if stop - start != size:
            raise Unreadable(f"tensor {quoted(name)} needs {size} bytes, but its offsets span {stop - start}")
        ranges.append((start, stop, name))
        tensor = data.part(start, size).flat(_DTYPES[dtype]).view(shape)
        tensors[name] = as_bool(tensor) if dtype == "BOOL" else tensor
    _check_contiguous(ranges, len(data))
    return tensors


def read_metadata(source: Mapped) -> dict[str, JsonValue]:
    """What stands beside the tensors of a file that `read_safetensors` has taken."""
    header = strict_json(source.read(8, int.from_bytes(source.read(0, 8), "little")), "the safetensors header")
    metadata = header.get(_METADATA)
    return metadata if isinstance(metadata, dict) else {}


def _described(name: str, entry: JsonValue) -> tuple[str, tuple[int, ...], int, int]:
    """dtype, shape and byte range of one entry of the header."""
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise Unreadable(f"the header entry of tensor {quoted(name)} must hold dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise Unreadable(f"tensor {quoted(name)} has dtype {quoted(str(dtype), 20)}; taken are {', '.join(_DTYPES)}")
    if not isinstance(shape, list) or not isinstance(offsets, list) or len(offsets) != 2:
        raise Unreadable(f"the header entry of tensor {quoted(name)} has a wrong shape or wrong data_offsets")
    start, stop = offsets
    if type(start) is not int or type(stop) is not int or not 0 <= start <= stop:
        raise Unreadable(f"the data_offsets of tensor {quoted(name)} are not a range of bytes")
    return dtype, checked_shape(shape, name), start, stop


def _check_contiguous(ranges: list[tuple[int, int, str]], size: int) -> None:
    end = 0
    for start, stop, name in sorted(ranges):
        if start != end:
            what = "overlaps the tensor before it" if start < end else "leaves a hole before it"
            raise Unreadable(f"tensor {quoted(name)} {what}; the file is damaged")
        end = stop
    if end != size:
        raise Unreadable(f"the tensors end at byte {end} of the data, which has {size}; the file is damaged")
