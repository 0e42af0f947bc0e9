"""A count that costs more the more there is to count, taken so rarely that it costs nothing much."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import final

from saddlescope.contract.vocabulary import JobStatus

SHARE = 0.01
"""Of the time; a count that takes a second is taken again after a hundred."""


@final
class Tally:
    """Jobs by state as they were counted last; counted anew once the share allows it."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._due: float | None = None
        self._counted: Mapping[JobStatus, int] = {}

    def look(self, count: Callable[[], Mapping[JobStatus, int]]) -> Mapping[JobStatus, int]:
        with self._lock:
            started = self._clock()
            if self._due is None or started >= self._due:
                self._counted = count()
                ended = self._clock()
                self._due = ended + (ended - started) / SHARE
            return self._counted
