"""One claimed job from its claim to its end: start a runner, watch it, judge its end, write it down under the fence."""

from __future__ import annotations

import os
import selectors
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import structlog
from sqlalchemy.orm import Session

from saddlescope.contract.jobs import JobRequest, Partial, Progress, Usage
from saddlescope.contract.losses import ProgramLoss
from saddlescope.contract.sources import ArtifactSource
from saddlescope.contract.vocabulary import FailureCode
from store.blobs import Blob, BlobStore, StorageFull
from store.queue import (
    Claim,
    Instruction,
    finish_cancelled,
    finish_failed,
    finish_succeeded,
    heartbeat,
    release,
)
from workers.launcher import ForkServerError, Runner
from workers.memory import oom_kills
from workers.outcome import Ending, Fault, Interruption, Settled, judge
from workers.progress import ProgressReader
from workers.protocol import OUTPUT_FOLDER, REQUEST_FILE, STDERR_FILE, Exit, ProgressLine, Succeeded, Task
from workers.results import InvalidResult, Results, open_plain, read_outcome, read_results
from workers.workshop import DATABASE_DOWN, Workshop, runner_limits

MAX_ERROR_BYTES = 16 * 2**10
CHUNK_BYTES = 2**20
RETRY_SECONDS = 1.0

log = structlog.get_logger()


@dataclass(frozen=True)
class Watched:
    """What a supervisor knows when its runner is gone."""

    exit: Exit | None
    interruption: Interruption | None
    latest: ProgressLine | None
    seconds: float


def supervise(shop: Workshop, claim: Claim) -> None:
    """Run a claimed job to its end. A claim that was lost meanwhile changes nothing."""
    job_log = log.bind(job=claim.job_id, attempt=claim.attempt, fence=claim.fence)
    with tempfile.TemporaryDirectory(
        prefix=f"{claim.job_id}-", dir=shop.scratch, ignore_cleanup_errors=True
    ) as scratch:
        folder = Path(scratch)
        task = _prepare(shop, claim, folder)
        if isinstance(task, Fault):
            _settle(shop, claim, task, usage=None)
            return
        kills_before = oom_kills()
        try:
            watched = _run(shop, claim, task)
        except ForkServerError:
            # Nothing can run here: the job is for another worker, and this one ends.
            _settle(shop, claim, Settled.RELEASED, usage=None)
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
            judgement = _deliver(shop, claim, folder / OUTPUT_FOLDER, judgement, watched)
        if isinstance(judgement, Fault):
            job_log.warning("job_fault", code=judgement.code, detail=judgement.detail, runner_errors=errors)
        if not isinstance(judgement, Succeeded):
            _settle(shop, claim, judgement, usage=_usage(watched, device))
        job_log.info("job_ended", judgement=type(judgement).__name__, seconds=round(watched.seconds, 3))


def _prepare(shop: Workshop, claim: Claim, folder: Path) -> Task | Fault:
    (folder / OUTPUT_FOLDER).mkdir()
    (folder / REQUEST_FILE).write_text(claim.request.model_dump_json(), encoding="utf-8")
    paths = {}
    for artifact, code in _artifacts(claim.request):
        path = shop.blobs.path(artifact)
        if not path.is_file():
            return Fault(code, f"The bytes of {artifact} are no longer stored; upload them again.")
        paths[artifact] = path
    device = shop.fork_server.start()
    return Task(
        job=claim.job_id,
        folder=str(folder),
        artifacts={artifact: str(path) for artifact, path in paths.items()},
        device=device,
        limits=runner_limits(
            shop.settings, device=device, input_bytes=sum(path.stat().st_size for path in paths.values())
        ),
    )


def _artifacts(request: JobRequest) -> list[tuple[str, FailureCode]]:
    found = []
    if isinstance(request.checkpoint, ArtifactSource):
        found.append((request.checkpoint.artifact, FailureCode.CHECKPOINT_INVALID))
    if isinstance(request.data, ArtifactSource):
        found.append((request.data.artifact, FailureCode.DATA_INVALID))
    if isinstance(request.loss, ProgramLoss):
        found.append((request.loss.program.artifact, FailureCode.LOSS_INVALID))
    return found


def _run(shop: Workshop, claim: Claim, task: Task) -> Watched:
    started = time.monotonic()
    with (Path(task.folder) / STDERR_FILE).open("wb") as errors:
        runner = shop.fork_server.spawn(task, errors=errors)
    try:
        return _watch(shop, claim, runner, started)
    finally:
        shop.fork_server.kill(runner)
        runner.close()


