"""The schema. `migrations/` builds the same one, which a test holds to this file."""

from __future__ import annotations

from datetime import datetime

from pydantic import JsonValue
from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    MetaData,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from saddlescope.contract.jobs import JobRequest, Partial, Progress, Usage
from saddlescope.contract.reports import Report
from saddlescope.contract.vocabulary import JobStatus
from saddlescope.contract.webhooks import DeliveryStatus
from store.moments import Moment, now
from store.values import ValueOf

# Conditions of indexes over a part of the rows.
HAS_VERDICT, HAS_RUN = text("verdict IS NOT NULL"), text("run_id IS NOT NULL")
STATUSES = ", ".join(f"'{status}'" for status in JobStatus)
DELIVERY_STATUSES = ", ".join(f"'{status}'" for status in DeliveryStatus)


class Table(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_N_label)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class Project(Table):
    __tablename__ = "projects"
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    created_at: Mapped[datetime] = mapped_column(Moment, insert_default=now())
    quota_bytes: Mapped[int | None] = mapped_column(BigInteger)


class ApiKey(Table):
    __tablename__ = "api_keys"
    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    project: Mapped[str] = mapped_column(ForeignKey("projects.name"), index=True)
    secret_hmac: Mapped[str] = mapped_column(String(64))
    scopes: Mapped[list[str]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(Moment, insert_default=now())
    expires_at: Mapped[datetime | None] = mapped_column(Moment)
    revoked_at: Mapped[datetime | None] = mapped_column(Moment)


class Artifact(Table):
    """A project's right to a blob; the same bytes in two projects are two rows."""

    __tablename__ = "artifacts"
    project: Mapped[str] = mapped_column(ForeignKey("projects.name"), primary_key=True)
    id: Mapped[str] = mapped_column(String(71), primary_key=True, index=True)
    size: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(Moment, insert_default=now())


class Upload(Table):
    """Bytes on their way to become an artifact; `received` counts those that are durable."""

    __tablename__ = "uploads"
    __table_args__ = (CheckConstraint("received >= 0 AND received <= size", name="received"),)
    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    project: Mapped[str] = mapped_column(ForeignKey("projects.name"), index=True)
    size: Mapped[int] = mapped_column(BigInteger)
    received: Mapped[int] = mapped_column(BigInteger)
    expected: Mapped[str | None] = mapped_column(String(71))
    details: Mapped[str | None] = mapped_column("metadata", Text)
    artifact: Mapped[str | None] = mapped_column(String(71))
    created_at: Mapped[datetime] = mapped_column(Moment, insert_default=now())
    expires_at: Mapped[datetime] = mapped_column(Moment, index=True)


class Job(Table):
    __tablename__ = "jobs"
    __table_args__ = (
        CheckConstraint(f"status IN ({STATUSES})", name="status"),
        CheckConstraint("attempt >= 0 AND attempt <= max_attempts", name="attempt"),
        CheckConstraint("(status = 'running') = (lease_until IS NOT NULL)", name="lease"),
        CheckConstraint("(status IN ('queued', 'running')) = (finished_at IS NULL)", name="finished"),
        CheckConstraint("(status = 'failed') = (error_code IS NOT NULL)", name="error"),
        CheckConstraint("(status = 'succeeded') = (verdict IS NOT NULL)", name="verdict"),
        Index("ix_jobs_list", "project", "id"),
        # Each list by its filter and in the order of creation; without them a filter that finds little reads all.
        Index("ix_jobs_list_status", "project", "status", "id"),
        Index(
            "ix_jobs_list_verdict", "project", "verdict", "id", sqlite_where=HAS_VERDICT, postgresql_where=HAS_VERDICT
        ),
        Index(
            "ix_jobs_list_run", "project", "run_id", "id", "run_step", sqlite_where=HAS_RUN, postgresql_where=HAS_RUN
        ),
        Index("ix_jobs_run", "project", "run_id", "run_step"),
        Index("ix_jobs_fingerprint", "project", "fingerprint"),
        Index("ix_jobs_claim", "status", "project", "queue", "priority", "id"),
        Index("ix_jobs_lease", "status", "lease_until"),
        Index("ix_jobs_started", "project", "started_at"),
    )
    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    project: Mapped[str] = mapped_column(ForeignKey("projects.name"))
    status: Mapped[str] = mapped_column(String(16))
    queue: Mapped[str] = mapped_column(String(32))
    priority: Mapped[int]
    fence: Mapped[int] = mapped_column(BigInteger)
    attempt: Mapped[int]
    max_attempts: Mapped[int]
    worker: Mapped[str | None] = mapped_column(String(255))
    created_at: Mapped[datetime] = mapped_column(Moment, insert_default=now())
    not_before: Mapped[datetime] = mapped_column(Moment, insert_default=now())
    dispatched_at: Mapped[datetime | None] = mapped_column(Moment)
    started_at: Mapped[datetime | None] = mapped_column(Moment)
    lease_until: Mapped[datetime | None] = mapped_column(Moment)
    deadline_at: Mapped[datetime | None] = mapped_column(Moment)
    cancel_requested_at: Mapped[datetime | None] = mapped_column(Moment)
    finished_at: Mapped[datetime | None] = mapped_column(Moment)
    verdict: Mapped[str | None] = mapped_column(String(32))
    error_code: Mapped[str | None] = mapped_column(String(64))
    error_detail: Mapped[str | None] = mapped_column(Text)
    error_pointer: Mapped[str | None] = mapped_column(Text)
    progress: Mapped[Progress | None] = mapped_column(ValueOf(Progress))
    partial: Mapped[Partial | None] = mapped_column(ValueOf(Partial))
    usage: Mapped[Usage | None] = mapped_column(ValueOf(Usage))
    run_id: Mapped[str | None] = mapped_column(String(512))
    run_step: Mapped[int | None] = mapped_column(BigInteger)
    run_name: Mapped[str | None] = mapped_column(String(512))
    labels: Mapped[dict[str, str]] = mapped_column(JSON)
    details: Mapped[dict[str, JsonValue]] = mapped_column("metadata", JSON)
    fingerprint: Mapped[str] = mapped_column(String(64))
    traceparent: Mapped[str | None] = mapped_column(String(64))
    retry_of: Mapped[str | None] = mapped_column(String(40))
    callback_url: Mapped[str | None] = mapped_column(Text)
    memory_bytes: Mapped[int | None] = mapped_column(BigInteger)
    waiting_because: Mapped[str | None] = mapped_column(Text)
    deduplicated_from: Mapped[str | None] = mapped_column(String(40))
    # Up to 10,000 inline numbers, so it is read only where it is needed and stands last in the row.
    request: Mapped[JobRequest] = mapped_column(ValueOf(JobRequest), deferred=True, deferred_raiseload=True)


class JobLabel(Table):
    """An index of the labels, by the SHA-256 of the pair: long labels do not fit into one on PostgreSQL."""

    __tablename__ = "job_labels"
    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True, index=True)


