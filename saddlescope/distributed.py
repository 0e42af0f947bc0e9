"""The recipe over several devices of one host: one process each, the first drives and the others serve.

    report = analyze_distributed(build, Options(), devices=("cuda:0", "cuda:1"))

The rows of the data are divided among the devices, and the entries of every Lanczos vector: a basis takes n/p numbers a vector
on each. What is decided is decided on the first. Processes meet through a file and talk over loopback; vectors move by
NCCL between CUDA devices, by gloo between CPUs. Tested with gloo on two CPU processes; NCCL was not run.
"""

from __future__ import annotations

import os
import pickle
import signal
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from multiprocessing import connection, get_context, parent_process
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import TracebackType

import torch
import torch.distributed as dist
from torch import Tensor

from saddlescope.analysis import OnProgress, ProgressUpdate, analyze_problem
from saddlescope.contract.jobs import Options
from saddlescope.contract.reports import Landscape, Report, Spectrum
from saddlescope.contract.vocabulary import FailureCode
from saddlescope.curvature.distributed import Ranks, even_rows, part_of
from saddlescope.curvature.driving import Driver
from saddlescope.curvature.errors import AnalysisError
from saddlescope.curvature.member import Member
from saddlescope.curvature.objective import Problem
from saddlescope.curvature.warmup import settle_vector_functions
from saddlescope.results import AnalysisReport

LOOPBACK = "lo"
TIMEOUT_SECONDS = 600.0
THINKING = timedelta(days=7)  # how long the driver may work by itself between two commands
GRACE_SECONDS = 1.0


class RankFailed(AnalysisError):
    """One of the processes raised, or died; the others were ended."""

    code = FailureCode.CRASHED


