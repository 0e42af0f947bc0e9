"""ZIP archives whose members are stored as they are: the directory, checked, and nothing inflated."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from workers.faults import quoted
from workers.readers.mapped import Mapped, Unreadable

_MAX_MEMBERS = 100_000
_MAX_NAME_BYTES = 1_024
_END = struct.Struct("<4s4H2LH")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR_64 = struct.Struct("<4sLQL")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")


@dataclass(frozen=True)
class _Entry:
    name: str
    raw_name: bytes
    size: int
    header_offset: int


def is_zip(source: Mapped) -> bool:
    """Whether the bytes begin as a ZIP archive does."""
    return len(source) >= 4 and source.read(0, 4) in (b"PK\x03\x04", b"PK\x05\x06")


def read_members(source: Mapped) -> dict[str, Mapped]:
    """The bytes of each member by its name.

    Raises:
        Unreadable: for compressed, encrypted, overlapping, duplicate or misdescribed members.
    """
    start, stop, count = _find_directory(source)
    if count > _MAX_MEMBERS:
        raise Unreadable(f"the ZIP archive claims {count} members; at most {_MAX_MEMBERS} are taken")
    entries = _read_directory(source.part(start, stop - start), count)
    members: dict[str, Mapped] = {}
    end = 0
    for entry in sorted(entries, key=lambda each: each.header_offset):
        if entry.name in members:
            raise Unreadable(f"the ZIP archive holds {quoted(entry.name)} twice")
        if entry.header_offset < end:
            raise Unreadable(f"member {quoted(entry.name)} of the ZIP archive overlaps the one before it")
        data = entry.header_offset + _local_header_bytes(source, entry)
        end = data + entry.size
        if end > start:
            raise Unreadable(f"member {quoted(entry.name)} of the ZIP archive reaches into its directory")
        members[entry.name] = source.part(data, entry.size)
    return members


def _find_directory(source: Mapped) -> tuple[int, int, int]:
    """Start, end and number of entries of the central directory."""
    tail_bytes = min(len(source), _END.size + 65_535)
    tail_start = len(source) - tail_bytes
    tail = source.read(tail_start, tail_bytes)
    at = tail.rfind(b"PK\x05\x06", 0, len(tail) - _END.size + 4)
    if at < 0:
        raise Unreadable("the ZIP archive has no directory at its end: the file is truncated")
    _, disk, first_disk, here, count, size, offset, comment = _END.unpack_from(tail, at)
    end = tail_start + at
    if disk or first_disk or here != count or end + _END.size + comment != len(source):
        raise Unreadable("the end record of the ZIP archive is damaged")
    # torch.save writes the ZIP64 records always, not only where 32 bits are too few.
    is_saturated = count == 0xFFFF or size == 0xFFFFFFFF or offset == 0xFFFFFFFF
    if is_saturated or source.read(max(end - _LOCATOR_64.size, 0), 4) == b"PK\x06\x07":
        _, _, record, _ = _LOCATOR_64.unpack(_signed(source, end - _LOCATOR_64.size, _LOCATOR_64, b"PK\x06\x07"))
        fields = _END_64.unpack(_signed(source, record, _END_64, b"PK\x06\x06"))
        count, size, offset, end = fields[7], fields[8], fields[9], record
    if offset + size != end:
        raise Unreadable("the directory of the ZIP archive is not where its end record says")
    return offset, end, count


def _signed(source: Mapped, offset: int, layout: struct.Struct, signature: bytes) -> bytes:
    record = source.read(offset, layout.size)
    if record[:4] != signature:
        raise Unreadable("a record of the ZIP archive is damaged")
    return record


def _read_directory(directory: Mapped, count: int) -> list[_Entry]:
    entries, position = [], 0
    for _ in range(count):
        fields = _ENTRY.unpack(_signed(directory, position, _ENTRY, b"PK\x01\x02"))
        flags, method, compressed, size = fields[3], fields[4], fields[8], fields[9]
        name_bytes, extra_bytes, comment_bytes, header_offset = fields[10], fields[11], fields[12], fields[16]
        if name_bytes > _MAX_NAME_BYTES:
            raise Unreadable("a member of the ZIP archive has an absurdly long name")
        raw_name = directory.read(position + _ENTRY.size, name_bytes)
        extra = directory.read(position + _ENTRY.size + name_bytes, extra_bytes)
        position += _ENTRY.size + name_bytes + extra_bytes + comment_bytes
        name = _decoded(raw_name)
        if flags & 1:
            raise Unreadable("the ZIP archive is encrypted; send it without a password")
        if method != 0:
            raise Unreadable(
                f"member {quoted(name)} is compressed; archives are taken uncompressed only, "
                "as numpy.savez (not savez_compressed) and torch.save write them"
            )
        size, compressed, header_offset = _widened(extra, size, compressed, header_offset)
        if size != compressed:
            raise Unreadable(f"member {quoted(name)} of the ZIP archive has two different sizes")
        entries.append(_Entry(name, raw_name, size, header_offset))
    if position != len(directory):
        raise Unreadable("the directory of the ZIP archive holds more than its entries")
    return entries


def _decoded(raw: bytes) -> str:
    try:
        name = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise Unreadable("a member of the ZIP archive has a name that is not UTF-8") from None
    if not name or name.startswith("/") or "\\" in name or "\0" in name or ".." in name.split("/"):
        raise Unreadable(f"the ZIP archive holds a member named {quoted(name)}")
    return name


def _widened(extra: bytes, size: int, compressed: int, header_offset: int) -> tuple[int, int, int]:
    """The three numbers, each from the ZIP64 field where 32 bits were too few."""
    wide = iter(_zip64_numbers(extra))
    try:
        size = next(wide) if size == 0xFFFFFFFF else size
        compressed = next(wide) if compressed == 0xFFFFFFFF else compressed
        header_offset = next(wide) if header_offset == 0xFFFFFFFF else header_offset
    except StopIteration:
        raise Unreadable("a ZIP64 field of the archive is missing") from None
    return size, compressed, header_offset


def _zip64_numbers(extra: bytes) -> list[int]:
    position = 0
    while position + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, position)
        field = extra[position + 4 : position + 4 + length]
        if kind == 1:
            return [int.from_bytes(field[at : at + 8], "little") for at in range(0, len(field) - 7, 8)]
        position += 4 + length
    return []


def _local_header_bytes(source: Mapped, entry: _Entry) -> int:
    """Size of the header before the data of a member, which must agree with the directory."""
    fields = _LOCAL.unpack(_signed(source, entry.header_offset, _LOCAL, b"PK\x03\x04"))
    method, name_bytes, extra_bytes = fields[3], fields[9], fields[10]
    raw_name = source.read(entry.header_offset + _LOCAL.size, name_bytes)
    if method != 0 or raw_name != entry.raw_name:
        raise Unreadable(f"member {quoted(entry.name)} of the ZIP archive is described in two different ways")
    return _LOCAL.size + len(raw_name) + int(extra_bytes)
