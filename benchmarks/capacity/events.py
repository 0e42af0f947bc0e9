"""A discrete-event simulation in a page: processes that pause, and that queue for the servers of stations.

A process is a generator. It yields seconds to let time pass, or a station to wait for one of its servers, first come first
served; it gives the server back by `Simulation.give_back`.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass, field

Process = Generator["float | Station", None, None]


@dataclass(eq=False)
class Station:
    """`num_servers` alike, and the processes that wait for one."""

    name: str
    num_servers: int
    num_busy: int = 0
    waiting: deque[Process] = field(default_factory=deque)
    longest: int = 0
    """The most that waited at a time."""
    busy_seconds: float = 0.0
    """∫ num_busy dt, up to `changed_at`."""
    changed_at: float = 0.0


class Simulation:
    """The clock, and what is due when."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, Process]] = []
        self._order = itertools.count()  # what is due at one moment happens in the order in which it was asked for

    def start(self, process: Process, *, at: float) -> None:
        heapq.heappush(self._due, (at, next(self._order), process))

    def run(self) -> None:
        """Until nothing is due."""
        while self._due:
            self.now, _, process = heapq.heappop(self._due)
            self._advance(process)

    def give_back(self, station: Station) -> None:
        """A server becomes free, and goes to the one that has waited longest."""
        if station.waiting:
            self.start(station.waiting.popleft(), at=self.now)
        else:
            self._count(station, -1)

    def utilization(self, station: Station) -> float:
        """The mean share of busy servers since the beginning."""
        self._count(station, 0)
        return station.busy_seconds / (station.num_servers * self.now)

    def use(self, station: Station, seconds: float) -> Process:
        """Wait for a server, keep it for `seconds`, give it back."""
        yield station
        yield seconds
        self.give_back(station)

    def _advance(self, process: Process) -> None:
        for step in process:
            if isinstance(step, Station):
                if step.num_busy == step.num_servers:
                    step.waiting.append(process)
                    step.longest = max(step.longest, len(step.waiting))
                    return
                self._count(step, 1)
            else:
                self.start(process, at=self.now + step)
                return

    def _count(self, station: Station, change: int) -> None:
        station.busy_seconds += station.num_busy * (self.now - station.changed_at)
        station.changed_at = self.now
        station.num_busy += change
