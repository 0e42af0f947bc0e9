"""A row of the store as the contract's answer."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from fastapi import Request
from fastapi.responses import Response

from saddlescope.contract.jobs import Event, Job, JobUrls
from saddlescope.contract.problems import Problem
from saddlescope.contract.reports import Report
from service.failures import failure_problem
from store.events import EventRow
from store.records import JobRow


def base_of(request: Request) -> str:
    """Scheme and host that the caller used, without a slash at the end."""
    return str(request.base_url).rstrip("/")


def job_view(row: JobRow, base: str) -> Job:
    at = f"{base}/v1/jobs/{row.id}"
    return Job(
        id=row.id,
        status=row.status,
        done=row.status.is_terminal,
        verdict=row.verdict,
        project=row.project,
        run=row.run,
        labels=row.labels,
        metadata=row.metadata,
        progress=row.progress,
        partial=row.partial,
        attempt=row.attempt,
        max_attempts=row.max_attempts,
        queue=row.queue,
        priority=row.priority,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        deadline_at=row.deadline_at,
        cancel_requested_at=row.cancel_requested_at,
        error=_error(row),
        retry_of=row.retry_of,
        deduplicated=row.deduplicated_from is not None,
        waiting_because=row.waiting_because,
        usage=row.usage,
        urls=JobUrls(
            self=at,
            cancel=f"{at}/cancel",
            retry=f"{at}/retry",
            events=f"{at}/events",
            report=f"{at}/report",
            web=f"{base}/jobs/{row.id}",
        ),
    )


def event_view(row: EventRow) -> Event:
    return Event(id=row.id, type=row.type, job=row.job_id, created_at=row.created_at, data=row.data)


def report_view(report: Report, job_id: str) -> Report:
    """The stored report with the addresses of its vectors."""
    escapes = tuple(
        escape.model_copy(update={"url": f"/v1/jobs/{job_id}/escapes/{escape.index}.safetensors"})
        for escape in report.escapes
    )
    return report.model_copy(update={"job": job_id, "escapes": escapes})


def strong_etag(body: str) -> str:
    return f'"{hashlib.sha256(body.encode()).hexdigest()[:32]}"'


def is_match(if_none_match: str | None, etag: str) -> bool:
    """RFC 9110, 13.1.2, by weak comparison."""
    if if_none_match is None:
        return False
    tags: Sequence[str] = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return etag in tags or "*" in tags


def validated_json(request: Request, body: str, headers: dict[str, str] | None = None) -> Response:
    """JSON with a strong ETag, or 304 for a caller who has it."""
    etag = strong_etag(body)
    shared = {"etag": etag, "cache-control": "private, no-cache", **(headers or {})}
    if is_match(request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers=shared)
    return Response(body, media_type="application/json", headers=shared)


def _error(row: JobRow) -> Problem | None:
    if row.error is None:
        return None
    return failure_problem(row.error.code, row.error.detail, job_id=row.id, pointer=row.error.pointer)
