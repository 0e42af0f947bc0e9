"""The gauges that are counted at each scrape: from the database, and from the disk."""

from __future__ import annotations

import math
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from saddlescope.contract.vocabulary import JobStatus
from service.metrics import OTHER, Metrics
from service.parts import Parts
from store.census import QueueCensus, count_by_status, count_lapsed, count_overdue_deliveries, take_census
from store.jobs import DEFAULT_QUEUE
from store.presence import WorkerRow, present_workers


@dataclass(frozen=True)
class Counted:
    """What the database tells at one scrape."""

    ended: Mapping[JobStatus, int]
    census: Sequence[QueueCensus]
    workers: Sequence[WorkerRow]
    num_lapsed: int
    num_overdue: int


def count(parts: Parts) -> Counted:
    with parts.sessions() as session:
        return Counted(
            ended=parts.metrics.tally.look(lambda: count_by_status(session)),
            census=take_census(session),
            workers=present_workers(session),
            num_lapsed=count_lapsed(session),
            num_overdue=count_overdue_deliveries(session),
        )


def set_gauges(metrics: Metrics, counted: Counted | None) -> None:
    """Set every gauge anew; without a database they are absent or NaN rather than stale."""
    for gauge in (metrics.jobs, metrics.queue_jobs, metrics.queue_age, metrics.workers):
        gauge.clear()
    metrics.lapsed.set(math.nan if counted is None else counted.num_lapsed)
    metrics.webhook_backlog.set(math.nan if counted is None else counted.num_overdue)
    if counted is None:
        return
    for status, num_jobs in _by_status(counted).items():
        metrics.jobs.labels(status).set(num_jobs)
    served = {queue for worker in counted.workers for queue in worker.queues} | {DEFAULT_QUEUE}
    for group in _grouped(counted.census, served):
        metrics.queue_jobs.labels(group.queue, "queued").set(group.num_queued)
        metrics.queue_jobs.labels(group.queue, "running").set(group.num_running)
        metrics.queue_age.labels(group.queue).set(group.oldest_seconds)
    seen = Counter((queue, worker.device, worker.sandbox) for worker in counted.workers for queue in worker.queues)
    for labels, num_workers in seen.items():
        metrics.workers.labels(*labels).set(num_workers)


def measure_disk(parts: Parts) -> None:
    folder = parts.settings.data.resolve()
    if folder.exists():
        parts.metrics.free.set(shutil.disk_usage(folder).free)


def _by_status(counted: Counted) -> dict[JobStatus, int]:
    """Jobs that are alive are those of the census, which is of this moment."""
    num_queued = sum(row.num_queued for row in counted.census)
    num_running = sum(row.num_running for row in counted.census)
    return {**counted.ended, JobStatus.QUEUED: num_queued, JobStatus.RUNNING: num_running}


def _grouped(census: Sequence[QueueCensus], served: set[str]) -> list[QueueCensus]:
    """Queues by the names that operators gave them; those that only a caller's request names are one, `other`."""
    names = {name: [row for row in census if row.queue == name] for name in sorted(served)}
    names[OTHER] = [row for row in census if row.queue not in served]
    return [
        QueueCensus(
            queue=name,
            num_queued=sum(row.num_queued for row in rows),
            num_running=sum(row.num_running for row in rows),
            oldest_seconds=max((row.oldest_seconds for row in rows), default=0.0),
        )
        for name, rows in names.items()
    ]
