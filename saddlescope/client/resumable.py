"""Large uploads, which go on where a lost connection left them (tus 1.0.0)."""

from __future__ import annotations

import base64
import time
from http import HTTPStatus

from saddlescope.client.errors import ApiError, ConnectionFailed
from saddlescope.client.transport import RETRIED_STATUSES, Body, Call, Transport, pause
from saddlescope.client.uploads import Upload

# Below this, sending all of it again costs less than asking how far it came.
RESUMABLE_BYTES = 32 * 2**20
# The last byte is answered when all of them are hashed and durable.
FINISH_SECONDS = 300.0
_TUS = {"Tus-Resumable": "1.0.0"}
_CHUNK = "application/offset+octet-stream"
# What another attempt may mend: besides faults in passing, an offset that moved and a request that still holds on.
_RETRIED = RETRIED_STATUSES | {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.LOCKED}


def upload_resumably(transport: Transport, upload: Upload) -> None:
    """Send an upload; attempts that bring nothing forward are counted, and those that do are not.

    Raises:
        ConnectionFailed: if that many attempts in a row were not answered.
        ApiError: the last refusal.
    """
    name = base64.b64encode(upload.artifact.encode()).decode()
    announced = {"Upload-Length": str(upload.body.size), "Upload-Metadata": f"sha256 {name}"}
    location = transport.send(Call("POST", "/v1/uploads", headers=_TUS | announced)).headers["Location"]
    # By its path: the service may be known to itself under another address than to us.
    path = "/v1/uploads/" + location.rstrip("/").rpartition("/")[2]
    offset, num_failures = 0, 0
    while True:
        try:
            transport.send_once(_rest(path, upload, offset))
        except (ConnectionFailed, ApiError) as failure:
            if num_failures == transport.retries or not _may_be_mended(failure):
                raise
            time.sleep(pause(num_failures, None))
            told = transport.send(Call("HEAD", path, headers=_TUS)).headers
            reached = int(told["Upload-Offset"])
            num_failures = 0 if reached > offset else num_failures + 1
            offset = reached
            if "Saddlescope-Artifact" in told:
                return
        else:
            return


def _rest(path: str, upload: Upload, offset: int) -> Call:
    body = Body(upload.body.size - offset, upload.body.chunks, content_type=_CHUNK, offset=offset)
    return Call("PATCH", path, body=body, headers=_TUS | {"Upload-Offset": str(offset)}, wait_seconds=FINISH_SECONDS)


def _may_be_mended(failure: ConnectionFailed | ApiError) -> bool:
    return isinstance(failure, ConnectionFailed) or failure.status in _RETRIED
