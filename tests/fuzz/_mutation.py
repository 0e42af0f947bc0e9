"""Changes of a file that leave it plausible: in its bytes, its numbers, its members and their order."""

from __future__ import annotations

import random
import re
import struct
from collections.abc import Callable, Sequence

Parts = list[tuple[str, bytes]]
"""The members of a file by name; a file without members has one."""

_EXTREMES = (
    0,
    1,
    2,
    7,
    8,
    9,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0xFFFF,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**47,
    2**62,
    2**63 - 1,
    2**63,
    2**64 - 1,
)
_NUMBERS = (
    b"0",
    b"-1",
    b"1",
    b"8",
    b"1.0",
    b"1e999",
    b"-0",
    b"007",
    b"9" * 10,
    b"9" * 19,
    b"9" * 30,
    b"4294967296",
    b"9223372036854775808",
)
_WORDS = (
    b"null",
    b"true",
    b"[]",
    b"{}",
    b'""',
    b"NaN",
    b"[[[[]]]]",
    b'"a"',
    b"(",
    b")",
    b"'",
    b"..",
    b"\\u0000",
    b"\xff",
    b"\n",
)
_DIGITS = re.compile(rb"[0-9]+")
_NAMES = ("", "/a", "../a", "a\\b", "a/b/c", "data.pkl", "a.npy", ".metadata", "é", "x" * 600)


def mutated(parts: Parts, others: Sequence[Parts], pack: Callable[[Parts], bytes], chance: random.Random) -> bytes:
    """A file like that of the parts: its members changed and packed anew, or its bytes changed, or both."""
    if chance.random() < 0.6:
        parts = _with_changed_members(parts, others, chance)
    packed = pack(parts)
    if chance.random() < 0.5:
        packed = _changed_often(packed, [pack(chance.choice(others))], chance)
    return packed


def _with_changed_members(parts: Parts, others: Sequence[Parts], chance: random.Random) -> Parts:
    changed = list(parts)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        at = chance.randrange(len(changed))
        name, content = changed[at]
        match chance.randrange(12):
            case 0:
                changed.insert(chance.randrange(len(changed) + 1), changed[at])
            case 1 if len(changed) > 1:
                del changed[at]
            case 2:
                chance.shuffle(changed)
            case 3:
                changed[at] = chance.choice((*_NAMES, *(other for other, _ in parts))), content
            case 4:
                changed[at] = name, chance.choice(chance.choice(others))[1]
            case _:
                changed[at] = name, _changed_often(content, [part for _, part in parts], chance)
    return changed


def _changed_often(content: bytes, others: Sequence[bytes], chance: random.Random) -> bytes:
    for _ in range(chance.choice((1, 1, 2, 2, 4, 8))):
        content = _changed(content, others, chance)
    return content


def _changed(content: bytes, others: Sequence[bytes], chance: random.Random) -> bytes:
    if not content:
        return chance.randbytes(chance.randrange(1, 9))
    at = chance.randrange(len(content))
    match chance.randrange(10):
        case 0:
            return _replaced(content, at, bytes([content[at] ^ 1 << chance.randrange(8)]))
        case 1:
            return _replaced(
                content, at, bytes([chance.choice((0, 1, 0x28, 0x2E, 0x7F, 0x80, 0xFF, chance.randrange(256)))])
            )
        case 2 | 3:
            return _with_another_length(content, at, chance)
        case 4:
            found = list(_DIGITS.finditer(content[:20_000]))
            if found:
                digits = chance.choice(found)
                return content[: digits.start()] + chance.choice(_NUMBERS) + content[digits.end() :]
            return content
        case 5:
            return content[:at] + chance.choice(_WORDS) + content[at + chance.choice((0, 1, 2, 4)) :]
        case 6:
            return content[:at]
        case 7:
            length = min(2 ** chance.randrange(12), len(content) - at)
            return (
                content[: at + length]
                + content[at : at + length] * chance.choice((1, 1, 2, 50))
                + content[at + length :]
            )
        case 8:
            return content[:at] + content[at + 2 ** chance.randrange(8) :]
        case _:
            other = chance.choice(others) or content
            start = chance.randrange(len(other))
            return _replaced(content, at, other[start : start + 2 ** chance.randrange(8)])


def _replaced(content: bytes, at: int, piece: bytes) -> bytes:
    return content[:at] + piece + content[at + len(piece) :]


def _with_another_length(content: bytes, at: int, chance: random.Random) -> bytes:
    """An extreme, or a number near the one that stands there, where the bytes look like a length."""
    width = chance.choice((1, 2, 4, 8))
    for _ in range(16):
        number = int.from_bytes(content[at : at + width], "little")
        if 0 < number <= 2 * len(content):
            break
        at = chance.randrange(len(content))
    near = number + chance.choice((-8, -1, 1, 8, len(content)))
    value = chance.choice((near, near, *_EXTREMES)) % 2 ** (8 * width)
    return _replaced(content, at, struct.pack("<Q", value)[:width])
