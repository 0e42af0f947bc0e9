"""Submissions that wait on disk: written at once, sent when the service answers, each exactly once.

    waiting/<time>-<key>/        one folder a submission, which appears whole, by a rename
        envelope.json            its key and what it was asked with
        body.json                the request, byte for byte as it will be sent
        sha256-<hex>             the bytes that the request names; what several submissions name is one file with many links
    refused/<time>-<key>/        the same, with problem.json: what the service will never take
    writing/                     what is not whole yet

There is no lock. Two senders of one folder send the same submission under the same key, which the service makes one job
for seven days; after that, a question that it has answered costs it nothing.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import final

from saddlescope.client.errors import ApiError, InvalidRequest, TooLarge
from saddlescope.client.job import Job
from saddlescope.client.requests import Submission
from saddlescope.client.sending import send
from saddlescope.client.transport import Transport
from saddlescope.client.uploads import Upload, body_of_file
from saddlescope.contract.strict import Closed

ABANDONED_SECONDS = 86_400.0
_ENVELOPE, _BODY, _PROBLEM = "envelope.json", "body.json", "problem.json"


class Envelope(Closed):
    """How a submission is to be sent."""

    key: str
    cancel_after: str | None = None
    artifacts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Waiting:
    """One submission on disk."""

    folder: Path
    envelope: Envelope

    @property
    def key(self) -> str:
        return self.envelope.key

    def body(self) -> bytes:
        return (self.folder / _BODY).read_bytes()

    def uploads(self) -> Iterator[Upload]:
        # Not hashed again: the service does, and refuses what the disk has changed.
        for artifact in self.envelope.artifacts:
            yield Upload(artifact, body_of_file(self.folder / _file_name(artifact)))


@dataclass(frozen=True)
class Delivery:
    """What became of a submission: a job, or a refusal for good."""

    waiting: Waiting
    job: Job | None
    refusal: ApiError | None = None


def submission_key(submission: Submission) -> str:
    """The key that makes the submission one job: the caller's, else made of its content, so that a repeat is the same.

    A forced submission has a key of its own each time: it asks for another job although the question is the same.
    """
    if submission.idempotency_key is not None:
        return submission.idempotency_key
    if submission.request.force:
        return str(uuid.uuid4())
    content = f"{submission.cancel_after}\n".encode() + submission.to_json()
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@final
class Spool:
    """A folder of submissions; several processes may write to it and send from it at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __repr__(self) -> str:
        return f"Spool({str(self.folder)!r})"

    def __iter__(self) -> Iterator[Waiting]:
        """What waits, oldest first."""
        return self._all("waiting")

    def refused(self) -> Iterator[Waiting]:
        """What the service will never take, oldest first."""
        return self._all("refused")

    def add(self, submission: Submission, *, key: str) -> Waiting:
        """Write a submission, durable when this returns; one that waits already is not written again.

        Raises:
            OSError: if the disk does not take it. Nothing of it is left behind then.
        """
        body = submission.to_json()
        for waiting in self:
            with suppress(FileNotFoundError):  # sent by another process since it was listed
                if waiting.key == key and waiting.body() == body:
                    return waiting
        self._sweep()
        envelope = Envelope(
            key=key,
            cancel_after=submission.cancel_after,
            artifacts=tuple(upload.artifact for upload in submission.uploads),
        )
        draft = self.folder / "writing" / uuid.uuid4().hex
        draft.mkdir(parents=True)
        try:
            for upload in submission.uploads:
                self._place(upload, draft / _file_name(upload.artifact))
            _write(draft / _BODY, iter((body,)))
            _write(draft / _ENVELOPE, iter((envelope.model_dump_json().encode(),)))
            _sync_folder(draft)
            target = self.folder / "waiting" / f"{time.time_ns():020d}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
            target.parent.mkdir(exist_ok=True)
            draft.rename(target)
            _sync_folder(target.parent)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return Waiting(target, envelope)

    def remove(self, waiting: Waiting) -> None:
        """Take out what has been sent; another sender may have been quicker."""
        bin_ = self.folder / "writing" / uuid.uuid4().hex
        bin_.parent.mkdir(exist_ok=True)
        with suppress(FileNotFoundError):
            # Renamed first: a folder that is half gone would be taken for a submission.
            waiting.folder.rename(bin_)
            shutil.rmtree(bin_, ignore_errors=True)

    def refuse(self, waiting: Waiting, refusal: ApiError) -> None:
        """Move aside what the service will never take, with its reasons."""
        with suppress(FileNotFoundError):
            (waiting.folder / _PROBLEM).write_text(refusal.problem.model_dump_json(indent=2), encoding="utf-8")
            target = self.folder / "refused" / waiting.folder.name
            target.parent.mkdir(exist_ok=True)
            waiting.folder.rename(target)

    def _all(self, kind: str) -> Iterator[Waiting]:
        for folder in sorted((self.folder / kind).glob("*-*")):
            with suppress(FileNotFoundError):  # sent by another process since it was listed
                yield Waiting(folder, Envelope.model_validate_json((folder / _ENVELOPE).read_bytes(), extra="ignore"))

    def _place(self, upload: Upload, target: Path) -> None:
        for known in (self.folder / "waiting").glob(f"*/{target.name}"):
            with suppress(OSError):  # sent meanwhile, or a file system without links
                os.link(known, target)
                return
        if not target.exists():  # a checkpoint and its data may be the same bytes
            _write(target, upload.body.chunks())

    def _sweep(self) -> None:
        """Remove what a process that was killed left half written."""
        for draft in (self.folder / "writing").glob("*"):
            with suppress(FileNotFoundError):
                if time.time() - draft.stat().st_mtime > ABANDONED_SECONDS:
                    shutil.rmtree(draft, ignore_errors=True)


def deliver(transport: Transport, spool: Spool, *, progress: bool = False) -> Iterator[Delivery]:
    """Send what waits, oldest first. It is taken out after the service has acknowledged it, so that a crash repeats the
    call and not the job.

    Refused for good is what the service says of the submission itself: 400, 413, 415 or 422. All else, a proxy's answer
    or a wrong address among it, is about the way there, and would be said of everything that waits.

    Raises:
        ConnectionFailed, ApiError: that nothing more can be sent now. The rest waits.
    """
    for waiting in spool:
        envelope = waiting.envelope
        try:
            job = send(
                transport,
                waiting.body(),
                waiting.uploads(),
                key=envelope.key,
                cancel_after=envelope.cancel_after,
                progress=progress,
            )
        except (InvalidRequest, TooLarge) as refusal:
            if refusal.problem.retryable or not _is_of_the_service(refusal):
                raise
            spool.refuse(waiting, refusal)
            yield Delivery(waiting, None, refusal)
        except FileNotFoundError:
            if waiting.folder.exists():
                raise
            # Another process has sent it meanwhile.
        else:
            spool.remove(waiting)
            yield Delivery(waiting, job)


def _is_of_the_service(refusal: ApiError) -> bool:
    return refusal.problem.type.startswith("/problems/")


def _file_name(artifact: str) -> str:
    return artifact.replace(":", "-")


def _write(path: Path, chunks: Iterator[bytes]) -> None:
    with path.open("xb") as file:
        for chunk in chunks:
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # a folder cannot be opened there
        return
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
