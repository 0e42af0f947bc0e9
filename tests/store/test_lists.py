"""Lists of jobs by their numbers, by words and by run, against sorting and looking in Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from alembic import command
from sqlalchemy import select, update
from sqlalchemy.orm import Session, sessionmaker

from saddlescope.contract.reports import Report
from saddlescope.contract.vocabulary import JobStatus, Verdict
from store.blobs import Blob
from store.database import alembic_config, migrate
from store.filters import JobFilters
from store.jobs import Order
from store.lists import SortKey, count_measured, find_measured, list_grouped, list_measured, list_sorted
from store.numbers import NUMBER_COLUMNS, REPORTS, find_numbers, number_columns
from store.queue import claim_job, finish_succeeded
from store.records import JobRow
from store.tables import StoredReport

Sessions = sessionmaker[Session]
Submit = Callable[..., JobRow]
LOSSES = (0.5, 2.0, 0.5, -1.0, 7.0)


@pytest.fixture
def measured(sessions: Sessions, submit: Submit, report: Report) -> list[str]:
    """Jobs with reports of these losses; behind them a job without one, and another project's job with one."""

    def answered(job: JobRow, loss: float) -> str:
        with sessions.begin() as session:
            claim = claim_job(session, job_id=job.id, queues=["cpu"], worker="w")
            assert claim is not None
            finish_succeeded(
                session,
                claim,
                report=report.model_copy(update={"loss": loss}),
                spectrum_blob=Blob("sha256:" + "a" * 64, 1),
                landscape_blob=None,
                escape_blobs=[Blob("sha256:" + "b" * 64, 1) for _ in report.escapes],
                usage=None,
            )
        return job.id

    jobs = [
        answered(submit(of={"run": {"id": f"run-{step % 2}", "step": step, "name": f"Wide_{step}"}}), loss)
        for step, loss in enumerate(LOSSES)
    ]
    submit(of={"labels": {"team": "vision"}, "run": {"id": "wait"}})
    answered(submit(project="foreign", of={"run": {"id": "run-0"}}), 0.5)
    return jobs


def all_pages(sessions: Sessions, sort: SortKey, order: Order, filters: JobFilters | None = None) -> list[str]:
    seen: list[str] = []
    after = None
    while True:
        with sessions() as session:
            page = list_sorted(
                session,
                project="default",
                filters=filters or JobFilters(),
                sort=sort,
                order=order,
                limit=2,
                after=after,
            )
        assert page.has_more == (page.next is not None)
        seen += [listed.job.id for listed in page.items]
        if page.next is None:
            return seen
        after = page.next


@pytest.mark.parametrize("filters", [JobFilters(), JobFilters(verdict=Verdict.SADDLE)], ids=["all", "narrowed"])
def test_pages_by_a_number_tile_the_jobs_that_have_it(
    sessions: Sessions, measured: Sequence[str], filters: JobFilters
) -> None:
    truth = sorted(zip(LOSSES, measured, strict=True))
    assert all_pages(sessions, SortKey.LOSS, Order.OLDEST_FIRST, filters) == [job for _, job in truth]
    assert all_pages(sessions, SortKey.LOSS, Order.NEWEST_FIRST, filters) == [job for _, job in reversed(truth)]


def test_a_list_by_creation_holds_jobs_without_numbers_too(sessions: Sessions, measured: Sequence[str]) -> None:
    listed = all_pages(sessions, SortKey.CREATED, Order.OLDEST_FIRST)
    assert listed[: len(measured)] == list(measured)
    assert len(listed) == len(measured) + 1


@pytest.mark.parametrize(
    ("words", "found"),
    [("run-1", [1, 3]), ("RUN-1", [1, 3]), ("un-", [0, 1, 2, 3, 4]), ("wide_4", [0, 2, 4]), ("%", []), ("a:b", [])],
)  # fmt: skip
def test_words_find_runs_by_id_and_by_their_last_name(
    sessions: Sessions, measured: Sequence[str], words: str, found: list[int]
) -> None:
    listed = all_pages(sessions, SortKey.CREATED, Order.OLDEST_FIRST, JobFilters(words=words))
    assert listed == [measured[index] for index in found]


def test_words_find_a_job_by_a_part_of_its_id_and_by_a_label(sessions: Sessions, measured: Sequence[str]) -> None:
    for part in (measured[2], measured[2][-8:], measured[2][-8:].upper()):
        assert all_pages(sessions, SortKey.CREATED, Order.OLDEST_FIRST, JobFilters(words=part)) == [measured[2]]
    (labelled,) = all_pages(sessions, SortKey.CREATED, Order.OLDEST_FIRST, JobFilters(words="team:vision"))
    assert labelled not in measured


def test_runs_are_counted_under_the_filters_and_page_by_their_newest_job(
    sessions: Sessions, measured: Sequence[str]
) -> None:
    with sessions() as session:
        first = list_grouped(session, project="default", filters=JobFilters(), limit=2)
        rest = list_grouped(session, project="default", filters=JobFilters(), limit=2, after=first.next)
        failed = list_grouped(session, project="default", filters=JobFilters(status=JobStatus.FAILED), limit=2)
    groups = [(run.id, run.num_jobs, run.last_step) for run in (*first.items, *rest.items)]
    assert groups == [("wait", 1, None), ("run-0", 3, 4), ("run-1", 2, 3)]
    assert first.items[1].newest.job.id == measured[4]
    assert first.items[1].newest.numbers is not None
    assert (first.has_more, rest.has_more, failed.items) == (True, False, ())


def test_numbers_are_those_of_the_report_also_where_an_older_process_wrote_it(
    sessions: Sessions, measured: Sequence[str], report: Report
) -> None:
    with sessions.begin() as session:
        session.execute(update(StoredReport).where(StoredReport.job_id == measured[0]).values(is_critical=None))
    with sessions() as session:
        numbers = find_numbers(session, measured)
        listed = list_measured(session, project="default", filters=JobFilters(), limit=3)
        found = find_measured(session, project="default", ids=[*reversed(measured), "job_none"])
        theirs = find_measured(session, project="foreign", ids=measured)
        total = count_measured(session, project="default", filters=JobFilters(run="run-0"))
    assert total == 3
    assert list(listed) == list(reversed(measured))[:3]
    assert {one.id: one.numbers for one in found} == numbers
    assert ([one.id for one in found], theirs) == (list(reversed(measured)), ())
    for job, loss in zip(measured, LOSSES, strict=True):
        told = numbers[job]
        assert number_columns(report.model_copy(update={"loss": loss})) == vars(told)
        assert told.index == report.inertia.negative / report.num_parameters


def test_the_upgrade_reads_the_numbers_of_reports_that_are_there(
    database_url: str, sessions: Sessions, measured: Sequence[str], report: Report
) -> None:
    command.downgrade(alembic_config(database_url), "0005")
    migrate(database_url)
    with sessions() as session:
        rows = session.execute(select(REPORTS.c.job_id, *NUMBER_COLUMNS).where(REPORTS.c.job_id == measured[1])).all()
    truth = number_columns(report.model_copy(update={"loss": LOSSES[1]}))
    assert [dict(row._mapping) for row in rows] == [{"job_id": measured[1], **truth}]
