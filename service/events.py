"""`/v1/jobs/{id}/events` and `/v1/events`: the durable history of a job and of a project, as lists or as it happens."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import Response, StreamingResponse
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from starlette.concurrency import run_in_threadpool

from saddlescope.contract import limits
from saddlescope.contract.jobs import Event
from saddlescope.contract.problems import FieldProblem
from saddlescope.contract.strict import Closed
from saddlescope.contract.webhooks import WebhookEvent
from service.access import Reader
from service.feed import Feed, FeedOf
from service.jobs import job_or_404
from service.listing import Text
from service.parts import Parts, PartsOf
from service.problems import RequestInvalid
from service.views import event_view, validated_json
from store.events import EventRow, event_number, list_events
from store.feed import FeedEntry, has_unplaced, last_position, place_events, position_of, read_feed
from store.jobs import Order
from store.records import JobRow

router = APIRouter(tags=["events"])
_EVENT_ID = re.compile(r"evt_[0-9a-f]{32}")
_KEEPALIVE_SECONDS = 15
# A stream ends by itself long before proxies cut it; clients resume with Last-Event-ID.
_STREAM_SECONDS = 3600
_RETRY_HINT = b"retry: 1000\n\n"
_PAGE = 200
_SSE_CONTENT = {"content": {"text/event-stream": {"schema": {"type": "string"}}}}

Accept = Annotated[str | None, Header()]
LastEventId = Annotated[str | None, Header(alias="Last-Event-ID")]


@dataclass(frozen=True)
class _Wanted:
    """The events of a project, or of one of its runs."""

    project: str
    run: str | None

    def holds(self, entry: FeedEntry) -> bool:
        return entry.project == self.project and self.run in (None, entry.run)


class EventList(Closed):
    object: Literal["list"] = "list"
    data: tuple[Event, ...]
    has_more: bool = False
    next: str | None = None


@router.get(
    "/v1/jobs/{job_id}/events",
    response_model=EventList,
    responses={
        200: _SSE_CONTENT,
        204: {"description": "The stream was read to its end: reconnecting makes no sense."},
    },
)
async def get_job_events(
    *,
    request: Request,
    job_id: str,
    parts: PartsOf,
    feed: FeedOf,
    principal: Reader,
    accept: Accept = None,
    last_event_id: LastEventId = None,
) -> Response:
    """The history so far, or with `Accept: text/event-stream` what happens from `Last-Event-ID` to the job's end."""
    row = await run_in_threadpool(job_or_404, parts, principal.project, job_id)
    last = await run_in_threadpool(_number, parts, row, last_event_id)
    events = await run_in_threadpool(_history, parts, row, last)
    if not _is_stream(accept):
        listed = EventList(data=tuple(event_view(event) for event in events))
        return validated_json(request, listed.model_dump_json())
    # The terminal event is committed with the terminal state, and nothing follows it.
    if row.status.is_terminal and not events:
        return Response(status_code=204)
    return _streaming(_follow_job(feed, parts, row, last))


@router.get("/v1/events", response_model=EventList, responses={200: _SSE_CONTENT})
async def get_events(
    *,
    request: Request,
    parts: PartsOf,
    feed: FeedOf,
    principal: Reader,
    run: Text | None = None,
    after: Annotated[
        str | None,
        Query(
            description="An event's id: what comes beyond it in the order asked for.",
            json_schema_extra={"anyOf": [{"type": "string", "pattern": f"^{_EVENT_ID.pattern}$"}]},
        ),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=limits.MAX_LIST_LIMIT)] = limits.DEFAULT_LIST_LIMIT,
    order: Order = Order.NEWEST_FIRST,
    accept: Accept = None,
    last_event_id: LastEventId = None,
) -> Response:
    """What happened to the project's jobs, or with `Accept: text/event-stream` what happens.

    A stream begins after `Last-Event-ID` or `after`, else now. Events of jobs that have been deleted are not told.
    """
    wanted = _Wanted(principal.project, run)
    seen = last_event_id or after if _is_stream(accept) else after
    if seen is not None and not _EVENT_ID.fullmatch(seen):
        place = FieldProblem(pointer="/query/after", detail="this is no event's id", code="cursor_invalid")
        raise RequestInvalid("after: this is no event's id.", errors=[place])
    if _is_stream(accept):
        return _streaming(_follow_project(feed, parts, wanted, seen))
    page = await run_in_threadpool(_page, parts, wanted, seen, limit + 1, order)
    shown = tuple(event_view(entry.event) for entry in page[:limit])
    has_more = len(page) > limit
    listed = EventList(data=shown, has_more=has_more, next=shown[-1].id if has_more else None)
    return validated_json(request, listed.model_dump_json())


