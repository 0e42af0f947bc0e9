"""What happens, told to every open stream of this process by one task that looks into the database for all of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, final

import structlog
from fastapi import Depends, Request
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.orm import Session, sessionmaker
from starlette.concurrency import run_in_threadpool

from store.feed import FeedEntry, has_unplaced, last_position, place_events, read_feed

log = structlog.get_logger("service")

_POLL_SECONDS = 0.1
_OUTAGE_SECONDS = 1.0
_BATCH = 500
# A reader that falls so far behind is let go; it resumes from the database at its own pace.
_MAX_WAITING = 2000

Wanted = Callable[[FeedEntry], bool]


@final
class News:
    """One open stream: a queue, and nothing else while nothing happens."""

    def __init__(self, wanted: Wanted, failed: Callable[[], None]) -> None:
        self._wanted = wanted
        self._failed = failed
        self._waiting: asyncio.Queue[FeedEntry] = asyncio.Queue(_MAX_WAITING)
        self._is_overrun = False

    def offer(self, entry: FeedEntry) -> None:
        if self._is_overrun or not self._wanted(entry):
            return
        if self._waiting.full():
            self._is_overrun = True
        else:
            self._waiting.put_nowait(entry)

    async def follow(self, *, seconds: float, quiet_seconds: float) -> AsyncIterator[FeedEntry | None]:
        """What is wanted as it happens, None after a time of quiet; ends after `seconds`, or when it fell behind."""
        ends = time.monotonic() + seconds
        while (left := ends - time.monotonic()) > 0:
            try:
                yield await asyncio.wait_for(self._waiting.get(), min(quiet_seconds, left))
            except TimeoutError:
                self._failed()
                yield None
            if self._is_overrun and self._waiting.empty():
                return


@final
class Feed:
    """The streams of one application. The task lives while there are any."""

    def __init__(self, sessions: sessionmaker[Session]) -> None:
        self._sessions = sessions
        self._open: set[News] = set()
        self._starting = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._told = 0

    @asynccontextmanager
    async def subscribe(self, wanted: Wanted) -> AsyncIterator[News]:
        """News from now on: what is read from the database after this call joins them without a gap."""
        news = News(wanted, self._raise_failure)
        self._open.add(news)
        try:
            async with self._starting:
                if self._task is None or self._task.done():
                    self._told = await run_in_threadpool(self._end)
                    self._task = asyncio.create_task(self._tell())
            yield news
        finally:
            self._open.discard(news)
            if not self._open and self._task is not None:
                self._task.cancel()
                self._task = None

    async def _tell(self) -> None:
        while True:
            try:
                entries = await run_in_threadpool(self._look)
            except (OperationalError, InterfaceError) as failure:
                log.warning("events_wait_for_database", error=type(failure).__name__)
                await asyncio.sleep(_OUTAGE_SECONDS)
                continue
            for entry in entries:
                self._told = entry.position
                for news in self._open:
                    news.offer(entry)
            if len(entries) < _BATCH:
                await asyncio.sleep(_POLL_SECONDS)

    def _look(self) -> tuple[FeedEntry, ...]:
        with self._sessions() as session:
            if not has_unplaced(session):
                return read_feed(session, after=self._told, limit=_BATCH)
        with self._sessions.begin() as session:
            place_events(session)
        with self._sessions() as session:
            return read_feed(session, after=self._told, limit=_BATCH)

    def _end(self) -> int:
        with self._sessions() as session:
            return last_position(session)

    def _raise_failure(self) -> None:
        """A stream whose task has failed must not look quiet."""
        if self._task is not None and self._task.done():
            self._task.result()


async def _feed(request: Request) -> Feed:
    feed: Feed = request.app.state.feed
    return feed


FeedOf = Annotated[Feed, Depends(_feed)]
