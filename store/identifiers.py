"""Identifiers that sort by their time of creation: a prefix and a UUIDv7 (RFC 9562)."""

from __future__ import annotations

import secrets
import threading
import time
from uuid import UUID

_lock = threading.Lock()
_last = 0


def uuid7() -> UUID:
    """A UUID of version 7 that is greater than every one this process made before.

    The first 48 bits are milliseconds, the next 12 a fraction of the millisecond (RFC 9562, method 3), the rest is
    random. Within one tick, and when the clock steps back, the 60-bit time is advanced by one instead.
    """
    global _last  # noqa: PLW0603 - monotonic within the process needs one number per process
    with _lock:
        nanoseconds = time.time_ns()
        milliseconds, rest = divmod(nanoseconds, 1_000_000)
        ticks = max((milliseconds << 12) | (rest << 12) // 1_000_000, _last + 1)
        _last = ticks
    return UUID(
        int=(ticks >> 12) << 80 | 0x7 << 76 | (ticks & 0xFFF) << 64 | 0b10 << 62 | secrets.randbits(62),
    )


def new_id(prefix: str) -> str:
    """For example `job_0199d3a4c1e87c3f9f1e6f0c2b1a4d5e`; ids with one prefix sort by creation."""
    return f"{prefix}_{uuid7().hex}"
