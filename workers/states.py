"""The states of a long job on their way from its runner's folder to its next attempt."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import final

import structlog

from store.blobs import Blob, BlobError, DigestMismatch
from store.queue import Claim
from store.saved_runs import is_held, record_saved_run
from workers.garbage import drop_saved_run, drop_state
from workers.protocol import STATE_FILES, SavedLine
from workers.results import InvalidResult, open_plain
from workers.workshop import DATABASE_DOWN, Workshop

CHUNK_BYTES = 2**20

log = structlog.get_logger()


@final
class StateKeeper:
    """Stores what a runner has saved, in a thread: gigabytes take longer than a heartbeat may wait.

    One state at a time, always the newest; a job that never saves has no thread.
    """

    def __init__(self, shop: Workshop, claim: Claim, output: Path) -> None:
        self._shop = shop
        self._claim = claim
        self._output = output
        self._lock = threading.Lock()
        self._next: SavedLine | None = None
        self._thread: threading.Thread | None = None
        self._enough = threading.Event()
        self._is_stored = False
        self._has_told = False

    def heard(self, line: SavedLine | None) -> None:
        """The runner has said something about a state."""
        if line is None:
            return
        if line.file not in STATE_FILES or line.digest is None:
            self._tell_left_out(line.num_bytes)
            return
        with self._lock:
            self._next = line
            if self._thread is None:
                self._thread = threading.Thread(target=self._store_all, name="state")
                self._thread.start()

    def close(self, patience_seconds: float) -> bool:
        """Let what is being stored become complete, or leave it; gives whether any state of this attempt is stored."""
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join(patience_seconds)
            self._enough.set()
            thread.join()
        return self._is_stored

    def _store_all(self) -> None:
        while True:
            with self._lock:
                line, self._next = self._next, None
                if line is None or self._enough.is_set():
                    self._thread = None
                    return
            try:
                self._store(line)
            except DATABASE_DOWN as failure:
                log.warning("state_not_recorded", job_id=self._claim.job_id, error=str(failure.orig))
            except (InvalidResult, BlobError, OSError) as failure:
                log.warning("state_not_stored", job_id=self._claim.job_id, error=str(failure))

    def _store(self, line: SavedLine) -> None:
        shop, claim = self._shop, self._claim
        # Before the bytes are copied: a database that is away must not cost a state's space every minute.
        with shop.sessions() as session:
            if not is_held(session, claim):
                return
        blob = self._copy(line)
        if blob is None:
            return
        with shop.sessions.begin() as session:
            recorded = record_saved_run(session, claim, blob=blob, matvecs=line.saved_matvecs)
        if recorded is None:
            drop_state(shop, blob.id)
            return
        self._is_stored = True
        if recorded.replaced is not None:
            drop_state(shop, recorded.replaced)
        log.info("state_saved", job_id=claim.job_id, matvecs=line.saved_matvecs, num_bytes=blob.size)

    def _copy(self, line: SavedLine) -> Blob | None:
        """The state as a blob; None if it is too large, or the runner has begun to write another one in its place."""
        assert line.file is not None  # noqa: S101 - as heard
        with open_plain(self._output / line.file) as file, self._shop.blobs.writer() as writer:
            while chunk := file.read(CHUNK_BYTES):
                if self._enough.is_set():
                    return None
                writer.write(chunk)
                if writer.size > self._shop.settings.worker_saved_bytes:
                    self._tell_left_out(writer.size)
                    return None
            try:
                return writer.commit(expected=line.digest)
            except DigestMismatch:
                return None

    def _tell_left_out(self, num_bytes: int) -> None:
        # Once a job: it will be so every minute.
        if not self._has_told:
            self._has_told = True
            log.warning("state_not_saved", job_id=self._claim.job_id, num_bytes=num_bytes)


def forget_state(shop: Workshop, claim: Claim) -> None:
    """After the end of a job: nobody goes on from its state. The housekeeper does it where this cannot."""
    try:
        drop_saved_run(shop, claim.job_id)
    except DATABASE_DOWN as failure:
        log.warning("state_not_forgotten", job_id=claim.job_id, error=str(failure.orig))
