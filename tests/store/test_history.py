"""Laws of events and runs, held on both databases."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from saddlescope.contract.reports import Report
from store import tables
from store.blobs import Blob
from store.events import append_event, event_number, list_events
from store.queue import claim_job, finish_succeeded
from store.records import JobRow
from store.runs import list_runs, name_runs, run_points

Sessions = sessionmaker[Session]
Submit = Callable[..., JobRow]


def test_a_reader_who_resumes_sees_every_event_once_and_in_order(sessions: Sessions, submit: Submit) -> None:
    job = submit()

    def append(writer: int) -> None:
        for number in range(15):
            with sessions.begin() as session:
                append_event(session, job.id, "job.progress", {"writer": writer, "number": number})

    seen: list[tuple[str, int]] = []
    last = ""
    with ThreadPoolExecutor(3) as pool:
        writers = [pool.submit(append, writer) for writer in range(3)]
        while len(seen) < 46:
            finished = all(writer.done() for writer in writers)
            with sessions() as session:
                fresh = list_events(session, job.id, event_number(session, job.id, last))
            last = fresh[-1].id if fresh else last
            seen += [event.id for event in fresh]
            if finished and not fresh:
                break
        for writer in writers:
            writer.result()
    with sessions() as session:
        assert seen == [event.id for event in list_events(session, job.id)]
        assert sorted(session.scalars(select(tables.Event.number))) == list(range(1, 47))


def test_an_event_of_another_job_is_no_place_to_resume_from(sessions: Sessions, submit: Submit) -> None:
    job, other = submit(), submit()
    with sessions() as session:
        foreign = list_events(session, other.id)[0].id
        assert event_number(session, job.id, foreign) == 0


def test_a_run_is_its_jobs_by_step_with_their_numbers(sessions: Sessions, submit: Submit, report: Report) -> None:
    for step in (300, 100, None, 200):
        submit(of={"run": {"id": "mlp", "step": step, "name": "MLP"}})
    submit(of={"run": {"id": "other"}})
    submit(project="foreign", of={"run": {"id": "mlp", "step": 1}})
    submit()
    with sessions.begin() as session:
        held = claim_job(session, job_id=None, queues=["cpu"], worker="w")
        blobs = [Blob("sha256:" + letter * 64, 1) for letter in "ab"]
        finish_succeeded(
            session,
            held,
            report=report,
            spectrum_blob=blobs[0],
            landscape_blob=None,
            escape_blobs=blobs[1:],
            usage=None,
        )
    with sessions() as session:
        runs = list_runs(session, project="default", limit=10)
        assert [(run.id, run.name, run.num_jobs, run.last_step) for run in runs] == [
            ("other", None, 1, None),
            ("mlp", "MLP", 4, 300),
        ]
        assert len(list_runs(session, project="default", limit=1)) == 1
        assert [(run.id, run.name) for run in name_runs(session, project="default", limit=10)] == [
            ("other", None),
            ("mlp", "MLP"),
        ]
        points = run_points(session, project="default", run="mlp", limit=10)
        assert [point.step for point in points] == [100, 200, 300, None]
        numbers = points[2].numbers
        assert (numbers.loss, numbers.gradient_norm, numbers.minimum_ratio) == (1.0, 0.25, 0.5)
        assert (numbers.lambda_min, numbers.lambda_max) == (-2.0, 2.0)
        assert points[0].numbers is None
        latest = run_points(session, project="default", run="mlp", limit=3)
        assert [point.step for point in latest] == [200, 300, None]
