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
    mend: str
    """What whoever asked can do."""
    status: int = 422
    retryable: bool = False


FAILURES: Mapping[FailureCode, Failure] = {
    FailureCode.CHECKPOINT_INVALID: Failure(
        "The checkpoint cannot be read",
        "The bytes are not a checkpoint of a format that is taken, or are damaged.",
        "Save it again as safetensors, a `torch.save` state dict or .npz, and compare its SHA-256 with the artifact's.",
    ),
    FailureCode.LOSS_INVALID: Failure(
        "The loss is invalid",
        "The layers do not chain, or the program or expression cannot be understood.",
        "Mend the place that is named; `?dry_run=true` checks a request without queueing it.",
    ),
    FailureCode.DATA_INVALID: Failure(
        "The data set is invalid",
        "A tensor is missing, the rows do not match, or a label is out of range.",
        "Every tensor of the data needs the same number of rows, and labels from 0 to classes − 1.",
    ),
    FailureCode.PARAMETER_MISMATCH: Failure(
        "Checkpoint and loss do not fit",
        "Names or shapes of the checkpoint are not those that the loss reads.",
        "Compare `state_dict()` of the model with the layers of the loss; names are those of `torch.nn.Sequential`.",
    ),
    FailureCode.UNSUPPORTED_OPERATION: Failure(
        "An operation is not supported",
        "The program uses an operator that is not in the table of allowed ones.",
        "Write that part of the model with ordinary operators, and export it again.",
    ),
    FailureCode.NOT_DIFFERENTIABLE: Failure(
        "The loss is not twice differentiable",
        "An operation of the loss has no second derivative.",
        "Replace the operation that is named, for example an argmax or a rounding, by a smooth one.",
    ),
    FailureCode.NON_FINITE_LOSS: Failure(
        "The loss is not finite",
        "The loss or its gradient is NaN or infinite at this checkpoint.",
        "Look for NaN in the weights and the data; where float32 overflows, ask with dtype float64.",
    ),
    FailureCode.NON_DETERMINISTIC_LOSS: Failure(
        "The loss is not deterministic",
        "Two evaluations at the same point gave different values.",
        "Export the model in eval mode: dropout and random augmentation have no Hessian.",
    ),
    FailureCode.OUT_OF_MEMORY: Failure(
        "Out of memory",
        "The analysis needs more memory than the worker has. Try a smaller batch_size.",
        "Ask with a smaller batch_size, with dtype float32 or with method lanczos, or use a larger worker.",
        507,
    ),
    FailureCode.DEADLINE_EXCEEDED: Failure(
        "The deadline passed",
        "The job did not end before its deadline (`Cancel-After`).",
        "Give it more time, or fewer products with max_matvecs.",
        408,
    ),
    FailureCode.RESOURCE_LIMIT: Failure(
        "A resource limit was reached",
        "The job asks for more than one job may use.",
        "Make the network, the data or the program smaller, or ask the operators for a higher limit.",
        413,
    ),
    FailureCode.CRASHED: Failure(
        "The analysis crashed",
        "The process of this job died by a signal.",
        "Run it again once; if it crashes again, send its bundle to the operators.",
        500,
    ),
    FailureCode.SANDBOX_VIOLATION: Failure(
        "The sandbox was violated",
        "The job tried what an analysis never does, and was ended.",
        "Look at where the files come from. An export of your own model does not do this.",
        403,
    ),
    FailureCode.SANDBOX_UNAVAILABLE: Failure(
        "No sandbox for this loss",
        "The worker cannot isolate program losses; ask the operators for a worker that can.",
        "Name the loss by its layers or as an expression, or ask for a worker with the sandbox level standard.",
        503,
    ),
    FailureCode.WORKER_LOST: Failure(
        "The worker was lost",
        "The worker stopped answering and no attempts remain.",
        "Run it again; if workers are lost often, the operators find the reason in their logs.",
        503,
        retryable=True,
    ),
    FailureCode.INTERNAL: Failure(
        "Internal error",
        "A fault of the service; the operators find it in the log.",
        "Tell the operators the job's id.",
        500,
    ),
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
