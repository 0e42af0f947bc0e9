"""`multipart/form-data`: a few named parts into memory, every other part straight into the blob store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import ExitStack
from dataclasses import dataclass, field

import python_multipart
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from saddlescope.contract import limits
from saddlescope.contract.problems import FieldProblem
from service.bodies import BlobSink, new_writer
from service.problems import RequestInvalid, RequestTooLarge
from store.blobs import BlobStore, BlobWriter

MAX_PARTS = 16
REQUEST = "request"


@dataclass
class Form:
    """The parts that were to be kept in memory, and the writers of the others, not yet committed."""

    fields: dict[str, bytes] = field(default_factory=dict)
    files: dict[str, BlobWriter] = field(default_factory=dict)


@dataclass
class _Part:
    """What the parser has seen of one part and nobody has stored yet."""

    headers: dict[bytes, bytes] = field(default_factory=dict)
    header_name: bytes = b""
    header_value: bytes = b""
    data: list[bytes] = field(default_factory=list)
    has_headers: bool = False
    is_ended: bool = False

    def name(self) -> str:
        disposition, options = parse_options_header(self.headers.get(b"content-disposition", b""))
        name = options.get(b"name")
        if disposition != b"form-data" or not name:
            raise broken("a part has no Content-Disposition: form-data with a name")
        try:
            return name.decode("utf-8")
        except UnicodeDecodeError:
            raise broken("the name of a part is not UTF-8") from None


def broken(detail: str) -> RequestInvalid:
    place = FieldProblem(pointer="", detail=detail, code="multipart_invalid")
    return RequestInvalid(f"The multipart body is refused: {detail}.", errors=[place])


async def read_form(
    content_type: str,
    chunks: AsyncIterator[bytes],
    *,
    blobs: BlobStore,
    max_file_bytes: int,
    keep: ExitStack,
    fields: Collection[str] = (REQUEST,),
) -> Form:
    """Read a multipart body in constant memory; `keep` owns the writers until the caller has committed or refused.

    Raises:
        RequestInvalid: `multipart_invalid`, if the framing is broken.
        RequestTooLarge, ArtifactTooLarge, StorageFull: as for bodies of one part.
    """
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise broken("the Content-Type has no boundary")
    waiting: list[_Part] = []
    is_ended = False

    def end() -> None:
        nonlocal is_ended
        is_ended = True

    parser = python_multipart.MultipartParser(boundary, _callbacks(waiting) | {"on_end": end})
    form = _FormBuilder(blobs=blobs, max_file_bytes=max_file_bytes, keep=keep, fields=fields)
    async for chunk in chunks:
        try:
            parser.write(chunk)
        except FormParserError:
            raise broken("its framing cannot be understood") from None
        while waiting:
            await form.take(waiting[0])
            if not waiting[0].is_ended:
                break
            waiting.pop(0)
    if not is_ended:
        raise broken("it ends before its last boundary")
    return form.complete()


class _FormBuilder:
    def __init__(self, *, blobs: BlobStore, max_file_bytes: int, keep: ExitStack, fields: Collection[str]) -> None:
        self._blobs = blobs
        self._max_file_bytes = max_file_bytes
        self._keep = keep
        self._names: set[str] = set()
        self._current: str | None = None
        self._in_memory = frozenset(fields)
        self._fields: dict[str, bytearray] = {}
        self._sinks: dict[str, BlobSink] = {}

    async def take(self, part: _Part) -> None:
        """Store what has come of a part since the last time."""
        if self._current is None and part.has_headers:
            self._current = self._open(part.name())
        if self._current is None:
            return
        data, part.data = b"".join(part.data), []
        if self._current in self._fields:
            self._fields[self._current] += data
            if sum(map(len, self._fields.values())) > limits.MAX_REQUEST_BYTES:
                raise RequestTooLarge(f"The `{self._current}` part has at most {limits.MAX_REQUEST_BYTES} bytes.")
        else:
            await self._sinks[self._current].write(data)
        if part.is_ended:
            if self._current in self._sinks:
                await self._sinks[self._current].flush()
            self._current = None

    def complete(self) -> Form:
        return Form(
            fields={name: bytes(field) for name, field in self._fields.items()},
            files={name: sink.writer for name, sink in self._sinks.items()},
        )

    def _open(self, name: str) -> str:
        if name in self._names:
            raise broken("two parts have the same name")
        if len(self._names) == MAX_PARTS:
            raise broken(f"it has more than {MAX_PARTS} parts")
        self._names.add(name)
        if name in self._in_memory:
            self._fields[name] = bytearray()
        else:
            writer = self._keep.enter_context(new_writer(self._blobs))
            self._sinks[name] = BlobSink(writer, max_bytes=self._max_file_bytes)
        return name


def _callbacks(waiting: list[_Part]) -> python_multipart.multipart.MultipartCallbacks:
    """The parser's callbacks only note; storing happens between two chunks, where it can be awaited."""

    def part_begin() -> None:
        waiting.append(_Part())

    def header_field(data: bytes, start: int, end: int) -> None:
        waiting[-1].header_name += data[start:end]

    def header_value(data: bytes, start: int, end: int) -> None:
        waiting[-1].header_value += data[start:end]

    def header_end() -> None:
        part = waiting[-1]
        part.headers[part.header_name.lower()] = part.header_value
        part.header_name = part.header_value = b""

    def headers_finished() -> None:
        waiting[-1].has_headers = True

    def part_data(data: bytes, start: int, end: int) -> None:
        waiting[-1].data.append(data[start:end])

    def part_end() -> None:
        waiting[-1].is_ended = True

    return {
        "on_part_begin": part_begin,
        "on_header_field": header_field,
        "on_header_value": header_value,
        "on_header_end": header_end,
        "on_headers_finished": headers_finished,
        "on_part_data": part_data,
        "on_part_end": part_end,
    }
