"""A JSON body becomes a `JobRequest`, or a list of places to mend."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

from pydantic import JsonValue, ValidationError
from pydantic_core import ErrorDetails

from saddlescope.contract.jobs import JobRequest
from saddlescope.contract.problems import FieldProblem
from saddlescope.contract.sources import ArtifactSource, InlineSource, ObjectSource, PathSource
from saddlescope.contract.strict import Closed
from service.problems import RequestInvalid
from service.strict_json import StrictJsonError, parse_strict, pointer_token

Model = TypeVar("Model", bound=Closed)
_MAX_ERRORS = 50
# Members of the union CheckpointSource, by the one key that the user writes.
_SOURCES = {
    "artifact": ArtifactSource.__name__,
    "inline": InlineSource.__name__,
    "path": PathSource.__name__,
    "s3": ObjectSource.__name__,
}
_UPLOADED = ("artifact", "inline")


def parse_body(body: bytes) -> JsonValue:
    """Raises RequestInvalid with the code `json_invalid`."""
    try:
        return parse_strict(body)
    except StrictJsonError as wrong:
        place = FieldProblem(pointer=wrong.pointer, detail=wrong.detail, code="json_invalid")
        raise RequestInvalid(f"The body is refused: {wrong.detail}.", errors=[place]) from None


def parse_request(document: JsonValue) -> JobRequest:
    """Raises RequestInvalid with a JSON Pointer for every wrong place."""
    return parse_as(JobRequest, document)


def parse_as(model: type[Model], document: JsonValue) -> Model:
    """The document as a request of the contract; raises what `parse_request` raises."""
    try:
        return model.model_validate(document)
    except ValidationError as wrong:
        errors = _places(wrong.errors(include_url=False, include_input=False), document)
        raise RequestInvalid(_headline(errors), errors=errors) from None


def replace_parts(document: JsonValue, artifacts: Mapping[str, str]) -> JsonValue:
    """The same document with `{"part": name}` replaced by the artifact that the part became.

    Only where an artifact may stand: the checkpoint, the data and the program of the loss.

    Raises:
        RequestInvalid: if a part is named that did not come.
    """
    if not isinstance(document, dict):
        return document
    replaced = dict(document)
    for key in ("checkpoint", "data"):
        replaced[key] = _replace_part(document.get(key), f"/{key}", artifacts)
        if key not in document:
            del replaced[key]
    loss = document.get("loss")
    if isinstance(loss, dict) and "program" in loss:
        replaced["loss"] = loss | {"program": _replace_part(loss["program"], "/loss/program", artifacts)}
    return replaced


def _replace_part(source: JsonValue, pointer: str, artifacts: Mapping[str, str]) -> JsonValue:
    if not isinstance(source, dict) or set(source) != {"part"}:
        return source
    name = source["part"]
    if not isinstance(name, str) or name not in artifacts:
        place = FieldProblem(
            pointer=f"{pointer}/part",
            detail="no file part of this name came with the request",
            code="multipart_invalid",
        )
        raise RequestInvalid("The request names a part that did not come.", errors=[place])
    return {"artifact": artifacts[name]}


def _headline(errors: Sequence[FieldProblem]) -> str:
    first = errors[0]
    rest = "" if len(errors) == 1 else f" (and {len(errors) - 1} more)"
    return f"{first.pointer or 'The request'}: {first.detail}{rest}"


def _places(found: Sequence[ErrorDetails], document: JsonValue) -> list[FieldProblem]:
    places: dict[tuple[str, str], FieldProblem] = {}
    for error in found:
        place = _place(error, document)
        if place is not None:
            places.setdefault((place.pointer, place.detail), place)
    deepest = [place.pointer for place in places.values()]
    # A tuple whose members are wrong is reported as too short as well.
    kept = [
        place
        for place in places.values()
        if place.code != "too_short" or not any(other.startswith(place.pointer + "/") for other in deepest)
    ]
    return kept[:_MAX_ERRORS]


def _place(error: ErrorDetails, document: JsonValue) -> FieldProblem | None:
    """One wrong place, or None where pydantic tried the member of a union that the user did not mean."""
    location = error["loc"]
    members = [index for index, key in enumerate(location) if key in _SOURCES.values()]
    if not members:
        return FieldProblem(pointer=pointer_into(document, location), detail=_detail(error), code=error["type"])
    source = _at(document, location[: members[0]])
    known = [key for key in _SOURCES if location[0] == "checkpoint" or key in _UPLOADED]
    meant = [key for key in known if isinstance(source, dict) and key in source]
    if len(meant) != 1:
        in_multipart = isinstance(source, dict) and "part" in source
        detail = (
            'give exactly one of "artifact" (the id of uploaded bytes), "inline" (tensors as JSON) and, for a '
            'checkpoint where the service allows it, "path" and "s3"'
            if not in_multipart
            else '"part" names a part of a multipart/form-data request; this request has none'
        )
        pointer = pointer_into(document, location[: members[0]])
        return FieldProblem(pointer=pointer, detail=detail, code="source_invalid")
    if location[members[0]] != _SOURCES[meant[0]]:
        return None
    return FieldProblem(pointer=pointer_into(document, location), detail=_detail(error), code=error["type"])


def _detail(error: ErrorDetails) -> str:
    """pydantic's message without the values that it echoes."""
    context = error.get("ctx", {})
    match error["type"]:
        case "union_tag_invalid":
            return f"{context['discriminator']} must be one of {context['expected_tags']}"
        case "union_tag_not_found":
            return f"{context['discriminator']} is missing"
        case "extra_forbidden":
            return "this field is not known here; unknown fields are refused"
        case "missing":
            return "this field is required"
        case "value_error":
            return str(context["error"])
        case _:
            return error["msg"]


def pointer_into(document: JsonValue, location: Sequence[str | int]) -> str:
    """JSON Pointer of a pydantic location, without the union members and tags that stand in it."""
    return "".join(f"/{pointer_token(key)}" for key in _steps(document, location))


def _at(document: JsonValue, location: Sequence[str | int]) -> JsonValue:
    value = document
    for key in _steps(document, location):
        value = _child(value, key)
    return value


def _steps(document: JsonValue, location: Sequence[str | int]) -> Iterator[str | int]:
    value, is_tag_next = document, False
    for depth, key in enumerate(location):
        is_tag = is_tag_next and isinstance(value, dict) and key in (value.get("kind"), value.get("type"))
        is_tag_next = False
        if is_tag:
            continue
        is_here = _has(value, key)
        is_missing_member = depth == len(location) - 1 and isinstance(value, dict) and isinstance(key, str)
        if is_here or (is_missing_member and key not in _SOURCES.values() and "[" not in str(key)):
            yield key
            value = _child(value, key)
            # Discriminated unions stand under /loss alone; elsewhere "type" may be a key of the user's.
            is_tag_next = location[0] == "loss"


def _has(value: JsonValue, key: str | int) -> bool:
    if isinstance(value, dict):
        return key in value
    return isinstance(value, list) and isinstance(key, int) and key < len(value)


def _child(value: JsonValue, key: str | int) -> JsonValue:
    if isinstance(value, dict) and isinstance(key, str):
        return value.get(key)
    if isinstance(value, list) and isinstance(key, int):
        return value[key]
    return None
