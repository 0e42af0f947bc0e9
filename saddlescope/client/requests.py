"""From the arguments of `submit` to the request and the uploads that it needs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TypeAlias, TypedDict

from pydantic import JsonValue, ValidationError

from saddlescope.client.errors import InvalidRequest
from saddlescope.client.uploads import Content, Upload, prepare, upload_of_bytes, upload_of_file
from saddlescope.contract.jobs import JobRequest, Options
from saddlescope.contract.problems import FieldProblem, Problem
from saddlescope.contract.vocabulary import Method, Precision

Loss: TypeAlias = Mapping[str, object] | bytes | Path | str


class OptionValues(TypedDict, total=False):
    """The options of the contract as keyword arguments; `contract.jobs.Options` says what each means."""

    gradient_tol: float | None
    critical_rtol: float
    zero_tol: float | None
    method: Method | str
    dtype: Precision | str
    confidence: float
    num_escape_vectors: int
    max_matvecs: int | None
    batch_size: int | None
    seed: int
    density: bool
    landscape: bool
    critical_point_search: bool
    data_is_sample: bool


class RequestValues(OptionValues, total=False):
    """Everything of a request but its content, as keyword arguments; `Client.submit` says what each means."""

    run: str | None
    step: int | None
    run_name: str | None
    labels: Mapping[str, str] | None
    metadata: Mapping[str, JsonValue] | None
    priority: int
    queue: str
    force: bool
    callback_url: str | None
    cancel_after: str | None
    idempotency_key: str | None


@dataclass(frozen=True)
class Submission:
    """A request that is known to be well-formed, the bytes it names, and how it is to be sent."""

    request: JobRequest
    uploads: tuple[Upload, ...]
    idempotency_key: str | None = None
    cancel_after: str | None = None

    def to_json(self) -> bytes:
        # Only what was set: an older service must not stumble over the default of an option it does not know.
        return self.request.model_dump_json(exclude_unset=True).encode()


def build_submission(
    *,
    checkpoint: Content,
    loss: Loss,
    data: Content | None,
    values: RequestValues,
) -> Submission:
    """Build and check the request before a single byte is sent.

    Args:
        checkpoint, data: tensors or numbers by name, a path, or bytes.
        loss: the contract's JSON, a .pt2 archive as bytes or path (a .json path is read), or an expression.
        values: everything else.

    Raises:
        TypeError: if an option does not exist, or content cannot be sent.
        InvalidRequest: if the request breaks the contract.
    """
    options = {name: value for name, value in values.items() if name not in _FIELDS}
    _check_names(options)
    uploads: list[Upload] = []
    body = _fields(values)
    for name, content in (("checkpoint", checkpoint), ("data", data)):
        if content is None:
            continue
        try:
            body[name], upload = prepare(content, what=name)
        except ValidationError as wrong:
            raise _invalid(wrong, content, prefix=f"/{name}") from None
        if upload is not None:
            uploads.append(upload)
    body["loss"], program = _loss(loss)
    if program is not None:
        uploads.append(program)
    if options:
        body["options"] = dict(options)
    try:
        request = JobRequest.model_validate(body)
    except ValidationError as wrong:
        raise _invalid(wrong, body, prefix="") from None
    return Submission(request, tuple(uploads), values.get("idempotency_key"), values.get("cancel_after"))


_FIELDS = RequestValues.__annotations__.keys() - OptionValues.__annotations__.keys()


def _fields(values: RequestValues) -> dict[str, object]:
    """What was given of the request's own fields; their defaults are left out."""
    run, step, name = (values.get(part) for part in ("run", "step", "run_name"))
    if run is None and (step is not None or name is not None):
        raise TypeError("a step or a run's name belongs to a run: give run= too")
    queue = values.get("queue")
    fields: dict[str, object] = {
        "run": None if run is None else _present({"id": run, "step": step, "name": name}),
        "labels": dict(values.get("labels") or {}) or None,
        "metadata": dict(values.get("metadata") or {}) or None,
        "priority": values.get("priority") or None,
        "queue": None if queue == "auto" else queue,
        "force": values.get("force") or None,
        "callback_url": values.get("callback_url"),
    }
    return _present(fields)


def _present(fields: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in fields.items() if value is not None}


def _check_names(options: Mapping[str, object]) -> None:
    for name in options:
        if name not in Options.model_fields:
            close = get_close_matches(name, Options.model_fields, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(Options.model_fields)}"
            raise TypeError(f"unknown option {name!r}; {hint}")


def _loss(loss: Loss) -> tuple[dict[str, object], Upload | None]:
    if isinstance(loss, str):
        return {"kind": "expression", "expression": loss}, None
    if isinstance(loss, Path) and loss.suffix == ".json":
        return _loss(json.loads(loss.read_text(encoding="utf-8")))
    spec: dict[str, object] = dict(loss) if isinstance(loss, Mapping) else {"kind": "program", "program": loss}
    program = spec.get("program")
    if not isinstance(program, bytes | Path):
        return spec, None
    upload = upload_of_bytes(program) if isinstance(program, bytes) else upload_of_file(program)
    return spec | {"program": {"artifact": upload.artifact}}, upload


def _invalid(wrong: ValidationError, given: object, *, prefix: str) -> InvalidRequest:
    errors = tuple(
        FieldProblem(
            pointer=prefix + _pointer(error["loc"], given),
            detail=error["msg"],
            code=error["type"],
        )
        for error in wrong.errors(include_url=False, include_input=False)
    )
    # A tuple whose members are wrong is reported as too short as well.
    errors = tuple(
        place
        for place in errors
        if place.code != "too_short" or not any(other.pointer.startswith(place.pointer + "/") for other in errors)
    )
    return InvalidRequest(
        Problem(
            type="/problems/request_invalid",
            title="The request is invalid",
            status=422,
            detail="the request was not sent; mend these places",
            code="request_invalid",
            errors=errors,
        )
    )


def _pointer(location: tuple[int | str, ...], given: object) -> str:
    """JSON Pointer of an error: pydantic's location without the union tags, which are no keys of the input."""
    pointer, is_tag_skipped = "", False
    for position, part in enumerate(location):
        if not is_tag_skipped and location[0] == "loss" and isinstance(given, Mapping):
            is_tag_skipped = part in (given.get("kind"), given.get("type"))
            if is_tag_skipped:
                continue
        is_last = position == len(location) - 1
        if is_last or _has(given, part):
            pointer += "/" + str(part).replace("~", "~0").replace("/", "~1")
            given, is_tag_skipped = _child(given, part), False
    return pointer


def _has(given: object, part: int | str) -> bool:
    if isinstance(given, Mapping):
        return part in given
    return isinstance(given, list | tuple) and isinstance(part, int) and part < len(given)


def _child(given: object, part: int | str) -> object:
    if isinstance(given, Mapping):
        return given.get(part)
    return given[part] if isinstance(given, list | tuple) and isinstance(part, int) and part < len(given) else None
