"""`/v1/artifacts`: bytes named by their hash."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, BinaryIO, Literal

from fastapi import APIRouter, Path, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.concurrency import run_in_threadpool

from saddlescope.contract import limits
from saddlescope.contract.strict import Closed
from service.access import Reader, Submitter
from service.bodies import BLOCK_BYTES, announced_bytes, new_writer, pour, writing_to
from service.digests import digests_of, one_name, repr_digest
from service.parts import Parts, PartsOf
from service.problems import (
    ArtifactTooLarge,
    DigestMismatch,
    NotFound,
    RangeNotSatisfiable,
    StorageFull,
    quota_told,
)
from store import blobs
from store.artifacts import ArtifactRow, find_artifact, record_artifact
from store.blobs import Blob, BlobWriter
from store.quotas import hold_to_quota

router = APIRouter(tags=["artifacts"])
NewArtifactId = Annotated[str, Path(pattern=limits.ARTIFACT_PATTERN)]
_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})")
# Not required: no bytes are an artifact, too.
_BODY = {"requestBody": {"content": {"application/octet-stream": {"schema": {"format": "binary"}}}}}


class Artifact(Closed):
    """Uploaded bytes."""

    object: Literal["artifact"] = "artifact"
    id: str
    size: int
    url: str


@router.put(
    "/v1/artifacts/{artifact_id}", response_model=Artifact, responses={201: {"model": Artifact}}, openapi_extra=_BODY
)
async def put_artifact(request: Request, artifact_id: NewArtifactId, parts: PartsOf, principal: Submitter) -> Response:
    """Upload bytes under their SHA-256. 201 when they are new to the project, 200 when it had them."""
    return await _receive(request, parts, principal.project, expected=artifact_id)


@router.post("/v1/artifacts", status_code=201, response_model=Artifact, openapi_extra=_BODY)
async def post_artifact(request: Request, parts: PartsOf, principal: Submitter) -> Response:
    """Upload bytes and learn their name: `curl --data-binary @file`."""
    response = await _receive(request, parts, principal.project, expected=None)
    response.status_code = 201
    return response


@router.head("/v1/artifacts/{artifact_id}", response_class=Response)
def head_artifact(artifact_id: str, parts: PartsOf, principal: Reader) -> Response:
    """Ask before sending: 200 if the project has these bytes, else 404."""
    row = _find(parts, principal.project, artifact_id)
    return Response(headers=_headers(row) | {"content-length": str(row.size)}, media_type="application/octet-stream")


@router.get("/v1/artifacts/{artifact_id}", response_class=Response)
def get_artifact(request: Request, artifact_id: str, parts: PartsOf, principal: Reader) -> Response:
    """The bytes, or one range of them."""
    row = _find(parts, principal.project, artifact_id)
    if request.headers.get("if-none-match", "").strip() in (f'"{row.id}"', "*"):
        return Response(status_code=304, headers=_headers(row))
    return blob_response(parts, Blob(id=row.id, size=row.size), asked_range=_asked_range(request, row))


def blob_response(
    parts: Parts,
    blob: Blob,
    *,
    asked_range: str | None = None,
    media_type: str = "application/octet-stream",
    file_name: str | None = None,
) -> Response:
    """Stream a blob, whole or in part.

    Raises:
        RangeNotSatisfiable: if the range begins behind the end.
        NotFound: if the bytes are gone from the blob store.
    """
    headers = _headers(blob)
    if file_name is not None:
        headers["content-disposition"] = f'attachment; filename="{file_name}"'
    start, end, status = 0, blob.size, 200
    if asked_range is not None and (found := _byte_range(asked_range, blob.size)) is not None:
        start, end = found
        status = 206
        headers["content-range"] = f"bytes {start}-{end - 1}/{blob.size}"
    headers["content-length"] = str(end - start)
    try:
        file = parts.blobs.open(blob.id)
    except FileNotFoundError:
        raise NotFound("The bytes of this artifact are gone from the blob store; upload them again.") from None
    return StreamingResponse(
        _sent(parts, _read(file, start, end)), status_code=status, headers=headers, media_type=media_type
    )


async def commit_blob(writer: BlobWriter, expected: str | None = None) -> Blob:
    """Make the blob durable, off the event loop; the store's errors become problems."""
    try:
        return await run_in_threadpool(writer.commit, expected)
    except blobs.DigestMismatch as wrong:
        raise DigestMismatch(f"The body hashes to {wrong.actual}; nothing was kept.") from None
    except blobs.StorageFull:
        raise StorageFull("The blob store has no room for this upload; nothing of it was kept.") from None


