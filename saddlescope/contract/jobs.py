"""The question: what a client asks of `POST /v1/jobs`, and what it sees of a job afterwards."""

from __future__ import annotations

import json
from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, Field, JsonValue, PlainSerializer

from saddlescope.contract import limits
from saddlescope.contract.losses import LossSpec
from saddlescope.contract.problems import Problem
from saddlescope.contract.sources import CheckpointSource, TensorSource
from saddlescope.contract.strict import Closed
from saddlescope.contract.vocabulary import JobStatus, Method, Precision, Stage, Verdict

Timestamp = Annotated[
    AwareDatetime,
    PlainSerializer(
        lambda moment: moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z", when_used="json"
    ),
]
Name = Annotated[str, Field(max_length=limits.MAX_NAME_CHARS)]
Labels = Annotated[dict[Name, Name], Field(max_length=limits.MAX_LABELS)]


def _small(metadata: dict[str, JsonValue]) -> dict[str, JsonValue]:
    if len(json.dumps(metadata)) > limits.MAX_METADATA_BYTES:
        raise ValueError(f"metadata may have at most {limits.MAX_METADATA_BYTES} bytes of JSON")
    return metadata


Metadata = Annotated[dict[str, JsonValue], AfterValidator(_small)]


class Options(Closed):
    """How to analyse. The defaults are right for most checkpoints; see docs/concepts.md for each tolerance."""

    gradient_tol: float | None = Field(default=None, gt=0)
    """Absolute tolerance on ‖g‖; replaces the loss-relative rule when given."""
    critical_rtol: float = Field(default=0.01, gt=0, le=1)
    """Critical when the gradient can buy at most this share of the reference decrease."""
    zero_tol: float | None = Field(default=None, ge=0)
    """Absolute tolerance under which an eigenvalue counts as zero, if larger than the measured noise."""
    method: Method = Method.AUTO
    dtype: Precision = Precision.AUTO
    confidence: float = Field(default=0.999, gt=0.5, lt=1)
    """1 minus the failure probability of every probabilistic bound."""
    num_escape_vectors: int = Field(default=4, ge=0, le=limits.MAX_ESCAPE_VECTORS)
    max_matvecs: int | None = Field(default=None, ge=1, le=limits.MAX_MATVECS)
    batch_size: int | None = Field(default=None, ge=1)
    seed: int = Field(default=0, ge=0, le=2**63 - 1)
    density: bool = True
    landscape: bool = True
    critical_point_search: bool = False
    data_is_sample: bool = False


class Run(Closed):
    """The training run that the checkpoint belongs to."""

    id: str = Field(min_length=1, max_length=limits.MAX_NAME_CHARS)
    step: int | None = Field(default=None, ge=0, le=2**63 - 1)
    name: Name | None = None


class JobRequest(Closed):
    """The body of `POST /v1/jobs`."""

    checkpoint: CheckpointSource
    loss: LossSpec
    data: TensorSource | None = None
    options: Options = Options()
    run: Run | None = None
    labels: Labels = {}
    metadata: Metadata = {}
    priority: int = Field(default=0, ge=-100, le=100)
    queue: str = Field(default="auto", pattern=r"^[a-z0-9_-]{1,32}$")
    force: bool = False
    callback_url: str | None = Field(default=None, max_length=limits.MAX_URL_CHARS)


class Progress(Closed):
    """How far a running job is."""

    stage: Stage
    fraction: float = Field(ge=0, le=1)
    matvecs: int = Field(ge=0)
    eta_seconds: float | None = Field(default=None, ge=0)
    updated_at: Timestamp


class Partial(Closed):
    """What is known before the end."""

    lambda_min: float | None = None
    residual_norm: float | None = None


class Usage(Closed):
    seconds: float = Field(ge=0)
    matvecs: int = Field(ge=0)
    peak_memory_bytes: int = Field(ge=0)
    device: str


class JobUrls(Closed):
    self: str
    cancel: str
    retry: str
    events: str
    report: str
    web: str


class Job(Closed):
    """A job as the client sees it."""

    object: Literal["job"] = "job"
    id: str
    status: JobStatus
    done: bool
    verdict: Verdict | None
    project: str
    run: Run | None
    labels: Labels
    metadata: Metadata
    progress: Progress | None
    partial: Partial | None
    attempt: int
    max_attempts: int
    queue: str
    priority: int
    created_at: Timestamp
    started_at: Timestamp | None
    finished_at: Timestamp | None
    deadline_at: Timestamp | None
    cancel_requested_at: Timestamp | None
    error: Problem | None
    retry_of: str | None
    deduplicated: bool
    """The project had this question answered before: the answer is that of then, and cost nothing."""
    waiting_because: str | None = None
    """Why no worker that is there can take the job while it is queued."""
    usage: Usage | None
    urls: JobUrls


class Event(Closed):
    """One durable entry of a job's history."""

    object: Literal["event"] = "event"
    id: str
    type: str
    job: str
    created_at: Timestamp
    data: dict[str, JsonValue]


class Estimate(Closed):
    """What a job will cost, from the request alone (`?dry_run=true`)."""

    object: Literal["estimate"] = "estimate"
    valid: Literal[True] = True
    num_parameters: int
    num_examples: int | None
    method: Method
    dtype: Precision
    matvecs: int
    seconds: float | None
    memory_bytes: int
