"""The one word that ends a worker: set once, seen by every thread that waits on it beside its other descriptors."""

from __future__ import annotations

import os
import select
from typing import final


@final
class Stop:
    """An event with a file descriptor. It may be set in a signal handler, where a lock could be the handler's own."""

    def __init__(self) -> None:
        self._descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def fileno(self) -> int:
        """Readable for ever once set."""
        return self._descriptor

    def set(self) -> None:
        os.eventfd_write(self._descriptor, 1)

    def is_set(self) -> bool:
        return self.wait(0.0)

    def wait(self, seconds: float) -> bool:
        """Whether it is set, at most `seconds` from now."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        return bool(poll.poll(seconds * 1000))
