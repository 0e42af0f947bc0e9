"""What 10³, 10⁵ and 10⁷ checkpoints a day need, from what one was measured to take."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from random import Random

from benchmarks.capacity.arrivals import HOUR, on_the_hour, poisson
from benchmarks.capacity.way import Installation, Outcome, Times, simulate
from workers.settings import WorkerSettings

PER_DAY = {10**3: "SQLite", 10**5: "PostgreSQL", 10**7: "PostgreSQL"}
MIX = {"digits": 0.5, "mlp": 0.3, "gpt": 0.2}
"""The checkpoints of the plan: an assumption, where all else is measured."""
BUSY = 0.7
"""Of API processes and workers; above it waits grow faster than load."""
BUSY_DATABASE = 0.5
DATABASE_CORES = 16
"""Of a machine for PostgreSQL: an assumption. It is taken to do as many transactions at a time."""
PROMPT_SECONDS = 900.0
"""From POST to verdict for 95 of 100 checkpoints of a burst, where that is asked."""
DAY = 24 * HOUR
LINE_BYTES = 125e6
"""A second, of a network of 1 Gbit/s."""
ALIVE_EVERY = float(WorkerSettings.model_fields["worker_heartbeat_seconds"].default)
CALM_SECONDS = 15.0
"""The longest that `SADDLESCOPE_WORKER_HEARTBEAT_SECONDS` may be."""
NUM_COUNTED = 10_000
EVEN_SECONDS = 600.0
"""Simulated at least, after the beginning."""


@dataclass(frozen=True)
class Job:
    """What one checkpoint of the mix takes."""

    analysis_seconds: Sequence[Sequence[float]]
    """Measured ones, by network: processor time of one thread, which is what they take where nothing else runs."""
    shares: Sequence[float]
    times: Times
    num_writes: float
    """Transactions, without renewals."""
    row_bytes: float
    num_matvecs: float
    server_seconds: float
    """Processor time of the database's own processes, without renewals; 0 where it commits one transaction at a time."""
    server_seconds_per_renewal: float
    shared_submit: float
    """Seconds of the database for a submission among many that arrive together."""
    blob_bytes: float
    ring_bytes: float
    checkpoint_bytes: float

    def database_busy(self) -> float:
        """Of one database, in seconds of all of it: SQLite's one writer, or PostgreSQL's cores."""
        if self.server_seconds == 0:
            return self.times.written(self.mean_seconds)
        renewals = self.mean_seconds / self.times.alive_every
        return (self.server_seconds + renewals * self.server_seconds_per_renewal) / DATABASE_CORES

    @property
    def num_writers(self) -> int:
        """Transactions that a database does at a time."""
        return 1 if self.server_seconds == 0 else DATABASE_CORES

    @property
    def mean_seconds(self) -> float:
        return math.fsum(
            share * statistics.fmean(each) for share, each in zip(self.shares, self.analysis_seconds, strict=True)
        )

    def draw(self, generator: Random) -> float:
        """The seconds of one: a network by its share, then one of its checkpoints."""
        (seconds,) = generator.choices(self.analysis_seconds, self.shares)
        return generator.choice(seconds)


Moments = Callable[[Random, Job, float], tuple[list[float], int]]
"""Of a rate: when checkpoints come, and how many of the first are not counted."""


@dataclass(frozen=True)
class Need:
    """Of one load on an installation, with what was simulated of it; `num_shards` databases with a share of the rest each."""

    num_shards: int
    num_api_processes: int
    num_workers: int
    median_seconds: float
    p95_seconds: float
    most_waiting: int


def job_of(measured: Mapping, database: str) -> Job:
    """The mean checkpoint of the mix."""
    ledger, answering = measured["databases"][database], measured["answering"][database]
    networks, seconds = measured["networks"], ledger["write_seconds"]
    names = list(MIX)

    def mean(what: str) -> float:
        return math.fsum(
            MIX[name] * statistics.fmean(one[what] for one in networks[name]["analyses"]) for name in names
        )

    checkpoint = mean("checkpoint_bytes")
    times = Times(
        api_submit=answering["submission_seconds"] + checkpoint * answering["upload_seconds_per_byte"],
        api_answer=answering["poll_seconds"] + answering["report_seconds"],
        write_submit=seconds["submit"],
        write_claim=seconds["claim"],
        write_finish=seconds["finish"],
        write_beside=math.fsum(seconds[what] for what in ("artifact", "ring")),
        write_alive=seconds["renewal"],
        alive_every=ALIVE_EVERY,
        turnover=measured["burst"]["from_before_and_after"]["turnover"],
    )
    return Job(
        analysis_seconds=[[one["cpu_seconds"] for one in networks[name]["analyses"]] for name in names],
        shares=[MIX[name] for name in names],
        times=times,
        num_writes=5,  # artifact, submission, ring, claim, finish
        num_matvecs=mean("num_matvecs"),
        shared_submit=seconds["shared submit"],
        server_seconds=math.fsum(MIX[name] * ledger["server_seconds"][name] for name in names),
        server_seconds_per_renewal=ledger["server_seconds_per_renewal"],
        row_bytes=math.fsum(MIX[name] * ledger["job_bytes"][name] for name in names),
        blob_bytes=math.fsum(mean(f"{what}_bytes") for what in ("checkpoint", "spectrum", "landscape", "vector")),
        ring_bytes=answering["ring_bytes"],
        checkpoint_bytes=checkpoint,
    )


