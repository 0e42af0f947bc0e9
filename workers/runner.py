"""A runner's process: open the task's files, lock yourself in, perform the task, write down how it went, exit.

It has no database, no broker and no secret. What it writes goes into its own folder, and the supervisor believes
none of it before it has checked it.
"""

from __future__ import annotations

import errno
import faulthandler
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

import torch

from saddlescope.contract.vocabulary import FailureCode, Stage
from saddlescope.curvature.errors import AnalysisError
from workers.faults import JobFault
from workers.openings import Openings
from workers.protocol import MAX_DETAIL_CHARS, OUTCOME_FILE, Failed, ProgressLine, SavedLine, Succeeded, Task
from workers.sandbox.layers import Cell, Confinement, lock

Tell = Callable[[ProgressLine | SavedLine], None]


@dataclass(frozen=True)
class Deed:
    """What a runner does: `open` before the lock, from the supervisor's words alone; `perform` after it."""

    open: Callable[[Task], Openings]
    perform: Callable[[Task, Openings, Tell], Succeeded]


_SECONDS_BETWEEN_PROGRESS_LINES = 0.1
# What the allocators of torch say when they raise no exception of their own.
_ALLOCATION_MESSAGES = ("can't allocate memory", "not enough memory", "std::bad_alloc", "Cannot allocate memory")


def enter(
    task: Task, *, deed: Deed, cell: Cell, progress_descriptor: int, error_descriptor: int, parent: int
) -> NoReturn:
    """Become the runner of one task in a process just forked, and exit.

    Exit status 0 means that an outcome was written, whatever it says.
    """
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        _redirect(error_descriptor)
        faulthandler.enable()
        opened = deed.open(task)
        kept = opened.descriptors() | {progress_descriptor}
        lock(Confinement(cell=cell, limits=task.limits, parent=parent, descriptors=kept))
        outcome = _attempt(task, deed, opened, ProgressPipe(progress_descriptor))
        opened.write(OUTCOME_FILE, outcome.model_dump_json().encode())
        os._exit(0)
    finally:
        # Reached only by an exception: a forked copy of the server must never run the server's own code.
        traceback.print_exc()
        os._exit(1)


def _attempt(task: Task, deed: Deed, opened: Openings, tell: Tell) -> Succeeded | Failed:
    try:
        return deed.perform(task, opened, tell)
    except JobFault as fault:
        return Failed(code=fault.code, detail=fault.detail[:MAX_DETAIL_CHARS], pointer=fault.pointer)
    except AnalysisError as fault:
        return Failed(code=fault.code, detail=fault.detail[:MAX_DETAIL_CHARS])
    except Exception as error:  # noqa: BLE001 - the outermost boundary of the runner: whatever happened is recorded
        traceback.print_exc()
        code, detail = _explain(error)
        return Failed(code=code, detail=detail)


def _explain(error: Exception) -> tuple[FailureCode, str]:
    ran_out = (
        isinstance(error, MemoryError | torch.OutOfMemoryError)
        or (isinstance(error, RuntimeError) and any(message in str(error) for message in _ALLOCATION_MESSAGES))
        or (isinstance(error, OSError) and error.errno == errno.ENOMEM)  # a mapping beyond the limit
    )
    if ran_out:
        return (
            FailureCode.OUT_OF_MEMORY,
            "The analysis needs more memory than this worker may use; try a smaller batch_size.",
        )
    if isinstance(error, OSError) and error.errno in (errno.EFBIG, errno.EMFILE):
        return FailureCode.RESOURCE_LIMIT, f"The runner hit a limit of its sandbox: {os.strerror(error.errno)}."
    return FailureCode.INTERNAL, f"{type(error).__name__} in the runner; the worker's log has the traceback."


class ProgressPipe:
    """Progress as JSON lines on a pipe, at most ten a second; a new stage and a saved state are always told."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._last_stage: Stage | None = None
        self._last_told = 0.0

    def __call__(self, line: ProgressLine | SavedLine) -> None:
        if isinstance(line, ProgressLine):
            now = time.monotonic()
            if line.stage == self._last_stage and now - self._last_told < _SECONDS_BETWEEN_PROGRESS_LINES:
                return
            self._last_stage, self._last_told = line.stage, now
        os.write(self._descriptor, line.model_dump_json().encode() + b"\n")


def _redirect(error_descriptor: int) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, sys.__stdin__.fileno() if sys.__stdin__ is not None else 0)
    os.close(nothing)
    os.dup2(error_descriptor, 1)
    os.dup2(error_descriptor, 2)
    os.close(error_descriptor)
