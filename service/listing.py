"""`/v1/jobs`, its exports, and `/v1/runs`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response
from pydantic import AwareDatetime, BeforeValidator

from saddlescope.contract import limits
from saddlescope.contract.jobs import Job
from saddlescope.contract.problems import FieldProblem
from saddlescope.contract.strict import Closed
from saddlescope.contract.vocabulary import JobStatus, Verdict
from service.access import Reader
from service.parts import Parts, PartsOf
from service.problems import RequestInvalid
from service.views import base_of, job_view, validated_json
from store.jobs import Cursor, JobFilters, Order, Page, list_jobs
from store.records import JobRow

router = APIRouter(tags=["jobs"])
Text = Annotated[str, Query(max_length=limits.MAX_NAME_CHARS, pattern=r"^[^\x00]*$")]
# The pattern is described only: what is not of this form is told in our own words.
Label = Annotated[Text, Query(json_schema_extra={"pattern": r"^[^\x00]*:[^\x00]*$"})]
_EXPORT_PAGE = limits.MAX_LIST_LIMIT
_MAX_RUNS = 500
_MAX_RUN_POINTS = 5_000
MAX_LABEL_FILTERS = 16


def _written(moment: str) -> str:
    """Raises ValueError for the seconds since 1970 that pydantic takes as well."""
    if ":" not in moment:
        raise ValueError("write a moment as 2026-01-31T12:00:00Z")
    return moment


Moment = Annotated[AwareDatetime, BeforeValidator(_written)]


class JobList(Closed):
    object: Literal["list"] = "list"
    data: tuple[Job, ...]
    has_more: bool
    next: str | None


async def _filters(
    status: JobStatus | None = None,
    verdict: Verdict | None = None,
    run: Text | None = None,
    label: Annotated[list[Label] | None, Query(max_length=MAX_LABEL_FILTERS, description="`key:value`")] = None,
    created_after: Moment | None = None,
) -> JobFilters:
    return JobFilters(
        status=status,
        verdict=verdict,
        run=run,
        labels=parsed_labels(label or ()),
        created_after=storable(created_after),
    )


def parsed_labels(pairs: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Raises RequestInvalid unless each is `key:value`."""
    labels = []
    for pair in pairs:
        key, colon, value = pair.partition(":")
        if not colon:
            place = FieldProblem(pointer="/query/label", detail="write label=key:value", code="label_invalid")
            raise RequestInvalid("label: write label=key:value.", errors=[place])
        labels.append((key, value))
    return tuple(labels)


def storable(moment: datetime | None) -> datetime | None:
    """As it is where there are jobs; beyond, where databases and time zones reach less far, as good as it is."""
    if moment is None:
        return None
    return min(max(moment.replace(tzinfo=None), datetime(1970, 1, 2)), datetime(9998, 1, 1)).replace(
        tzinfo=moment.tzinfo
    )


async def _cursor(
    after: Annotated[
        str | None,
        Query(
            description="`next` of the page before.",
            json_schema_extra={"anyOf": [{"type": "string", "pattern": "^job_[0-9a-f]{32}$"}]},
        ),
    ] = None,
) -> Cursor | None:
    return None if after is None else parsed_cursor(after)


def parsed_cursor(after: str) -> Cursor:
    """Raises RequestInvalid unless it is one."""
    try:
        return Cursor(after)
    except ValueError as wrong:
        place = FieldProblem(pointer="/query/after", detail=str(wrong), code="cursor_invalid")
        raise RequestInvalid("after: this is no cursor of this list.", errors=[place]) from None


Filters = Annotated[JobFilters, Depends(_filters)]
After = Annotated[Cursor | None, Depends(_cursor)]
Limit = Annotated[int, Query(ge=1, le=limits.MAX_LIST_LIMIT)]


@router.get("/v1/jobs", response_model=JobList)
def get_jobs(
    *,
    request: Request,
    parts: PartsOf,
    principal: Reader,
    filters: Filters,
    after: After,
    limit: Limit = limits.DEFAULT_LIST_LIMIT,
    order: Order = Order.NEWEST_FIRST,
) -> Response:
    """The project's jobs by creation. `next`, also in the `Link` header, is the cursor of the next page."""
    page = page_of(parts, principal.project, filters, limit=limit, after=after, order=order)
    base = base_of(request)
    listed = JobList(
        data=tuple(job_view(row, base) for row in page.items),
        has_more=page.has_more,
        next=None if page.next is None else page.next.job_id,
    )
    headers = {} if page.next is None else {"link": f'<{next_url(request, page.next)}>; rel="next"'}
    return validated_json(request, listed.model_dump_json(), headers)


def page_of(
    parts: Parts, project: str, filters: JobFilters, *, limit: int, after: Cursor | None, order: Order
) -> Page[JobRow]:
    with parts.glances() as session:
        return list_jobs(session, project=project, filters=filters, limit=limit, after=after, order=order)


def next_url(request: Request, cursor: Cursor) -> str:
    query = [(key, value) for key, value in request.query_params.multi_items() if key != "after"]
    return f"{base_of(request)}{request.url.path}?{urlencode([*query, ('after', cursor.job_id)])}"
