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
_LOOK_SECONDS = 0.02


@dataclass
class _InFlight:
    """One body that is arriving."""

    deadline: asyncio.Timeout
    heard_at: float


class Receptions:
    """The bodies that this process is receiving, by upload."""

    def __init__(self) -> None:
        self._in_flight: dict[str, _InFlight] = {}

    async def settle(self, upload_id: str) -> None:
        """Return when no body is arriving, or one is and has not stalled; one that has is ended."""
        while (current := self._in_flight.get(upload_id)) is not None:
            heard_at = current.heard_at
            if time.monotonic() - heard_at > STALLED_SECONDS and current.deadline.when() is None:
                current.deadline.reschedule(asyncio.get_running_loop().time())
            await asyncio.sleep(_LOOK_SECONDS)
            if current.heard_at != heard_at:
                return

    @asynccontextmanager
    async def arriving(self, upload_id: str, chunks: AsyncIterator[bytes]) -> AsyncIterator[AsyncIterator[bytes]]:
        """The chunks of a body, until `settle` ends them.

        Raises:
            UploadLocked: if it does.
        """
        try:
            async with asyncio.timeout(None) as deadline:
                current = self._in_flight[upload_id] = _InFlight(deadline, time.monotonic())
                yield _heard(current, chunks)
        except TimeoutError:
            raise UploadLocked("Another request has taken over this upload, since no byte came here.") from None
        finally:
            self._in_flight.pop(upload_id, None)


async def _heard(current: _InFlight, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        current.heard_at = time.monotonic()
        yield chunk
