"""Request headers that jobs understand: Prefer, Cancel-After, Idempotency-Key, traceparent."""

from __future__ import annotations

import re

from saddlescope.contract import limits
from saddlescope.contract.problems import FieldProblem
from service.problems import RequestInvalid
from telemetry.tracing import current_traceparent, trace_id

_WAIT = re.compile(r'wait\s*=\s*"?(\d{1,9})"?')
_CANCEL_AFTER = re.compile(r"([1-9]\d{0,8})\s*(s|m|h)")
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600}
_KEY = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,253}[\x21-\x7e])?")


def preferred_wait(header: str | None) -> int | None:
    """Seconds of `Prefer: wait=N`, at most the contract's; one that is not understood is ignored (RFC 7240)."""
    for preference in re.split(r"[,;]", header or ""):
        if match := _WAIT.fullmatch(preference.strip().lower()):
            return min(int(match[1]), limits.MAX_PREFER_WAIT_SECONDS)
    return None


def deadline_seconds(header: str | None) -> int | None:
    """Seconds of `Cancel-After: 90s|10m|2h`.

    Raises:
        RequestInvalid: a deadline that is not understood must not be ignored.
    """
    if header is None:
        return None
    match = _CANCEL_AFTER.fullmatch(header.strip().lower())
    seconds = 0 if match is None else int(match[1]) * _UNIT_SECONDS[match[2]]
    if not 0 < seconds <= limits.MAX_DEADLINE_SECONDS:
        raise _wrong_header("Cancel-After", "write a duration of at most 30 days, like 90s, 10m or 2h")
    return seconds


def idempotency_key(header: str | None) -> str | None:
    """Raises RequestInvalid unless it has 1 to 255 printable ASCII characters."""
    if header is not None and not _KEY.fullmatch(header):
        raise _wrong_header("Idempotency-Key", "a key has 1 to 255 printable ASCII characters")
    return header


def traceparent(header: str | None) -> str | None:
    """W3C Trace Context: our own span of the request, else the caller's; one that is malformed is ignored, as told."""
    ours = current_traceparent()
    return ours if ours is not None or trace_id(header) is None else header


def _wrong_header(name: str, detail: str) -> RequestInvalid:
    place = FieldProblem(pointer=f"/header/{name.lower()}", detail=detail, code="header_invalid")
    return RequestInvalid(f"{name}: {detail}.", errors=[place])
