"""Small transactions that arrive at the same time share one commit, and with it one turn at the lock and one fsync."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar, final

from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.orm import Session, sessionmaker

Value = TypeVar("Value")
MAX_WORKS = 64
MAX_TRIES = 5
# serialization_failure, deadlock_detected: the transaction is gone, and the same again may well succeed.
REPEATABLE = frozenset({"40001", "40P01"})
DATABASE_DOWN = (OperationalError, InterfaceError)


def transact(sessions: sessionmaker[Session], work: Callable[[Session], Value]) -> Value:
    """Do the work in a transaction of its own, again if it was the victim of a deadlock.

    The work has no effect but on its session.
    """
    for _ in range(MAX_TRIES - 1):
        try:
            with sessions.begin() as session:
                return work(session)
        except OperationalError as failure:
            if not _is_repeatable(failure):
                raise
    with sessions.begin() as session:
        return work(session)


@final
class SharedCommits:
    """One thread that commits what many ask for. While it commits one batch, the next one gathers.

    An answer is given after the commit, never before. A work that fails takes its batch back; then each of the batch
    is done alone, so that the others do not suffer and the failure comes to the one who caused it.
    """

    def __init__(self, sessions: sessionmaker[Session]) -> None:
        self._sessions = sessions
        self._lock = threading.Lock()
        self._gathering: list[Callable[[Session], None]] = []
        self._committed: Future[None] | None = None
        self._committer = ThreadPoolExecutor(1, thread_name_prefix="commits")

    def run(self, work: Callable[[Session], Value]) -> Value:
        """What the work returned, once it is durable. Its effects are on its session alone, and it may run twice.

        Raises:
            Whatever the work raises; nothing of it is then stored.
        """
        results: list[Value] = []

        def noted(session: Session) -> None:
            results.append(work(session))

        with self._lock:
            if self._committed is None or len(self._gathering) == MAX_WORKS:
                self._gathering = []
                self._committed = self._committer.submit(self._commit, self._gathering)
            self._gathering.append(noted)
            committed = self._committed
        failure = committed.exception()
        if failure is None:
            return results[0]
        if isinstance(failure, DATABASE_DOWN) and not _is_repeatable(failure):
            # The connection may have been lost behind the COMMIT: done again, the work could be done twice.
            raise failure
        return transact(self._sessions, work)

    def _commit(self, works: list[Callable[[Session], None]]) -> None:
        with self._lock:
            if works is self._gathering:
                self._committed = None
        with self._sessions.begin() as session:
            for work in works:
                work(session)


def _is_repeatable(failure: OperationalError | InterfaceError) -> bool:
    return getattr(failure.orig, "sqlstate", None) in REPEATABLE
