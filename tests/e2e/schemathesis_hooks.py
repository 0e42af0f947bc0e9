"""What schemathesis is told of this service beside its OpenAPI document: bodies of bytes, jobs that run, codes of refusals."""

from __future__ import annotations

import schemathesis
from schemathesis import Case, CheckContext, HookContext, Response

TOY = {
    "checkpoint": {"inline": {"w1": 0.0, "w2": 0.0}},
    "loss": {"kind": "expression", "expression": "(1 - w1*w2)**2"},
    "data": None,
}
# Refusals of what fits the schema, by the only codes that they may have.
MEANINGS = {
    "PUT /v1/artifacts/{artifact_id}": {"digest_mismatch"},
    "POST /v1/webhooks": {"destination_refused", "webhook_limit"},
    "POST /v1/jobs": {
        "artifact_not_found", "references_disabled", "loss_invalid", "data_invalid", "parameter_mismatch", "destination_refused",
        "idempotency_key_reused", "multipart_invalid", "reference_not_allowed", "json_invalid",
        # Names of tensors, and lists that form none.
        "tensor_invalid",
        # 3.0 is an integer to JSON Schema, and none here.
        "int_type", "tuple_type",
    },
    # `bad_request`: the generator's edges of a header are not always of the header's pattern.
    "POST /v1/uploads": {"artifact_too_large", "checksum_mismatch", "digest_mismatch", "bad_request"},
    "PATCH /v1/uploads/{upload_id}": {
        # Of no body the generator tells no type.
        "unsupported_media_type",
        "artifact_too_large", "checksum_mismatch", "digest_mismatch", "offset_mismatch", "not_found", "bad_request",
    },
}  # fmt: skip

schemathesis.serializer.alias("application/offset+octet-stream", "application/octet-stream")


@schemathesis.hook
def before_call(context: HookContext, case: Case, kwargs: dict[str, object]) -> None:
    """A random request is rarely one that can run: in a sequence of calls it keeps its options, and asks of the toy.

    A stream of events ends with its job, or never: they are asked for as a list.
    """
    meta = case.meta
    if case.path.endswith("/events"):
        case.headers["Accept"] = "application/json"
    is_posted = case.operation.label == "POST /v1/jobs" and isinstance(case.body, dict)
    if is_posted and meta is not None and meta.phase.name.value == "stateful" and meta.generation.mode.is_positive:
        case.body = case.body | TOY | {"callback_url": None, "queue": "auto"}


@schemathesis.check
def refused_for_what_it_means(ctx: CheckContext, response: Response, case: Case) -> None:
    meanings = MEANINGS.get(case.operation.label)
    if meanings is None or case.meta is None or not case.meta.generation.mode.is_positive or response.status_code < 400:
        return
    problem = response.json()
    # Of several places each has its own code, and the whole a general one.
    codes = {place["code"] for place in problem["errors"]} or {problem["code"]}
    assert codes <= meanings, f"what fits the schema is refused as {codes}: {response.text}"
