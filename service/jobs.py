"""`/v1/jobs`: submit, follow, cancel, retry."""

from __future__ import annotations

import re
from contextlib import ExitStack
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import JSONResponse, Response
from python_multipart.multipart import parse_options_header
from starlette.concurrency import run_in_threadpool

from saddlescope.contract.jobs import Estimate, Job, JobRequest
from service.access import Reader, Submitter
from service.answers import request_id
from service.artifacts import commit_blob
from service.bodies import read_document
from service.headers import deadline_seconds, idempotency_key, preferred_wait, traceparent
from service.multipart import REQUEST, broken, read_form
from service.parts import Parts, PartsOf
from service.problems import JobNotRetryable, NotFound, UnsupportedMediaType
from service.requests import parse_body, parse_request, replace_parts
from service.shared_reads import SharedReadsOf
from service.submission import Accepted, Submission, check, estimate, submit
from service.validation import artifact_ids
from service.views import base_of, is_match, job_view, strong_etag, validated_json
from service.waiting import is_done, wait_for
from store.blobs import Blob, BlobWriter
from store.jobs import find_job, find_request, request_cancel
from store.records import JobRow

router = APIRouter(tags=["jobs"])
Prefer = Annotated[
    str | None, Header(description="`wait=N` (N ≤ 60): answer when the job is done, or after N seconds.")
]
# The patterns of headers are described only; `headers` tells in words what is wrong with one.
CancelAfter = Annotated[
    str | None,
    Header(
        description="Deadline of the job, at most 30 days: `90s`, `10m` or `2h`.",
        json_schema_extra={
            "anyOf": [{"type": "string", "pattern": "^([1-9][0-9]{0,5}s|[1-9][0-9]{0,3}m|[1-9][0-9]{0,1}h)$"}]
        },
    ),
]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        description="The same key and body give the same job again.",
        json_schema_extra={"anyOf": [{"type": "string", "pattern": "^[!-~]([ -~]{0,253}[!-~])?$"}]},
    ),
]
_JOB_ID = re.compile(r"job_[0-9a-f]{32}")
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/JobRequest"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["request"],
                    "properties": {"request": {"$ref": "#/components/schemas/JobRequest"}},
                    "additionalProperties": {"type": "string", "format": "binary"},
                },
                "encoding": {"request": {"contentType": "application/json"}},
            },
        },
    }
}


@router.post(
    "/v1/jobs",
    status_code=202,
    response_model=Job,
    responses={200: {"model": Estimate, "description": "The estimate of a dry run; nothing is queued."}},
    openapi_extra=_BODY,
)
async def post_job(
    *,
    request: Request,
    parts: PartsOf,
    principal: Submitter,
    prefer: Prefer = None,
    cancel_after: CancelAfter = None,
    idempotency_key_: IdempotencyKey = None,
    dry_run: Annotated[bool, Query(description="Validate and estimate; queue nothing.")] = False,
) -> Response:
    """Submit a job, as JSON or as a form whose file parts the JSON names by `{"part": name}`."""
    deadline = deadline_seconds(cancel_after)
    key = idempotency_key(idempotency_key_)
    with ExitStack() as keep:
        asked, files = await _read(request, parts, keep)
        submission = Submission(
            project=principal.project,
            request=asked,
            uploads=tuple(Blob(id=writer.digest, size=writer.size) for writer in files),
            deadline_seconds=deadline,
            idempotency_key=key,
            traceparent=traceparent(request.headers.get("traceparent")),
            request_id=request_id(request),
        )
        if not files and not dry_run:
            # The common case in one piece: every way to a thread and back costs as much as the check itself.
            accepted = await run_in_threadpool(checked_and_submitted, parts, submission)
            return await _accepted(request, accepted, wait_seconds=preferred_wait(prefer))
        await run_in_threadpool(check, parts, submission)
        if dry_run:
            answer = await run_in_threadpool(estimate, parts, submission)
            return JSONResponse(answer.model_dump(mode="json"))
        for writer in files:
            await commit_blob(writer)
    accepted = await run_in_threadpool(submit, parts, submission)
    return await _accepted(request, accepted, wait_seconds=preferred_wait(prefer))