class Attempt(Table):
    """One claim of a job by a worker; a released claim leaves no attempt."""

    __tablename__ = "attempts"
    __table_args__ = (UniqueConstraint("job_id", "number"),)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    fence: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    number: Mapped[int]
    worker: Mapped[str] = mapped_column(String(255))
    started_at: Mapped[datetime] = mapped_column(Moment, insert_default=now())
    finished_at: Mapped[datetime | None] = mapped_column(Moment)
    outcome: Mapped[str | None] = mapped_column(String(64))
    detail: Mapped[str | None] = mapped_column(Text)
    errors: Mapped[str | None] = mapped_column(Text)


class SavedRun(Table):
    """The state from which the next attempt of a long job goes on; it goes with the end of the job."""

    __tablename__ = "saved_runs"
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    fence: Mapped[int] = mapped_column(BigInteger)
    blob: Mapped[str] = mapped_column(String(71), index=True)
    size: Mapped[int] = mapped_column(BigInteger)
    matvecs: Mapped[int]
    saved_at: Mapped[datetime] = mapped_column(Moment, insert_default=now())


class Event(Table):
    """History. `number` counts per job under the lock of its row, so that a reader who resumes misses nothing.

    `position` is the place in the history of all jobs together; it is given after the commit (`feed`).
    """

    __tablename__ = "events"
    __table_args__ = (
        UniqueConstraint("job_id", "number"),
        Index("ix_events_position", "position", unique=True),
        Index(
            "ix_events_unplaced",
            "created_at",
            "job_id",
            "number",
            sqlite_where=text("position IS NULL"),
            postgresql_where=text("position IS NULL"),
        ),
    )
    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    number: Mapped[int]
    type: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(Moment, insert_default=now())
    data: Mapped[dict[str, JsonValue]] = mapped_column(JSON)
    position: Mapped[int | None] = mapped_column(BigInteger)


class EventFeed(Table):
    """One row: the last position that was given. Whoever gives the next ones holds it."""

    __tablename__ = "event_feed"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    last_position: Mapped[int] = mapped_column(BigInteger)


