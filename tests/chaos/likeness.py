"""What two runs of one question share. They may compute in other modes, as their clocks advise, and then round otherwise."""

from __future__ import annotations

import re

import pytest

UNLIKE = ("job", "seconds", "url", "vector", "curve")
"""Steps of a line search lie where the loss does not tell them apart any more: their number differs with the last bit."""


def alike(value: object) -> object:
    """All but names, times and the last bits of numbers; compare it with `plain` of the other."""
    match value:
        case dict():
            return {name: alike(inner) for name, inner in value.items() if name not in UNLIKE}
        case list():
            return [alike(inner) for inner in value]
        case float():
            return pytest.approx(value, rel=1e-6, abs=1e-9)
        case str():
            return re.sub(r"[0-9.e+-]*[0-9]", "N", value)
    return value


def plain(value: object) -> object:
    """As `alike`, with the numbers themselves."""
    match value:
        case dict():
            return {name: plain(inner) for name, inner in value.items() if name not in UNLIKE}
        case list():
            return [plain(inner) for inner in value]
        case str():
            return alike(value)
    return value
