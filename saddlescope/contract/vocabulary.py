"""The closed sets of words that the service, the workers, the client and the engine share."""

from __future__ import annotations

from enum import StrEnum


class Verdict(StrEnum):
    """What the analysis claims about θ. Each member is defined in docs/concepts.md."""

    LOCAL_MINIMUM = "local_minimum"
    FLAT_MINIMUM = "flat_minimum"
    SADDLE = "saddle"
    LOCAL_MAXIMUM = "local_maximum"
    FLAT_MAXIMUM = "flat_maximum"
    PLATEAU = "plateau"
    GRADIENT_FLAT = "gradient_flat"
    NOT_CRITICAL = "not_critical"
    UNDECIDED = "undecided"


class Strength(StrEnum):
    """How a verdict is known: by deterministic proof, up to a failure probability, or to a numerical tolerance."""

    PROVED = "proved"
    PROBABILISTIC = "probabilistic"
    NUMERICAL = "numerical"


class Action(StrEnum):
    """What the trainer should do next."""

    ESCAPE = "escape"
    CONTINUE = "continue"
    STOP = "stop"
    INSPECT = "inspect"


class JobStatus(StrEnum):
    """The state of a job; the last three are terminal."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        return self in (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED)


class Stage(StrEnum):
    """Where a running job is."""

    LOADING = "loading"
    PREFLIGHT = "preflight"
    CRITICALITY = "criticality"
    DENSE = "dense"
    LANCZOS = "lanczos"
    DEGENERATE = "degenerate"
    ESCAPE = "escape"
    LANDSCAPE = "landscape"
    STORING = "storing"


class Method(StrEnum):
    """How the spectrum is computed; `auto` is resolved by the planner and never stands in a report."""

    AUTO = "auto"
    DENSE = "dense"
    LANCZOS = "lanczos"


class Precision(StrEnum):
    """Working precision of the analysis; `auto` is resolved by the planner and never stands in a report."""

    AUTO = "auto"
    FLOAT64 = "float64"
    FLOAT32 = "float32"


class Reduction(StrEnum):
    """How the loss of a batch combines its examples."""

    MEAN = "mean"
    SUM = "sum"


class Caution(StrEnum):
    """Codes of the cautions that a report may carry."""

    NON_SMOOTH = "non_smooth"
    UNUSED_PARAMETERS = "unused_parameters"
    ROUNDED_ESCAPE = "rounded_escape"
    WIDE_INTERVAL = "wide_interval"
    BUDGET_EXHAUSTED = "budget_exhausted"
    IGNORED_TENSORS = "ignored_tensors"
    CUT_SHORT = "cut_short"
    SAVED_RUN_IGNORED = "saved_run_ignored"
    CRITICAL_POINT_NOT_FOUND = "critical_point_not_found"
    NOT_ADDITIVE = "not_additive"


class SandboxLevel(StrEnum):
    """How well a worker isolates its jobs, as its attacks on itself have shown; from the weakest up."""

    BASIC = "basic"
    STANDARD = "standard"
    STRICT = "strict"

    def reaches(self, other: SandboxLevel) -> bool:
        """Whether this level is at least as strong as the other."""
        levels = list(SandboxLevel)
        return levels.index(self) >= levels.index(other)


class FailureCode(StrEnum):
    """Why a job failed (`job.error.code`)."""

    CHECKPOINT_INVALID = "checkpoint_invalid"
    LOSS_INVALID = "loss_invalid"
    DATA_INVALID = "data_invalid"
    PARAMETER_MISMATCH = "parameter_mismatch"
    UNSUPPORTED_OPERATION = "unsupported_operation"
    NOT_DIFFERENTIABLE = "not_differentiable"
    NON_FINITE_LOSS = "non_finite_loss"
    NON_DETERMINISTIC_LOSS = "non_deterministic_loss"
    OUT_OF_MEMORY = "out_of_memory"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    RESOURCE_LIMIT = "resource_limit"
    CRASHED = "crashed"
    SANDBOX_VIOLATION = "sandbox_violation"
    SANDBOX_UNAVAILABLE = "sandbox_unavailable"
    WORKER_LOST = "worker_lost"
    INTERNAL = "internal"
