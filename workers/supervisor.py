"""One claimed job from its claim to its end: start a runner, watch it, judge its end, write it down under the fence."""

from __future__ import annotations

import os
import selectors
import tempfile
import time
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import structlog

from saddlescope.contract.jobs import Partial, Progress
from saddlescope.contract.losses import ProgramLoss
from saddlescope.contract.vocabulary import FailureCode, SandboxLevel
from store.queue import Claim, Instruction, heartbeat
from workers.fetching import fetch_reference, provenance_of
from workers.launcher import ForkServerError, Runner
from workers.memory import oom_kills
from workers.observation import tell_end
from workers.outcome import Ending, Fault, Interruption, Settled, judge
from workers.progress import ProgressReader
from workers.protocol import OUTPUT_FOLDER, REQUEST_FILE, STDERR_FILE, Exit, Succeeded, Task, output_files
from workers.results import read_outcome
from workers.settlement import Watched, deliver, settle, usage_of
from workers.states import StateKeeper, forget_state
from workers.transfer import fetch_state, gather
from workers.workshop import DATABASE_DOWN, Workshop, runner_limits

MAX_ERROR_BYTES = 16 * 2**10
_UNISOLATED = Fault(
    FailureCode.SANDBOX_UNAVAILABLE,
    "A program is run only where the kernel filters the system calls of its process, and this worker's does not; "
    "describe the loss as a network or an expression, or ask for a worker with a sandbox.",
    pointer="/loss",
)
DEADLINE_MARGIN = 0.1
DEADLINE_MARGIN_SECONDS = 5.0
# Long enough to store most states, and short beside the time that a stopping worker has.
KEEP_SECONDS = 10.0

log = structlog.get_logger()


def supervise(shop: Workshop, claim: Claim) -> None:
    """Run a claimed job to its end. A claim that was lost meanwhile changes nothing."""
    # From here on: fetching the inputs may take minutes.
    deadline = None if claim.seconds_left is None else time.monotonic() + soft_seconds(claim.seconds_left)
    with (
        ExitStack() as inputs,
        tempfile.TemporaryDirectory(prefix=f"{claim.job_id}-", dir=shop.scratch, ignore_cleanup_errors=True) as scratch,
    ):
        folder = Path(scratch)
        kills_before = oom_kills()
        try:
            task = _prepare(shop, claim, folder, inputs)
            if isinstance(task, Fault | Settled):
                settle(shop, claim, task, usage=None)
                tell_end(shop, claim, task, None)
                return
            watched = _run(shop, claim, task.model_copy(update={"deadline": deadline}))
        except ForkServerError:
            # Nothing can run here: the job is for another worker, and this one ends.
            settle(shop, claim, Settled.RELEASED, usage=None)
            raise
        errors = _tail(folder / STDERR_FILE)
        judgement = judge(
            Ending(
                exit=watched.exit,
                outcome=read_outcome(folder / OUTPUT_FOLDER),
                interruption=watched.interruption,
                was_oom_killed=oom_kills() > kills_before,
                errors=errors,
            )
        )
        device = task.device
        if isinstance(judgement, Succeeded):
            device = judgement.device
            judgement = deliver(shop, claim, task, judgement, watched)
        if isinstance(judgement, Fault):
            log.warning("job_fault", code=judgement.code, detail=judgement.detail, runner_errors=errors)
        if not isinstance(judgement, Succeeded):
            settle(shop, claim, judgement, usage=usage_of(watched, device), errors=errors)
        if watched.has_state or claim.saved is not None:
            forget_state(shop, claim)
        tell_end(shop, claim, judgement, watched)
        log.info("job_ended", judgement=type(judgement).__name__, seconds=round(watched.seconds, 3))


def _prepare(shop: Workshop, claim: Claim, folder: Path, inputs: ExitStack) -> Task | Fault | Settled:
    (folder / OUTPUT_FOLDER).mkdir()
    (folder / REQUEST_FILE).write_text(claim.request.model_dump_json(), encoding="utf-8")
    paths = gather(shop, claim, inputs)
    if isinstance(paths, Fault | Settled):
        return paths
    copied = fetch_reference(shop, claim, folder)
    if isinstance(copied, Fault | Settled):
        return copied
    if copied is not None:
        paths[copied.name] = copied.path
    saved = fetch_state(shop, claim, inputs)
    if isinstance(saved, Fault | Settled):
        return saved
    ready = shop.fork_server.start()
    if isinstance(claim.request.loss, ProgramLoss) and not ready.sandbox.level.reaches(SandboxLevel.STANDARD):
        return _UNISOLATED
    return Task(
        job=claim.job_id,
        folder=str(folder),
        artifacts={artifact: str(path) for artifact, path in paths.items()},
        provenance=provenance_of(claim.request, copied),
        outputs=output_files(claim.request.options.num_escape_vectors),
        device=ready.device,
        sandbox=ready.sandbox.level,
        limits=runner_limits(
            shop.settings, device=ready.device, input_bytes=sum(path.stat().st_size for path in paths.values())
        ),
        saved=None if saved is None else str(saved),
        save_seconds=shop.settings.worker_save_seconds,
        max_saved_bytes=shop.settings.worker_saved_bytes,
    )


