"""Whether two requests ask the same question of the same engine."""

from __future__ import annotations

import hashlib
import json
import secrets

from saddlescope.contract.jobs import JobRequest
from saddlescope.contract.sources import Reference

WITHOUT_EFFECT = {"run", "labels", "metadata", "priority", "queue", "force", "callback_url"}


def fingerprint(request: JobRequest, engine_version: str) -> str:
    """SHA-256 of the canonical request, without what does not change the answer, and of the engine's version.

    A request that names bytes outside the service is never the same as another: they may have changed meanwhile.
    """
    if isinstance(request.checkpoint, Reference):
        return secrets.token_hex(32)
    question = request.model_dump(mode="json", exclude=WITHOUT_EFFECT)
    canonical = json.dumps(
        {"engine": engine_version, "question": question}, sort_keys=True, separators=(",", ":"), allow_nan=False
    )
    return hashlib.sha256(canonical.encode()).hexdigest()
