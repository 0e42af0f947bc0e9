"""Two to eight jobs side by side: where they differ, their spectra, and how nearly their ways out are parallel."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from saddlescope.contract.jobs import JobRequest
from service.access import Visitor
from service.charts import overlay_chart
from service.differences import compared
from service.directions import TooLarge, alignments, check_size
from service.jobs import job_or_404
from service.pages.figures import Figure, figures
from service.parts import Parts, PartsOf
from service.rendering import page
from service.results import read_spectrum
from service.svg import Picture
from store.jobs import find_request
from store.records import JobRow
from store.reports import StoredReport, find_report

router = APIRouter(include_in_schema=False)
FEWEST, MOST = 2, 8
# Of two jobs all directions are compared; of more the steepest of each.
_DIRECTIONS_OF_TWO = 8


@dataclass(frozen=True)
class Compared:
    """One job of the comparison."""

    job: JobRow
    stored: StoredReport | None
    asked: JobRequest | None


@dataclass(frozen=True)
class Alignment:
    """|cos| between directions, each named by its job's number in the comparison and its own."""

    names: tuple[tuple[int, int], ...]
    cosines: tuple[tuple[float | None, ...], ...]
    refused: str | None = None


@router.get("/compare")
def compare_page(
    request: Request,
    parts: PartsOf,
    visitor: Visitor,
    job: Annotated[list[str] | None, Query(max_length=64)] = None,
    all: bool = False,  # noqa: A002 - the field's plain name
) -> HTMLResponse:
    """The jobs that the address names; with fewer or more than can be compared, how to choose them."""
    ids = list(dict.fromkeys(job or ()))
    if not FEWEST <= len(ids) <= MOST:
        return page(request, "compare.html", jobs=[], num_chosen=len(ids), fewest=FEWEST, most=MOST)
    jobs = [_compared(parts, visitor.project, job_id) for job_id in ids]
    rows = compared([(one.job, None if one.stored is None else one.stored.report, one.asked) for one in jobs])
    query = [("job", job_id) for job_id in ids]
    return page(
        request,
        "compare.html",
        jobs=jobs,
        rows=rows if all else [row for row in rows if row.differs],
        num_equal=sum(not row.differs for row in rows),
        shows_all=all,
        only_query="?" + urlencode(query),
        all_query="?" + urlencode([*query, ("all", "true")]),
        figures=_overlay(parts, jobs),
        alignment=_alignment(parts, jobs),
    )


def _compared(parts: Parts, project: str, job_id: str) -> Compared:
    row = job_or_404(parts, project, job_id)
    with parts.sessions() as session:
        return Compared(
            row,
            find_report(session, project=project, job_id=job_id),
            find_request(session, project=project, job_id=job_id),
        )


def _overlay(parts: Parts, jobs: list[Compared]) -> list[Figure]:
    measured = [(one.job.id, one.stored) for one in jobs if one.stored is not None]
    key = [part for job_id, stored in measured for part in (job_id, stored.spectrum_blob)]
    return figures("Spectra", parts.drawn.pictures("overlay", *key, draw=partial(_drawn, parts, measured)))


def _drawn(parts: Parts, measured: list[tuple[str, StoredReport]]) -> list[Picture | None]:
    return [overlay_chart([(job_id[-8:], read_spectrum(parts, stored, job_id)) for job_id, stored in measured])]


def _alignment(parts: Parts, jobs: list[Compared]) -> Alignment | None:
    """None where there are no two directions."""
    most = _DIRECTIONS_OF_TWO if len(jobs) == FEWEST else 1
    chosen = [
        ((place, number), blob)
        for place, one in enumerate(jobs, start=1)
        if one.stored is not None
        for number, blob in enumerate(one.stored.escape_blobs[:most])
    ]
    names = tuple(name for name, _ in chosen)
    if len({place for place, _ in names}) < FEWEST:
        return None
    try:
        check_size(parts, [blob for _, blob in chosen])
    except TooLarge as told:
        return Alignment(names, (), f"The directions are too large to compare on a page: {told}.")
    except FileNotFoundError:
        return Alignment(names, (), "The vectors are gone from the blob store; run the jobs again.")
    with ExitStack() as files:
        cosines = alignments([files.enter_context(parts.blobs.open(blob)) for _, blob in chosen])
    return Alignment(names, tuple(tuple(row) for row in cosines))