def soft_seconds(seconds_left: float) -> float:
    """How long the engine may take of the time until the deadline, so that its best answer is stored before it.

    The rest is a tenth of it and at least 5 s, but never more than half.
    """
    return seconds_left - min(max(DEADLINE_MARGIN * seconds_left, DEADLINE_MARGIN_SECONDS), seconds_left / 2)


def _run(shop: Workshop, claim: Claim, task: Task) -> Watched:
    started = time.monotonic()
    with (Path(task.folder) / STDERR_FILE).open("wb") as errors:
        runner = shop.fork_server.spawn(task, errors=errors)
    keeper = StateKeeper(shop, claim, Path(task.folder) / OUTPUT_FOLDER)
    try:
        watched = _watch(shop, claim, runner, keeper, started)
    finally:
        shop.fork_server.kill(runner)
        runner.close()
    return replace(watched, has_state=keeper.close(KEEP_SECONDS if _may_go_on(watched) else 0.0))


def _may_go_on(watched: Watched) -> bool:
    """Whether another attempt may follow: a runner that ended by itself has said its word, and most interruptions end."""
    if watched.interruption is not None:
        return watched.interruption is Interruption.STOPPING
    return watched.exit is None or os.WIFSIGNALED(watched.exit.wait_status)


def _watch(shop: Workshop, claim: Claim, runner: Runner, keeper: StateKeeper, started: float) -> Watched:
    reader, started_ns = ProgressReader(), time.time_ns() - int((time.monotonic() - started) * 1e9)
    interruption: Interruption | None = None
    next_beat = started + shop.settings.worker_heartbeat_seconds
    with selectors.DefaultSelector() as selector:
        selector.register(runner.status_descriptor, selectors.EVENT_READ)
        selector.register(runner.progress_descriptor, selectors.EVENT_READ)
        selector.register(shop.stop, selectors.EVENT_READ)
        while True:
            asked: Interruption | None = None
            for key, _ in selector.select(max(0.0, next_beat - time.monotonic())):
                if key.fd == runner.status_descriptor:
                    ended = os.read(runner.status_descriptor, MAX_ERROR_BYTES)
                    _drain(runner, reader, keeper)
                    return Watched(
                        exit=Exit.model_validate_json(ended) if ended else None,
                        interruption=interruption,
                        latest=reader.latest,
                        seconds=time.monotonic() - started,
                        started_ns=started_ns,
                        marks=tuple(reader.marks),
                    )
                if key.fd == runner.progress_descriptor:
                    chunk = os.read(runner.progress_descriptor, MAX_ERROR_BYTES)
                    reader.feed(chunk)
                    keeper.heard(reader.take_saved())
                    if not chunk:
                        selector.unregister(runner.progress_descriptor)
                else:
                    asked = Interruption.STOPPING
                    selector.unregister(shop.stop)
            now = time.monotonic()
            if now >= next_beat:
                next_beat = now + shop.settings.worker_heartbeat_seconds
                asked = asked or _beat(shop, claim, reader)
                if now - started > shop.settings.worker_max_seconds:
                    asked = asked or Interruption.OVERTIME
            if asked is not None and interruption is None:
                interruption = asked
                shop.fork_server.kill(runner)


def _drain(runner: Runner, reader: ProgressReader, keeper: StateKeeper) -> None:
    """The runner's last lines may still be in the pipe, and one of them may be about a state."""
    os.set_blocking(runner.progress_descriptor, False)
    with suppress(BlockingIOError):  # whatever the runner started still holds the other end
        while chunk := os.read(runner.progress_descriptor, MAX_ERROR_BYTES):
            reader.feed(chunk)
    keeper.heard(reader.take_saved())


_INTERRUPTIONS = {
    Instruction.CANCEL: Interruption.CANCELLED,
    Instruction.DEADLINE: Interruption.DEADLINE,
    Instruction.LOST: Interruption.LOST,
}


def _beat(shop: Workshop, claim: Claim, reader: ProgressReader) -> Interruption | None:
    line = reader.take()
    progress = partial = None
    if line is not None:
        progress = Progress(
            stage=line.stage,
            fraction=line.fraction,
            matvecs=line.matvecs,
            eta_seconds=line.eta_seconds,
            updated_at=datetime.now(UTC),
        )
        if line.lambda_min is not None:
            partial = Partial(lambda_min=line.lambda_min, residual_norm=line.residual_norm)
    try:
        with shop.sessions.begin() as session:
            instruction = heartbeat(
                session, claim, progress=progress, partial=partial, lease_seconds=shop.settings.worker_lease_seconds
            )
    except DATABASE_DOWN as failure:
        # The lease has most of a minute left; if another worker takes the job meanwhile, the fence keeps this one out.
        log.warning("heartbeat_failed", job_id=claim.job_id, error=str(failure.orig))
        return None
    return _INTERRUPTIONS.get(instruction)


def _tail(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - MAX_ERROR_BYTES))
        return file.read().decode("utf-8", "replace")