class StoredReport(Table):
    """The answer of a job; the numbers of lists and charts stand beside the JSON.

    Those that may be null came later: a process of the version before leaves them out (`numbers`).
    """

    __tablename__ = "reports"
    # Each list by its number.
    __table_args__ = (
        Index("ix_reports_loss", "loss", "job_id"),
        Index("ix_reports_gradient_norm", "gradient_norm", "job_id"),
        Index("ix_reports_minimum_ratio", "minimum_ratio", "job_id"),
        Index("ix_reports_lambda_min", "lambda_min", "job_id"),
        Index("ix_reports_lambda_max", "lambda_max", "job_id"),
    )
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    created_at: Mapped[datetime] = mapped_column(Moment, insert_default=now())
    loss: Mapped[float]
    gradient_norm: Mapped[float]
    minimum_ratio: Mapped[float]
    lambda_min: Mapped[float]
    lambda_max: Mapped[float]
    spectrum_blob: Mapped[str] = mapped_column(String(71))
    landscape_blob: Mapped[str | None] = mapped_column(String(71))
    is_critical: Mapped[bool | None]
    num_negative: Mapped[int | None] = mapped_column(BigInteger)
    num_zero: Mapped[int | None] = mapped_column(BigInteger)
    num_positive: Mapped[int | None] = mapped_column(BigInteger)
    ratio_low: Mapped[float | None]
    ratio_high: Mapped[float | None]
    report: Mapped[Report] = mapped_column(ValueOf(Report))


class EscapeVector(Table):
    __tablename__ = "escapes"
    job_id: Mapped[str] = mapped_column(ForeignKey("reports.job_id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    blob: Mapped[str] = mapped_column(String(71))


class IdempotencyKey(Table):
    __tablename__ = "idempotency_keys"
    project: Mapped[str] = mapped_column(ForeignKey("projects.name"), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    body_digest: Mapped[str] = mapped_column(String(64))
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    # No longer read: the job itself says it. Processes of the version before still write the column.
    is_deduplicated: Mapped[bool] = mapped_column(insert_default=False)
    created_at: Mapped[datetime] = mapped_column(Moment, insert_default=now(), index=True)


class Worker(Table):
    """Who is there to work, for /readyz and for the choice of a queue."""

    __tablename__ = "workers"
    name: Mapped[str] = mapped_column(String(255), primary_key=True)
    queues: Mapped[list[str]] = mapped_column(JSON)
    device: Mapped[str] = mapped_column(String(64))
    sandbox: Mapped[str] = mapped_column(String(32))
    memory_bytes: Mapped[int | None] = mapped_column(BigInteger)
    started_at: Mapped[datetime] = mapped_column(Moment, insert_default=now())
    seen_at: Mapped[datetime] = mapped_column(Moment, insert_default=now())


class Webhook(Table):
    """An address that hears of a project's jobs. Its signing secret is derived (`service.signing`), never stored."""

    __tablename__ = "webhooks"
    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    project: Mapped[str] = mapped_column(ForeignKey("projects.name"), index=True)
    url: Mapped[str] = mapped_column(Text)
    events: Mapped[list[str]] = mapped_column(JSON)
    secret_number: Mapped[int]
    rotated_at: Mapped[datetime | None] = mapped_column(Moment)
    created_at: Mapped[datetime] = mapped_column(Moment, insert_default=now())
    succeeded_at: Mapped[datetime | None] = mapped_column(Moment)
    disabled_at: Mapped[datetime | None] = mapped_column(Moment)
    disabled_reason: Mapped[str | None] = mapped_column(Text)


class CallbackSecret(Table):
    """The number of the secret that signs for the `callback_url`s of a project; one without a row is at its first."""

    __tablename__ = "callback_secrets"
    project: Mapped[str] = mapped_column(ForeignKey("projects.name"), primary_key=True)
    secret_number: Mapped[int]
    rotated_at: Mapped[datetime | None] = mapped_column(Moment)


class Delivery(Table):
    """One message to one address, written with the end of its job. A test message has no job, a callback no webhook."""

    __tablename__ = "deliveries"
    __table_args__ = (
        CheckConstraint(f"status IN ({DELIVERY_STATUSES})", name="status"),
        CheckConstraint("(status = 'pending') = (next_at IS NOT NULL)", name="next"),
        Index("ix_deliveries_due", "status", "next_at"),
        Index("ix_deliveries_lease", "lease_until"),
        Index("ix_deliveries_webhook", "webhook_id", "id"),
        Index("ix_deliveries_job", "job_id", "id"),
    )
    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    project: Mapped[str] = mapped_column(ForeignKey("projects.name"))
    webhook_id: Mapped[str | None] = mapped_column(ForeignKey("webhooks.id", ondelete="CASCADE"))
    job_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    type: Mapped[str] = mapped_column(String(64))
    url: Mapped[str] = mapped_column(Text)
    origin: Mapped[str] = mapped_column(String(300))
    status: Mapped[str] = mapped_column(String(16))
    attempts: Mapped[int]
    tries_left: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(Moment, insert_default=now())
    next_at: Mapped[datetime | None] = mapped_column(Moment, insert_default=now())
    lease_until: Mapped[datetime | None] = mapped_column(Moment)
    attempted_at: Mapped[datetime | None] = mapped_column(Moment)
    response_status: Mapped[int | None]
    latency_ms: Mapped[int | None]
    detail: Mapped[str | None] = mapped_column(Text)
