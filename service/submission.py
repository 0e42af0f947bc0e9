"""From a validated request to a job in the database and a message to the workers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import structlog
from sqlalchemy.orm import Session

import saddlescope
from saddlescope.contract.jobs import Estimate, JobRequest
from service import estimates
from service.estimates import least_memory_bytes
from service.parts import Parts
from service.problems import IdempotencyKeyReused, JobQuotaExceeded, quota_told
from service.references import AllowedReferences
from service.settings import Auth, Settings
from service.validation import artifact_ids, validate
from store.artifacts import find_artifact, missing_artifacts, record_artifact
from store.blobs import Blob
from store.database import database_now
from store.fingerprints import fingerprint
from store.idempotency import IdempotencyEntry, KeyTaken, find_idempotent
from store.jobs import find_finished_twin, find_job, insert_job
from store.precedents import latest_precedents
from store.queue import PendingJob
from store.quotas import has_as_many_queued
from store.records import JobRow

log = structlog.get_logger("service")


@dataclass(frozen=True)
class Submission:
    """A request and what its headers say about the job."""

    project: str
    request: JobRequest
    uploads: tuple[Blob, ...] = ()
    deadline_seconds: int | None = None
    idempotency_key: str | None = None
    traceparent: str | None = None
    request_id: str | None = None
    retry_of: str | None = None

    def body_digest(self) -> str:
        """The same for two bodies that ask the same, whatever their white space and multipart boundaries."""
        said = {"request": self.request.model_dump(mode="json"), "cancel_after": self.deadline_seconds}
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Accepted:
    job: JobRow
    is_new: bool
    is_replayed: bool = False


def check(parts: Parts, submission: Submission) -> None:
    """Raises RequestInvalid for what is certain to fail."""
    uploaded = {blob.id for blob in submission.uploads}

    def missing(ids: Collection[str]) -> frozenset[str]:
        with parts.sessions() as session:
            return missing_artifacts(session, project=submission.project, ids=set(ids) - uploaded)

    settings = parts.settings
    references = AllowedReferences.of(settings.reference_roots, settings.reference_buckets)
    validate(submission.request, missing=missing, references=references, allowance=settings.destinations())


def estimate(parts: Parts, submission: Submission) -> Estimate:
    """Of a submission that `check` has passed."""
    with parts.sessions() as session:
        sizes = _sizes(session, submission)
        precedents = latest_precedents(session, project=submission.project)
    return estimates.estimate(submission.request, sizes, precedents)


def submit(parts: Parts, submission: Submission) -> Accepted:
    """Store the job, then have the workers told of it.

    Raises:
        IdempotencyKeyReused: if the key came before with another body.
        QuotaExceeded: if the files that came with it are more than the project may store.
        JobQuotaExceeded: if as many of its jobs wait as may.
    """
    accept = partial(_accept, submission=submission, settings=parts.settings)
    try:
        with quota_told():
            accepted = parts.commits.run(accept)
    except KeyTaken:
        # A request with the same key was committed meanwhile: this one now finds it.
        with quota_told():
            accepted = parts.commits.run(accept)
    if accepted.is_new and accepted.job.deduplicated_from is not None:
        parts.metrics.deduplicated.inc()
    elif accepted.is_new:
        log.info("job_queued", job_id=accepted.job.id, queue=accepted.job.queue, project=submission.project)
        # After the commit: a worker that hears of a job finds it. Without a broker the reconciler rings later.
        parts.bells.ring_soon(PendingJob(accepted.job.id, accepted.job.queue))
        parts.metrics.submitted.labels(submission.request.loss.kind).inc()
    return accepted


def _accept(session: Session, submission: Submission, settings: Settings) -> Accepted:
    project, request = submission.project, submission.request
    entry = None
    if submission.idempotency_key is not None:
        entry = IdempotencyEntry(key=submission.idempotency_key, body_digest=submission.body_digest())
        replay = _replay(session, project, entry)
        if replay is not None:
            return replay
    for blob in submission.uploads:
        record_artifact(session, project=project, blob=blob, default_quota_bytes=settings.project_quota_bytes)
    question = fingerprint(request, saddlescope.__version__)
    twin = None
    if not request.force and submission.retry_of is None:
        twin = find_finished_twin(session, project=project, fingerprint=question)
    if twin is None and settings.auth is Auth.KEYS and has_as_many_queued(session, project, settings.max_queued_jobs):
        raise JobQuotaExceeded(
            f"{settings.max_queued_jobs} jobs of the project wait already; submit again when some are done.",
            headers={"retry-after": "30"},
        )
    deadline_at = None
    if submission.deadline_seconds is not None:
        deadline_at = database_now(session) + timedelta(seconds=submission.deadline_seconds)
    job = insert_job(
        session,
        project=project,
        request=request,
        fingerprint=question,
        deadline_at=deadline_at,
        idempotency=entry,
        traceparent=submission.traceparent,
        request_id=submission.request_id,
        retry_of=submission.retry_of,
        memory_bytes=least_memory_bytes(request, _sizes(session, submission)),
        twin=twin,
    )
    return Accepted(job, is_new=True)


def _sizes(session: Session, submission: Submission) -> dict[str, int]:
    """The bytes of each artifact that the request names; 0 for one that is not there."""
    sizes = {blob.id: blob.size for blob in submission.uploads}
    for artifact in set(artifact_ids(submission.request).values()) - set(sizes):
        row = find_artifact(session, project=submission.project, id=artifact)
        sizes[artifact] = 0 if row is None else row.size
    return sizes


def _replay(session: Session, project: str, entry: IdempotencyEntry) -> Accepted | None:
    before = find_idempotent(session, project=project, key=entry.key)
    if before is None or before.job_id is None:
        return None
    if before.body_digest != entry.body_digest:
        raise IdempotencyKeyReused("This Idempotency-Key came before with another body; take a new one.")
    job = find_job(session, project=project, job_id=before.job_id)
    if job is None:
        return None
    return Accepted(job, is_new=False, is_replayed=True)
