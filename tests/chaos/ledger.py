"""What a deployment holds when everything is over: counted in its database and its blob store, not asked of its API."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field

from sqlalchemy import func, select, union

from saddlescope.contract.vocabulary import JobStatus
from store import tables
from store.blobs import BlobStore, open_blobs
from store.garbage import unnamed_blobs
from tests.chaos.site import Site
from workers import garbage
from workers.launcher import ForkServer
from workers.metrics import WorkerMetrics
from workers.settings import WorkerSettings
from workers.stopping import Stop
from workers.workshop import Workshop


@dataclass
class Ledger:
    jobs: int
    finished: int
    """Jobs that succeeded."""
    stuck: int
    """Jobs in a state that has a way out."""
    reports: int
    told_once: int
    """Jobs whose history has exactly one end."""
    attempts: Counter[int]
    """How many jobs took so many."""
    states_left: int
    blobs: int
    swept: int
    """Blobs of writers that were killed before their row was written; the garbage duty has deleted them."""
    blobs_without_row: int
    rows_without_blob: int
    kills: Counter[str] = field(default_factory=Counter)
    gave_up: Counter[str] = field(default_factory=Counter)
    """Parts that ended by themselves because another one was away when they were started."""
    verdicts_right: int = 0

    def lines(self) -> list[str]:
        rows = {name: value for name, value in vars(self).items() if not isinstance(value, Counter)}
        rows |= {f"jobs with {number} attempts": count for number, count in sorted(self.attempts.items())}
        rows |= {f"kills: {kind}": count for kind, count in sorted(self.kills.items())}
        rows |= {f"gave up: {part}": count for part, count in sorted(self.gave_up.items())}
        return [f"  {name.replace('_', ' '):<28}{value:>6}" for name, value in rows.items()]

    def assert_whole(self, num_jobs: int) -> None:
        """Each job has ended well, once, with the right verdict, and the stores agree with each other."""
        story = "\n".join(self.lines())
        assert self.jobs == self.finished == self.reports == self.told_once == self.verdicts_right == num_jobs, story
        assert self.stuck == self.states_left == self.blobs_without_row == self.rows_without_blob == 0, story


def audit(site: Site) -> Ledger:
    """Do the garbage duties as if a day had passed, and count; no worker may be at work."""
    blobs = open_blobs(site.blobs_url)
    before = len(_stored(blobs))
    shop = _shop(site, blobs)
    garbage.drop_saved_runs(shop)
    garbage.drop_blobs(shop, older_than_seconds=0)
    stored = _stored(blobs)
    ends = [f"job.{status.value}" for status in JobStatus if status.is_terminal]
    with site.sessions() as session:
        statuses = Counter(map(JobStatus, session.scalars(select(tables.Job.status))))
        told = Counter(session.scalars(select(tables.Event.job_id).where(tables.Event.type.in_(ends))))
        columns = (
            tables.Artifact.id,
            tables.SavedRun.blob,
            tables.StoredReport.spectrum_blob,
            tables.StoredReport.landscape_blob,
            tables.EscapeVector.blob,
        )
        named = set(session.scalars(union(*(select(column).where(column.is_not(None)) for column in columns))))
        unnamed = {blob for blob in stored if unnamed_blobs(session, [blob])}
        return Ledger(
            jobs=statuses.total(),
            finished=statuses[JobStatus.SUCCEEDED],
            stuck=sum(count for status, count in statuses.items() if not status.is_terminal),
            reports=session.scalars(select(func.count()).select_from(tables.StoredReport)).one(),
            told_once=list(told.values()).count(1),
            attempts=Counter(session.scalars(select(tables.Job.attempt))),
            states_left=session.scalars(select(func.count()).select_from(tables.SavedRun)).one(),
            blobs=len(stored),
            swept=before - len(stored),
            blobs_without_row=len(unnamed),
            rows_without_blob=len(named - stored),
        )


def _stored(blobs: BlobStore) -> set[str]:
    return {blob.id for blob in blobs.walk()}


def _shop(site: Site, blobs: BlobStore) -> Workshop:
    """What a housekeeper works with."""
    return Workshop(
        name="auditor",
        queues=("cpu",),
        settings=WorkerSettings(database_url="unused", broker_url="unused", blobs_url="unused"),
        sessions=site.sessions,
        blobs=blobs,
        fork_server=ForkServer(device="cpu"),
        scratch=site.folder,
        stop=Stop(),
        metrics=WorkerMetrics(num_slots=1),
        traces=None,
        slots=threading.Semaphore(1),
    )
