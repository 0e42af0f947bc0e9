"""Laws of the claim, held on both databases: whose turn it is, and what fits."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import event, update
from sqlalchemy.orm import Session, sessionmaker

from saddlescope.contract.vocabulary import FailureCode
from store import tables
from store.claims import claim_job
from store.jobs import find_job
from store.moments import seconds_from_now
from store.presence import announce_worker, retire_worker
from store.queue import finish_failed, heartbeat, release, requeue_lapsed
from store.records import Claim, JobRow
from store.waiting import explain_waiting

Sessions = sessionmaker[Session]
Submit = Callable[..., JobRow]


def claim(
    sessions: Sessions,
    *,
    memory_bytes: int | None = None,
    queues: tuple[str, ...] = ("cpu",),
    job_id: str | None = None,
) -> Claim | None:
    with sessions.begin() as session:
        return claim_job(session, job_id=job_id, queues=queues, worker="w", memory_bytes=memory_bytes)


def done(sessions: Sessions, held: Claim) -> None:
    with sessions.begin() as session:
        assert finish_failed(session, held, code=FailureCode.CRASHED, detail="", retryable=False)


def project_of_next(sessions: Sessions) -> str:
    held = claim(sessions)
    assert held is not None
    done(sessions, held)
    return held.project


def test_a_project_that_floods_the_queue_delays_another_by_one_job_at_most(sessions: Sessions, submit: Submit) -> None:
    for _ in range(30):
        submit(project="flood")
    assert project_of_next(sessions) == "flood"
    small = [submit(project="small") for _ in range(3)]
    order = [project_of_next(sessions) for _ in range(8)]
    assert order == ["small", "flood"] * len(small) + ["flood"] * 2


def test_the_project_with_the_fewest_running_jobs_is_next(sessions: Sessions, submit: Submit) -> None:
    """With many workers the slots are shared, whoever's jobs are the longer ones."""
    for project in ("a", "b", "c"):
        for _ in range(6):
            submit(project=project)
    running = [claim(sessions) for _ in range(9)]
    assert Counter(held.project for held in running if held) == {"a": 3, "b": 3, "c": 3}
    for held in running:
        if held is not None and held.project == "b":
            done(sessions, held)
    assert {held.project for held in (claim(sessions) for _ in range(3)) if held} == {"b"}


def test_priority_stands_above_the_share(sessions: Sessions, submit: Submit) -> None:
    submit(project="a")
    urgent = [submit(project="b", of={"priority": 1}) for _ in range(3)]
    taken = [claim(sessions) for _ in range(3)]
    assert [held.job_id for held in taken if held] == [job.id for job in urgent]


def test_within_a_project_and_a_priority_the_oldest_is_next(sessions: Sessions, submit: Submit) -> None:
    jobs = [(project, submit(project=project).id) for project in "abab"]
    taken = [claim(sessions) for _ in jobs]
    for project in "ab":
        mine = [held.job_id for held in taken if held and held.project == project]
        assert mine == [job for owner, job in jobs if owner == project]


def test_a_job_that_is_too_large_waits_for_a_larger_worker_and_blocks_nobody(
    sessions: Sessions, submit: Submit
) -> None:
    large = submit(memory_bytes=2**40, of={"priority": 9})
    small, unknown = submit(memory_bytes=2**20), submit()
    assert claim(sessions, memory_bytes=2**30, job_id=large.id).job_id == small.id
    assert claim(sessions, memory_bytes=2**30).job_id == unknown.id
    assert claim(sessions, memory_bytes=2**30) is None
    assert claim(sessions, memory_bytes=2**40).job_id == large.id


def test_a_worker_of_several_queues_takes_the_best_of_them(sessions: Sessions, submit: Submit) -> None:
    jobs = [submit(of={"queue": queue, "priority": priority}).id for queue, priority in (("a", 0), ("b", 2), ("c", 9))]
    assert [claim(sessions, queues=("a", "b")).job_id for _ in range(2)] == [jobs[1], jobs[0]]
    assert claim(sessions, queues=("a", "b")) is None


def test_nobody_goes_away_empty_handed_while_jobs_are_there(sessions: Sessions, submit: Submit) -> None:
    """Many workers at once, few projects: where two want the same job, one takes another."""
    jobs = [submit(project=f"p{number % 3}").id for number in range(48)]
    with ThreadPoolExecutor(4) as pool:
        taken = list(pool.map(lambda _: claim(sessions), range(48)))
    assert Counter(held.job_id for held in taken if held) == Counter(jobs)