async def _receive(request: Request, parts: Parts, project: str, *, expected: str | None) -> Response:
    max_bytes = parts.settings.max_artifact_bytes
    announced = announced_bytes(request) or 0
    if announced > max_bytes:
        raise ArtifactTooLarge(f"An artifact has at most {max_bytes} bytes on this service.")
    expected = one_name(expected, *digests_of(request))
    await run_in_threadpool(_refuse_over_quota, parts, project, announced, expected)
    with new_writer(parts.blobs) as writer:
        await pour(request.stream(), writing_to(writer), max_bytes=max_bytes)
        blob = await commit_blob(writer, expected)
    parts.metrics.uploaded.inc(blob.size)
    created = await run_in_threadpool(_record, parts, project, blob)
    url = str(request.base_url.replace(path=f"/v1/artifacts/{blob.id}"))
    artifact = Artifact(id=blob.id, size=blob.size, url=url)
    return JSONResponse(
        artifact.model_dump(mode="json"),
        status_code=201 if created else 200,
        headers={"location": url, "repr-digest": repr_digest(blob.id)},
    )


def _refuse_over_quota(parts: Parts, project: str, announced: int, expected: str | None) -> None:
    """Before the bytes are taken; with the row that names them they are counted again."""
    with quota_told(), parts.sessions() as session:
        if expected is not None and find_artifact(session, project=project, id=expected) is not None:
            return
        hold_to_quota(session, project, default_bytes=parts.settings.project_quota_bytes, extra_bytes=announced)


def _record(parts: Parts, project: str, blob: Blob) -> bool:
    with quota_told(), parts.sessions.begin() as session:
        return record_artifact(
            session, project=project, blob=blob, default_quota_bytes=parts.settings.project_quota_bytes
        )


def _find(parts: Parts, project: str, artifact_id: str) -> ArtifactRow:
    row = None
    if re.fullmatch(limits.ARTIFACT_PATTERN, artifact_id):
        with parts.sessions() as session:
            row = find_artifact(session, project=project, id=artifact_id)
    if row is None:
        raise NotFound("This project has no such artifact.")
    return row


def _headers(row: ArtifactRow | Blob) -> dict[str, str]:
    return {
        "accept-ranges": "bytes",
        "etag": f'"{row.id}"',
        "repr-digest": repr_digest(row.id),
        # The name is the hash, so that the bytes never change; private, because projects do not share them.
        "cache-control": "private, max-age=31536000, immutable",
    }


def _asked_range(request: Request, row: ArtifactRow) -> str | None:
    condition = request.headers.get("if-range")
    return request.headers.get("range") if condition in (None, f'"{row.id}"') else None


def _byte_range(asked: str, size: int) -> tuple[int, int] | None:
    """First byte and the one behind the last (RFC 9110, 14.1.2); None when the header is to be ignored.

    Several ranges at once are ignored, as the RFC allows: the answer is then the whole.
    """
    match = _RANGE.fullmatch(asked.replace(" ", ""))
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if first and last and int(last) < int(first):
        return None
    start = int(first) if first else max(size - int(last), 0)
    end = min(int(last) + 1, size) if first and last else size
    if start >= size:
        raise RangeNotSatisfiable(f"There are {size} bytes.", headers={"content-range": f"bytes */{size}"})
    return start, end


def _sent(parts: Parts, blocks: Iterator[bytes]) -> Iterator[bytes]:
    for block in blocks:
        parts.metrics.downloaded.inc(len(block))
        yield block


def _read(file: BinaryIO, start: int, end: int) -> Iterator[bytes]:
    with file:
        file.seek(start)
        left = end - start
        while left > 0 and (block := file.read(min(BLOCK_BYTES, left))):
            left -= len(block)
            yield block
