"""The boundary between an observation and the training that it must never stop."""

from __future__ import annotations

import logging
from types import TracebackType
from typing import final

log = logging.getLogger("saddlescope.callbacks")


@final
class Boundary:
    """A `with` block out of which no error comes: each is logged, the first and then ever more rarely.

    This is a broad catch on purpose, and the only one: it stands around all that a callback does, on the training
    thread and on its own. KeyboardInterrupt and SystemExit pass.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self.num_failures = 0

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception):
            return False
        self.num_failures += 1
        if self.num_failures.bit_count() == 1:  # 1, 2, 4, 8, …: a fault at every step must not fill the disk
            log.warning("%s failed (%d times); training goes on", self._what, self.num_failures, exc_info=error)
        return True
