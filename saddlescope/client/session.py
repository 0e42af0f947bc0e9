"""The client of a Saddlescope service."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Unpack, final

from saddlescope.client import progress as progress_bar
from saddlescope.client.answers import parse
from saddlescope.client.errors import ConnectionFailed, RateLimited, ServerError, Spooled
from saddlescope.client.fetching import download, fetch_escape
from saddlescope.client.following import follow
from saddlescope.client.job import Job
from saddlescope.client.listing import filters_of, list_jobs
from saddlescope.client.requests import Loss, RequestValues, Submission, build_submission
from saddlescope.client.sending import send
from saddlescope.client.spool import Delivery, Spool, Waiting, deliver, submission_key
from saddlescope.client.transport import Call, Transport
from saddlescope.client.uploads import Content
from saddlescope.contract import jobs
from saddlescope.contract.jobs import Event
from saddlescope.contract.vocabulary import JobStatus, Verdict

DEFAULT_URL = "http://127.0.0.1:8000"


@final
class Client:
    """Submits checkpoints and reads reports; safe to share between threads.

    Args:
        url: the service's address; else SADDLESCOPE_URL, else http://127.0.0.1:8000.
        api_key: else SADDLESCOPE_API_KEY; a service on a loopback address needs none.
        timeout: seconds of silence after which an attempt is given up.
        retries: how often a call is repeated after a lost connection, 429 or a fault of the service.
        spool: a folder for submissions that the service could not take; see `keep` and `send_spooled`.
        progress: whether large uploads draw a bar on standard error; None draws it on a terminal.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        timeout: float = 30.0,
        retries: int = 5,
        spool: Path | str | None = None,
        progress: bool | None = None,
    ) -> None:
        url = url or os.environ.get("SADDLESCOPE_URL") or DEFAULT_URL
        # Stripped: a key that was read from a file ends with a line break.
        self.api_key = (api_key or os.environ.get("SADDLESCOPE_API_KEY") or "").strip() or None
        self._transport = Transport(url.rstrip("/"), api_key=self.api_key, timeout_seconds=timeout, retries=retries)
        self._spool = None if spool is None else Spool(Path(spool))
        self._progress = progress_bar.is_terminal() if progress is None else progress

    @property
    def url(self) -> str:
        return self._transport.url

    def __repr__(self) -> str:
        return f"Client({self.url!r})"

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._transport.close()

    def submit(
        self,
        checkpoint: Content,
        loss: Loss,
        data: Content | None = None,
        *,
        wait: int = 0,
        **values: Unpack[RequestValues],
    ) -> Job:
        """Submit a job; only bytes that the service does not have yet are sent.

        Args:
            checkpoint: a state dict, arrays or numbers by name, a file, or the bytes of one.
            loss: the bytes of `saddlescope.export_loss` or the path of such a file, the contract's JSON as a dict
                (there `program` may be bytes or a path), the path of a .json file, or an expression.
            data: the tensors that the loss reads, sharing their first dimension, as `checkpoint`.
            wait: seconds (at most 60) that the service may hold its answer for a job that is done by then.
            run, step, run_name: the training run and its step, to see the jobs of a run side by side.
            labels, metadata: to find the job by, and to keep with it.
            priority, queue: whose turn it is, and among which workers.
            force: analyse again, even if the same question has been answered.
            callback_url: an address to be told of the end.
            cancel_after: a deadline like "90s", "10m" or "2h".
            idempotency_key: to submit once although the caller may be restarted; else one is made for this call.
            options: those of the HTTP contract, for example `method="dense"`.

        Raises:
            TypeError: if an option does not exist, or a mapping holds what is no tensor.
            InvalidRequest: if the request breaks the contract, before anything is sent.
            ApiError: if the service refuses it.
            ConnectionFailed: if the service cannot be reached; with a spool, its subclass Spooled.
        """
        submission = build_submission(checkpoint=checkpoint, loss=loss, data=data, values=values)
        if self._spool is None:
            return self._send(submission, submission.idempotency_key or str(uuid.uuid4()), wait)
        key = submission_key(submission)
        try:
            return self._send(submission, key, wait)
        except (ConnectionFailed, RateLimited, ServerError) as failure:
            raise Spooled(self._spool.add(submission, key=key).folder, str(failure)) from failure

    def keep(
        self, checkpoint: Content, loss: Loss, data: Content | None = None, **values: Unpack[RequestValues]
    ) -> Waiting:
        """Write a submission to the spool without asking the service; the arguments are those of `submit`.

        The same submission is kept once: its key is made of its content, unless `force` or `idempotency_key` is given.

        Raises:
            OSError: if the disk does not take it. Nothing of it is left behind then.
            ValueError: if the client has no spool.
        """
        submission = build_submission(checkpoint=checkpoint, loss=loss, data=data, values=values)
        return self.spool.add(submission, key=submission_key(submission))

    def send_spooled(self) -> Iterator[Delivery]:
        """Send what waits in the spool, oldest first; each becomes one job, however often this is broken off and repeated.

        What the service refuses for good is moved aside, with its reasons. The iterator must be read.

        Raises:
            ConnectionFailed, ApiError: that nothing more can be sent now, for a reason that is not the submission's.
                The rest waits.
            ValueError: if the client has no spool.
        """
        return deliver(self._transport, self.spool, progress=self._progress)

    @property
    def spool(self) -> Spool:
        """Raises: ValueError if the client has none."""
        if self._spool is None:
            raise ValueError("the client has no spool; give it a folder: Client(url, spool=...)")
        return self._spool

    def _send(self, submission: Submission, key: str, wait: int) -> Job:
        return send(
            self._transport,
            submission.to_json(),
            submission.uploads,
            key=key,
            cancel_after=submission.cancel_after,
            wait=wait,
            progress=self._progress,
        )

    def job(self, job_id: str) -> Job:
        """The job with this id. Raises NotFound if the project has none."""
        return Job(self._transport, parse(jobs.Job, self._transport.send(Call("GET", f"/v1/jobs/{job_id}")).content))

    def jobs(
        self,
        *,
        status: JobStatus | str | None = None,
        verdict: Verdict | str | None = None,
        run: str | None = None,
        labels: Mapping[str, str] | None = None,
        limit: int | None = None,
    ) -> Iterator[Job]:
        """Jobs from the newest, page by page; at most `limit`."""
        filters = filters_of(status=status, verdict=verdict, run=run, labels=labels)
        return list_jobs(self._transport, filters, limit=limit)

    def export_jobs(
        self,
        path: Path,
        *,
        status: JobStatus | str | None = None,
        verdict: Verdict | str | None = None,
        run: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """Write every job of the query to a .csv or .ndjson file, by the file's name."""
        if path.suffix not in (".csv", ".ndjson"):
            raise ValueError(f"{path} should end with .csv or .ndjson")
        filters = filters_of(status=status, verdict=verdict, run=run, labels=labels)
        download(self._transport, f"/v1/jobs{path.suffix}", path, params=filters)

    def events(
        self, job: Job | str | None = None, *, run: str | None = None, after: str | None = None
    ) -> Iterator[Event]:
        """Events as they happen, each once, also when the connection or the service breaks in between.

        Args:
            job: follow this job from its beginning until its end.
            run: without a job, the events of one training run; without both, those of the whole project. They go on
                until the caller stops reading.
            after: the id of the last event that is known. A project's events begin now without it.

        Raises:
            NotFound: if the project has no such job.
            ConnectionFailed: if the service is not answering for five minutes.
        """
        if job is None:
            return follow(self._transport, "/v1/events", params={} if run is None else {"run": run}, after=after)
        if run is not None:
            raise TypeError("give a job or a run, not both")
        return follow(self._transport, f"/v1/jobs/{job if isinstance(job, str) else job.id}/events", after=after)

    def escape_vector(self, job_id: str, index: int) -> bytes:
        """A direction of a finished job as safetensors, for programs without torch."""
        return fetch_escape(self._transport, job_id, index)

    def save(self, job_id: str, name: str, path: Path) -> None:
        """Write a result of a finished job to a file; names as in the contract, `spectrum.csv` or `bundle` for example."""
        download(self._transport, f"/v1/jobs/{job_id}/{name}", path)