def analyze_distributed(
    build: Callable[[], Problem],
    options: Options,
    *,
    devices: Sequence[str],
    on_progress: OnProgress | None = None,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> AnalysisReport:
    """What `analyze_problem(build(), options)` reports, to rounding, by one process for each device.

    Args:
        build: makes the problem in every process, the same each time; importable or otherwise picklable, since losses are
            mostly not. Each process keeps its own rows and lets the others go.
        devices: one a process, such as ("cuda:0", "cuda:1") or ("cpu", "cpu").
        on_progress: called here; what it raises ends the analysis.
        timeout_seconds: how long one rank waits for another in one sum of vectors.

    Raises:
        AnalysisError: as `analyze_problem`, whichever rank found it.
        RankFailed: a rank raised anything else, with its traceback, or died.
    """
    if not devices or len({torch.device(device).type for device in devices}) > 1:
        raise ValueError(f"devices must be one or more of one kind, all CUDA or all CPU; they are {tuple(devices)}")
    context = get_context("spawn")
    processes: list[SpawnProcess] = []
    pipes: list[Connection] = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            for rank in range(len(devices)):
                receiver, sender = context.Pipe(duplex=False)
                pipes.append(receiver)
                task = _Task(build, options, tuple(devices), rank, str(Path(folder) / "store"), timeout_seconds, sender)
                process = context.Process(target=_run, args=(task,), name=f"rank {rank}", daemon=True)
                process.start()
                sender.close()  # the rank's copy is the only one: its end is seen here
                processes.append(process)
            answer = _follow(pipes, processes, on_progress or (lambda _: None))
            for process in processes:
                process.join(GRACE_SECONDS)
        finally:
            for process in processes:
                process.kill()
                process.join()
            for pipe in pipes:
                pipe.close()
    vectors = [lambda vector=vector: vector for vector in answer.vectors]
    return AnalysisReport(answer.report, lambda: answer.spectrum, lambda: answer.landscape, vectors)


@dataclass(frozen=True)
class _Task:
    """All that one process is told."""

    build: Callable[[], Problem]
    options: Options
    devices: tuple[str, ...]
    rank: int
    store: str
    timeout_seconds: float
    pipe: Connection


@dataclass(frozen=True)
class _Answer:
    report: Report
    spectrum: Spectrum
    landscape: Landscape | None
    vectors: list[dict[str, Tensor]]


@dataclass(frozen=True)
class _Failure:
    """What a rank raised, and when: the others fail in its wake."""

    moment: float
    error: AnalysisError


_Message = ProgressUpdate | _Answer | _Failure


def _send(pipe: Connection, message: _Message) -> None:
    # Plain pickle holds a tensor's numbers; the pipe's own would hold a handle of shared memory that ends with the sender.
    pipe.send_bytes(pickle.dumps(message))


def _follow(pipes: list[Connection], processes: list[SpawnProcess], on_progress: OnProgress) -> _Answer:
    """The driver's answer; or the error of the rank that failed first, a rank that died without a word before all."""
    running = dict(zip(pipes, range(len(pipes)), strict=True))
    failures: list[_Failure] = []
    deadline: float | None = None
    while running and (deadline is None or time.monotonic() < deadline):
        ready = connection.wait(list(running), None if deadline is None else max(0.0, deadline - time.monotonic()))
        for pipe in ready:
            assert isinstance(pipe, Connection)  # noqa: S101 - nothing else is waited for
            try:
                message: _Message = pickle.loads(pipe.recv_bytes())  # noqa: S301 - from our own process
            except EOFError:
                rank = running.pop(pipe)
                processes[rank].join(GRACE_SECONDS)
                code = processes[rank].exitcode
                if code != 0 and not (code == 1 and failures):
                    failures.append(_Failure(-1.0, RankFailed(f"rank {rank} ended with exit status {code}")))
                continue
            match message:
                case ProgressUpdate():
                    on_progress(message)
                case _Answer():
                    return message
                case _Failure():
                    failures.append(message)
        if failures and deadline is None:
            deadline = time.monotonic() + GRACE_SECONDS
    raise min(failures, key=lambda failure: failure.moment).error


def _run(task: _Task) -> None:
    """One process: take part, and report what went wrong before ending."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the caller decides, and ends its processes
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with ExitStack() as stack:
        stack.push(partial(_tell_of_failure, task))
        _take_part(task)


def _tell_of_failure(
    task: _Task, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None
) -> None:
    """Tell the caller what ends this process, whatever it is, and end without waiting for the other ranks."""
    if error is None:
        return
    if not isinstance(error, AnalysisError):
        told = "".join(traceback.format_exception(error))
        error = RankFailed(f"rank {task.rank} on {task.devices[task.rank]} failed:\n{told}")
    _send(task.pipe, _Failure(time.monotonic(), error))
    os._exit(1)


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None  # noqa: S101 - this process was spawned
    parent.join()
    os._exit(1)


def _take_part(task: _Task) -> None:
    count, device = len(task.devices), torch.device(task.devices[task.rank])
    if device.type == "cuda":
        torch.cuda.set_device(device)
    else:
        torch.set_num_threads(max(1, torch.get_num_threads() // count))
    settle_vector_functions()
    os.environ.setdefault("GLOO_SOCKET_IFNAME", LOOPBACK)
    dist.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        init_method=f"file://{task.store}",
        rank=task.rank,
        world_size=count,
        timeout=timedelta(seconds=task.timeout_seconds),
    )
    control = dist.new_group(backend="gloo", timeout=THINKING)
    problem, batch_size = task.build(), task.options.batch_size
    whole_batches = None if problem.is_additive else batch_size or problem.num_examples
    rows = even_rows(problem.num_examples, rank=task.rank, count=count, batch_size=whole_batches)
    ranks = Ranks(task.rank, count, device)
    member = Member(part_of(problem, rows), ranks, control=control, batch_size=batch_size)
    if task.rank == 0:
        driver = Driver(member, problem)
        del problem
        _send(task.pipe, _drive(driver, task))
        driver.stop()
    else:
        del problem
        member.serve()
    dist.destroy_process_group()


def _drive(driver: Driver, task: _Task) -> _Answer:
    """The recipe, on the first rank. Batches are the ranks' affair, so that every rank has work in every evaluation."""
    found = analyze_problem(
        driver.problem,
        task.options.model_copy(update={"batch_size": None}),
        device=task.devices[0],
        on_progress=lambda update: _send(task.pipe, update),
    )
    numerics = found.report.numerics.model_copy(update={"device": ", ".join(task.devices)})
    return _Answer(
        report=found.report.model_copy(update={"numerics": numerics}),
        spectrum=found.spectrum,
        landscape=found.landscape,
        vectors=[escape.vector for escape in found.escapes],
    )
