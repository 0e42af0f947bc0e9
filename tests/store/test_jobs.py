"""Laws of submission and of lists, held on both databases."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.exc import NoResultFound
from sqlalchemy.orm import Session, sessionmaker

from saddlescope.contract.jobs import JobRequest
from saddlescope.contract.reports import Report, ReportWarning
from saddlescope.contract.vocabulary import Caution, JobStatus, Verdict
from store import tables
from store.blobs import Blob
from store.database import database_now
from store.events import list_events
from store.fingerprints import fingerprint
from store.idempotency import IdempotencyEntry, KeyTaken, find_idempotent, forget_keys
from store.jobs import Cursor, JobFilters, Order, find_finished_twin, find_job, find_request, insert_job, list_jobs
from store.moments import seconds_from_now
from store.queue import claim_job, finish_succeeded
from store.records import JobRow
from store.reports import find_report

Sessions = sessionmaker[Session]
Submit = Callable[..., JobRow]


def succeed(sessions: Sessions, report: Report, job_id: str) -> None:
    with sessions.begin() as session:
        held = claim_job(session, job_id=job_id, queues=["cpu"], worker="w")
        assert held is not None
        assert finish_succeeded(
            session,
            held,
            report=report,
            spectrum_blob=Blob("sha256:" + "a" * 64, 1),
            landscape_blob=None,
            escape_blobs=[Blob("sha256:" + "b" * 64, 1)],
            usage=None,
        )


def test_what_was_asked_comes_back(sessions: Sessions, submit: Submit, request_of: Callable[..., JobRequest]) -> None:
    fields: dict[str, object] = {
        "run": {"id": "mlp-7", "step": 2**63 - 1, "name": "Мульти 🚆"},
        "labels": {"team": "vision"},
        "metadata": {"z": [1, {"a": None}], "a": 0.1},
        "priority": -3,
        "queue": "gpu",
    }
    job = submit(of=fields)
    with sessions() as session:
        assert find_job(session, project="default", job_id=job.id) == job
        assert find_job(session, project="other", job_id=job.id) is None
        assert find_request(session, project="default", job_id=job.id) == request_of(**fields)
        assert find_request(session, project="other", job_id=job.id) is None
    assert (job.run.step, job.run.name, job.queue, job.priority) == (2**63 - 1, "Мульти 🚆", "gpu", -3)
    assert list(job.metadata) == ["z", "a"]
    assert (job.status, job.attempt, job.max_attempts) == (JobStatus.QUEUED, 0, 3)


def test_pages_put_together_are_the_full_sort_while_jobs_come_in(sessions: Sessions, submit: Submit) -> None:
    there = [submit().id for _ in range(23)]
    submit(project="other")
    for order in Order:
        seen: list[str] = []
        after: Cursor | None = None
        while True:
            with sessions() as session:
                page = list_jobs(session, project="default", limit=5, after=after, order=order)
            seen += [job.id for job in page.items]
            submit()  # between two pages
            assert page.has_more is (page.next is not None)
            if page.next is None or len(seen) > 100:
                break
            after = page.next
        assert len(set(seen)) == len(seen)
        assert seen == sorted(seen, reverse=order is Order.NEWEST_FIRST)
        assert set(there) <= set(seen)
        if order is Order.NEWEST_FIRST:
            assert seen == sorted(there, reverse=True)  # what is newer than the first page does not enter the next
        there = sorted({*there, *seen})


def test_the_last_page_says_so(sessions: Sessions, submit: Submit) -> None:
    for _ in range(4):
        submit()
    with sessions() as session:
        assert list_jobs(session, project="default", limit=4).next is None
        assert list_jobs(session, project="default", limit=3).has_more
        assert list_jobs(session, project="empty", limit=3).items == ()


@pytest.mark.parametrize("forged", ["", "job_1", "job_" + "g" * 32, "' OR 1=1 --", "evt_" + "0" * 32])
def test_a_forged_cursor_is_refused(forged: str) -> None:
    with pytest.raises(ValueError, match="no cursor"):
        Cursor(forged)


def test_filters_find_exactly_what_they_name(sessions: Sessions, submit: Submit, report: Report) -> None:
    awkward = {'a":b': "c'd", "a": 'b":c', "%": "_"}
    labelled = submit(of={"labels": awkward, "run": {"id": "r1", "step": 1}})
    other = submit(of={"labels": {'a":b': "C'D", "a": "x"}, "run": {"id": "r2"}})
    with sessions.begin() as session:
        session.execute(
            update(tables.Job).where(tables.Job.id == labelled.id).values(created_at=seconds_from_now(-3600))
        )
    succeed(sessions, report, labelled.id)

    def found(**filters: object) -> set[str]:
        with sessions() as session:
            page = list_jobs(session, project="default", limit=10, filters=JobFilters(**filters))
        return {job.id for job in page.items}

    assert found(labels=tuple(awkward.items())) == {labelled.id}
    assert found(labels=(("a", "x"),)) == {other.id}
    assert found(labels=(("a", "x"), ("%", "_"))) == set()
    assert found(labels=(("a", "%"),)) == set()
    assert found(status=JobStatus.SUCCEEDED) == {labelled.id}
    assert found(verdict=Verdict.SADDLE) == {labelled.id}
    assert found(verdict=Verdict.PLATEAU) == set()
    assert found(run="r2") == {other.id}
    assert found(created_after=other.created_at - timedelta(minutes=1)) == {other.id}
    assert found() == {labelled.id, other.id}


def test_labels_as_long_as_the_contract_allows_are_found(sessions: Sessions, submit: Submit) -> None:
    key, value = "🚆" * 512, "".join(chr(0x4E00 + i) for i in range(512))
    job = submit(of={"labels": {key: value}, "run": {"id": value}})
    with sessions() as session:
        filters = JobFilters(labels=((key, value),), run=value)
        assert [one.id for one in list_jobs(session, project="default", limit=2, filters=filters).items] == [job.id]


def test_a_twin_is_a_succeeded_job_of_the_same_project(sessions: Sessions, submit: Submit, report: Report) -> None:
    job = submit()

    def twin(project: str) -> str | None:
        with sessions() as session:
            found = find_finished_twin(session, project=project, fingerprint=job.fingerprint)
        return None if found is None else found.id

    assert twin("default") is None  # it has not finished
    succeed(sessions, report, job.id)
    assert twin("default") == job.id
    assert twin("other") is None


def test_a_fingerprint_sees_what_changes_the_answer_and_nothing_else(request_of: Callable[..., JobRequest]) -> None:
    asked = fingerprint(request_of(), "1")
    same = request_of(
        run={"id": "r"},
        labels={"a": "b"},
        metadata={"x": 1},
        priority=9,
        queue="gpu",
        force=True,
        callback_url="https://a.b",
    )
    assert fingerprint(same, "1") == asked
    others = [
        request_of(checkpoint={"inline": {"w2": 0.5, "w1": 1e-300}}),
        request_of(loss={"kind": "expression", "expression": "(1 - w1*w2)**4"}),
        request_of(options={"seed": 1}),
        request_of(data={"inline": {"x": [1.0]}}),
    ]
    assert len({asked, fingerprint(request_of(), "2"), *(fingerprint(other, "1") for other in others)}) == 6


def test_of_two_submissions_with_one_key_at_once_one_makes_the_job(
    sessions: Sessions, request_of: Callable[..., JobRequest]
) -> None:
    both = threading.Barrier(2)
    request = request_of()

    def post(_: int) -> str:
        both.wait()
        try:
            with sessions.begin() as session:
                entry = IdempotencyEntry(key="k", body_digest="d")
                return insert_job(session, project="default", request=request, fingerprint="f", idempotency=entry).id
        except KeyTaken:
            with sessions() as session:
                known = find_idempotent(session, project="default", key="k")
            assert known is not None
            return known.job_id or ""

    with ThreadPoolExecutor(2) as pool:
        for _ in range(10):
            first, second = pool.map(post, range(2))
            assert first == second
    with sessions() as session:
        assert session.scalar(select(func.count()).select_from(tables.Job)) == 1
        assert session.scalar(select(func.count()).select_from(tables.Event)) == 1


def test_a_key_belongs_to_a_project_and_is_free_again_after_seven_days(sessions: Sessions, submit: Submit) -> None:
    entry = IdempotencyEntry(key="k", body_digest="d")
    job = submit(idempotency=entry)
    submit(project="other", idempotency=entry)
    with sessions() as session:
        assert find_idempotent(session, project="default", key="k") == IdempotencyEntry("k", "d", job.id)
        assert find_idempotent(session, project="default", key="K") is None
    with sessions.begin() as session:
        assert forget_keys(session) == 0
        session.execute(update(tables.IdempotencyKey).values(created_at=seconds_from_now(-7 * 86_400 - 1)))
    with sessions() as session:
        assert find_idempotent(session, project="default", key="k") is None
    later = submit(idempotency=entry)
    with sessions.begin() as session:
        assert find_idempotent(session, project="default", key="k").job_id == later.id
        assert forget_keys(session) == 1  # the other project's


def test_a_question_answered_before_is_a_job_of_its_own_with_the_same_answer(
    sessions: Sessions, submit: Submit, report: Report
) -> None:
    first = submit(of={"labels": {"team": "a"}})
    succeed(sessions, report, first.id)
    with sessions() as session:
        twin = find_finished_twin(session, project="default", fingerprint=first.fingerprint)
    shared = submit(of={"run": {"id": "r", "step": 2}, "labels": {"team": "b"}}, twin=twin)
    again = submit(twin=shared)
    assert (shared.status, shared.verdict, shared.attempt, shared.usage) == (JobStatus.SUCCEEDED, "saddle", 0, None)
    assert (first.deduplicated_from, shared.deduplicated_from, again.deduplicated_from) == (None, first.id, first.id)
    assert (shared.run.step, shared.labels) == (2, {"team": "b"})
    with sessions() as session:
        theirs = find_report(session, project="default", job_id=first.id)
        ours = find_report(session, project="default", job_id=shared.id)
        events = [(event.type, event.data) for event in list_events(session, shared.id)]
        assert claim_job(session, job_id=shared.id, queues=["cpu"], worker="w") is None
    assert ours == replace(theirs, report=theirs.report.model_copy(update={"job": shared.id}))
    assert [kind for kind, _ in events] == ["job.queued", "job.succeeded"]
    assert events[0][1]["deduplicated_from"] == first.id


def test_an_answer_that_a_deadline_cut_short_is_not_shared(sessions: Sessions, submit: Submit, report: Report) -> None:
    """Nor does it hide a whole one; and a deadline that was met cut nothing."""
    with sessions() as session:
        later = database_now(session) + timedelta(hours=1)
    cut = report.model_copy(update={"warnings": (ReportWarning(code=Caution.CUT_SHORT, detail="no landscape"),)})

    def twin(job: JobRow) -> str | None:
        with sessions() as session:
            found = find_finished_twin(session, project="default", fingerprint=job.fingerprint)
        return None if found is None else found.id

    first = submit(deadline_at=later)
    succeed(sessions, cut, first.id)
    assert twin(first) is None
    whole = submit()
    succeed(sessions, report, whole.id)
    succeed(sessions, cut, submit(deadline_at=later).id)
    assert twin(first) == whole.id
    other = submit(of={"options": {"seed": 1}}, deadline_at=later)
    succeed(sessions, report, other.id)
    assert twin(other) == other.id


def test_only_a_job_that_has_answered_can_be_a_twin(sessions: Sessions, submit: Submit) -> None:
    unanswered = submit()
    with pytest.raises(NoResultFound):
        submit(twin=unanswered)
    with sessions() as session:
        assert session.scalar(select(func.count()).select_from(tables.Job)) == 1