@router.get("/v1/jobs/{job_id}", response_model=Job, responses={304: {"description": "Unchanged."}})
async def get_job(
    *,
    request: Request,
    job_id: str,
    reads: SharedReadsOf,
    principal: Reader,
    prefer: Prefer = None,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """The job now; with `Prefer: wait=N` when it is done, or with `If-None-Match` as well, when it has changed."""
    row = await reads.job(project=principal.project, job_id=job_id) if _JOB_ID.fullmatch(job_id) else None
    if row is None:
        raise _unknown_job()
    headers: dict[str, str] = {}
    base = base_of(request)

    def has_news(now: JobRow) -> bool:
        return not is_match(if_none_match, strong_etag(job_view(now, base).model_dump_json()))

    seconds = preferred_wait(prefer)
    if seconds is not None:
        until = is_done if if_none_match is None else lambda now: is_done(now) or has_news(now)
        row = await wait_for(request, row, seconds=seconds, until=until)
        headers["preference-applied"] = f"wait={seconds}"
    if not row.status.is_terminal:
        headers["retry-after"] = "1"
    return validated_json(request, job_view(row, base).model_dump_json(), headers)


@router.post("/v1/jobs/{job_id}/cancel", response_model=Job)
def cancel_job(request: Request, job_id: str, parts: PartsOf, principal: Submitter) -> Response:
    """Ask a job to stop. Asking again, or asking a job that has ended, changes nothing."""
    row = cancelled(parts, principal.project, job_id)
    return Response(job_view(row, base_of(request)).model_dump_json(), media_type="application/json")


@router.post("/v1/jobs/{job_id}/retry", status_code=202, response_model=Job)
async def retry_job(
    *,
    request: Request,
    job_id: str,
    parts: PartsOf,
    principal: Submitter,
    prefer: Prefer = None,
    cancel_after: CancelAfter = None,
) -> Response:
    """Ask the same again, as a new job."""
    deadline = deadline_seconds(cancel_after)
    accepted = await retried(request, parts, principal.project, job_id, deadline=deadline)
    return await _accepted(request, accepted, wait_seconds=preferred_wait(prefer))


def cancelled(parts: Parts, project: str, job_id: str) -> JobRow:
    """Ask a job to stop. Raises NotFound."""
    job_or_404(parts, project, job_id)
    with parts.sessions.begin() as session:
        row = request_cancel(session, project=project, job_id=job_id)
    if row is None:
        raise _unknown_job()
    return row


async def retried(
    request: Request, parts: Parts, project: str, job_id: str, *, deadline: int | None = None
) -> Accepted:
    """A new job with an old one's request. Raises NotFound or JobNotRetryable."""
    asked = await run_in_threadpool(_asked_before, parts, project, job_id)
    submission = Submission(
        project=project,
        request=asked,
        deadline_seconds=deadline,
        traceparent=traceparent(request.headers.get("traceparent")),
        request_id=request_id(request),
        retry_of=job_id,
    )
    return await run_in_threadpool(checked_and_submitted, parts, submission)


def job_or_404(parts: Parts, project: str, job_id: str) -> JobRow:
    """Raises NotFound for an unknown job and for another project's alike."""
    row = None
    if _JOB_ID.fullmatch(job_id):
        with parts.glances() as session:
            row = find_job(session, project=project, job_id=job_id)
    if row is None:
        raise _unknown_job()
    return row


def _unknown_job() -> NotFound:
    return NotFound("This project has no such job.")


def _asked_before(parts: Parts, project: str, job_id: str) -> JobRequest:
    row = job_or_404(parts, project, job_id)
    if not row.status.is_terminal:
        raise JobNotRetryable(f"The job is {row.status}; wait for its end or cancel it first.")
    with parts.sessions() as session:
        asked = find_request(session, project=project, job_id=job_id)
    if asked is None:
        raise _unknown_job()
    return asked


def checked_and_submitted(parts: Parts, submission: Submission) -> Accepted:
    """Raises what `check` and `submit` raise."""
    check(parts, submission)
    return submit(parts, submission)


def _parsed(body: bytes) -> JobRequest:
    return parse_request(parse_body(body))


async def _read(request: Request, parts: Parts, keep: ExitStack) -> tuple[JobRequest, list[BlobWriter]]:
    content_type = request.headers.get("content-type", "")
    match parse_options_header(content_type)[0]:
        case b"application/json":
            return await run_in_threadpool(_parsed, await read_document(request)), []
        case b"multipart/form-data":
            form = await read_form(
                content_type,
                request.stream(),
                blobs=parts.blobs,
                max_file_bytes=parts.settings.max_artifact_bytes,
                keep=keep,
            )
            if REQUEST not in form.fields:
                raise broken("the part `request` (the JSON of the job) is missing")
            named = await run_in_threadpool(parse_body, form.fields[REQUEST])
            digests = {name: writer.digest for name, writer in form.files.items()}
            document = replace_parts(named, digests)
            asked = await run_in_threadpool(parse_request, document)
            if not set(digests.values()) <= set(artifact_ids(asked).values()):
                raise broken("a file part came that the request does not name")
            return asked, list(form.files.values())
        case _:
            raise UnsupportedMediaType("Send application/json, or multipart/form-data with a `request` part.")


async def _accepted(request: Request, accepted: Accepted, *, wait_seconds: int | None) -> Response:
    row = accepted.job
    headers: dict[str, str] = {}
    if wait_seconds is not None:
        row = await wait_for(request, row, seconds=wait_seconds, until=is_done)
        headers["preference-applied"] = f"wait={wait_seconds}"
    job = job_view(row, base_of(request))
    headers |= {"location": job.urls.self, "retry-after": "0" if job.done else "1"}
    if accepted.is_replayed:
        headers["idempotent-replayed"] = "true"
    return Response(job.model_dump_json(), status_code=202, media_type="application/json", headers=headers)
