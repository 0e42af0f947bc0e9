"""JSON as this service takes it: what Python's reader lets through silently is refused here."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator

from pydantic import JsonValue

from saddlescope.contract import limits

# Possessive, so that an unclosed string costs one pass.
_STRING = re.compile(r'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_BRACKETS = re.compile(r"[\[\]{}]")
_MAX_INTEGER_DIGITS = 19


class StrictJsonError(Exception):
    """The text is not JSON as this service takes it; `pointer` says where, as far as it is known."""

    def __init__(self, detail: str, pointer: str = "") -> None:
        super().__init__(detail)
        self.detail = detail
        self.pointer = pointer


def parse_strict(body: bytes) -> JsonValue:
    """Parse UTF-8 JSON without NaN, Infinity, repeated keys, NUL, lone surrogates, huge integers, absurd depth or size.

    Raises:
        StrictJsonError: with what to mend, never with the value itself.
    """
    # Before anything is copied: a list of two bytes takes thirty times as many in memory. Commas inside text count, too.
    if sum(map(body.count, (b",", b"[", b"{"))) > limits.MAX_JSON_VALUES:
        raise StrictJsonError(
            f"the JSON holds more than {limits.MAX_JSON_VALUES} values; upload tensors as an artifact"
        )
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise StrictJsonError("the body is not UTF-8") from None
    if not text.strip():
        raise StrictJsonError("the body is empty; JSON is expected")
    # Before parsing: the parser recurses once per level.
    if _depth(text) > limits.MAX_JSON_DEPTH:
        raise StrictJsonError(f"the JSON is nested deeper than {limits.MAX_JSON_DEPTH} levels")
    try:
        value: JsonValue = json.loads(
            text,
            object_pairs_hook=_object_without_repeats,
            parse_constant=_refuse_constant,
            parse_float=_finite,
            parse_int=_bounded,
        )
    except json.JSONDecodeError as wrong:
        raise StrictJsonError(f"not JSON at line {wrong.lineno}, column {wrong.colno}") from None
    if "\\u" in text:
        _refuse_unstorable(value, "")
    return value


def pointer_token(key: str | int) -> str:
    """A reference token of a JSON Pointer (RFC 6901), cut where a hostile key would fill the answer."""
    text = str(key)
    short = text if len(text) <= 128 else text[:127] + "…"
    return short.replace("~", "~0").replace("/", "~1").encode("utf-8", "replace").decode("utf-8")


def _depth(text: str) -> int:
    depth = deepest = 0
    for bracket in _brackets(text):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _brackets(text: str) -> Iterator[str]:
    for match in _BRACKETS.finditer(_STRING.sub("", text)):
        yield match.group()


def _object_without_repeats(pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        raise StrictJsonError("an object has the same key twice")
    return unique


def _refuse_constant(name: str) -> JsonValue:
    raise StrictJsonError(f"{name} is not JSON; every number is finite")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise StrictJsonError("a number is too large for a 64-bit float")
    return value


def _bounded(digits: str) -> int:
    if len(digits.lstrip("-")) > _MAX_INTEGER_DIGITS:
        raise StrictJsonError("an integer has more than 19 digits; write it as a float, like 1e20")
    return int(digits)


def _refuse_unstorable(value: JsonValue, pointer: str) -> None:
    if isinstance(value, dict):
        for key, entry in value.items():
            _refuse_text(key, pointer)
            _refuse_unstorable(entry, f"{pointer}/{pointer_token(key)}")
    elif isinstance(value, list):
        for index, entry in enumerate(value):
            _refuse_unstorable(entry, f"{pointer}/{index}")
    elif isinstance(value, str):
        _refuse_text(value, pointer)


def _refuse_text(text: str, pointer: str) -> None:
    if "\x00" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise StrictJsonError("text holds NUL or half of a surrogate pair", pointer)
