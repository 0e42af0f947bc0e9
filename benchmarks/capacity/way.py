"""A checkpoint's way from POST to verdict through the stations of an installation, simulated."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.capacity.events import Process, Simulation, Station

Draw = Callable[[], float]
"""The seconds of one analysis."""


@dataclass(frozen=True)
class Times:
    """Seconds that a server is kept, for each of the things that happen to a job."""

    api_submit: float
    """Processor of an API process: the upload of the checkpoint and the submission."""
    api_answer: float
    """Processor of an API process: what is asked about the job until its report is read."""
    write_submit: float
    write_claim: float
    write_finish: float
    write_beside: float = 0.0
    """Writes that nobody waits for: the artifact's row, the ring's mark, the place in the stream of events."""
    write_alive: float = 0.0
    """A renewal of the lease."""
    alive_every: float = 1.0
    """Seconds between two renewals of one running job."""
    turnover: float = 0.0
    """From the end of a job to the worker's next claim."""

    def written(self, analysis_seconds: float) -> float:
        """Seconds of the database for one job."""
        renewals = analysis_seconds / self.alive_every
        return (
            self.write_submit + self.write_claim + self.write_finish + self.write_beside + renewals * self.write_alive
        )


@dataclass(frozen=True)
class Installation:
    num_api_processes: int
    num_workers: int
    num_databases: int = 1
    """Connections whose transactions do not wait for each other; 1 is a database that commits one at a time."""


@dataclass(frozen=True)
class Outcome:
    """What happened to the jobs that were counted, in the order of their ends."""

    verdict_seconds: Sequence[float]
    """From POST to verdict."""
    wait_seconds: Sequence[float]
    """From the submission's commit to the claim."""
    last_at: float
    most_waiting: int
    database_utilization: float
    worker_utilization: float

    @property
    def mean_wait(self) -> float:
        return math.fsum(self.wait_seconds) / len(self.wait_seconds)

    def quantile(self, share: float) -> float:
        """Of the seconds from POST to verdict."""
        ordered = sorted(self.verdict_seconds)
        return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)]


def simulate(
    installation: Installation, times: Times, arrivals: Sequence[float], draw: Draw, *, num_ignored: int = 0
) -> Outcome:
    """Send one job at each of the moments; the first `num_ignored` find an empty house and are not counted."""
    run = _Run(installation, times, draw)
    for number, moment in enumerate(arrivals):
        run.simulation.start(run.checkpoint(is_counted=number >= num_ignored), at=moment)
    run.simulation.run()
    return Outcome(
        run.verdict_seconds,
        run.wait_seconds,
        run.last_at,
        run.workers.longest,
        run.simulation.utilization(run.database),
        run.simulation.utilization(run.workers),
    )


class _Run:
    """One simulation under way."""

    def __init__(self, installation: Installation, times: Times, draw: Draw) -> None:
        self.simulation = Simulation()
        self.api = Station("API processes", installation.num_api_processes)
        self.database = Station("database", installation.num_databases)
        self.workers = Station("workers", installation.num_workers)
        self.verdict_seconds: list[float] = []
        self.wait_seconds: list[float] = []
        self.last_at = 0.0
        self._times, self._draw = times, draw

    def checkpoint(self, *, is_counted: bool) -> Process:
        simulation, times = self.simulation, self._times
        posted = simulation.now
        yield from simulation.use(self.api, times.api_submit)
        yield from simulation.use(self.database, times.write_submit)
        queued = simulation.now
        yield self.workers
        yield from simulation.use(self.database, times.write_claim)
        waited, seconds = simulation.now - queued, self._draw()
        yield seconds
        # The renewals and what is written beside come in one piece: the same load, in fewer events.
        yield from simulation.use(self.database, times.written(seconds) - times.write_submit - times.write_claim)
        self.last_at = simulation.now
        if is_counted:
            self.verdict_seconds.append(simulation.now - posted)
            self.wait_seconds.append(waited)
        yield times.turnover
        simulation.give_back(self.workers)
        yield from simulation.use(self.api, times.api_answer)
