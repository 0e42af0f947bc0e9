"""Tensors as a safetensors file that is never whole in memory.

The format (huggingface/safetensors, README "Format"): the length of the header as a little-endian u64, the header as JSON padded by
spaces to a multiple of eight, and the tensors' bytes in the order of their offsets. Chunks are small, so that another thread of
the process, which may be training, never waits for the interpreter while a large tensor is copied.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_ALIGNMENT = 8
# By torch's and NumPy's own names of their dtypes.
_CODES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "complex64": "C64",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint64": "U64",
    "uint32": "U32",
    "uint16": "U16",
    "uint8": "U8",
    "bool": "BOOL",
}


class NoSuchDtype(Exception):
    """The format has no name for this dtype."""


@dataclass(frozen=True)
class Part:
    """One tensor: its dtype's name, shape, and bytes in C order."""

    dtype: str
    shape: tuple[int, ...]
    content: memoryview


@dataclass(frozen=True)
class TensorStream:
    """A file of tensors; equal tensors give equal bytes."""

    header: bytes
    contents: tuple[memoryview, ...]

    @property
    def num_bytes(self) -> int:
        return len(self.header) + sum(content.nbytes for content in self.contents)

    def chunks(self, offset: int, *, chunk_bytes: int) -> Iterator[bytes]:
        """The bytes from an offset on."""
        for content in (memoryview(self.header), *self.contents):
            for start in range(min(offset, content.nbytes), content.nbytes, chunk_bytes):
                yield bytes(content[start : start + chunk_bytes])
            offset = max(0, offset - content.nbytes)


def tensor_stream(parts: Mapping[str, Part]) -> TensorStream:
    """Lay the parts out, wide dtypes first, so that every tensor is aligned where the file is mapped.

    Raises:
        NoSuchDtype: with the name of the tensor.
    """
    header: dict[str, object] = {}
    contents: list[memoryview] = []
    end = 0
    for name, part in sorted(parts.items(), key=lambda item: (-_width(item[1]), item[0])):
        if part.dtype not in _CODES:
            raise NoSuchDtype(f"{name!r} with dtype {part.dtype}")
        start, end = end, end + part.content.nbytes
        header[name] = {"dtype": _CODES[part.dtype], "shape": part.shape, "data_offsets": [start, end]}
        contents.append(part.content)
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return TensorStream(len(text).to_bytes(8, "little") + text, tuple(contents))


def _width(part: Part) -> int:
    count = 1
    for size in part.shape:
        count *= size
    return part.content.nbytes // count if count else 0
