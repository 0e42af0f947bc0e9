"""What a job takes in the database, measured: rows, bytes with all indexes, and seconds of each write.

Jobs go their whole way through the functions that service and workers use, in transactions as they make them: submitted with
labels and a run, rung for, claimed, kept alive, ended with a real report of their network's size, put into the stream of events.
"""

from __future__ import annotations

import hashlib
import itertools
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import TypeVar

import psutil
from sqlalchemy import Engine, func, select, text
from sqlalchemy.orm import Session, sessionmaker

from benchmarks.capacity import renewing
from benchmarks.capacity.engine import Analysis
from saddlescope.contract.jobs import JobRequest, Progress, Usage
from saddlescope.contract.reports import Report
from saddlescope.contract.vocabulary import Stage
from store.artifacts import record_artifact
from store.blobs import Blob
from store.database import migrate, open_engine, open_sessions
from store.feed import place_events
from store.fingerprints import fingerprint
from store.jobs import insert_job
from store.queue import Claim, Instruction, claim_job, finish_succeeded, heartbeat, mark_dispatched
from store.tables import Table

Value = TypeVar("Value")
PROJECT = "cluster"
WORKER = "worker@a-machine-of-the-cluster"
NUM_JOBS = 200
NUM_SAMPLED = 20
NUM_SHARED = 64
NUM_RENEWING = (1, 4)
# As a job of minutes leaves them: a new stage, or another tenth of the way.
STAGES = (Stage.PREFLIGHT, *(Stage.LANCZOS,) * 7, Stage.CRITICALITY, Stage.ESCAPE, Stage.LANDSCAPE)


@dataclass
class Ledger:
    """One database: rows and bytes of a job of each network, seconds of each kind of write."""

    rows: dict[str, dict[str, float]] = field(default_factory=dict)
    """By network and table; only tables that grow."""
    job_bytes: dict[str, float] = field(default_factory=dict)
    write_seconds: dict[str, float] = field(default_factory=dict)
    """Median of a transaction of its own, commit included, one connection; `shared submit`: of one of 64 that share it."""
    server_seconds: dict[str, float] = field(default_factory=dict)
    """Processor time of the database's own processes for a job, by network; empty where it has none."""
    renewals_per_second: dict[int, float] = field(default_factory=dict)
    """By the number of worker processes that renew leases at the same time."""
    server_seconds_per_renewal: float = 0.0


def measure(url: str, analyses: Mapping[str, Sequence[Analysis]]) -> Ledger:
    """Fill an empty database with finished jobs of each network."""
    migrate(url)
    engine, ledger = open_engine(url), Ledger()
    seconds: dict[str, list[float]] = defaultdict(list)
    filling = Filling(open_sessions(engine), seconds)
    for name, found in analyses.items():
        filling.fill(name, found, 0, NUM_JOBS)  # the first pages of tables and indexes are not what a further job takes
        counted, num_bytes, processor = _counted(engine), _num_bytes(engine), server_processor(engine)
        filling.fill(name, found, NUM_JOBS, 2 * NUM_JOBS)
        ledger.server_seconds[name] = (server_processor(engine) - processor) / NUM_JOBS
        ledger.job_bytes[name] = (_num_bytes(engine) - num_bytes) / NUM_JOBS
        grown = {table: (rows - counted[table]) / NUM_JOBS for table, rows in _counted(engine).items()}
        ledger.rows[name] = {table: rows for table, rows in grown.items() if rows > 0}
    filling.share_commits(2 * NUM_JOBS)
    for num_processes in NUM_RENEWING:
        processor = server_processor(engine)
        ledger.renewals_per_second[num_processes] = renewing.rate(url, num_processes)
        spent = server_processor(engine) - processor
        ledger.server_seconds_per_renewal = spent / (ledger.renewals_per_second[num_processes] * renewing.SECONDS)
    engine.dispose()
    ledger.write_seconds = {what: statistics.median(each) for what, each in seconds.items()}
    return ledger


def server_processor(engine: Engine) -> float:
    """Processor seconds that all processes of a PostgreSQL on this machine have spent; 0 for SQLite, which has none."""
    if engine.dialect.name == "sqlite":
        return 0.0
    with engine.connect() as connection:
        server = psutil.Process(connection.execute(text("SELECT pg_backend_pid()")).scalar_one()).parent()
    if server is None:
        raise RuntimeError("the database is not on this machine")
    times = [process.cpu_times() for process in (server, *server.children())]
    ended = server.cpu_times()
    return sum(each.user + each.system for each in times) + ended.children_user + ended.children_system


