"""The fields of the form on `/submit` as the document that `POST /v1/jobs` takes."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pydantic import JsonValue

from saddlescope.contract.limits import TENSOR_NAME_PATTERN
from saddlescope.contract.problems import FieldProblem
from service.problems import RequestInvalid
from service.strict_json import StrictJsonError, parse_strict

FIELDS = ("expression", "numbers", "loss", "run", "step", "labels")
FILES = ("checkpoint", "program", "data")
_STEP = re.compile(r"\d{1,18}", re.ASCII)


def question(fields: Mapping[str, str], files: Mapping[str, str]) -> JsonValue:
    """The document of a filled form; `files` gives the artifact that each file became.

    Raises:
        RequestInvalid: for what cannot be read, and unless there is one checkpoint and one loss.
    """
    given = {name: text.strip() for name, text in fields.items() if text.strip()}
    if "checkpoint" in files:
        # The numbers stand in the form from the beginning; a file that was chosen means more.
        given.pop("numbers", None)
    if "program" in files or "loss" in given:
        given.pop("expression", None)
    document: dict[str, JsonValue] = {"checkpoint": _checkpoint(given, files), "loss": _loss(given, files)}
    if "data" in files:
        document["data"] = {"artifact": files["data"]}
    if "run" in given:
        run: dict[str, JsonValue] = {"id": given["run"]}
        if "step" in given:
            run["step"] = _step(given["step"])
        document["run"] = run
    elif "step" in given:
        raise _wrong("run", "a step needs the run that it is a step of")
    if "labels" in given:
        document["labels"] = _labels(given["labels"])
    return document


def _checkpoint(given: Mapping[str, str], files: Mapping[str, str]) -> JsonValue:
    if "checkpoint" in files:
        return {"artifact": files["checkpoint"]}
    if "numbers" not in given:
        raise _wrong("checkpoint", "choose a checkpoint file, or write its numbers")
    tensors: dict[str, JsonValue] = {}
    for line in filter(None, map(str.strip, given["numbers"].splitlines())):
        name, equals, text = (part.strip() for part in line.partition("="))
        if not equals or not re.fullmatch(TENSOR_NAME_PATTERN, name):
            raise _wrong("numbers", "write one tensor a line: name = 0.5, or name = [[1, 0], [0, 1]]")
        if name in tensors:
            raise _wrong("numbers", f"{name!r} stands there twice")
        tensors[name] = _parsed("numbers", text, f"the value of {name!r} is neither a number nor a list of numbers")
    return {"inline": tensors}


def _loss(given: Mapping[str, str], files: Mapping[str, str]) -> JsonValue:
    if "program" in files and "loss" in given:
        raise _wrong("loss", "give the layers or a program, not both")
    if "program" in files:
        return {"kind": "program", "program": {"artifact": files["program"]}}
    if "loss" in given:
        return _parsed("loss", given["loss"], "this is no JSON")
    if "expression" in given:
        return {"kind": "expression", "expression": given["expression"]}
    raise _wrong("expression", "write the loss as an expression, or give its layers or a program")


def _labels(text: str) -> JsonValue:
    labels: dict[str, JsonValue] = {}
    for pair in filter(None, map(str.strip, text.split(","))):
        key, colon, value = pair.partition(":")
        if not colon:
            raise _wrong("labels", "write key:value, and commas between them")
        labels[key.strip()] = value.strip()
    return labels


def _step(text: str) -> int:
    if not _STEP.fullmatch(text):
        raise _wrong("step", "a step is a whole number from 0")
    return int(text)


def _parsed(field: str, text: str, otherwise: str) -> JsonValue:
    try:
        return parse_strict(text.encode())
    except StrictJsonError as wrong:
        raise _wrong(field, f"{otherwise}: {wrong.detail}") from None


def _wrong(field: str, detail: str) -> RequestInvalid:
    place = FieldProblem(pointer=f"/{field}", detail=detail, code="form_invalid")
    return RequestInvalid(f"{detail[0].upper()}{detail[1:]}.", errors=[place])
