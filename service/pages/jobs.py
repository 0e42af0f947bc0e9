"""The list of jobs, also one line a run, and the same list as a file."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response, StreamingResponse
from sqlalchemy.orm import Session

from saddlescope.contract import limits
from saddlescope.contract.problems import FieldProblem
from saddlescope.contract.vocabulary import JobStatus, Verdict
from service.access import Visitor
from service.columns import COLUMNS, Cell
from service.exports import cell
from service.pages.looking import Looking, LookingAt
from service.parts import Parts, PartsOf
from service.problems import RequestInvalid
from service.rendering import page
from service.snippets import first_curl, first_python
from service.views import base_of
from store.jobs import Page
from store.lists import ListedJob, list_grouped, list_sorted

router = APIRouter(include_in_schema=False)
_ROWS = 50


class ExportFormat(StrEnum):
    CSV = "csv"
    NDJSON = "ndjson"


@router.get("/")
def jobs_page(request: Request, parts: PartsOf, visitor: Visitor, looking: LookingAt) -> HTMLResponse:
    """Jobs by creation or by a number, or their runs."""
    with parts.sessions() as session:
        if looking.is_grouped:
            groups = list_grouped(
                session, project=visitor.project, filters=looking.filters, limit=_ROWS, after=looking.after
            )
            jobs, following = None, groups.next
        else:
            groups = None
            jobs = _page(session, visitor.project, looking, limit=_ROWS)
            following = jobs.next
    base = base_of(request)
    return page(
        request,
        "jobs.html",
        looking=looking,
        jobs=None if jobs is None else jobs.items,
        groups=None if groups is None else groups.items,
        following=None if following is None else looking.following(following),
        project=visitor.project,
        statuses=list(JobStatus),
        verdicts=list(Verdict),
        all_columns=COLUMNS,
        curl=first_curl(base, parts.settings.auth),
        python=first_python(base, parts.settings.auth),
    )


@router.get("/jobs.{form}")
def jobs_file(parts: PartsOf, visitor: Visitor, looking: LookingAt, form: ExportFormat) -> Response:
    """Every row of the list, in its order and with its columns; the values unrounded."""
    with parts.sessions() as session:
        # Before the answer begins, for it may be refused.
        first = _page(session, visitor.project, looking, limit=limits.MAX_LIST_LIMIT)
    rows = _rows(parts, visitor.project, looking, first)
    headers = {"content-disposition": f'attachment; filename="jobs.{form}"'}
    if form is ExportFormat.CSV:
        return StreamingResponse(_csv(rows, looking), media_type="text/csv; charset=utf-8", headers=headers)
    return StreamingResponse(_ndjson(rows, looking), media_type="application/x-ndjson", headers=headers)


def _rows(parts: Parts, project: str, looking: Looking, found: Page[ListedJob]) -> Iterator[ListedJob]:
    """Page by page, so that an export of a million rows holds no transaction and little memory."""
    yield from found.items
    while found.next is not None:
        with parts.sessions() as session:
            found = _page(session, project, looking.beginning(found.next), limit=limits.MAX_LIST_LIMIT)
        yield from found.items


def _page(session: Session, project: str, looking: Looking, *, limit: int) -> Page[ListedJob]:
    try:
        return list_sorted(
            session,
            project=project,
            filters=looking.filters,
            sort=looking.sort,
            order=looking.order,
            limit=limit,
            after=looking.after,
        )
    except LookupError:
        place = FieldProblem(pointer="/query/after", detail="this job has no such number", code="cursor_invalid")
        raise RequestInvalid("after: this is no cursor of this list.", errors=[place]) from None


def _csv(rows: Iterator[ListedJob], looking: Looking) -> Iterator[str]:
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(["id", *(column.key for column in looking.columns)])
    for listed in rows:
        writer.writerow([listed.job.id, *(cell(_flat(column.value(listed))) for column in looking.columns)])
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
    yield buffer.getvalue()


def _flat(value: Cell) -> str | int | float | datetime | None:
    if isinstance(value, str | int | float | datetime) or value is None:
        return value
    return " ".join(f"{key}:{text}" for key, text in value.items())


def _ndjson(rows: Iterator[ListedJob], looking: Looking) -> Iterator[str]:
    for listed in rows:
        told = {"id": listed.job.id} | {column.key: _plain(column.value(listed)) for column in looking.columns}
        yield json.dumps(told, ensure_ascii=False) + "\n"


def _plain(value: Cell) -> object:
    return cell(value) if isinstance(value, datetime) else value