def _watch(shop: Workshop, claim: Claim, runner: Runner, started: float) -> Watched:
    reader = ProgressReader()
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
                    return Watched(
                        exit=Exit.model_validate_json(ended) if ended else None,
                        interruption=interruption,
                        latest=reader.latest,
                        seconds=time.monotonic() - started,
                    )
                if key.fd == runner.progress_descriptor:
                    chunk = os.read(runner.progress_descriptor, MAX_ERROR_BYTES)
                    reader.feed(chunk)
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
        log.warning("heartbeat_failed", job=claim.job_id, error=str(failure.orig))
        return None
    return _INTERRUPTIONS.get(instruction)


def _deliver(shop: Workshop, claim: Claim, output: Path, outcome: Succeeded, watched: Watched) -> Succeeded | Fault:
    """Check the answer, store its arrays, and end the job with it."""
    try:
        results = read_results(output, outcome)
        spectrum, landscape, escapes = _store(shop.blobs, claim, results)
    except InvalidResult as wrong:
        return Fault(FailureCode.INTERNAL, f"The runner's answer does not hold together: {wrong}.")
    except StorageFull as full:
        return Fault(FailureCode.INTERNAL, f"The answer could not be stored: {full}.", is_retryable=True)
    report = results.report.model_copy(
        update={
            "job": claim.job_id,
            "escapes": tuple(
                escape.model_copy(
                    update={"vector": blob.id, "url": f"/v1/jobs/{claim.job_id}/escapes/{index}.safetensors"}
                )
                for index, (escape, blob) in enumerate(zip(results.report.escapes, escapes, strict=True))
            ),
        }
    )
    usage = _usage(watched, outcome.device, matvecs=report.numerics.num_matvecs)
    _persist(
        shop,
        claim,
        lambda session: finish_succeeded(
            session,
            claim,
            report=report,
            spectrum_blob=spectrum,
            landscape_blob=landscape,
            escape_blobs=escapes,
            usage=usage,
        ),
    )
    return outcome


def _store(blobs: BlobStore, claim: Claim, results: Results) -> tuple[Blob, Blob | None, list[Blob]]:
    named = {"job": claim.job_id}
    spectrum = blobs.put(results.spectrum.model_copy(update=named).model_dump_json().encode())
    landscape = None
    if results.landscape is not None:
        landscape = blobs.put(results.landscape.model_copy(update=named).model_dump_json().encode())
    escapes = []
    for path in results.escape_paths:
        with open_plain(path) as file, blobs.writer() as writer:
            while chunk := file.read(CHUNK_BYTES):
                writer.write(chunk)
            escapes.append(writer.commit())
    return spectrum, landscape, escapes


def _settle(shop: Workshop, claim: Claim, judgement: Fault | Settled, *, usage: Usage | None) -> None:
    """Write down an end without a report."""
    match judgement:
        case Fault():
            _persist(
                shop,
                claim,
                lambda session: finish_failed(
                    session,
                    claim,
                    code=judgement.code,
                    detail=judgement.detail,
                    retryable=judgement.is_retryable,
                    usage=usage,
                    pointer=judgement.pointer,
                ),
            )
        case Settled.CANCELLED:
            _persist(shop, claim, lambda session: finish_cancelled(session, claim, usage=usage))
        case Settled.RELEASED:
            _persist(shop, claim, lambda session: release(session, claim))
        case Settled.ABANDONED:
            return


def _persist(shop: Workshop, claim: Claim, finish: Callable[[Session], bool]) -> None:
    """Commit an end, trying for as long as the lease lasts; after that the job is another worker's."""
    give_up = time.monotonic() + shop.settings.worker_lease_seconds
    while True:
        try:
            with shop.sessions.begin() as session:
                is_ours = finish(session)
        except DATABASE_DOWN as failure:
            log.warning("finish_failed", job=claim.job_id, error=str(failure.orig))
            if time.monotonic() > give_up or shop.stop.wait(RETRY_SECONDS):
                return
            continue
        if not is_ours:
            log.warning("claim_lost", job=claim.job_id, fence=claim.fence)
        return


def _usage(watched: Watched, device: str, *, matvecs: int | None = None) -> Usage:
    told = 0 if watched.latest is None else watched.latest.matvecs
    return Usage(
        seconds=watched.seconds,
        matvecs=told if matvecs is None else matvecs,
        peak_memory_bytes=0 if watched.exit is None else watched.exit.max_rss_bytes,
        device=device,
    )


def _tail(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - MAX_ERROR_BYTES))
        return file.read().decode("utf-8", "replace")
