"""Command-line arguments as the client wants them; a wrong one is a usage error."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import typer
from pydantic import JsonValue, ValidationError

from saddlescope.client.requests import Loss
from saddlescope.client.uploads import Content
from saddlescope.contract.jobs import Options


def parse_content(given: str, option: str) -> Content:
    if given.lstrip().startswith("{") or given.endswith(".json"):
        tensors = _json(given if given.lstrip().startswith("{") else Path(given).read_text(encoding="utf-8"), option)
        if not isinstance(tensors, dict):
            raise typer.BadParameter("expected an object of numbers by name", param_hint=option)
        return tensors
    return Path(given)


def parse_loss(given: str) -> Loss:
    """A path, or an expression; what ends like a file is one, so that a missing file is told as missing."""
    # os.path: a long expression is no file name, at which Path.is_file raises.
    return Path(given) if given.endswith((".json", ".pt2")) or os.path.isfile(given) else given


def parse_options(pairs: dict[str, str]) -> Options:
    """Options written as text: numbers, true, false and null as in JSON, anything else as it stands."""
    values: dict[str, JsonValue] = {}
    for name, text in pairs.items():
        try:
            values[name] = json.loads(text)
        except json.JSONDecodeError:
            values[name] = text
    try:
        return Options.model_validate(values)
    except ValidationError as wrong:
        first = wrong.errors(include_url=False)[0]
        name = "".join(str(part) for part in first["loc"])
        known = f"; there are {', '.join(Options.model_fields)}" if name not in Options.model_fields else ""
        raise typer.BadParameter(f"{name}: {first['msg']}{known}", param_hint="--option") from None


def _json(text: str, option: str) -> JsonValue:
    try:
        value: JsonValue = json.loads(text)
    except json.JSONDecodeError as wrong:
        raise typer.BadParameter(f"no JSON: {wrong}", param_hint=option) from None
    return value


def parse_pairs(given: Sequence[str] | None, option: str) -> dict[str, str]:
    pairs = {}
    for pair in given or ():
        name, equals, value = pair.partition("=")
        if not name or not equals:
            raise typer.BadParameter(f"{pair!r} is not of the form name=value", param_hint=option)
        pairs[name] = value
    return pairs
