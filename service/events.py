"""`/v1/jobs/{id}/events`: the durable history of a job, as a list or as it happens."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Request
from fastapi.responses import Response, StreamingResponse
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from starlette.concurrency import run_in_threadpool

from saddlescope.contract.jobs import Event
from saddlescope.contract.strict import Closed
from service.access import Reader
from service.jobs import job_or_404
from service.parts import Parts, PartsOf
from service.views import event_view, validated_json
from service.waiting import pauses
from store.events import EventRow, list_events
from store.jobs import find_job
from store.records import JobRow

router = APIRouter(tags=["jobs"])
_KEEPALIVE_SECONDS = 15
# A stream ends by itself long before proxies cut it; clients resume with Last-Event-ID.
_STREAM_SECONDS = 3600


class EventList(Closed):
    object: Literal["list"] = "list"
    data: tuple[Event, ...]
    has_more: bool = False
    next: str | None = None


@router.get(
    "/v1/jobs/{job_id}/events",
    response_model=EventList,
    responses={
        200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}},
        204: {"description": "The stream was read to its end: reconnecting makes no sense."},
    },
)
async def get_events(
    *,
    request: Request,
    job_id: str,
    parts: PartsOf,
    principal: Reader,
    accept: Annotated[str | None, Header()] = None,
    last_event_id: Annotated[str | None, Header(alias="Last-Event-ID")] = None,
) -> Response:
    """The history so far, or with `Accept: text/event-stream` what happens from `Last-Event-ID` on."""
    row = await run_in_threadpool(job_or_404, parts, principal.project, job_id)
    after = last_event_id.replace("\0", "") if last_event_id else None
    row, events = await run_in_threadpool(_news, parts, row, after)
    if "text/event-stream" not in (accept or ""):
        listed = EventList(data=tuple(event_view(event) for event in events))
        return validated_json(request, listed.model_dump_json())
    if after is not None and not events and row.status.is_terminal:
        return Response(status_code=204)
    # Buffering proxies would hold single events back.
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(_stream(request, parts, row, events), media_type="text/event-stream", headers=headers)


async def _stream(request: Request, parts: Parts, row: JobRow, events: tuple[EventRow, ...]) -> AsyncIterator[bytes]:
    last, spoke_at = None, time.monotonic()
    for event in events:
        last = event.id
        yield _sse(event)
    if row.status.is_terminal:
        return
    async for _ in pauses(_STREAM_SECONDS):
        if await request.is_disconnected():
            return
        row, events = await run_in_threadpool(_news, parts, row, last)
        for event in events:
            last, spoke_at = event.id, time.monotonic()
            yield _sse(event)
        # The state and its event were committed together and read together: nothing follows a terminal one.
        if row.status.is_terminal:
            return
        if time.monotonic() - spoke_at > _KEEPALIVE_SECONDS:
            spoke_at = time.monotonic()
            yield KEEPALIVE_COMMENT


def _news(parts: Parts, row: JobRow, after: str | None) -> tuple[JobRow, tuple[EventRow, ...]]:
    with parts.sessions() as session:
        # The state first: an event that comes between the two queries is read now, not lost.
        now = find_job(session, project=row.project, job_id=row.id)
        return now or row, list_events(session, row.id, after)


def _sse(event: EventRow) -> bytes:
    return format_sse_event(event=event.type, id=event.id, data_str=event_view(event).model_dump_json())
