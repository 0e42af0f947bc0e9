"""The gauges that are counted at each scrape: from the database, and from the disk."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence

from saddlescope.contract.vocabulary import JobStatus
from service.metrics import OTHER
from service.parts import Parts
from store.census import QueueCensus, count_by_status, count_lapsed, count_overdue_deliveries, take_census
from store.jobs import DEFAULT_QUEUE
from store.presence import present_workers


def measure(parts: Parts, *, is_database_up: bool) -> None:
    """Set every gauge anew; what was counted in a database that is down now is left out rather than left stale."""
    metrics = parts.metrics
    for gauge in (metrics.jobs, metrics.queue_jobs, metrics.queue_age, metrics.workers):
        gauge.clear()
    folder = parts.settings.data if parts.settings.data.exists() else parts.settings.data.resolve().parent
    if folder.exists():
        metrics.free.set(shutil.disk_usage(folder).free)
    if not is_database_up:
        return
    with parts.sessions() as session:
        ended = metrics.tally.look(lambda: count_by_status(session))
        census = take_census(session)
        workers = present_workers(session)
        metrics.lapsed.set(count_lapsed(session))
        metrics.webhook_backlog.set(count_overdue_deliveries(session))
    for status, num_jobs in _by_status(ended, census).items():
        metrics.jobs.labels(status).set(num_jobs)
    served = {queue for worker in workers for queue in worker.queues} | {DEFAULT_QUEUE}
    for group in _grouped(census, served):
        metrics.queue_jobs.labels(group.queue, "queued").set(group.num_queued)
        metrics.queue_jobs.labels(group.queue, "running").set(group.num_running)
        metrics.queue_age.labels(group.queue).set(group.oldest_seconds)
    seen = Counter((queue, worker.device, worker.sandbox) for worker in workers for queue in worker.queues)
    for labels, num_workers in seen.items():
        metrics.workers.labels(*labels).set(num_workers)


def _by_status(ended: Mapping[JobStatus, int], census: Sequence[QueueCensus]) -> dict[JobStatus, int]:
    """Jobs that are alive are those of the census, which is of this moment."""
    queued, running = sum(row.num_queued for row in census), sum(row.num_running for row in census)
    return {**ended, JobStatus.QUEUED: queued, JobStatus.RUNNING: running}


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