def plan(measured: Mapping, per_day: int) -> dict[str, object]:
    """Everything that the page says of one tier."""
    database = PER_DAY[per_day]
    job, rate = job_of(measured, database), per_day / DAY
    writes = rate * (job.num_writes + job.mean_seconds / ALIVE_EVERY)
    loads = {
        "workers": rate * (job.mean_seconds + job.times.turnover),
        "API processes": rate * (job.times.api_submit + job.times.api_answer),
        "databases": rate * job.database_busy(),
        "links": rate * (job.blob_bytes + job.checkpoint_bytes) / LINE_BYTES,
    }
    even, bursts, prompt = even_need(job, rate), burst_need(job, rate), prompt_need(job, rate)
    calm = prompt_need(replace(job, times=replace(job.times, alive_every=CALM_SECONDS)), rate)
    return {
        "per_day": per_day,
        "database": database,
        "mean_analysis_seconds": job.mean_seconds,
        "loads": loads,
        "first": sorted(loads, key=loads.__getitem__, reverse=True)[:3],
        "matvecs_per_second": rate * job.num_matvecs,
        "writes_per_second": writes,
        "renewals_share": rate * job.mean_seconds / ALIVE_EVERY / writes,
        "database_bytes_per_year": per_day * 365 * job.row_bytes,
        "blob_bytes_per_day": per_day * job.blob_bytes,
        "broker_bytes": prompt.most_waiting * prompt.num_shards * job.ring_bytes,
        "even": asdict(even),
        "bursts": asdict(bursts),
        "prompt": asdict(prompt),
        "calm": asdict(calm),
    }


def even_need(job: Job, rate: float) -> Need:
    """Checkpoints that come evenly at random."""
    load = Load(rate, _num_workers(job, rate), api_rate=rate, write_rate=rate)
    return _need(job, load, _evenly)


def burst_need(job: Job, rate: float) -> Need:
    """The workers of the even load, and an hour's checkpoints within a minute."""
    load = Load(rate, _num_workers(job, rate), api_rate=rate, write_rate=rate)
    return _need(_bursting(job), load, _hourly)


def prompt_need(job: Job, rate: float) -> Need:
    """Workers enough for a burst to have its verdicts within a quarter of an hour."""
    longest = max(map(max, job.analysis_seconds))
    spare = max(PROMPT_SECONDS - longest, PROMPT_SECONDS / 4)
    num_workers = max(math.ceil(0.8 * rate * HOUR * job.mean_seconds / spare), _num_workers(job, rate))
    an_hour = rate * HOUR
    for _ in range(12):
        # The API takes the burst in a quarter of the time that there is, the database writes it down in all of it.
        load = Load(rate, num_workers, api_rate=4 * an_hour / PROMPT_SECONDS, write_rate=an_hour / PROMPT_SECONDS)
        need = _need(_bursting(job), load, _hourly)
        if need.p95_seconds <= PROMPT_SECONDS:
            break
        num_workers = math.ceil(1.05 * num_workers)
    return need


@dataclass(frozen=True)
class Load:
    """Checkpoints a second: on average, at the API while they are posted, in the database while they are written down."""

    rate: float
    num_workers: int
    api_rate: float
    write_rate: float


def _bursting(job: Job) -> Job:
    """Submissions that arrive together share their commits."""
    return replace(job, times=replace(job.times, write_submit=job.shared_submit))


def _num_workers(job: Job, rate: float) -> int:
    return math.ceil(rate * (job.mean_seconds + job.times.turnover) / BUSY)


def _need(job: Job, load: Load, moments: Moments) -> Need:
    times = job.times
    num_api = math.ceil(load.api_rate * (times.api_submit + times.api_answer) / BUSY)
    num_shards = math.ceil(load.write_rate * job.database_busy() / BUSY_DATABASE)
    shard = Installation(math.ceil(num_api / num_shards), math.ceil(load.num_workers / num_shards), job.num_writers)
    generator = Random(0)
    arrivals, num_ignored = moments(generator, job, load.rate / num_shards)
    outcome: Outcome = simulate(shard, times, arrivals, lambda: job.draw(generator), num_ignored=num_ignored)
    return Need(
        num_shards=num_shards,
        num_api_processes=shard.num_api_processes * num_shards,
        num_workers=shard.num_workers * num_shards,
        median_seconds=outcome.quantile(0.5),
        p95_seconds=outcome.quantile(0.95),
        most_waiting=outcome.most_waiting,
    )


def _evenly(generator: Random, job: Job, rate: float) -> tuple[list[float], int]:
    num_ignored = max(NUM_COUNTED // 10, math.ceil(3 * rate * max(map(max, job.analysis_seconds))))
    num_counted = max(NUM_COUNTED, math.ceil(rate * EVEN_SECONDS))
    return poisson(generator, rate=rate, count=num_counted + num_ignored), num_ignored


def _hourly(generator: Random, _: Job, rate: float) -> tuple[list[float], int]:
    num_hours = max(1, math.ceil(NUM_COUNTED / (rate * HOUR)))
    return on_the_hour(generator, rate=rate, num_hours=num_hours), 0
