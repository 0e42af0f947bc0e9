"""Write down how a claimed job ended: under its fence, in one transaction, and only what has been checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog
from sqlalchemy.orm import Session

from saddlescope.contract.jobs import Usage
from saddlescope.contract.vocabulary import FailureCode
from store.blobs import Blob, BlobStore, StorageFull, StorageUnavailable
from store.queue import Claim, finish_cancelled, finish_failed, finish_succeeded, release
from workers.outcome import Fault, Interruption, Settled
from workers.progress import StageMark
from workers.protocol import OUTPUT_FOLDER, Exit, ProgressLine, Succeeded, Task
from workers.results import InvalidResult, Results, open_plain, read_results
from workers.transfer import kept_lease, patiently
from workers.workshop import DATABASE_DOWN, Workshop

CHUNK_BYTES = 2**20
RETRY_SECONDS = 1.0
MAX_ERRORS_CHARS = 4_000

log = structlog.get_logger()


@dataclass(frozen=True)
class Watched:
    """What a supervisor knows when its runner is gone."""

    exit: Exit | None
    interruption: Interruption | None
    latest: ProgressLine | None
    seconds: float
    started_ns: int
    """When the runner was ordered, by the system's clock."""
    marks: tuple[StageMark, ...] = ()
    has_state: bool = False
    """A state of this attempt is stored."""


def deliver(shop: Workshop, claim: Claim, task: Task, outcome: Succeeded, watched: Watched) -> Succeeded | Fault:
    """Check the answer, store its arrays, and end the job with it."""
    try:
        results = read_results(Path(task.folder) / OUTPUT_FOLDER, outcome)
        # A cancel comes too late for a job that is done; the lease is kept all the same.
        with kept_lease(shop, claim):
            spectrum, landscape, escapes = patiently(
                lambda: _store(shop.blobs, claim, results), seconds=shop.settings.worker_lease_seconds, check=_go_on
            )
    except InvalidResult as wrong:
        return Fault(FailureCode.INTERNAL, f"The runner's answer does not hold together: {wrong}.")
    except (StorageFull, StorageUnavailable) as failure:
        shop.metrics.errors.labels("blobs").inc()
        return Fault(FailureCode.INTERNAL, f"The answer could not be stored: {failure}.", is_retryable=True)
    report = results.report.model_copy(
        update={
            "job": claim.job_id,
            "provenance": task.provenance,
            "escapes": tuple(
                escape.model_copy(
                    update={"vector": blob.id, "url": f"/v1/jobs/{claim.job_id}/escapes/{index}.safetensors"}
                )
                for index, (escape, blob) in enumerate(zip(results.report.escapes, escapes, strict=True))
            ),
        }
    )
    usage = usage_of(watched, outcome.device, matvecs=report.numerics.num_matvecs)
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
    shop.metrics.verdicts.labels(report.verdict.value).inc()
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


def _go_on() -> None:
    """Nothing ends the storing of an answer."""


def settle(shop: Workshop, claim: Claim, judgement: Fault | Settled, *, usage: Usage | None, errors: str = "") -> None:
    """Write down an end without a report; of a fault, the runner's last words with it."""
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
                    errors=errors[-MAX_ERRORS_CHARS:],
                ),
            )
        case Settled.CANCELLED:
            _persist(shop, claim, lambda session: finish_cancelled(session, claim, usage=usage))
        case Settled.RELEASED:
            _persist(shop, claim, lambda session: release(session, claim))
        case Settled.ABANDONED:
            return


def _persist(shop: Workshop, claim: Claim, finish: Callable[[Session], bool]) -> None:
    """Commit an end, however long the database is away: whoever took the job meanwhile has a higher fence."""
    while True:
        try:
            with shop.sessions.begin() as session:
                is_ours = finish(session)
        except DATABASE_DOWN as failure:
            log.warning("finish_failed", job_id=claim.job_id, error=str(failure.orig))
            if shop.stop.wait(RETRY_SECONDS):
                return
            continue
        if not is_ours:
            log.warning("claim_lost", job_id=claim.job_id, fence=claim.fence)
        return


def usage_of(watched: Watched, device: str, *, matvecs: int | None = None) -> Usage:
    told = 0 if watched.latest is None else watched.latest.matvecs
    return Usage(
        seconds=watched.seconds,
        matvecs=told if matvecs is None else matvecs,
        peak_memory_bytes=0 if watched.exit is None else watched.exit.max_rss_bytes,
        device=device,
    )
