"""A `.pt2` archive: the program's JSON, and its raw tensors. Pickles, libraries and all other members are not opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from saddlescope.contract.vocabulary import FailureCode
from workers.faults import JobFault, quoted
from workers.programs.binding import stored_dtype
from workers.programs.wire import ExportedProgram, Payload, Size, parse_payloads, parse_program
from workers.readers.mapped import Mapped, Source, Unreadable, as_bool, checked_shape, map_file
from workers.readers.stored_zip import read_members

MAX_ARCHIVE_BYTES = 64 * 2**30
MAX_JSON_BYTES = 32 * 2**20
_MODEL = "models/model.json"
_WEIGHTS = "data/weights/"
_CONSTANTS = "data/constants/"


@dataclass(frozen=True)
class Archive:
    """What an archive holds that an analysis may need.

    Attributes:
        program: the graph and its signature.
        weights: parameters and persistent buffers by qualified name.
        constants: tensors that are in the program but not in the model's state_dict.
    """

    program: ExportedProgram
    weights: Mapping[str, Payload]
    constants: Mapping[str, Payload]
    members: Mapping[str, Mapped]

    def tensor(self, name: str) -> Tensor | None:
        """A copy of a stored tensor, or None if the archive holds none of that name.

        Raises:
            JobFault: `loss_invalid`, if it is pickled, or its record does not hold what its description says.
        """
        for folder, payloads in ((_WEIGHTS, self.weights), (_CONSTANTS, self.constants)):
            if name in payloads:
                return _read(name, payloads[name], self.members.get(folder + payloads[name].path_name))
        return None

    def tied(self, names: list[str]) -> list[list[str]]:
        """The names in groups, each one tensor under all the names of its group, as in the model that was exported."""
        groups: dict[object, list[str]] = {}
        for name in names:
            payload = self.weights.get(name)
            meta = payload.tensor_meta if payload is not None else None
            identity = name if payload is None or meta is None else (
                payload.path_name, tuple(map(_number, meta.sizes)), tuple(map(_number, meta.strides)), _number(meta.storage_offset)
            )  # fmt: skip
            groups.setdefault(identity, []).append(name)
        return list(groups.values())


def read_archive(source: Source) -> Archive:
    """The checked contents of a `.pt2` file; the parameters' own bytes are never read.

    Raises:
        JobFault: `loss_invalid`, if it is no archive of this kind; `resource_limit`, if the program has too many parts.
    """
    try:
        found = read_members(map_file(source, MAX_ARCHIVE_BYTES))
    except Unreadable as wrong:
        raise _invalid(str(wrong)) from wrong
    if len({name.partition("/")[0] for name in found}) != 1:
        raise _invalid("it has more than one root folder")
    members = {name.partition("/")[2]: member for name, member in found.items()}
    if "byteorder" in members and _text(members, "byteorder", 16) != b"little":
        raise _invalid("it was written on a big-endian machine")
    return Archive(
        program=parse_program(_text(members, _MODEL)),
        weights=_payloads(members, f"{_WEIGHTS}model_weights_config.json"),
        constants=_payloads(members, f"{_CONSTANTS}model_constants_config.json"),
        members=members,
    )


def _payloads(members: Mapping[str, Mapped], path: str) -> Mapping[str, Payload]:
    return parse_payloads(_text(members, path), path) if path in members else {}


def _text(members: Mapping[str, Mapped], path: str, max_bytes: int = MAX_JSON_BYTES) -> bytes:
    member = members.get(path)
    if member is None:
        raise _invalid(
            f"it has no {path}; write it with saddlescope.export_loss, or with torch.export.save of torch 2.11 or later"
        )
    if len(member) > max_bytes:
        raise _invalid(f"{path} has {len(member)} bytes; at most {max_bytes} are read")
    return member.read(0, len(member))


def _number(size: Size) -> int:
    if size.as_int is None or size.as_int < 0:
        raise _invalid("a stored tensor has a size or stride that is not a number")
    return size.as_int


def _read(name: str, payload: Payload, record: Mapped | None) -> Tensor:
    meta = payload.tensor_meta
    if payload.use_pickle or meta is None or record is None:
        raise _invalid(f"its tensor {quoted(name)} is pickled or missing")
    dtype = stored_dtype(meta.dtype)
    try:
        sizes = checked_shape([_number(size) for size in meta.sizes], name)
    except Unreadable as wrong:
        raise _invalid(str(wrong)) from wrong
    strides, offset = [_number(size) for size in meta.strides], _number(meta.storage_offset)
    if dtype is None or len(strides) != len(sizes):
        raise _invalid(f"its tensor {quoted(name)} has an unknown dtype or layout")
    if 0 in sizes:
        return torch.empty(sizes, dtype=dtype)
    if any(stride == 0 and size > 1 for size, stride in zip(sizes, strides, strict=True)):
        raise _invalid(f"its tensor {quoted(name)} repeats its entries")
    reach = offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True)) + 1
    if reach * dtype.itemsize > len(record) or prod(sizes) > reach:
        raise _invalid(f"its tensor {quoted(name)} is larger than its record")
    flat = record.part(0, reach * dtype.itemsize).flat(torch.uint8 if dtype is torch.bool else dtype)
    strided = flat.as_strided(sizes, strides, offset)
    return as_bool(strided) if dtype is torch.bool else strided.clone(memory_format=torch.contiguous_format)


def _invalid(what: str) -> JobFault:
    return JobFault(FailureCode.LOSS_INVALID, f"the program cannot be read: {what}", "/loss/program")
