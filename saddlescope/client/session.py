"""The client of a Saddlescope service."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Unpack, final

from pydantic import JsonValue

from saddlescope.client.answers import JobPage, parse
from saddlescope.client.errors import NotFound
from saddlescope.client.fetching import fetch_escape
from saddlescope.client.following import follow
from saddlescope.client.job import Job
from saddlescope.client.requests import Loss, OptionValues, build_submission
from saddlescope.client.resumable import RESUMABLE_BYTES, upload_resumably
from saddlescope.client.transport import Body, Call, Transport
from saddlescope.client.uploads import Content, Upload
from saddlescope.contract import jobs, limits
from saddlescope.contract.jobs import Event
from saddlescope.contract.vocabulary import JobStatus, Verdict

DEFAULT_URL = "http://127.0.0.1:8000"
PAGE_SIZE = 100


@final
class Client:
    """Submits checkpoints and reads reports; safe to share between threads.

    Args:
        url: the service's address; else SADDLESCOPE_URL, else http://127.0.0.1:8000.
        api_key: else SADDLESCOPE_API_KEY; a service on a loopback address needs none.
        timeout: seconds of silence after which an attempt is given up.
        retries: how often a call is repeated after a lost connection, 429 or a fault of the service.
    """

    def __init__(
        self, url: str | None = None, api_key: str | None = None, *, timeout: float = 30.0, retries: int = 5
    ) -> None:
        url = url or os.environ.get("SADDLESCOPE_URL") or DEFAULT_URL
        self.api_key = api_key or os.environ.get("SADDLESCOPE_API_KEY") or None
        self._transport = Transport(url.rstrip("/"), api_key=self.api_key, timeout_seconds=timeout, retries=retries)

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
        run: str | None = None,
        step: int | None = None,
        run_name: str | None = None,
        labels: Mapping[str, str] | None = None,
        metadata: Mapping[str, JsonValue] | None = None,
        priority: int = 0,
        queue: str = "auto",
        force: bool = False,
        callback_url: str | None = None,
        cancel_after: str | None = None,
        idempotency_key: str | None = None,
        wait: int = 0,
        **options: Unpack[OptionValues],
    ) -> Job:
        """Submit a job; only bytes that the service does not have yet are sent.

        Args:
            checkpoint: a state dict, arrays or numbers by name, a file, or the bytes of one.
            loss: the bytes of `saddlescope.export_loss` or the path of such a file, the contract's JSON as a dict
                (there `program` may be bytes or a path), the path of a .json file, or an expression.
            data: the tensors that the loss reads, sharing their first dimension, as `checkpoint`.
            run, step, run_name: the training run and its step, to see the jobs of a run side by side.
            force: analyse again, even if the same question has been answered.
            cancel_after: a deadline like "90s", "10m" or "2h".
            idempotency_key: to submit once although the caller may be restarted; else one is made for this call.
            wait: seconds (at most 60) that the service may hold its answer for a job that is done by then.
            options: those of the HTTP contract, for example `method="dense"`.

        Raises:
            TypeError: if an option does not exist, or a mapping holds what is no tensor.
            InvalidRequest: if the request breaks the contract, before anything is sent.
            ApiError: if the service refuses it.
            ConnectionFailed: if the service cannot be reached.
        """
        fields: dict[str, object] = {
            "run": None if run is None else _present({"id": run, "step": step, "name": run_name}),
            "labels": dict(labels) if labels else None,
            "metadata": dict(metadata) if metadata else None,
            "priority": priority or None,
            "queue": None if queue == "auto" else queue,
            "force": force or None,
            "callback_url": callback_url,
        }
        if run is None and (step is not None or run_name is not None):
            raise TypeError("a step or a run's name belongs to a run: give run= too")
        submission = build_submission(
            checkpoint=checkpoint, loss=loss, data=data, options=options, fields=_present(fields)
        )
        for upload in submission.uploads:
            self._upload(upload)
        body = submission.to_json()
        wait = min(wait, limits.MAX_PREFER_WAIT_SECONDS)
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        if wait > 0:
            headers["Prefer"] = f"wait={wait}"
        if cancel_after is not None:
            headers["Cancel-After"] = cancel_after
        call = Call(
            "POST",
            "/v1/jobs",
            body=Body(len(body), lambda _=0: iter((body,)), content_type="application/json"),
            headers=headers,
            wait_seconds=wait,
        )
        return Job(self._transport, parse(jobs.Job, self._transport.send(call).content))

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
        filters: dict[str, str | int | list[str]] = {}
        if status is not None:
            filters["status"] = JobStatus(status).value
        if verdict is not None:
            filters["verdict"] = Verdict(verdict).value
        if run is not None:
            filters["run"] = run
        if labels:
            filters["label"] = [f"{name}:{value}" for name, value in labels.items()]
        after: str | None = None
        left = limit
        while left is None or left > 0:
            size = PAGE_SIZE if left is None else min(PAGE_SIZE, left)
            page_filters = filters | {"limit": size} | ({} if after is None else {"after": after})
            page = parse(JobPage, self._transport.send(Call("GET", "/v1/jobs", params=page_filters)).content)
            yield from (Job(self._transport, info) for info in page.data)
            after = page.next
            if after is None or not page.has_more:
                return
            left = None if left is None else left - len(page.data)

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
        """Write an artefact of a finished job to a file; names as in the contract, `spectrum.csv` for example."""
        path.write_bytes(self._transport.send(Call("GET", f"/v1/jobs/{job_id}/{name}")).content)

    def _upload(self, upload: Upload) -> None:
        path = f"/v1/artifacts/{upload.artifact}"
        try:
            self._transport.send(Call("HEAD", path))
        except NotFound:
            if upload.body.size >= RESUMABLE_BYTES:
                upload_resumably(self._transport, upload)
            else:
                self._transport.send(Call("PUT", path, body=upload.body))


def _present(fields: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in fields.items() if value is not None}
