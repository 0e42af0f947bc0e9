"""Kills the parts of a deployment outright, at random and one after another, and starts them again.

The seed fixes what is killed in which order and for how long it stays away; what it hits is up to the processes.
No job is killed three times, which would rightly end it: a worker is frozen, and killed or let go on by what it runs.
"""

from __future__ import annotations

import random
import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

import psutil
from sqlalchemy.exc import OperationalError

from saddlescope.contract.limits import MAX_ATTEMPTS
from tests.chaos.parts import Part
from tests.chaos.site import Site

PAUSE_SECONDS = (1.0, 6.0)
OUTAGE_SECONDS = (0.1, 3.0)
PATIENCE_SECONDS = 10.0
# A start takes seconds on a busy machine: without a pause for it, nobody would be at work when the next blow falls.
START_SECONDS = 60.0
# About how long a toy takes, so that a blow may fall at its first line or at its last.
JOB_SECONDS = 0.6


class Storm:
    """Rounds of kills, each with every kind once, in a thread of their own.

    Attributes:
        kills: how many there were of each kind.
        gave_up: how often a part ended by itself, as they do when they are started while another one is away.
        rounds: how many rounds are over.
    """

    def __init__(self, site: Site, *, seed: int) -> None:
        self.kills: Counter[str] = Counter()
        self.gave_up: Counter[str] = Counter()
        self.rounds = 0
        self._site = site
        self._random = random.Random(seed)
        self._calm = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._blow, name="storm")

    def __enter__(self) -> Storm:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._calm.set()
        self._thread.join()
        self.assert_blowing()

    def assert_blowing(self) -> None:
        """Raises what has ended the storm before its time."""
        if self._failure is not None:
            raise self._failure

    def _blow(self) -> None:
        kinds: dict[str, Callable[[], bool]] = {
            "runner": self._kill_runner,
            "worker": self._kill_worker,
            "api": lambda: self._kill(self._site.api),
            "broker": lambda: self._kill(self._site.broker),
            "database": self._kill_database,
            "everything": self._kill_everything,
        }
        try:
            while not self._calm.is_set():
                for kind in self._random.sample(sorted(kinds), len(kinds)):
                    if self._calm.wait(self._random.uniform(*PAUSE_SECONDS)):
                        return
                    self._await_worker()
                    self.kills[kind] += kinds[kind]()
                self.rounds += 1
        except Exception as failure:  # noqa: BLE001 - raised again where the storm ends
            self._failure = failure

    def keep(self) -> None:
        """Start what has ended by itself, as a service manager does."""
        for part in (self._site.api, *self._site.workers):
            if not is_running(part):
                self.gave_up[part.name] += 1
                part.start()

    def _kill(self, part: Part) -> bool:
        part.kill()
        self._stay_away()
        part.start()
        return True

    def _stay_away(self) -> None:
        time.sleep(self._random.uniform(*OUTAGE_SECONDS))

    def _kill_database(self) -> bool:
        postgresql = self._site.postgresql
        if postgresql is None:
            return self._abandon_transaction()
        postgresql.kill()
        self._stay_away()
        postgresql.part.start()
        postgresql.await_ready()
        return True

    def _abandon_transaction(self) -> bool:
        """SQLite is no process: somebody takes the write lock, holds everyone up, and goes without a commit."""
        file = self._site.database_url.removeprefix("sqlite:///")
        connection = sqlite3.connect(file, timeout=30, isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("DELETE FROM events")
        self._stay_away()
        connection.close()
        return True

    def _await_worker(self) -> None:
        give_up = time.monotonic() + START_SECONDS
        while time.monotonic() < give_up and not self._calm.is_set():
            self.keep()
            if any(self._is_present(worker) for worker in self._site.workers):
                return
            time.sleep(0.2)

    def _is_present(self, worker: Part) -> bool:
        try:
            return is_running(worker) and self._site.is_present(worker)
        except OperationalError:
            return False

    def _busy_worker(self) -> Part | None:
        """One with a job that has run for some random time, if there is one soon."""
        give_up = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < give_up and not self._calm.is_set():
            for worker in self._random.sample(self._site.workers, len(self._site.workers)):
                # A worker that starts has grandchildren too: the attacks on its sandbox.
                if any(self._site.runners(worker)) and self._is_present(worker):
                    time.sleep(self._random.uniform(0, JOB_SECONDS))
                    return worker
            time.sleep(0.02)
        return None

    def _kill_runner(self) -> bool:
        worker = self._busy_worker()
        while worker is not None and not any(self._site.runners(worker)):
            worker = self._busy_worker()
        return worker is not None and self._strike(worker, self._kill_runners)

    def _kill_runners(self, worker: Part) -> None:
        for runner in self._site.runners(worker):
            with suppress(psutil.NoSuchProcess):
                runner.kill()

    def _kill_worker(self) -> bool:
        worker = self._busy_worker()
        if worker is None or not self._strike(worker, Part.kill):
            return False
        self._stay_away()
        worker.start()
        return True

    def _kill_everything(self) -> bool:
        """As a lost machine does it; all comes back in some order."""
        self._busy_worker()
        struck = [self._strike(worker, Part.kill) for worker in self._site.workers]
        if not all(struck):
            for worker, is_struck in zip(self._site.workers, struck, strict=True):
                if is_struck:
                    worker.start()
            return False
        postgresql = self._site.postgresql
        if postgresql is not None:
            postgresql.kill()
        for part in (self._site.api, self._site.broker):
            part.kill()
        self._stay_away()
        parts = [*self._site.workers, self._site.api, self._site.broker]
        if postgresql is not None:
            postgresql.part.start()
            # A service does not start without its database: whoever starts it waits, or starts it again.
            postgresql.await_ready()
        for part in self._random.sample(parts, len(parts)):
            part.start()
        return True

    def _strike(self, worker: Part, blow: Callable[[Part], None]) -> bool:
        """Do it unless the worker has a job at its last attempt, or nobody can tell."""
        if not is_running(worker):
            return False
        worker.signal(signal.SIGSTOP)
        try:
            try:
                is_last = MAX_ATTEMPTS in self._site.attempts(worker)
            except OperationalError:
                return False
            if not is_last:
                blow(worker)
            return not is_last
        finally:
            if is_running(worker):
                worker.signal(signal.SIGCONT)


def is_running(part: Part) -> bool:
    return part.process is not None and part.process.poll() is None
