"""The thread that writes, sends, waits and reads, so that training does not."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from queue import Empty, Full, Queue
from typing import TypeAlias, final

from saddlescope.callbacks.answers import Answer, Snapshot
from saddlescope.callbacks.boundary import Boundary, log
from saddlescope.callbacks.snapshots import fingerprint
from saddlescope.client.errors import JobCancelled, JobFailed, NotFound, SaddlescopeError, UnreadableAnswer
from saddlescope.client.job import Job
from saddlescope.client.requests import Loss, RequestValues
from saddlescope.client.session import Client
from saddlescope.client.uploads import Content
from saddlescope.contract.vocabulary import Action

POLL_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 60.0
MAX_FOLLOWED = 8
Told: TypeAlias = Callable[[Answer], None]


@dataclass(frozen=True)
class Question:
    """What is asked of every snapshot; only the checkpoint and its step differ."""

    loss: Loss
    data: Content | None
    run: str
    values: RequestValues
    max_spooled: int


@dataclass(frozen=True)
class _Asked:
    """What is remembered of a snapshot until its answer comes."""

    step: int
    fingerprint: Mapping[str, bytes]


@dataclass
class _Pace:
    """When to try the service again after it did not answer."""

    pause_seconds: float = 0.0
    next_try: float = 0.0

    def failed(self) -> None:
        self.pause_seconds = min(max(2 * self.pause_seconds, 1.0), LONGEST_PAUSE_SECONDS)
        self.next_try = time.monotonic() + self.pause_seconds

    def answered(self) -> None:
        self.pause_seconds = 0.0


@final
@dataclass
class Asker:
    """Takes snapshots from the training thread and gives answers back; bounded on every side, and never raises there.

    At most one snapshot waits in memory, `max_spooled` on disk, and nothing is asked while eight jobs are under way. What
    comes on top is left out, and counted.
    """

    client: Client
    question: Question
    tell: Sequence[Told] = ()
    num_dropped: int = 0
    num_spooled: int = 0
    answers: deque[Answer] = field(default_factory=lambda: deque(maxlen=MAX_FOLLOWED))
    _queue: Queue[Snapshot] = field(default_factory=lambda: Queue(1))
    _followed: list[tuple[_Asked, Job]] = field(default_factory=list)
    _asked: dict[str, _Asked] = field(default_factory=dict)
    _next_poll: float = 0.0
    _pace: _Pace = field(default_factory=_Pace)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, also with what an earlier run has left in the spool."""
        self._thread = threading.Thread(target=self._run, name="saddlescope-callback", daemon=True)
        self._thread.start()

    def has_room(self) -> bool:
        """Whether a snapshot taken now would be kept."""
        return (
            not self._queue.full()
            and self.num_spooled < self.question.max_spooled
            and len(self._followed) < MAX_FOLLOWED
        )

    def ask(self, snapshot: Snapshot) -> None:
        """Hand over a snapshot without waiting; it is dropped if there is no room for it."""
        try:
            self._queue.put_nowait(snapshot)
        except Full:
            self.drop(snapshot.step)

    def drop(self, step: int) -> None:
        """Count a snapshot that was not taken."""
        self.num_dropped += 1
        if self.num_dropped.bit_count() == 1:  # an outage of days must not fill the log
            log.info("step %d: not asked, since earlier questions still wait (%d so far)", step, self.num_dropped)

    def close(self, seconds: float) -> None:
        """Let the thread write what it holds and try once to send it; after so many seconds it is left behind."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(seconds)
            if not self._thread.is_alive():
                self.client.close()

    def _run(self) -> None:
        boundary = Boundary("the callback's thread")
        while not self._stopping.is_set():
            with boundary:
                self._take(POLL_SECONDS)
                self._exchange()
        with boundary:
            self._take(0)
            self._pace = _Pace()
            self._exchange()

    def _take(self, seconds: float) -> None:
        """Write the next snapshot to disk, or where the disk does not take it, send it from memory."""
        try:
            snapshot = self._queue.get(timeout=seconds) if seconds else self._queue.get_nowait()
        except Empty:
            return
        asked = self.question
        metadata = {"train_loss": snapshot.train_loss} if snapshot.train_loss is not None else None
        values: RequestValues = {**asked.values, "run": asked.run, "step": snapshot.step, "metadata": metadata}
        remembered = _Asked(snapshot.step, fingerprint(snapshot.tensors))
        try:
            waiting = self.client.keep(snapshot.tensors, asked.loss, asked.data, **values)
        except OSError as full:
            log.warning("step %d: the spool takes nothing (%s); sending from memory", snapshot.step, full)
            job = self.client.submit(snapshot.tensors, asked.loss, asked.data, **values)
            self._followed.append((remembered, job))
        else:
            self._asked[waiting.key] = remembered
            self.num_spooled = sum(1 for _ in self.client.spool)

    def _exchange(self) -> None:
        """Send what waits and look after the jobs; a service that does not answer is left alone for a while."""
        if time.monotonic() < self._pace.next_try:
            return
        try:
            self._send()
            self._follow()
        except (SaddlescopeError, OSError) as failure:
            self._pace.failed()
            log.info("not sent: %s; trying again in %.0f s", failure, self._pace.pause_seconds)
        else:
            self._pace.answered()

    def _send(self) -> None:
        for delivery in self.client.send_spooled():
            asked = self._asked.pop(delivery.waiting.key, None)
            if delivery.job is None:
                log.warning("%s: the service refuses it: %s", delivery.waiting.folder.name, delivery.refusal)
            elif asked is None:
                log.info("%s: sent, from an earlier run", delivery.job.id)
            else:
                self._followed.append((asked, delivery.job))
                log.info("step %d: asked, %s", asked.step, delivery.job.info.urls.web)
        self.num_spooled = sum(1 for _ in self.client.spool)

    def _follow(self) -> None:
        if time.monotonic() < self._next_poll:
            return
        self._next_poll = time.monotonic() + POLL_SECONDS
        for asked, job in list(self._followed):
            try:
                if not job.refresh().done:
                    continue
                answer = Answer(asked.step, job.report(), job.id, job.info.urls.web, asked.fingerprint)
                if answer.report.advice.action is Action.ESCAPE:
                    for way in answer.report.escapes[:1]:
                        _ = way.vector  # fetched here, since the training thread must not
            except (JobFailed, JobCancelled, NotFound, UnreadableAnswer) as ended:
                self._followed.remove((asked, job))
                log.warning("step %d: no answer: %s", asked.step, ended)
                continue
            self._followed.remove((asked, job))
            log.info("step %d: %s %s", asked.step, answer.report.summary, answer.url)
            self.answers.append(answer)
            for tell in self.tell:
                with Boundary("passing an answer on"):
                    tell(answer)
