"""NumPy .npz archives of plain numeric arrays."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import torch
from torch import Tensor

from workers.faults import quoted
from workers.readers.mapped import MAX_TENSORS, Mapped, Unreadable, as_bool, checked_name, checked_shape

_MAX_HEADER_BYTES = 1_024
_HEADER = re.compile(
    r"\{'descr': '(?P<dtype>[^']{1,20})', 'fortran_order': (?P<fortran>True|False), "
    r"'shape': \((?P<shape>|[0-9]+,|[0-9]+(?:, [0-9]+)+)\), \} *\n"
)

_DTYPES = {
    "<f8": torch.float64,
    "<f4": torch.float32,
    "<f2": torch.float16,
    "<i8": torch.int64,
    "<i4": torch.int32,
    "<i2": torch.int16,
    "|i1": torch.int8,
    "|u1": torch.uint8,
    "<u2": torch.uint16,
    "<u4": torch.uint32,
    "|b1": torch.uint8,
}
# torch computes little with the wider unsigned types, so that they are read as the next signed one.
_WIDENED = {torch.uint16: torch.int32, torch.uint32: torch.int64}


def read_npz(members: Mapping[str, Mapped]) -> dict[str, Tensor]:
    """Arrays by name (the member's without .npy).

    Raises:
        Unreadable: for anything but arrays of plain little-endian numbers.
    """
    if len(members) > MAX_TENSORS:
        raise Unreadable(f"the file holds {len(members)} arrays; at most {MAX_TENSORS} are taken")
    tensors = {}
    for member, source in members.items():
        name = checked_name(member.removesuffix(".npy"))
        tensors[name] = _read_array(source, name)
    return tensors


def _read_array(source: Mapped, name: str) -> Tensor:
    if source.read(0, 6) != b"\x93NUMPY":
        raise Unreadable(f"array {quoted(name)} is not in NumPy's format")
    length_bytes = 2 if source.read(6, 1) == b"\x01" else 4
    header_bytes = int.from_bytes(source.read(8, length_bytes), "little")
    if header_bytes > _MAX_HEADER_BYTES:
        raise Unreadable(
            f"the header of array {quoted(name)} has {header_bytes} bytes; at most {_MAX_HEADER_BYTES} are taken"
        )
    header = _HEADER.fullmatch(source.read(8 + length_bytes, header_bytes).decode("latin-1"))
    if header is None:
        raise Unreadable(f"array {quoted(name)} has a structured dtype or a damaged header; send plain numeric arrays")
    if header["dtype"] not in _DTYPES:
        raise Unreadable(
            f"array {quoted(name)} has dtype {quoted(header['dtype'], 20)}; taken are little-endian floats, "
            "integers up to 64 bits (unsigned up to 32) and bool"
        )
    dtype = _DTYPES[header["dtype"]]
    shape = checked_shape([int(extent) for extent in re.findall(r"[0-9]+", header["shape"])], name)
    start = 8 + length_bytes + header_bytes
    size = math.prod(shape) * dtype.itemsize
    if len(source) - start != size:
        raise Unreadable(f"array {quoted(name)} needs {size} bytes, but {len(source) - start} are there")
    flat = source.part(start, size).flat(dtype)
    flat = flat.to(_WIDENED[dtype]) if dtype in _WIDENED else flat
    is_transposed = header["fortran"] == "True"
    tensor = (
        flat.view(shape[::-1]).permute(*reversed(range(len(shape)))) if is_transposed and shape else flat.view(shape)
    )
    return as_bool(tensor) if header["dtype"] == "|b1" else tensor