def test_a_claim_is_the_best_of_all_by_the_slow_rule(sessions: Sessions, submit: Submit) -> None:
    """Against the rule in words, over random queues, projects, sizes and rests."""
    chance = random.Random(3)
    jobs: dict[str, JobRow] = {}
    running: Counter[str] = Counter()
    starts: dict[str, int] = {}
    resting: set[str] = set()
    for _ in range(40):
        job = submit(
            project=chance.choice("abc"),
            memory_bytes=chance.choice([None, 10, 1000]),
            of={"priority": chance.choice([0, 1]), "queue": chance.choice(["x", "y"])},
        )
        jobs[job.id] = job
        if chance.random() < 0.2:
            resting.add(job.id)
            with sessions.begin() as session:
                rest = update(tables.Job).where(tables.Job.id == job.id).values(not_before=seconds_from_now(600))
                session.execute(rest)
    for turn in range(60):
        queue, memory = chance.choice(["x", "y"]), chance.choice([None, 100])
        fitting = [
            job
            for job in jobs.values()
            if job.queue == queue and job.id not in resting and (memory is None or (job.memory_bytes or 0) <= memory)
        ]
        held = claim(sessions, queues=(queue,), memory_bytes=memory)
        if not fitting:
            assert held is None
            continue
        best = min(fitting, key=lambda job: (-job.priority, running[job.project], starts.get(job.project, -1), job.id))
        assert held is not None
        assert held.job_id == best.id
        del jobs[best.id]
        running[best.project] += 1
        starts[best.project] = turn
        if chance.random() < 0.5:
            running[best.project] -= 1
            done(sessions, held)


def test_no_clock_but_the_database_s_enters_what_workers_write(sessions: Sessions, submit: Submit) -> None:
    """A worker whose clock is an hour off changes nothing: no moment of its own is ever a parameter."""
    submit()
    held = None
    with sessions() as session:
        engine = session.get_bind()
    sent: list[object] = []
    event.listen(engine, "before_cursor_execute", lambda *args: sent.append(args[3]))
    for end in ("retry", "lapse", "release", "fail"):
        held = claim(sessions)
        assert held is not None
        with sessions.begin() as session:
            heartbeat(session, held, lease_seconds=-1 if end == "lapse" else 60)
            match end:
                case "retry":
                    finish_failed(session, held, code=FailureCode.INTERNAL, detail="", retryable=True)
                case "lapse":
                    requeue_lapsed(session)
                case "release":
                    release(session, held)
                case _:
                    finish_failed(session, held, code=FailureCode.CRASHED, detail="", retryable=False)
        with sessions.begin() as session:
            announce_worker(session, name="w", queues=["cpu"], device="cpu", sandbox="basic")
            session.execute(update(tables.Job).values(not_before=seconds_from_now(-1)))
    assert len(sent) > 30
    assert not [value for values in sent for value in parameters(values) if is_moment(value)]


def parameters(values: object) -> list[object]:
    return list(values.values()) if isinstance(values, dict) else list(values)


def is_moment(value: object) -> bool:
    return hasattr(value, "tzinfo") or (isinstance(value, str) and value[:4].isdigit() and value[4:5] == "-")


def test_a_job_that_fits_nobody_says_why_until_somebody_comes(sessions: Sessions, submit: Submit) -> None:
    large, foreign, small = submit(memory_bytes=2**40), submit(of={"queue": "gpu"}), submit(memory_bytes=1)

    def announce(name: str, queues: list[str], memory_bytes: int | None) -> None:
        with sessions.begin() as session:
            announce_worker(session, name=name, queues=queues, device="cpu", sandbox="basic", memory_bytes=memory_bytes)

    def reasons() -> list[str | None]:
        with sessions.begin() as session:
            explain_waiting(session)
            rows = [find_job(session, project="default", job_id=job.id) for job in (large, foreign, small)]
        return [row.waiting_because for row in rows if row]

    announce("little", ["cpu"], 2**30)
    told = reasons()
    assert told[0] is not None
    assert "1.02e+03 GiB" in told[0]
    assert told[1] is not None
    assert "no worker of the queue 'gpu'" in told[1]
    assert told[2] is None
    with sessions.begin() as session:
        assert explain_waiting(session) == []  # it is said once
    announce("big", ["cpu", "gpu"], None)
    assert reasons() == [None, None, None]
    with sessions.begin() as session:
        retire_worker(session, "big")
        assert set(explain_waiting(session)) == {large.id, foreign.id}
    held = claim(sessions, memory_bytes=2**40, job_id=large.id)
    assert held is not None
    assert held.job_id == large.id
    assert reasons()[0] is None
