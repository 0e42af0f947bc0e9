"""Rules over system calls, assembled into the classic BPF that seccomp runs at every call.

The program sees `struct seccomp_data`: number, architecture, instruction pointer, six arguments of 64 bits (linux/seccomp.h).
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from workers.sandbox.calls import NEWEST, Machine

ALLOW = 0x7FFF_0000
KILL = 0x8000_0000
"""The whole process dies by SIGSYS."""
_ERRNO = 0x0005_0000

_LOAD, _AND, _RETURN = 0x20, 0x54, 0x06  # BPF_LD|W|ABS, BPF_ALU|AND|K, BPF_RET|K
_JUMP_IF_EQUAL, _JUMP_IF_AT_LEAST = 0x15, 0x35  # BPF_JMP|JEQ|K, BPF_JMP|JGE|K
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_X32 = 0x4000_0000
_MAX_INSTRUCTIONS = 4096


def refuse(code: int) -> int:
    """The call fails with this errno and does nothing."""
    return _ERRNO | code


@dataclass(frozen=True)
class Match:
    """argument & mask == value, in 64 bits."""

    argument: int
    value: int
    mask: int = 2**64 - 1


@dataclass(frozen=True)
class Rule:
    """What happens to a call whose arguments match, all of them; other calls go on to the next rule."""

    call: str
    verdict: int
    where: tuple[Match, ...] = ()


def assemble(rules: Sequence[Rule], *, machine: Machine, default: int) -> bytes:
    """A filter in which the first rule that matches decides.

    Calls of another architecture or of the x32 interface, which have other numbers, die. Calls younger than the table do not
    exist, so that a C library which tries them goes back to older ones. Rules for calls that the machine lacks are left out.

    Raises:
        ValueError: if it is longer than a filter may be.
    """
    code = [
        _instruction(_LOAD, _ARCHITECTURE),
        _instruction(_JUMP_IF_EQUAL, machine.audit_code, then=1),
        _instruction(_RETURN, KILL),
        _instruction(_LOAD, _NUMBER),
        _instruction(_JUMP_IF_AT_LEAST, _X32, otherwise=1),
        _instruction(_RETURN, KILL),
        _instruction(_JUMP_IF_AT_LEAST, NEWEST + 1, otherwise=1),
        _instruction(_RETURN, refuse(errno.ENOSYS)),
    ]
    for rule in rules:
        if rule.call in machine.numbers:
            code += _block(rule, machine.numbers)
    code.append(_instruction(_RETURN, default))
    if len(code) > _MAX_INSTRUCTIONS:
        raise ValueError(f"the filter has {len(code)} instructions; the kernel takes {_MAX_INSTRUCTIONS}")
    return b"".join(code)


def _block(rule: Rule, numbers: Mapping[str, int]) -> list[bytes]:
    """Expects the number in the accumulator, and leaves it there for the next block."""
    tests = [half for match in rule.where for half in _halves(match)]
    if not tests:
        return [
            _instruction(_JUMP_IF_EQUAL, numbers[rule.call], otherwise=1),
            _instruction(_RETURN, rule.verdict),
        ]
    body: list[bytes] = []
    for position, (offset, mask, value) in enumerate(tests):
        behind = 3 * (len(tests) - position - 1) + 1  # to the reload of the number, past the return
        body += [
            _instruction(_LOAD, offset),
            _instruction(_AND, mask),
            _instruction(_JUMP_IF_EQUAL, value, otherwise=behind),
        ]
    body += [_instruction(_RETURN, rule.verdict), _instruction(_LOAD, _NUMBER)]
    return [_instruction(_JUMP_IF_EQUAL, numbers[rule.call], otherwise=len(body)), *body]


def _halves(match: Match) -> list[tuple[int, int, int]]:
    """Offset, mask and value of the 32-bit halves that matter; both machines are little-endian."""
    start = _ARGUMENTS + 8 * match.argument
    halves = [
        (start + 4 * half, match.mask >> 32 * half & 0xFFFF_FFFF, match.value >> 32 * half & 0xFFFF_FFFF)
        for half in (0, 1)
    ]
    return [half for half in halves if half[1]]


def _instruction(code: int, operand: int, *, then: int = 0, otherwise: int = 0) -> bytes:
    return struct.pack("<HBBI", code, then, otherwise, operand)