class Filling:
    """Takes jobs their way, and the time of every write."""

    def __init__(self, sessions: sessionmaker[Session], seconds: dict[str, list[float]]) -> None:
        self._sessions = sessions
        self._seconds = seconds

    def fill(self, name: str, analyses: Sequence[Analysis], first: int, after_last: int) -> None:
        reports = [Report.model_validate_json(analysis.report) for analysis in analyses]
        for number in range(first, after_last):
            analysis, report = analyses[number % len(analyses)], reports[number % len(reports)]
            self._go_whole_way(name, analysis, report, number)
        is_more = True
        while is_more:
            with self._sessions.begin() as session:
                is_more = place_events(session) > 0

    def share_commits(self, number: int) -> None:
        """Submissions that arrive together are committed together."""
        for _ in range(5):
            began = time.perf_counter()
            with self._sessions.begin() as session:
                for _ in range(NUM_SHARED):
                    _submit(session, "toy", number)
            self._seconds["shared submit"].append((time.perf_counter() - began) / NUM_SHARED)

    def _go_whole_way(self, name: str, analysis: Analysis, report: Report, number: int) -> None:
        def blob(what: str, size: int) -> Blob:
            return _blob(name, what, number, size)

        checkpoint = blob("checkpoint", analysis.checkpoint_bytes)
        self._timed("artifact", lambda session: record_artifact(session, project=PROJECT, blob=checkpoint))
        job_id = self._timed("submit", lambda session: _submit(session, name, number))
        self._timed("ring", lambda session: mark_dispatched(session, job_id))
        claim = self._timed("claim", lambda session: claim_job(session, job_id=None, queues=("cpu",), worker=WORKER))
        if claim is None:
            raise RuntimeError("a job was queued and none could be claimed")
        for step, stage in enumerate(() if name == "toy" else STAGES):
            renew = partial(_renew, claim=claim, stage=stage, fraction=step / len(STAGES))
            self._timed("renewal with an event", renew)
            if number % NUM_SAMPLED == 0:
                self._timed("renewal", renew)  # nothing is new
        usage = Usage(seconds=analysis.seconds, matvecs=analysis.num_matvecs, peak_memory_bytes=10**9, device="cpu")
        self._timed(
            "finish",
            lambda session: finish_succeeded(
                session,
                claim,
                report=report,
                usage=usage,
                spectrum_blob=blob("spectrum", analysis.spectrum_bytes),
                landscape_blob=blob("landscape", analysis.landscape_bytes),
                escape_blobs=[blob(f"escape {place}", 0) for place in range(len(report.escapes))],
            ),
        )

    def _timed(self, what: str, work: Callable[[Session], Value]) -> Value:
        """Do the work in a transaction of its own."""
        began = time.perf_counter()
        with self._sessions.begin() as session:
            done = work(session)
        self._seconds[what].append(time.perf_counter() - began)
        return done


def _renew(session: Session, *, claim: Claim, stage: Stage, fraction: float) -> Instruction:
    progress = Progress(stage=stage, fraction=fraction, matvecs=100, updated_at=datetime.now().astimezone())
    return heartbeat(session, claim, progress=progress)


def _submit(session: Session, name: str, number: int) -> str:
    request = request_of(name, number)
    return insert_job(
        session,
        project=PROJECT,
        request=request,
        fingerprint=fingerprint(request, "1"),
        request_id=f"{number:032x}",
        memory_bytes=2**30,
    ).id


def request_of(name: str, number: int) -> JobRequest:
    """What a trainer would ask about the checkpoint of a network: artifacts by name, its run and step, two labels."""
    artifact = {"artifact": _blob(name, "checkpoint", number).id}
    layers = {"digits": (64, 64, 32, 10), "mlp": (784, 256, 128, 10)}
    loss: dict[str, object] = {"kind": "program", "program": {"artifact": _blob(name, "program", 0).id}}
    if name in layers:
        linear = [
            {"type": "linear", "in_features": before, "out_features": after}
            for before, after in itertools.pairwise(layers[name])
        ]
        tanh: dict[str, object] = {"type": "tanh"}
        stacked = [layer for pair in zip(linear, [tanh] * len(linear), strict=True) for layer in pair][:-1]
        loss = {"kind": "network", "layers": stacked, "criterion": {"type": "cross_entropy"}}
    fields: dict[str, object] = {
        "checkpoint": artifact,
        "loss": loss,
        "data": {"artifact": _blob(name, "data", 0).id},
        "run": {"id": f"{name}-{number % 50}", "step": 100 * number, "name": f"{name}, width 64"},
        "labels": {"team": f"team-{number % 10}", "sweep": "learning-rate"},
    }
    if name == "toy":
        fields |= {
            "checkpoint": {"inline": {"w1": 0.0, "w2": 0.0}},
            "loss": {"kind": "expression", "expression": "(1 - w1*w2)**2"},
        }
        del fields["data"]
    return JobRequest.model_validate(fields)


def _blob(name: str, what: str, number: int, size: int = 0) -> Blob:
    return Blob(f"sha256:{hashlib.sha256(f'{name} {what} {number}'.encode()).hexdigest()}", size)


def _counted(engine: Engine) -> dict[str, int]:
    with engine.connect() as connection:
        return {
            name: connection.execute(select(func.count()).select_from(table)).scalar_one()
            for name, table in Table.metadata.tables.items()
        }


def _num_bytes(engine: Engine) -> int:
    """Tables with all their indexes, what deleted and updated rows left behind included."""
    if engine.dialect.name == "sqlite":
        with engine.connect() as connection:
            pages, free, size = (
                connection.execute(text(f"PRAGMA {what}")).scalar_one()
                for what in ("page_count", "freelist_count", "page_size")
            )
            return (int(pages) - int(free)) * int(size)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))
        sizes = text("SELECT sum(pg_total_relation_size(relid)) FROM pg_stat_user_tables")
        return int(connection.execute(sizes).scalar_one())
