"""A handle on one job of the service."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from typing import final

from saddlescope.client import progress as progress_bar
from saddlescope.client.answers import parse
from saddlescope.client.errors import (
    ConnectionFailed,
    JobCancelled,
    JobFailed,
    RateLimited,
    ServerError,
    WaitTimeout,
)
from saddlescope.client.fetching import fetch_report, fetch_spectrum
from saddlescope.client.following import LONGEST_OUTAGE_SECONDS, follow
from saddlescope.client.transport import Call, Transport, pause, retry_after_seconds
from saddlescope.contract import jobs
from saddlescope.contract.reports import Spectrum
from saddlescope.contract.vocabulary import JobStatus, Verdict
from saddlescope.results import AnalysisReport

POLL_SECONDS = 20
WATCHED_POLL_SECONDS = 1


@final
class Job:
    """A job; `.info` is its last known state, as `GET /v1/jobs/{id}` gives it."""

    def __init__(self, transport: Transport, info: jobs.Job) -> None:
        self._transport = transport
        self.info = info

    def __repr__(self) -> str:
        return f"Job({self.id!r}, status={self.status.value!r})"

    @property
    def id(self) -> str:
        return self.info.id

    @property
    def status(self) -> JobStatus:
        return self.info.status

    @property
    def done(self) -> bool:
        return self.info.done

    @property
    def verdict(self) -> Verdict | None:
        return self.info.verdict

    def refresh(self) -> Job:
        """Ask for the job's state now."""
        self._poll(0)
        return self

    def wait(self, timeout: float | None = None, *, progress: bool | None = None) -> AnalysisReport:
        """Wait for the end of the job and return its report. A restart of the service in between is waited out.

        Args:
            timeout: seconds; None waits for as long as it takes.
            progress: whether to draw a bar on standard error; None draws it on a terminal.

        Raises:
            JobFailed: if the job failed.
            JobCancelled: if it was cancelled.
            WaitTimeout: if it was not done in time. It goes on.
            ConnectionFailed: if the service is not answering for five minutes.
        """
        watched = progress_bar.is_terminal() if progress is None else progress
        end = None if timeout is None else time.monotonic() + timeout
        last_answer, num_failures = time.monotonic(), 0
        with progress_bar.shown(watched) as show:
            while not self.done:
                left = POLL_SECONDS if end is None else end - time.monotonic()
                if left <= 0:
                    raise WaitTimeout(self.id, seconds=timeout or 0.0)
                try:
                    self._poll(min(left, WATCHED_POLL_SECONDS if watched else POLL_SECONDS))
                    last_answer, num_failures = time.monotonic(), 0
                except (ConnectionFailed, RateLimited, ServerError):
                    if time.monotonic() - last_answer > LONGEST_OUTAGE_SECONDS:
                        raise
                    # A client without retries has not paused yet.
                    time.sleep(min(left, pause(num_failures, None)))
                    num_failures += 1
                show(self.info)
        return self.report()

    def report(self) -> AnalysisReport:
        """The report of the finished job.

        Raises:
            JobFailed: if the job failed.
            JobCancelled: if it was cancelled.
            Conflict: if it is not done.
        """
        if self.status is JobStatus.CANCELLED:
            raise JobCancelled(self.id)
        if self.info.error is not None and self.status is JobStatus.FAILED:
            raise JobFailed(self.id, code=self.info.error.code, detail=self.info.error.detail)
        return fetch_report(self._transport, self.id)

    def spectrum(self) -> Spectrum:
        """All eigenvalues when exact, else Ritz pairs and the density. Raises Conflict if the job is not done."""
        return fetch_spectrum(self._transport, self.id)

    def cancel(self) -> Job:
        """Ask for an end: at once for a queued job, within seconds for a running one, nothing for a finished one."""
        answer = self._transport.send(Call("POST", f"/v1/jobs/{self.id}/cancel"))
        self.info = parse(jobs.Job, answer.content)
        return self

    def retry(self) -> Job:
        """A new job with the same request."""
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        answer = self._transport.send(Call("POST", f"/v1/jobs/{self.id}/retry", headers=headers))
        return Job(self._transport, parse(jobs.Job, answer.content))

    def events(self) -> Iterator[jobs.Event]:
        """The history of the job from its beginning, and what happens until its end; see `Client.events`."""
        return follow(self._transport, f"/v1/jobs/{self.id}/events")

    def _poll(self, wait_seconds: float) -> None:
        started = time.monotonic()
        whole = int(wait_seconds)
        headers = {"Prefer": f"wait={whole}"} if whole else {}
        answer = self._transport.send(Call("GET", f"/v1/jobs/{self.id}", headers=headers, wait_seconds=whole))
        self.info = parse(jobs.Job, answer.content)
        unused = wait_seconds - (time.monotonic() - started)
        if not self.done and unused > 0:
            # A proxy may have dropped the Prefer header: never ask in a tight loop.
            told = retry_after_seconds(answer.headers.get("Retry-After"))
            time.sleep(min(unused, 1.0 if told is None else told))
