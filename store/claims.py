"""Who gets which job: the best eligible one, in one guarded UPDATE.

By priority first; among equal priorities by fair share between projects: fewest running jobs, then longest without a
start; then oldest. A project that floods the queue therefore delays another by one job at most. A job that needs more
memory than the worker has is left for a worker that has it, and stands in nobody's way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from pydantic import JsonValue
from sqlalchemy import Executable, ScalarSelect, Select, func, or_, select, update
from sqlalchemy.orm import Session, aliased
from sqlalchemy.sql.functions import coalesce

from saddlescope.contract.limits import LEASE_SECONDS
from saddlescope.contract.vocabulary import JobStatus
from store.events import append_event
from store.moments import now, seconds_from_now
from store.records import Claim
from store.saved_runs import find_saved_run
from store.tables import Attempt, Job, Project
from store.transitions import Guard


@dataclass(frozen=True)
class Capacity:
    """What a worker serves; `memory_bytes` is what one of its jobs may take, None if nobody knows."""

    queues: tuple[str, ...]
    memory_bytes: int | None = None


@dataclass(frozen=True)
class Turn:
    """Who claims, and for how long at first."""

    capacity: Capacity
    worker: str
    lease_seconds: float


def claim_job(
    session: Session,
    *,
    job_id: str | None,
    queues: Sequence[str],
    worker: str,
    memory_bytes: int | None = None,
    lease_seconds: float = LEASE_SECONDS,
) -> Claim | None:
    """Take the job named if it may run now, else the best one; None if none may."""
    turn = Turn(Capacity(tuple(queues), memory_bytes), worker, lease_seconds)
    is_alone = session.get_bind().dialect.name == "sqlite"
    if job_id is not None:
        named = select(Job.id).where(Job.id == job_id, *_eligible(Job, turn.capacity)).with_for_update(skip_locked=True)
        claim = _take(session, _claiming(named.scalar_subquery(), turn), worker)
        if claim is not None:
            return claim
    return _take(session, _claiming_best(turn, is_alone=is_alone), worker)


@lru_cache(maxsize=64)
def _claiming_best(turn: Turn, *, is_alone: bool) -> Executable:
    """The statement is a page of SQL: a worker builds it once. `is_alone`: the database has one writer at a time."""
    best: ScalarSelect[str] | coalesce[str] = _fairest(turn.capacity).scalar_subquery()
    if not is_alone:
        # Other workers may hold the first choice of every project at this moment: then any job is fair.
        best = coalesce(best, _any(turn.capacity).scalar_subquery())
    return _claiming(best, turn)


def _eligible(job: type[Job], capacity: Capacity) -> tuple[Guard, ...]:
    fits: tuple[Guard, ...] = ()
    if capacity.memory_bytes is not None:
        fits = (or_(job.memory_bytes.is_(None), job.memory_bytes <= capacity.memory_bytes),)
    # One value is compared by `=`: then the index is read in the order of the claim, and its first entry is the answer.
    (only, *others) = capacity.queues
    queue = job.queue.in_(capacity.queues) if others else job.queue == only
    return (
        job.status == JobStatus.QUEUED,
        queue,
        job.not_before <= now(),
        or_(job.deadline_at.is_(None), job.deadline_at > now()),
        *fits,
    )


def _fairest(capacity: Capacity) -> Select[str]:
    """The first choice of each project, the one whose project is next in turn first: some probes of an index a project."""
    mine, top, running, started = aliased(Job), aliased(Job), aliased(Job), aliased(Job)
    highest = (
        select(top.priority)
        .where(top.project == Project.name, *_eligible(top, capacity))
        .order_by(top.priority.desc())
        .limit(1)
        .correlate(Project)
        .scalar_subquery()
    )
    first = (
        select(mine.id)
        .where(mine.project == Project.name, mine.priority == highest, *_eligible(mine, capacity))
        .order_by(mine.id)
        .limit(1)
        .correlate(Project)
        .scalar_subquery()
    )
    num_running = (
        select(func.count())
        .select_from(running)
        .where(running.project == Project.name, running.status == JobStatus.RUNNING)
        .correlate(Project)
        .scalar_subquery()
    )
    last_start = (
        select(func.max(started.started_at)).where(started.project == Project.name).correlate(Project).scalar_subquery()
    )
    return (
        select(Job.id)
        .select_from(Project)
        .join(Job, Job.id == first)
        # Still queued once its row is locked, in words that no index answers: SQLite would begin with all queued jobs.
        .where(Job.finished_at.is_(None), Job.lease_until.is_(None))
        .order_by(Job.priority.desc(), num_running, last_start.asc().nulls_first(), Job.id)
        .limit(1)
        .with_for_update(of=Job, skip_locked=True)
    )


def _any(capacity: Capacity) -> Select[str]:
    return (
        select(Job.id)
        .where(*_eligible(Job, capacity))
        .order_by(Job.priority.desc(), Job.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )


def _claiming(best: ScalarSelect[str] | coalesce[str], turn: Turn) -> Executable:
    return (
        update(Job)
        .where(Job.id == best, Job.status == JobStatus.QUEUED)
        .values(
            status=JobStatus.RUNNING,
            fence=Job.fence + 1,
            attempt=Job.attempt + 1,
            worker=turn.worker,
            started_at=now(),
            lease_until=seconds_from_now(turn.lease_seconds),
            waiting_because=None,
        )
        .returning(
            Job.id,
            Job.project,
            Job.fence,
            Job.attempt,
            Job.request,
            Job.deadline_at,
            Job.traceparent,
            now().label("moment"),
        )
        .execution_options(synchronize_session=False)
    )


def _take(session: Session, claiming: Executable, worker: str) -> Claim | None:
    taken = session.execute(claiming).one_or_none()
    if taken is None:
        return None
    # Only a job that ran before can have left a state.
    saved = find_saved_run(session, taken.id) if taken.fence > 1 else None
    claim = Claim(
        job_id=taken.id,
        project=taken.project,
        fence=taken.fence,
        attempt=taken.attempt,
        request=taken.request,
        deadline_at=taken.deadline_at,
        seconds_left=None if taken.deadline_at is None else (taken.deadline_at - taken.moment).total_seconds(),
        traceparent=taken.traceparent,
        worker=worker,
        saved=saved,
    )
    session.add(Attempt(job_id=claim.job_id, fence=claim.fence, number=claim.attempt, worker=worker))
    told: dict[str, JsonValue] = {"attempt": claim.attempt, "worker": worker}
    if saved is not None:
        told["saved_matvecs"] = saved.matvecs
    append_event(session, claim.job_id, "job.started", told)
    return claim
