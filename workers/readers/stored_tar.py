"""Uncompressed tar archives: their plain files, and nothing else taken."""

from __future__ import annotations

import re

from workers.faults import quoted
from workers.readers.mapped import Mapped, Unreadable

_BLOCK = 512
_MAX_MEMBERS = 10_000
_MAX_EXTENSION_BYTES = 64 * 2**10


def is_tar(source: Mapped) -> bool:
    """Whether the bytes begin as a tar archive does."""
    return len(source) >= _BLOCK and source.read(257, 5) == b"ustar"


def read_files(source: Mapped) -> dict[str, Mapped]:
    """Regular files of the archive by path.

    Raises:
        Unreadable: for links, devices, sparse files, a path that stands twice, and damage.
    """
    files: dict[str, Mapped] = {}
    position, renamed, resized = 0, None, None
    for _ in range(_MAX_MEMBERS):
        if position == len(source):
            return files
        header = source.read(position, _BLOCK)
        if header == bytes(_BLOCK):
            return files
        if int(_octal(header[148:156])) != sum(header[:148]) + 8 * 32 + sum(header[156:]):
            raise Unreadable("a header of the tar archive is damaged")
        kind = header[156:157]
        size = resized if resized is not None and kind in (b"0", b"\0") else _octal(header[124:136])
        body = source.part(position + _BLOCK, size)
        position = min(position + _BLOCK + -(-size // _BLOCK) * _BLOCK, len(source))
        if kind == b"x":
            renamed, resized = _extended(body)
            continue
        if kind == b"L":
            renamed = _text(_small(body)).rstrip("\0")
            continue
        if kind in (b"0", b"\0"):
            path = (renamed if renamed is not None else _path(header)).removeprefix("./")
            if path in files:
                raise Unreadable(f"the tar archive holds {quoted(path)} twice")
            files[path] = body
        elif kind not in (b"5", b"g"):
            raise Unreadable("the tar archive holds links or special files; put in plain files only")
        renamed = resized = None
    raise Unreadable(f"the tar archive holds more than {_MAX_MEMBERS} members")


def _octal(field: bytes) -> int:
    if field[0] & 0x80:  # GNU: a binary number where octal digits do not suffice
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    digits = field.strip(b" \0")
    if not re.fullmatch(rb"[0-7]*", digits):
        raise Unreadable("a header of the tar archive is damaged")
    return int(digits or b"0", 8)


def _path(header: bytes) -> str:
    prefix = _text(header[345:500].partition(b"\0")[0]) if header[257:263] == b"ustar\0" else ""
    name = _text(header[:100].partition(b"\0")[0])
    return f"{prefix}/{name}" if prefix else name


def _small(body: Mapped) -> bytes:
    if len(body) > _MAX_EXTENSION_BYTES:
        raise Unreadable("an extended header of the tar archive is absurdly long")
    return body.read(0, len(body))


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise Unreadable("the tar archive holds a path that is not UTF-8") from None


def _extended(body: Mapped) -> tuple[str | None, int | None]:
    """Path and size out of a pax header, the two that matter here."""
    path, size = None, None
    rest = _small(body)
    while rest:
        match = re.match(rb"([0-9]{1,6}) ", rest)
        length = int(match[1]) if match else 0
        if match is None or not match.end() < length <= len(rest):
            raise Unreadable("an extended header of the tar archive is damaged")
        key, _, value = rest[match.end() : length].rstrip(b"\n").partition(b"=")
        if key == b"path":
            path = _text(value)
        elif key == b"size":
            if not re.fullmatch(rb"[0-9]{1,15}", value):
                raise Unreadable("an extended header of the tar archive is damaged")
            size = int(value)
        elif key.startswith(b"GNU.sparse"):
            raise Unreadable("the tar archive holds a sparse file; put in plain files only")
        rest = rest[length:]
    return path, size
