"""What the end of a runner means for its job: plain Python over what was observed, one row a case."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from enum import StrEnum

from saddlescope.contract.vocabulary import FailureCode
from workers.protocol import Exit, Failed, Succeeded


class Interruption(StrEnum):
    """Why the supervisor killed the runner."""

    CANCELLED = "cancelled"
    DEADLINE = "deadline"
    OVERTIME = "overtime"
    LOST = "lost"
    STOPPING = "stopping"


@dataclass(frozen=True)
class Ending:
    """What was observed when a runner ended."""

    exit: Exit | None
    """None if the fork server died with it."""
    outcome: Succeeded | Failed | None
    """What the runner wrote before it ended."""
    interruption: Interruption | None = None
    was_oom_killed: bool = False
    """The kernel's out-of-memory killer was at work meanwhile."""
    errors: str = ""
    """The end of the runner's standard error."""


@dataclass(frozen=True)
class Fault:
    """The job failed, or loses this attempt if it is retryable."""

    code: FailureCode
    detail: str
    is_retryable: bool = False
    pointer: str | None = None


class Settled(StrEnum):
    """Ends that carry nothing more."""

    CANCELLED = "cancelled"
    RELEASED = "released"
    """Back into the queue, the attempt not counted."""
    ABANDONED = "abandoned"
    """Another worker has the job; nothing of this attempt may be written."""


Judgement = Succeeded | Fault | Settled

_INTERRUPTED: dict[Interruption, Fault | Settled] = {
    Interruption.CANCELLED: Settled.CANCELLED,
    Interruption.STOPPING: Settled.RELEASED,
    Interruption.LOST: Settled.ABANDONED,
    Interruption.DEADLINE: Fault(
        FailureCode.DEADLINE_EXCEEDED, "The deadline passed before the analysis was complete."
    ),
    Interruption.OVERTIME: Fault(
        FailureCode.RESOURCE_LIMIT,
        "The analysis took longer than this worker allows; lower max_matvecs or ask for a longer limit.",
    ),
}
_OUT_OF_MEMORY = Fault(
    FailureCode.OUT_OF_MEMORY, "The analysis needs more memory than this worker may use; try a smaller batch_size."
)
_BY_SIGNAL: dict[signal.Signals, Fault] = {
    signal.SIGSYS: Fault(
        FailureCode.SANDBOX_VIOLATION, "The runner asked the kernel for something its sandbox forbids."
    ),
    signal.SIGXFSZ: Fault(FailureCode.RESOURCE_LIMIT, "The runner wrote a file larger than its sandbox allows."),
    signal.SIGXCPU: Fault(FailureCode.RESOURCE_LIMIT, "The runner used more processor time than its sandbox allows."),
}
# Nothing inside a runner sends these: someone outside ended it, and the job is not to blame.
_FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def interrupted(interruption: Interruption) -> Fault | Settled:
    """What becomes of a job that was interrupted, whether its runner had started or not."""
    return _INTERRUPTED[interruption]


def judge(ending: Ending) -> Judgement:
    """What becomes of the job."""
    if ending.interruption is not None:
        return interrupted(ending.interruption)
    if ending.exit is None:
        return Fault(FailureCode.WORKER_LOST, "The process that runs jobs ended during this one.", is_retryable=True)
    if os.WIFSIGNALED(ending.exit.wait_status):
        return _judge_signal(signal.Signals(os.WTERMSIG(ending.exit.wait_status)), ending)
    if os.WEXITSTATUS(ending.exit.wait_status) != 0:
        return Fault(FailureCode.INTERNAL, "The runner could not be set up; the worker's log has the traceback.")
    return _judge_word(ending.outcome)


def _judge_word(outcome: Succeeded | Failed | None) -> Succeeded | Fault:
    match outcome:
        case None:
            return Fault(FailureCode.CRASHED, "The runner ended without saying how.")
        case Failed(code=code, detail=detail, pointer=pointer):
            return Fault(code, detail, pointer=pointer)
        case Succeeded():
            return outcome


def _judge_signal(number: signal.Signals, ending: Ending) -> Fault:
    if number == signal.SIGKILL and ending.was_oom_killed:
        return _OUT_OF_MEMORY
    if number == signal.SIGABRT and "std::bad_alloc" in ending.errors:
        return _OUT_OF_MEMORY
    if number in _FROM_OUTSIDE:
        return Fault(FailureCode.WORKER_LOST, f"The runner was ended from outside by {number.name}.", is_retryable=True)
    return _BY_SIGNAL.get(
        number, Fault(FailureCode.CRASHED, f"The runner crashed with {number.name}; the same job would crash again.")
    )
