"""Blobs on their way to a runner and back, while the lease is kept: with an object store both may take minutes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

import structlog

from saddlescope.contract.jobs import JobRequest
from saddlescope.contract.losses import ProgramLoss
from saddlescope.contract.sources import ArtifactSource
from saddlescope.contract.vocabulary import FailureCode
from store.blobs import DigestMismatch, StorageFull, StorageUnavailable
from store.queue import Claim, Instruction, heartbeat
from workers.outcome import Fault, Interruption, Settled, interrupted
from workers.workshop import DATABASE_DOWN, Workshop

RETRY_SECONDS = 1.0
Value = TypeVar("Value")
_INTERRUPTIONS = {
    Instruction.CANCEL: Interruption.CANCELLED,
    Instruction.DEADLINE: Interruption.DEADLINE,
    Instruction.LOST: Interruption.LOST,
}

log = structlog.get_logger()


class Interrupted(Exception):
    """The job is not to go on here."""

    def __init__(self, interruption: Interruption) -> None:
        super().__init__(interruption)
        self.interruption = interruption


def gather(shop: Workshop, claim: Claim, keep: ExitStack) -> dict[str, Path] | Fault | Settled:
    """A file of this machine for every artifact of the request; they stay for as long as `keep` is open."""
    paths: dict[str, Path] = {}
    artifacts = _artifacts(claim.request)
    if not artifacts:
        return paths
    with kept_lease(shop, claim) as check:
        for artifact, code in artifacts:
            try:
                paths[artifact] = patiently(
                    partial(_fetch, shop, artifact, keep, check),
                    seconds=shop.settings.worker_lease_seconds,
                    check=check,
                )
            except FileNotFoundError:
                return Fault(code, f"The bytes of {artifact} are no longer stored; upload them again.")
            except DigestMismatch:
                return Fault(code, f"The stored bytes of {artifact} are damaged; upload them again.")
            except (StorageFull, StorageUnavailable) as failure:
                return Fault(FailureCode.INTERNAL, f"The inputs could not be fetched: {failure}.", is_retryable=True)
            except Interrupted as ended:
                return interrupted(ended.interruption)
    return paths


def fetch_state(shop: Workshop, claim: Claim, keep: ExitStack) -> Path | Fault | Settled | None:
    """A file of this machine for the state that an earlier attempt left; None where there is none, or none to be had.

    Without it the job starts over: better late than never.
    """
    if claim.saved is None:
        return None
    with kept_lease(shop, claim) as check:
        try:
            return patiently(
                partial(_fetch, shop, claim.saved.blob, keep, check),
                seconds=shop.settings.worker_lease_seconds,
                check=check,
            )
        except (FileNotFoundError, DigestMismatch, StorageFull, StorageUnavailable) as failure:
            log.warning("state_not_fetched", job_id=claim.job_id, error=str(failure))
            return None
        except Interrupted as ended:
            return interrupted(ended.interruption)


@contextmanager
def kept_lease(shop: Workshop, claim: Claim) -> Iterator[Callable[[], None]]:
    """Renew the lease from a thread while the block runs. The callable raises Interrupted once the job must end."""
    done = threading.Event()
    told: list[Instruction] = []

    def renew() -> None:
        while not done.wait(shop.settings.worker_heartbeat_seconds):
            try:
                with shop.sessions.begin() as session:
                    instruction = heartbeat(session, claim, lease_seconds=shop.settings.worker_lease_seconds)
            except DATABASE_DOWN as failure:
                log.warning("heartbeat_failed", job_id=claim.job_id, error=str(failure.orig))
                continue
            if instruction is not Instruction.CONTINUE:
                told.append(instruction)
                if instruction is Instruction.LOST:
                    return

    def check() -> None:
        if told:
            raise Interrupted(_INTERRUPTIONS[told[-1]])
        if shop.stop.is_set():
            raise Interrupted(Interruption.STOPPING)

    thread = threading.Thread(target=renew, name=f"lease-{claim.job_id}")
    thread.start()
    try:
        yield check
    finally:
        done.set()
        thread.join()


def patiently(transfer: Callable[[], Value], *, seconds: float, check: Callable[[], None]) -> Value:
    """The transfer's answer; one that meets an object store out of order is tried again for so many seconds.

    Raises:
        StorageUnavailable: if it was out of order all the time.
    """
    give_up = time.monotonic() + seconds
    while True:
        try:
            return transfer()
        except StorageUnavailable as failure:
            if time.monotonic() > give_up:
                raise
            log.warning("storage_unavailable", reason=failure.reason)
        check()
        time.sleep(RETRY_SECONDS)


def _fetch(shop: Workshop, artifact: str, keep: ExitStack, check: Callable[[], None]) -> Path:
    return keep.enter_context(shop.blobs.local(artifact, between=check))


def _artifacts(request: JobRequest) -> list[tuple[str, FailureCode]]:
    found = []
    if isinstance(request.checkpoint, ArtifactSource):
        found.append((request.checkpoint.artifact, FailureCode.CHECKPOINT_INVALID))
    if isinstance(request.data, ArtifactSource):
        found.append((request.data.artifact, FailureCode.DATA_INVALID))
    if isinstance(request.loss, ProgramLoss):
        found.append((request.loss.program.artifact, FailureCode.LOSS_INVALID))
    return found
