"""Which uploads are being received by this process, and how the dead ones among them end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from service.problems import UploadLocked

# A connection that was cut in the middle of the network stays open here; who asks for the offset may end it.
STALLED_SECONDS = 2.0
# What a cut connection has left in the kernel's buffers is taken in before the offset is told.
PATIENCE_SECONDS = 3.0
_LOOK_SECONDS = 0.02


@dataclass
class Arrival:
    """One body that is arriving, or has arrived and is being stored."""

    deadline: asyncio.Timeout
    waiting_since: float | None = None
    """When the client was last waited for; None while it is the disk."""

    async def heard(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        self.waiting_since = time.monotonic()
        async for chunk in chunks:
            self.waiting_since = None
            yield chunk
            self.waiting_since = time.monotonic()
        self.waiting_since = None

    def has_stalled(self) -> bool:
        return self.waiting_since is not None and time.monotonic() - self.waiting_since > STALLED_SECONDS


class Receptions:
    """The bodies that this process is receiving, by upload."""

    def __init__(self) -> None:
        self._arrivals: dict[str, Arrival] = {}

    async def settle(self, upload_id: str) -> None:
        """Return when no body is arriving any more, or one still is after a while. One that has stalled is ended."""
        give_up = time.monotonic() + PATIENCE_SECONDS
        while (arrival := self._arrivals.get(upload_id)) is not None:
            if arrival.has_stalled() and arrival.deadline.when() is None:
                arrival.deadline.reschedule(asyncio.get_running_loop().time())
            elif time.monotonic() > give_up and arrival.waiting_since is not None:
                return
            await asyncio.sleep(_LOOK_SECONDS)

    @asynccontextmanager
    async def arriving(self, upload_id: str) -> AsyncIterator[Arrival]:
        """Receive a body, until `settle` ends it.

        Raises:
            UploadLocked: if it does.
        """
        try:
            async with asyncio.timeout(None) as deadline:
                self._arrivals[upload_id] = Arrival(deadline)
                yield self._arrivals[upload_id]
        except TimeoutError:
            raise UploadLocked("Another request has taken over this upload, since no byte came here.") from None
        finally:
            del self._arrivals[upload_id]
