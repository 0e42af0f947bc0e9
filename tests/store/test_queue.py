"""Laws of the state machine, held on both databases: who gets a job, who loses it, and that an end is an end."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from itertools import pairwise

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session, sessionmaker

from saddlescope.contract.jobs import Partial, Progress, Usage
from saddlescope.contract.reports import Report
from saddlescope.contract.vocabulary import FailureCode, JobStatus, Stage
from store import queue, tables
from store.attempts import list_attempts
from store.blobs import Blob
from store.database import database_now
from store.events import EventRow, list_events
from store.jobs import find_job
from store.moments import seconds_from_now
from store.queue import (
    Claim,
    Instruction,
    claim_job,
    finish_failed,
    finish_succeeded,
    heartbeat,
    release,
    requeue_lapsed,
)
from store.records import JobRow
from store.reports import find_report

Sessions = sessionmaker[Session]
Submit = Callable[..., JobRow]

SPECTRUM = Blob("sha256:" + "a" * 64, 10)
VECTOR = Blob("sha256:" + "b" * 64, 20)
STEPS = ["claim"] * 5 + ["succeed", "fail", "retry", "retry", "cancel", "cancelled", "release", "lapse"]
USAGE = Usage(seconds=1.5, matvecs=2, peak_memory_bytes=3, device="cpu")


def claim(
    sessions: Sessions, *, job_id: str | None = None, lease_seconds: float = 60, worker: str = "w"
) -> Claim | None:
    with sessions.begin() as session:
        return claim_job(session, job_id=job_id, queues=["cpu"], worker=worker, lease_seconds=lease_seconds)


def claimed(sessions: Sessions, *, lease_seconds: float = 60) -> Claim:
    taken = claim(sessions, lease_seconds=lease_seconds)
    assert taken is not None
    return taken


def state(sessions: Sessions, job_id: str) -> JobRow:
    with sessions() as session:
        job = find_job(session, project="default", job_id=job_id)
    assert job is not None
    return job


def event_types(sessions: Sessions, job_id: str) -> list[str]:
    with sessions() as session:
        return [event.type for event in list_events(session, job_id)]


def last_event(sessions: Sessions, job_id: str) -> EventRow:
    with sessions() as session:
        return list_events(session, job_id)[-1]


def succeed(session: Session, held: Claim, report: Report) -> bool:
    return finish_succeeded(
        session, held, report=report, spectrum_blob=SPECTRUM, landscape_blob=None, escape_blobs=[VECTOR], usage=USAGE
    )


def fail(sessions: Sessions, held: Claim, *, retryable: bool) -> bool:
    with sessions.begin() as session:
        return finish_failed(session, held, code=FailureCode.INTERNAL, detail="broken", retryable=retryable)


def rest(sessions: Sessions) -> None:
    """Let every backoff be over."""
    with sessions.begin() as session:
        session.execute(update(tables.Job).values(not_before=seconds_from_now(-1)))


def test_threads_that_claim_at_once_never_get_the_same_job(sessions: Sessions, submit: Submit) -> None:
    jobs = {submit().id for _ in range(50)}

    start = threading.Barrier(2)

    def take_half(worker: str) -> list[str | None]:
        start.wait()
        claims = [claim(sessions, worker=worker) for _ in range(25)]
        return [None if one is None else one.job_id for one in claims]

    with ThreadPoolExecutor(2) as pool:
        shares = list(pool.map(take_half, ["one", "two"]))
    assert Counter(shares[0] + shares[1]) == Counter(jobs)  # and nobody goes away empty-handed while there are any


def test_the_best_job_is_the_highest_priority_then_the_oldest(sessions: Sessions, submit: Submit) -> None:
    jobs = [submit(of={"priority": priority}) for priority in (0, 5, -5, 5, 0)]
    order = [claimed(sessions).job_id for _ in jobs]
    assert order == [jobs[i].id for i in (1, 3, 0, 4, 2)]
    assert claim(sessions) is None


def test_a_named_job_is_taken_first_and_another_when_it_is_gone(sessions: Sessions, submit: Submit) -> None:
    first, named = submit(of={"priority": 9}), submit()
    assert claim(sessions, job_id=named.id).job_id == named.id
    assert claim(sessions, job_id=named.id).job_id == first.id


def test_only_the_queues_asked_for_are_served(sessions: Sessions, submit: Submit) -> None:
    submit(of={"queue": "gpu"})
    automatic = submit(of={"queue": "auto"})
    assert claimed(sessions).job_id == automatic.id
    assert claim(sessions) is None


def test_a_claim_carries_the_request_with_its_order_of_tensors(sessions: Sessions, submit: Submit) -> None:
    submit(traceparent="00-" + "1" * 32 + "-" + "2" * 16 + "-01")
    taken = claimed(sessions)
    assert list(taken.request.checkpoint.inline) == ["w2", "w1"]
    assert (taken.attempt, taken.fence, taken.project) == (1, 1, "default")
    assert taken.traceparent.startswith("00-1")


def test_a_lease_is_measured_on_the_clock_of_the_database(sessions: Sessions, submit: Submit) -> None:
    job = submit()
    with sessions() as session:
        before = database_now(session)
    claimed(sessions, lease_seconds=60)
    with sessions() as session:
        after = database_now(session)
    lease = state(sessions, job.id).lease_until
    second = timedelta(seconds=1)
    assert before + 60 * second - second / 100 <= lease <= after + 60 * second + second / 100


def test_a_heartbeat_renews_the_lease_and_publishes_progress(sessions: Sessions, submit: Submit) -> None:
    job = submit()
    held = claimed(sessions, lease_seconds=-1)
    stamp = datetime.fromisoformat("2026-01-02T03:04:05.678+00:00")
    progress = Progress(stage=Stage.LANCZOS, fraction=0.5, matvecs=7, eta_seconds=3.0, updated_at=stamp)
    with sessions.begin() as session:
        assert heartbeat(session, held, progress=progress, partial=Partial(lambda_min=-0.5)) is Instruction.CONTINUE
    with sessions.begin() as session:
        assert heartbeat(session, held, progress=None, partial=None) is Instruction.CONTINUE
        assert requeue_lapsed(session) == []
        moment = database_now(session)
    row = state(sessions, job.id)
    assert row.progress.model_copy(update={"updated_at": stamp}) == progress
    assert abs(row.progress.updated_at - moment) < timedelta(seconds=5)  # whatever the worker's clock says
    assert row.partial == Partial(lambda_min=-0.5)


def test_progress_enters_the_history_at_each_stage_and_each_tenth(sessions: Sessions, submit: Submit) -> None:
    job = submit()
    held = claimed(sessions)
    stamp = datetime.fromisoformat("2026-01-02T03:04:05+00:00")
    for stage in (Stage.PREFLIGHT, Stage.LANCZOS):
        for hundredth in range(101):
            progress = Progress(stage=stage, fraction=hundredth / 100, matvecs=0, updated_at=stamp)
            with sessions.begin() as session:
                heartbeat(session, held, progress=progress, partial=None)
    assert event_types(sessions, job.id).count("job.progress") == 22


def test_success_stores_state_report_usage_and_event_together(
    sessions: Sessions, submit: Submit, report: Report
) -> None:
    job = submit()
    with sessions.begin() as session:
        assert find_report(session, project="default", job_id=job.id) is None
    held = claimed(sessions)
    with sessions.begin() as session:
        assert succeed(session, held, report)
    row = state(sessions, job.id)
    assert (row.status, row.verdict, row.usage, row.lease_until) == (JobStatus.SUCCEEDED, report.verdict, USAGE, None)
    assert row.finished_at >= row.started_at >= row.created_at
    assert event_types(sessions, job.id) == ["job.queued", "job.started", "job.succeeded"]
    with sessions() as session:
        stored = find_report(session, project="default", job_id=job.id)
        assert find_report(session, project="other", job_id=job.id) is None
    assert stored.report.job == job.id
    assert stored.report.escapes[0].vector == VECTOR.id
    assert (stored.spectrum_blob, stored.landscape_blob, stored.escape_blobs) == (SPECTRUM.id, None, (VECTOR.id,))


def test_a_success_that_is_rolled_back_leaves_the_job_running(
    sessions: Sessions, submit: Submit, report: Report
) -> None:
    job = submit()
    held = claimed(sessions)
    with pytest.raises(ValueError, match="0 vectors for 1 escapes"), sessions.begin() as session:
        finish_succeeded(
            session, held, report=report, spectrum_blob=SPECTRUM, landscape_blob=None, escape_blobs=[], usage=USAGE
        )
    assert state(sessions, job.id).status is JobStatus.RUNNING
    assert event_types(sessions, job.id) == ["job.queued", "job.started"]


def test_a_zombie_changes_nothing(sessions: Sessions, submit: Submit, report: Report) -> None:
    job = submit()
    zombie = claimed(sessions, lease_seconds=-1)
    with sessions.begin() as session:
        assert requeue_lapsed(session) == [job.id]
    rest(sessions)
    heir = claimed(sessions)
    assert heir.fence > zombie.fence
    before, history = state(sessions, job.id), event_types(sessions, job.id)
    with sessions.begin() as session:
        assert heartbeat(session, zombie, progress=None, partial=None) is Instruction.LOST
        assert not succeed(session, zombie, report)
        assert not finish_failed(session, zombie, code=FailureCode.CRASHED, detail="", retryable=False)
        assert not finish_failed(session, zombie, code=FailureCode.WORKER_LOST, detail="", retryable=True)
        assert not queue.finish_cancelled(session, zombie)
        assert not release(session, zombie)
        assert find_report(session, project="default", job_id=job.id) is None
    assert state(sessions, job.id) == before
    assert event_types(sessions, job.id) == history
    with sessions.begin() as session:
        assert succeed(session, heir, report)


def test_a_retryable_fault_waits_out_its_backoff_and_ends_after_three_attempts(
    sessions: Sessions, submit: Submit
) -> None:
    job = submit()
    for attempt, backoff in ((1, 5), (2, 15)):
        held = claimed(sessions)
        assert held.attempt == attempt
        assert fail(sessions, held, retryable=True)
        row = state(sessions, job.id)
        assert (row.status, row.started_at, row.worker) == (JobStatus.QUEUED, None, None)
        with sessions() as session:
            wait = row.not_before - database_now(session)
        assert timedelta(seconds=backoff - 2) < wait <= timedelta(seconds=backoff)
        assert claim(sessions) is None
        rest(sessions)
    assert fail(sessions, claimed(sessions), retryable=True)
    row = state(sessions, job.id)
    assert (row.status, row.attempt, row.error.code) == (JobStatus.FAILED, 3, FailureCode.INTERNAL)
    with sessions() as session:
        attempts = session.scalars(select(tables.Attempt).order_by(tables.Attempt.fence)).all()
    assert [(attempt.number, attempt.outcome) for attempt in attempts] == [(n, "internal") for n in (1, 2, 3)]
    assert all(attempt.finished_at is not None for attempt in attempts)


def test_a_fault_of_the_request_is_not_tried_again(sessions: Sessions, submit: Submit) -> None:
    job = submit()
    held = claimed(sessions)
    with sessions.begin() as session:
        assert finish_failed(
            session, held, code=FailureCode.LOSS_INVALID, detail="no such name: w\0", retryable=False, pointer="/loss"
        )
    error = state(sessions, job.id).error
    assert (error.code, error.detail, error.pointer) == (FailureCode.LOSS_INVALID, "no such name: w\ufffd", "/loss")


def test_an_attempt_keeps_how_it_ended_and_what_its_runner_said_last(sessions: Sessions, submit: Submit) -> None:
    job = submit()
    for errors in ("Killed\0", ""):
        held = claimed(sessions)
        with sessions.begin() as session:
            assert finish_failed(
                session, held, code=FailureCode.WORKER_LOST, detail="SIGKILL", retryable=True, errors=errors
            )
        rest(sessions)
    claimed(sessions)
    with sessions() as session:
        attempts = list_attempts(session, job.id)
    assert [(one.number, one.outcome, one.detail, one.errors) for one in attempts] == [
        (1, "worker_lost", "SIGKILL", "Killed\ufffd"),
        (2, "worker_lost", "SIGKILL", None),
        (3, None, None, None),
    ]


def test_a_lease_that_lapses_at_the_last_attempt_fails_as_worker_lost(sessions: Sessions, submit: Submit) -> None:
    job = submit(max_attempts=2)
    claimed(sessions, lease_seconds=-1)
    with sessions.begin() as session:
        assert requeue_lapsed(session) == [job.id]
        assert requeue_lapsed(session) == []
    rest(sessions)
    claimed(sessions, lease_seconds=-1)
    with sessions.begin() as session:
        assert requeue_lapsed(session) == []
    row = state(sessions, job.id)
    assert (row.status, row.error.code) == (JobStatus.FAILED, FailureCode.WORKER_LOST)


def test_a_released_job_is_queued_at_once_and_has_lost_no_attempt(sessions: Sessions, submit: Submit) -> None:
    job = submit()
    for _ in range(5):
        held = claimed(sessions)
        assert held.attempt == 1
        with sessions.begin() as session:
            assert release(session, held)
    assert state(sessions, job.id).attempt == 0
    assert event_types(sessions, job.id)[-1] == "job.released"


def test_cancel_ends_a_queued_job_at_once_and_is_idempotent(sessions: Sessions, submit: Submit) -> None:
    job = submit()
    for _ in range(2):
        with sessions.begin() as session:
            cancelled = queue.request_cancel(session, project="default", job_id=job.id)
        assert cancelled.status is JobStatus.CANCELLED
    assert event_types(sessions, job.id) == ["job.queued", "job.cancelled"]
    assert claim(sessions) is None
    with sessions.begin() as session:
        assert queue.request_cancel(session, project="other", job_id=job.id) is None


@pytest.mark.parametrize("way", ["finish_cancelled", "finish_failed", "release", "requeue_lapsed"])
def test_a_running_job_whose_cancel_was_requested_ends_as_cancelled(
    sessions: Sessions, submit: Submit, way: str
) -> None:
    job = submit()
    held = claimed(sessions)
    for _ in range(2):
        with sessions.begin() as session:
            row = queue.request_cancel(session, project="default", job_id=job.id)
        assert row.status is JobStatus.RUNNING
        assert row.cancel_requested_at is not None
    with sessions.begin() as session:
        assert heartbeat(session, held, progress=None, partial=None, lease_seconds=-1) is Instruction.CANCEL
    with sessions.begin() as session:
        match way:
            case "finish_cancelled":
                assert queue.finish_cancelled(session, held, usage=USAGE)
            case "finish_failed":
                assert finish_failed(session, held, code=FailureCode.WORKER_LOST, detail="", retryable=True)
            case "release":
                assert release(session, held)
            case _:
                assert requeue_lapsed(session) == []
    assert state(sessions, job.id).status is JobStatus.CANCELLED
    assert event_types(sessions, job.id) == ["job.queued", "job.started", "job.cancel_requested", "job.cancelled"]


def test_a_deadline_before_the_start_fails_the_job(sessions: Sessions, submit: Submit) -> None:
    with sessions() as session:
        moment = database_now(session)
    late = submit(deadline_at=moment - timedelta(seconds=1))
    early = submit(deadline_at=moment + timedelta(hours=1))
    assert claim(sessions, job_id=late.id).job_id == early.id
    with sessions.begin() as session:
        assert queue.expire_deadlines(session) == [late.id]
        assert queue.expire_deadlines(session) == []
    row = state(sessions, late.id)
    assert (row.status, row.error.code) == (JobStatus.FAILED, FailureCode.DEADLINE_EXCEEDED)
    assert "before a worker was free" in row.error.detail
    assert last_event(sessions, late.id).data["started"] is False


def test_a_deadline_that_passes_between_two_attempts_is_told_apart_from_one_before_the_start(
    sessions: Sessions, submit: Submit
) -> None:
    job = submit()
    assert fail(sessions, claimed(sessions), retryable=True)
    with sessions.begin() as session:
        session.execute(update(tables.Job).values(deadline_at=seconds_from_now(-1)))
        assert queue.expire_deadlines(session) == [job.id]
    assert "after the job was started" in state(sessions, job.id).error.detail
    assert last_event(sessions, job.id).data["started"] is True


def test_a_claim_tells_how_long_the_deadline_is_away_on_the_clock_of_the_database(
    sessions: Sessions, submit: Submit
) -> None:
    with sessions() as session:
        moment = database_now(session)
    submit(deadline_at=moment + timedelta(hours=1))
    submit()
    timed, untimed = claimed(sessions), claimed(sessions)
    assert 3590 < timed.seconds_left <= 3600
    assert untimed.seconds_left is None


def test_a_deadline_that_passes_while_running_is_told_by_the_heartbeat(sessions: Sessions, submit: Submit) -> None:
    with sessions() as session:
        moment = database_now(session)
    job = submit(deadline_at=moment + timedelta(hours=1))
    held = claimed(sessions, lease_seconds=-1)
    with sessions.begin() as session:
        session.execute(update(tables.Job).values(deadline_at=moment - timedelta(seconds=1)))
    with sessions.begin() as session:
        assert heartbeat(session, held, progress=None, partial=None, lease_seconds=-1) is Instruction.DEADLINE
    with sessions.begin() as session:  # the worker dies before it obeys
        assert requeue_lapsed(session) == []
    row = state(sessions, job.id)
    assert (row.status, row.error.code) == (JobStatus.FAILED, FailureCode.DEADLINE_EXCEEDED)


def test_a_job_is_rung_for_until_its_message_has_left_and_again_when_it_is_stale(
    sessions: Sessions, submit: Submit
) -> None:
    job = submit()

    def pending(older_than_seconds: float, **keywords: float) -> list[str]:
        with sessions() as session:
            return [one.id for one in queue.undispatched_jobs(session, older_than_seconds, **keywords)]

    assert pending(30) == []  # its own request is about to ring
    assert pending(-1) == [job.id]
    with sessions.begin() as session:
        queue.mark_dispatched(session, job.id)
    assert pending(-1) == []
    assert pending(-1, resend_seconds=-1) == [job.id]
    assert fail(sessions, claimed(sessions), retryable=True)
    assert pending(-1) == []  # it rests
    rest(sessions)
    assert pending(-1) == [job.id]  # the message of the first attempt says nothing about the second


def act(session: Session, step: str, held: Claim, report: Report) -> bool:
    match step:
        case "succeed":
            return succeed(session, held, report)
        case "fail":
            return finish_failed(session, held, code=FailureCode.CRASHED, detail="", retryable=False)
        case "retry":
            return finish_failed(session, held, code=FailureCode.INTERNAL, detail="", retryable=True)
        case "cancelled":
            return queue.finish_cancelled(session, held)
        case _:
            return release(session, held)


def test_every_walk_through_the_machine_is_one_the_diagram_allows(
    sessions: Sessions, submit: Submit, report: Report
) -> None:
    """Random operations, by living and dead workers, against the diagram written down as a set of arrows."""
    arrows = {
        "job.queued": {"job.started", "job.cancelled", "job.failed"},
        "job.started": {
            "job.cancel_requested", "job.requeued", "job.released", "job.succeeded", "job.failed", "job.cancelled",
        },
        "job.cancel_requested": {"job.succeeded", "job.failed", "job.cancelled"},
        "job.requeued": {"job.started", "job.cancelled", "job.failed"},
        "job.released": {"job.started", "job.cancelled", "job.failed"},
        "job.succeeded": set(), "job.failed": set(), "job.cancelled": set(),
    }  # fmt: skip
    ends = {"job.succeeded": JobStatus.SUCCEEDED, "job.failed": JobStatus.FAILED, "job.cancelled": JobStatus.CANCELLED}
    chance = random.Random(20)
    jobs = [submit().id for _ in range(24)]
    claims: list[Claim] = []
    accepted: Counter[tuple[str, int]] = Counter()
    for _ in range(250):
        step = chance.choice(STEPS)
        held = chance.choice(claims) if claims else None
        with sessions.begin() as session:
            session.execute(update(tables.Job).values(not_before=seconds_from_now(-1)))
            if step == "claim":
                lease = chance.choice([60, -1])
                taken = claim_job(session, job_id=None, queues=["cpu"], worker="w", lease_seconds=lease)
                claims += [] if taken is None else [taken]
            elif step == "cancel":
                queue.request_cancel(session, project="default", job_id=chance.choice(jobs))
            elif step == "lapse":
                requeue_lapsed(session)
            elif held is not None:
                accepted[held.job_id, held.fence] += act(session, step, held, report)
    assert max(accepted.values()) == 1
    assert len({(one.job_id, one.fence) for one in claims}) == len(claims)
    for job_id in jobs:
        history = event_types(sessions, job_id)
        assert all(after in arrows[before] for before, after in pairwise(history)), history
        row = state(sessions, job_id)
        assert row.attempt == history.count("job.started") - history.count("job.released") <= 3
        running = history[-1] in ("job.started", "job.cancel_requested")
        assert row.status is ends.get(history[-1], JobStatus.RUNNING if running else JobStatus.QUEUED)
    assert {event for job_id in jobs for event in event_types(sessions, job_id)} == set(arrows)
