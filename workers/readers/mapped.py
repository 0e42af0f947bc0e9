"""A file as bytes in memory, and tensors as checked views of them."""

from __future__ import annotations

import json
import math
import mmap
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import JsonValue
from torch import Tensor

from saddlescope.contract import limits
from workers.faults import quoted

MAX_TENSORS = 100_000
MAX_RANK = 8
_MAX_NUMBERS = 2**48


class Unreadable(Exception):
    """The bytes are not what a reader takes; the message says why and what to do about it."""


@dataclass(frozen=True)
class Mapped:
    """The bytes of a file from `start` to `stop`, mapped privately, so that tensors may be views of them."""

    buffer: mmap.mmap
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def read(self, offset: int, size: int) -> bytes:
        """Exactly `size` bytes from `offset` on.

        Raises:
            Unreadable: if they are not all there.
        """
        if offset < 0 or size < 0 or offset + size > len(self):
            raise Unreadable("the file ends too early: it is truncated or its sizes lie")
        return self.buffer[self.start + offset : self.start + offset + size]

    def part(self, offset: int, size: int) -> Mapped:
        """The same bytes from `offset` on, `size` of them.

        Raises:
            Unreadable: if they are not all there.
        """
        if offset < 0 or size < 0 or offset + size > len(self):
            raise Unreadable("the file ends too early: it is truncated or its sizes lie")
        return Mapped(self.buffer, self.start + offset, self.start + offset + size)

    def flat(self, dtype: torch.dtype) -> Tensor:
        """All bytes as a vector of `dtype`; a view where the alignment allows it."""
        count = len(self) // dtype.itemsize
        if count == 0:
            return torch.empty(0, dtype=dtype)
        view = torch.frombuffer(self.buffer, dtype=dtype, count=count, offset=self.start)
        return view if self.start % dtype.itemsize == 0 else view.clone()


Source = Path | int
"""A file by its path, or by the descriptor of one that is open."""


def map_file(source: Source, max_bytes: int) -> Mapped:
    """The whole file.

    Raises:
        Unreadable: if it is empty or larger than `max_bytes`.
    """
    with open(source, "rb", closefd=isinstance(source, Path)) as file:
        size = file.seek(0, 2)
        if size == 0:
            raise Unreadable("the file is empty")
        if size > max_bytes:
            raise Unreadable(f"the file has {size} bytes; at most {max_bytes} are taken")
        # A private copy-on-write mapping is writable memory to torch and still never changes the file.
        return Mapped(mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY), 0, size)


def checked_name(name: str) -> str:
    """The name of a tensor.

    Raises:
        Unreadable: unless it has 1 to 512 plain characters and no '..'.
    """
    if not re.fullmatch(limits.TENSOR_NAME_PATTERN, name) or ".." in name:
        raise Unreadable(
            f"the tensor name {quoted(name)} is not 1 to 512 characters of A-Z a-z 0-9 _ . - / without '..'"
        )
    return name


def checked_shape(shape: Sequence[object], name: str) -> tuple[int, ...]:
    """The shape of tensor `name`, with a number of entries that cannot overflow anything.

    Raises:
        Unreadable: otherwise.
    """
    if len(shape) > MAX_RANK:
        raise Unreadable(f"tensor {quoted(name)} has {len(shape)} dimensions; at most {MAX_RANK} are taken")
    extents = []
    for extent in shape:
        if type(extent) is not int or not 0 <= extent <= _MAX_NUMBERS:
            raise Unreadable(f"tensor {quoted(name)} has an impossible shape")
        extents.append(extent)
    if math.prod(max(extent, 1) for extent in extents) > _MAX_NUMBERS:
        raise Unreadable(f"the shape of tensor {quoted(name)} overflows")
    return tuple(extents)


def as_bool(tensor: Tensor) -> Tensor:
    """Bytes as truth values; torch's own bool dtype must not see bytes other than 0 and 1."""
    return tensor != 0


def _without_duplicates(pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        raise ValueError("a name stands twice in one JSON object")
    return unique


def _no_constant(text: str) -> JsonValue:
    raise ValueError(f"{text} is no JSON number")


def strict_json(text: bytes, what: str) -> dict[str, JsonValue]:
    """A JSON object without duplicate names, NaN or infinity.

    Raises:
        Unreadable: naming `what`, if it is anything else.
    """
    try:
        value = json.loads(text.decode("utf-8"), object_pairs_hook=_without_duplicates, parse_constant=_no_constant)
    except RecursionError:
        raise Unreadable(f"{what} is nested absurdly deep") from None
    except ValueError as wrong:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
        raise Unreadable(f"{what} is not valid JSON: {str(wrong)[:200]}") from wrong
    if not isinstance(value, dict):
        raise Unreadable(f"{what} is not a JSON object")
    return value
