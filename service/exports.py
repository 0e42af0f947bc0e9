"""`/v1/jobs.csv` and `/v1/jobs.ndjson`: every job of a query, streamed."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response, StreamingResponse

from saddlescope.contract import limits
from service.access import Reader
from service.listing import After, Filters, page_of
from service.parts import Parts, PartsOf
from service.views import base_of, job_view
from store.jobs import Cursor, JobFilters, Order
from store.records import JobRow

router = APIRouter(tags=["jobs"])
_EXPORT_PAGE = limits.MAX_LIST_LIMIT


@router.get("/v1/jobs.ndjson", response_class=Response)
def get_jobs_ndjson(
    *,
    request: Request,
    parts: PartsOf,
    principal: Reader,
    filters: Filters,
    after: After,
    limit: Annotated[int | None, Query(ge=1)] = None,
    order: Order = Order.NEWEST_FIRST,
) -> Response:
    """Every job of the query, one JSON object a line."""
    base = base_of(request)
    rows = _rows(parts, principal.project, filters, limit=limit, after=after, order=order)
    lines = (job_view(row, base).model_dump_json() + "\n" for row in rows)
    return StreamingResponse(lines, media_type="application/x-ndjson")


@router.get("/v1/jobs.csv", response_class=Response)
def get_jobs_csv(
    *,
    parts: PartsOf,
    principal: Reader,
    filters: Filters,
    after: After,
    limit: Annotated[int | None, Query(ge=1)] = None,
    order: Order = Order.NEWEST_FIRST,
) -> Response:
    """Every job of the query, one row each."""
    rows = _rows(parts, principal.project, filters, limit=limit, after=after, order=order)
    headers = {"content-disposition": 'attachment; filename="jobs.csv"'}
    return StreamingResponse(_csv(rows), media_type="text/csv; charset=utf-8", headers=headers)


def _rows(
    parts: Parts, project: str, filters: JobFilters, *, limit: int | None, after: Cursor | None, order: Order
) -> Iterator[JobRow]:
    """Page by page, so that an export of a million rows holds no transaction and little memory."""
    left = limit
    while left is None or left > 0:
        size = _EXPORT_PAGE if left is None else min(left, _EXPORT_PAGE)
        page = page_of(parts, project, filters, limit=size, after=after, order=order)
        yield from page.items
        if page.next is None:
            return
        after = page.next
        left = None if left is None else left - len(page.items)


_COLUMNS = (
    "id", "status", "verdict", "run", "step", "name", "labels", "queue", "priority", "attempt",
    "created_at", "started_at", "finished_at", "error", "seconds", "matvecs", "device",
)  # fmt: skip


def _csv(rows: Iterator[JobRow]) -> Iterator[str]:
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(_COLUMNS)
    for row in rows:
        writer.writerow([cell(value) for value in _cells(row)])
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
    yield buffer.getvalue()


def _cells(row: JobRow) -> Iterator[str | int | float | datetime | None]:
    run, usage = row.run, row.usage
    yield from (row.id, row.status, row.verdict)
    yield from (None, None, None) if run is None else (run.id, run.step, run.name)
    yield " ".join(f"{key}:{value}" for key, value in row.labels.items())
    yield from (row.queue, row.priority, row.attempt, row.created_at, row.started_at, row.finished_at)
    yield None if row.error is None else row.error.code
    yield from (None, None, None) if usage is None else (usage.seconds, usage.matvecs, usage.device)


def cell(value: str | int | float | datetime | None) -> str | int | float | None:
    """A value of a table as a spreadsheet may read it."""
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    # A spreadsheet would run such a cell as a formula.
    if isinstance(value, str) and value.lstrip().startswith(("=", "+", "-", "@", "\t", "\r")):
        return "'" + value
    return value