async def _follow_job(feed: Feed, parts: Parts, row: JobRow, last: int) -> AsyncIterator[bytes]:
    yield _RETRY_HINT
    async with feed.subscribe(lambda entry: entry.event.job_id == row.id) as news:
        for event in await run_in_threadpool(_history, parts, row, last):
            last = event.number
            yield _sse(event)
            if _is_end(event):
                return
        async for entry in news.follow(seconds=_STREAM_SECONDS, quiet_seconds=_KEEPALIVE_SECONDS):
            if entry is None:
                yield KEEPALIVE_COMMENT
            elif entry.event.number > last:
                last = entry.event.number
                yield _sse(entry.event)
                if _is_end(entry.event):
                    return


async def _follow_project(feed: Feed, parts: Parts, wanted: _Wanted, seen: str | None) -> AsyncIterator[bytes]:
    yield _RETRY_HINT
    async with feed.subscribe(wanted.holds) as news:
        last = await run_in_threadpool(_position, parts, wanted.project, seen)
        is_behind = seen is not None
        while is_behind:
            page = await run_in_threadpool(_forward, parts, wanted, last)
            for entry in page:
                last = entry.position
                yield _sse(entry.event)
            is_behind = len(page) == _PAGE
        async for told in news.follow(seconds=_STREAM_SECONDS, quiet_seconds=_KEEPALIVE_SECONDS):
            if told is None:
                yield KEEPALIVE_COMMENT
            elif told.position > last:
                last = told.position
                yield _sse(told.event)


def _streaming(content: AsyncIterator[bytes]) -> StreamingResponse:
    # Buffering proxies would hold single events back.
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(content, media_type="text/event-stream", headers=headers)


def _is_stream(accept: str | None) -> bool:
    return "text/event-stream" in (accept or "")


def _is_end(event: EventRow) -> bool:
    return event.type in tuple(WebhookEvent)


def _number(parts: Parts, row: JobRow, event_id: str | None) -> int:
    """How much of the job's history the caller has; nothing, if he names an event of another one."""
    if event_id is None or not _EVENT_ID.fullmatch(event_id):
        return 0
    with parts.sessions() as session:
        return event_number(session, row.id, event_id)


def _history(parts: Parts, row: JobRow, after: int) -> tuple[EventRow, ...]:
    with parts.sessions() as session:
        return list_events(session, row.id, after)


def _position(parts: Parts, project: str, seen: str | None) -> int:
    """Where a reader stands who has seen this event, or who begins now."""
    _place_all(parts)
    with parts.sessions() as session:
        found = None if seen is None else position_of(session, project=project, event_id=seen)
        return last_position(session) if found is None else found


def _forward(parts: Parts, wanted: _Wanted, last: int) -> tuple[FeedEntry, ...]:
    with parts.sessions() as session:
        return read_feed(session, after=last, limit=_PAGE, project=wanted.project, run=wanted.run)


def _page(parts: Parts, wanted: _Wanted, after: str | None, limit: int, order: Order) -> tuple[FeedEntry, ...]:
    _place_all(parts)
    position = None if after is None else _position(parts, wanted.project, after)
    with parts.sessions() as session:
        return read_feed(
            session,
            after=position,
            limit=limit,
            project=wanted.project,
            run=wanted.run,
            newest_first=order is Order.NEWEST_FIRST,
        )


def _place_all(parts: Parts) -> None:
    while True:
        with parts.sessions() as session:
            if not has_unplaced(session):
                return
        with parts.sessions.begin() as session:
            place_events(session)


def _sse(event: EventRow) -> bytes:
    return format_sse_event(event=event.type, id=event.id, data_str=event_view(event).model_dump_json())
