"""Escape directions read in blocks: how much of one lies in each tensor, and how nearly two of them are parallel."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, TypeAdapter, ValidationError

from service.parts import Parts

# Read anew for each page that shows them; a disk and one processor do this in a tenth of a second.
MAX_BYTES = 64 * 2**20
_MAX_HEADER_BYTES = 8 * 2**20
_BLOCK_NUMBERS = 2**18
_DTYPES: Mapping[str, np.dtype[np.generic]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
}
Numbers = npt.NDArray[np.float64]


class TooLarge(Exception):
    """The directions have more bytes than a page reads."""

    def __init__(self, num_bytes: int) -> None:
        super().__init__(f"{num_bytes / 2**20:,.0f} MiB; a page reads at most {MAX_BYTES // 2**20} MiB")


class _Tensor(BaseModel):
    dtype: str
    data_offsets: tuple[int, int]


@dataclass(frozen=True)
class _Place:
    """Where the numbers of one tensor stand in a file."""

    name: str
    dtype: str
    start: int
    num_numbers: int


_HEADER = TypeAdapter(dict[str, _Tensor | dict[str, str]])


def check_size(parts: Parts, blobs: Sequence[str]) -> None:
    """Raises TooLarge, or FileNotFoundError for a blob that is gone."""
    num_bytes = sum(parts.blobs.size(blob) for blob in blobs)
    if num_bytes > MAX_BYTES:
        raise TooLarge(num_bytes)


def tensor_shares(file: BinaryIO) -> list[tuple[str, float]]:
    """‖u_t‖²/‖u‖² of each tensor t, the largest first; empty for a file without numbers."""
    squares = {place.name: sum(float(block @ block) for block in _blocks(file, place)) for place in _places(file)}
    total = sum(squares.values())
    if not 0 < total < math.inf:
        return []
    return sorted(((name, square / total) for name, square in squares.items()), key=lambda share: -share[1])


def alignments(files: Sequence[BinaryIO]) -> list[list[float | None]]:
    """|cos| of every pair; None for two directions over other parameters.

    All files are read side by side, block by block: each once, whatever their number.
    """
    layouts = [_places(file) for file in files]
    names = [tuple((place.name, place.num_numbers) for place in layout) for layout in layouts]
    cosines: list[list[float | None]] = [[None] * len(files) for _ in files]
    for layout in set(names):
        members = [index for index, own in enumerate(names) if own == layout]
        gram = np.zeros((len(members), len(members)))
        for tensor in range(len(layout)):
            streams = [_blocks(files[index], layouts[index][tensor]) for index in members]
            for blocks in zip(*streams, strict=True):
                matrix = np.stack(blocks)  # (members, numbers)
                gram += matrix @ matrix.T
        norms = np.sqrt(np.diag(gram))
        for i, row in enumerate(members):
            for j, column in enumerate(members):
                if norms[i] > 0 and norms[j] > 0:
                    cosines[row][column] = min(1.0, abs(float(gram[i, j])) / float(norms[i] * norms[j]))
    return cosines


def _places(file: BinaryIO) -> list[_Place]:
    """The tensors of a safetensors file by name; none of a file that is no such one."""
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if length > _MAX_HEADER_BYTES:
        return []
    try:
        header = _HEADER.validate_json(file.read(length))
    except ValidationError:
        return []
    return [
        _Place(
            name=name,
            dtype=tensor.dtype,
            start=8 + length + tensor.data_offsets[0],
            num_numbers=(tensor.data_offsets[1] - tensor.data_offsets[0]) // _DTYPES[tensor.dtype].itemsize,
        )
        for name, tensor in sorted(header.items())
        if isinstance(tensor, _Tensor) and tensor.dtype in _DTYPES
    ]


def _blocks(file: BinaryIO, place: _Place) -> Iterator[Numbers]:
    dtype = _DTYPES[place.dtype]
    for first in range(0, place.num_numbers, _BLOCK_NUMBERS):
        count = min(_BLOCK_NUMBERS, place.num_numbers - first)
        file.seek(place.start + first * dtype.itemsize)
        raw = np.frombuffer(file.read(count * dtype.itemsize), dtype=dtype)
        # bfloat16 is the upper half of a float32.
        yield ((raw.astype(np.uint32) << 16).view(np.float32) if place.dtype == "BF16" else raw).astype(np.float64)
