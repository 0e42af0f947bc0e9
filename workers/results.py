"""Check what a runner left in its output folder. It is the word of a process that has read hostile bytes."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO, NoReturn, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from saddlescope.contract import limits
from saddlescope.contract.reports import Landscape, Report, Spectrum
from saddlescope.contract.strict import Closed
from workers.protocol import (
    LANDSCAPE_FILE,
    OUTCOME_FILE,
    REPORT_FILE,
    RUNNER_OUTCOME,
    SPECTRUM_FILE,
    Failed,
    Succeeded,
    escape_file,
)

MAX_OUTCOME_BYTES = 64 * 2**10
MAX_ARRAYS_BYTES = 32 * 2**20
MAX_HEADER_BYTES = 8 * 2**20

Model = TypeVar("Model", bound=Closed)
Count = Annotated[int, Field(ge=0, le=2**62, strict=True)]

_ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}


class InvalidResult(Exception):
    """The runner's output does not hold together."""


class _TensorEntry(Closed):
    dtype: str
    shape: tuple[Count, ...] = Field(max_length=limits.MAX_INLINE_RANK * 8)
    data_offsets: tuple[Count, Count]


_HEADER: TypeAdapter[dict[str, _TensorEntry | dict[str, str]]] = TypeAdapter(dict[str, _TensorEntry | dict[str, str]])


@dataclass(frozen=True)
class Results:
    """A checked output folder."""

    report: Report
    spectrum: Spectrum
    landscape: Landscape | None
    escape_paths: tuple[Path, ...]


def read_outcome(output: Path) -> Succeeded | Failed | None:
    """The runner's last word, None if it wrote none or a torn one."""
    if not (output / OUTCOME_FILE).exists():
        return None
    try:
        return RUNNER_OUTCOME.validate_json(_read(output / OUTCOME_FILE, MAX_OUTCOME_BYTES))
    except ValidationError:
        return None


def read_results(output: Path, outcome: Succeeded) -> Results:
    """Parse and check everything that a successful runner wrote.

    Raises:
        InvalidResult: if a file is missing, too large, malformed or does not belong to the report.
    """
    report = _parse(Report, output / REPORT_FILE, limits.MAX_REPORT_BYTES)
    spectrum = _parse(Spectrum, output / SPECTRUM_FILE, MAX_ARRAYS_BYTES)
    landscape = None
    if (output / LANDSCAPE_FILE).stat().st_size:
        landscape = _parse(Landscape, output / LANDSCAPE_FILE, MAX_ARRAYS_BYTES)
    if len(report.escapes) != outcome.num_escapes:
        raise InvalidResult(f"{outcome.num_escapes} escape vectors were written for {len(report.escapes)} escapes")
    if spectrum.num_parameters != report.num_parameters:
        raise InvalidResult("spectrum and report disagree about the number of parameters")
    paths = tuple(output / escape_file(index) for index in range(len(report.escapes)))
    for path in paths:
        check_vector(path)
    return Results(report=report, spectrum=spectrum, landscape=landscape, escape_paths=paths)


def check_vector(path: Path) -> None:
    """Check that a file is safetensors: floating tensors that fill it without hole or overlap, and a `step`.

    Raises:
        InvalidResult: if it is not.
    """
    with open_plain(path) as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
            raise InvalidResult(f"{path.name}: the header length {length} does not fit")
        try:
            header = _HEADER.validate_json(file.read(length), strict=True)
        except ValidationError as wrong:
            raise InvalidResult(f"{path.name}: {wrong.error_count()} errors in the header") from None
    end = 0
    metadata = header.pop("__metadata__", None)
    if not isinstance(metadata, dict) or "step" not in metadata:
        raise InvalidResult(f"{path.name}: the metadata has no step")
    entries = [(name, entry) for name, entry in header.items() if isinstance(entry, _TensorEntry)]
    if len(entries) != len(header):
        raise InvalidResult(f"{path.name}: an entry of the header is not a tensor")
    for name, entry in sorted(entries, key=lambda pair: pair[1].data_offsets):
        _check_entry(path, name, entry, start=end)
        end = entry.data_offsets[1]
    if end != size - 8 - length:
        raise InvalidResult(f"{path.name}: the tensors end at {end} of {size - 8 - length} bytes")


def _check_entry(path: Path, name: str, entry: _TensorEntry, *, start: int) -> None:
    if re.fullmatch(limits.TENSOR_NAME_PATTERN, name) is None:
        raise InvalidResult(f"{path.name}: {name[:80]!a} is no tensor name")
    if entry.dtype not in _ITEM_BYTES:
        raise InvalidResult(f"{path.name}: tensor {name} has dtype {entry.dtype[:16]!a}")
    num_bytes = _ITEM_BYTES[entry.dtype]
    for extent in entry.shape:
        num_bytes *= extent
    if entry.data_offsets != (start, start + num_bytes):
        raise InvalidResult(f"{path.name}: tensor {name} does not lie where its shape says")


@contextmanager
def open_plain(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file that has no other name. A runner could have planted a link to something it may not read.

    Raises:
        InvalidResult: if it is missing or something else than a plain file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as wrong:
        raise InvalidResult(f"{path.name}: {os.strerror(wrong.errno or 0)}") from None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            raise InvalidResult(f"{path.name} is not a plain file")
        yield file


def _parse(model: type[Model], path: Path, max_bytes: int) -> Model:
    text = _read(path, max_bytes)
    try:
        # `facts` may hold any JSON value, and the lenient reader of numbers would let NaN through there.
        json.loads(text, parse_constant=_refuse_constant)
        return model.model_validate_json(text, strict=True)
    except ValidationError as wrong:
        where = ", ".join(".".join(str(step) for step in error["loc"]) for error in wrong.errors()[:5])
        raise InvalidResult(f"{path.name}: {wrong.error_count()} errors, at {where[:500]}") from None
    except ValueError as wrong:
        raise InvalidResult(f"{path.name}: {wrong}") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _read(path: Path, max_bytes: int) -> bytes:
    with open_plain(path) as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise InvalidResult(f"{path.name} has more than {max_bytes} bytes")
    return content
