"""What each `job.error.code` means, and the problem object that tells it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from saddlescope.contract.problems import FieldProblem, Problem
from saddlescope.contract.vocabulary import FailureCode


@dataclass(frozen=True)
class Failure:
    title: str
    explanation: str
    status: int = 422
    retryable: bool = False


FAILURES: Mapping[FailureCode, Failure] = {
    FailureCode.CHECKPOINT_INVALID: Failure(
        "The checkpoint cannot be read", "The bytes are not a checkpoint of a format that is taken, or are damaged."
    ),
    FailureCode.LOSS_INVALID: Failure(
        "The loss is invalid", "The layers do not chain, or the program or expression cannot be understood."
    ),
    FailureCode.DATA_INVALID: Failure(
        "The data set is invalid", "A tensor is missing, the rows do not match, or a label is out of range."
    ),
    FailureCode.PARAMETER_MISMATCH: Failure(
        "Checkpoint and loss do not fit", "Names or shapes of the checkpoint are not those that the loss reads."
    ),
    FailureCode.UNSUPPORTED_OPERATION: Failure(
        "An operation is not supported", "The program uses an operator that is not in the table of allowed ones."
    ),
    FailureCode.NOT_DIFFERENTIABLE: Failure(
        "The loss is not twice differentiable", "An operation of the loss has no second derivative."
    ),
    FailureCode.NON_FINITE_LOSS: Failure(
        "The loss is not finite", "The loss or its gradient is NaN or infinite at this checkpoint."
    ),
    FailureCode.NON_DETERMINISTIC_LOSS: Failure(
        "The loss is not deterministic", "Two evaluations at the same point gave different values."
    ),
    FailureCode.OUT_OF_MEMORY: Failure(
        "Out of memory", "The analysis needs more memory than the worker has. Try a smaller batch_size.", 507
    ),
    FailureCode.DEADLINE_EXCEEDED: Failure(
        "The deadline passed", "The job did not end before its deadline (`Cancel-After`).", 408
    ),
    FailureCode.RESOURCE_LIMIT: Failure(
        "A resource limit was reached", "The job asks for more than one job may use.", 413
    ),
    FailureCode.CRASHED: Failure("The analysis crashed", "The process of this job died by a signal.", 500),
    FailureCode.SANDBOX_VIOLATION: Failure(
        "The sandbox was violated", "The job tried what an analysis never does, and was ended.", 403
    ),
    FailureCode.SANDBOX_UNAVAILABLE: Failure(
        "No sandbox for this loss",
        "The worker cannot isolate program losses; ask the operators for a worker that can.",
        503,
    ),
    FailureCode.WORKER_LOST: Failure(
        "The worker was lost", "The worker stopped answering and no attempts remain.", 503, retryable=True
    ),
    FailureCode.INTERNAL: Failure("Internal error", "A fault of the service; the operators find it in the log.", 500),
}


def failure_problem(code: FailureCode, detail: str, *, job_id: str, pointer: str | None = None) -> Problem:
    failure = FAILURES[code]
    place = () if pointer is None else (FieldProblem(pointer=pointer, detail=detail, code=code),)
    return Problem(
        type=f"/problems/{code}",
        title=failure.title,
        status=failure.status,
        detail=detail,
        instance=f"/v1/jobs/{job_id}",
        code=code,
        retryable=failure.retryable,
        errors=place,
    )
