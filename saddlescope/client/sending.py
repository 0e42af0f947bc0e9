"""Sending a submission: the bytes that the service lacks, then the request under its key."""

from __future__ import annotations

from collections.abc import Iterable

from saddlescope.client import progress as progress_bar
from saddlescope.client.answers import parse
from saddlescope.client.errors import NotFound
from saddlescope.client.job import Job
from saddlescope.client.resumable import RESUMABLE_BYTES, upload_resumably
from saddlescope.client.transport import Body, Call, Transport
from saddlescope.client.uploads import Upload
from saddlescope.contract import jobs, limits


def send(
    transport: Transport,
    body: bytes,
    uploads: Iterable[Upload],
    *,
    key: str,
    cancel_after: str | None = None,
    wait: int = 0,
    progress: bool = False,
) -> Job:
    """Send what the service lacks and the request; under the same key and body it is one job, however often it is sent.

    Raises:
        ApiError: if the service refuses it.
        ConnectionFailed: if it cannot be reached.
    """
    for upload in uploads:
        _send_upload(transport, upload, progress=progress)
    wait = min(wait, limits.MAX_PREFER_WAIT_SECONDS)
    headers = {"Idempotency-Key": key}
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
    return Job(transport, parse(jobs.Job, transport.send(call).content))


def _send_upload(transport: Transport, upload: Upload, *, progress: bool) -> None:
    path = f"/v1/artifacts/{upload.artifact}"
    try:
        transport.send(Call("HEAD", path))
    except NotFound:
        if upload.body.size < RESUMABLE_BYTES:
            transport.send(Call("PUT", path, body=upload.body))
            return
        with progress_bar.sending(progress, upload.body) as watched:
            upload_resumably(transport, Upload(upload.artifact, watched))
