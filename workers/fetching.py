"""The checkpoint that a request names and nobody uploaded, copied under a kept lease; and what a report says of its bytes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from saddlescope.contract.jobs import JobRequest
from saddlescope.contract.losses import ProgramLoss
from saddlescope.contract.reports import Provenance
from saddlescope.contract.sources import ArtifactSource, Reference, TensorSource
from saddlescope.contract.vocabulary import FailureCode
from store.blobs import StorageFull, StorageUnavailable
from store.queue import Claim
from workers.outcome import Fault, Settled, interrupted
from workers.protocol import REFERENCE_FILE
from workers.references import Copied, ReferenceRefused, copy_reference
from workers.transfer import Interrupted, kept_lease, patiently
from workers.workshop import Workshop


def fetch_reference(shop: Workshop, claim: Claim, folder: Path) -> Copied | Fault | Settled | None:
    """A copy in `folder` of a checkpoint by reference; None where the request has none."""
    source = claim.request.checkpoint
    if not isinstance(source, Reference):
        return None
    try:
        with kept_lease(shop, claim) as check:
            copying = partial(_copy, shop, source, folder / REFERENCE_FILE, check)
            return patiently(copying, seconds=shop.settings.worker_lease_seconds, check=check)
    except ReferenceRefused as wrong:
        detail = f"The checkpoint cannot be read: {wrong}."
        return Fault(FailureCode.CHECKPOINT_INVALID, detail, pointer="/checkpoint")
    except (StorageFull, StorageUnavailable) as failure:
        return Fault(FailureCode.INTERNAL, f"The checkpoint could not be fetched: {failure}.", is_retryable=True)
    except Interrupted as ended:
        return interrupted(ended.interruption)


def provenance_of(request: JobRequest, copied: Copied | None) -> Provenance:
    """The hashes of everything that the runner was given."""
    loss = request.loss
    return Provenance(
        checkpoint=_artifact(request.checkpoint) if copied is None else copied.digest,
        data=_artifact(request.data),
        program=_artifact(loss.program) if isinstance(loss, ProgramLoss) else None,
    )


def _artifact(source: TensorSource | Reference | None) -> str | None:
    return source.artifact if isinstance(source, ArtifactSource) else None


def _copy(shop: Workshop, source: Reference, target: Path, check: Callable[[], None]) -> Copied:
    target.unlink(missing_ok=True)  # of an attempt that the store broke off
    roots = [Path(root) for root in shop.settings.reference_roots.split(":") if root]
    buckets = frozenset(shop.settings.reference_buckets.split(":"))
    return copy_reference(source, target, roots=roots, buckets=buckets, check=check)
