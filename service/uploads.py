"""`/v1/uploads`: resumable uploads by tus 1.0.0."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from saddlescope.contract.jobs import Timestamp
from saddlescope.contract.strict import Closed
from service import receiving, tus
from service.access import Reader, Submitter
from service.bodies import announced_bytes
from service.parts import Parts, PartsOf
from service.problems import (
    ArtifactTooLarge,
    BadRequest,
    MethodNotAllowed,
    NotFound,
    StorageFull,
    UploadExpired,
    quota_told,
)
from service.views import base_of
from store import blobs
from store.keys import Principal
from store.uploads import UploadRow, create_upload, expire_uploads, find_upload

router = APIRouter(tags=["artifacts"])
_ID = {"name": "upload_id", "in": "path", "required": True, "schema": {"type": "string"}}


class UploadState(Closed):
    """A resumable upload; `artifact` is there when its last byte is."""

    object: Literal["upload"] = "upload"
    id: str
    size: int
    offset: int
    artifact: str | None
    expires_at: Timestamp
    url: str


@router.options("/v1/uploads", status_code=204)
@router.options("/v1/uploads/{upload_id}", status_code=204, openapi_extra={"parameters": [_ID]})
def tell_capabilities(parts: PartsOf) -> Response:
    """What this service takes of the protocol."""
    return Response(status_code=204, headers=tus.capabilities(parts.settings.max_artifact_bytes))


@router.post(
    "/v1/uploads",
    status_code=201,
    response_class=Response,
    openapi_extra=tus.described("Upload-Length", "Upload-Metadata", "Upload-Checksum", has_body=True),
)
async def post_upload(request: Request, parts: PartsOf, principal: Submitter) -> Response:
    """Announce an upload by `Upload-Length`; a body, if there is one, is its beginning."""
    tus.check_version(request)
    if "upload-defer-length" in request.headers or "upload-concat" in request.headers:
        raise BadRequest("Announce the whole length; deferred lengths and concatenation are not taken.")
    size = tus.number_of(request, "upload-length")
    if size > parts.settings.max_artifact_bytes:
        raise ArtifactTooLarge(f"An artifact has at most {parts.settings.max_artifact_bytes} bytes on this service.")
    metadata, checksum = tus.metadata_of(request), tus.checksum_of(request)
    has_body = "transfer-encoding" in request.headers or bool(announced_bytes(request))
    if has_body:
        tus.check_chunk_type(request)
        _check_fits(request, size)
    row = await run_in_threadpool(_create, parts, principal.project, size, metadata)
    location = {"location": f"{base_of(request)}/v1/uploads/{row.id}"}
    if has_body:
        row = await receiving.receive(parts, row, request.stream(), offset=0, checksum=checksum)
    else:
        row = await run_in_threadpool(receiving.resume, parts, row)
    return Response(status_code=201, headers={**tus.state_of(row), **location})


@router.head("/v1/uploads/{upload_id}", response_class=Response, openapi_extra=tus.described())
async def head_upload(request: Request, upload_id: str, parts: PartsOf, principal: Submitter) -> Response:
    """How many bytes are there. A body that has stalled on a dead connection is ended first."""
    tus.check_version(request)
    row = await _settled(parts, principal, upload_id)
    headers = {**tus.state_of(row), "upload-length": str(row.size), "cache-control": "no-store"}
    if row.metadata is not None:
        headers["upload-metadata"] = row.metadata
    return Response(headers=headers)


@router.get("/v1/uploads/{upload_id}")
async def get_upload(request: Request, upload_id: str, parts: PartsOf, principal: Reader) -> UploadState:
    """The same as JSON."""
    row = await _settled(parts, principal, upload_id)
    return UploadState(
        id=row.id,
        size=row.size,
        offset=row.offset,
        artifact=row.artifact,
        expires_at=row.expires_at,
        url=f"{base_of(request)}/v1/uploads/{row.id}",
    )


@router.patch(
    "/v1/uploads/{upload_id}",
    status_code=204,
    response_class=Response,
    openapi_extra=tus.described("Upload-Offset", "Upload-Checksum", has_body=True),
)
async def patch_upload(request: Request, upload_id: str, parts: PartsOf, principal: Submitter) -> Response:
    """Send bytes from `Upload-Offset` on. With the last one the artifact exists."""
    tus.check_version(request)
    tus.check_chunk_type(request)
    offset, checksum = tus.number_of(request, "upload-offset"), tus.checksum_of(request)
    row = await run_in_threadpool(_find, parts, principal.project, upload_id)
    _check_fits(request, row.size - offset)
    row = await receiving.receive(parts, row, request.stream(), offset=offset, checksum=checksum)
    return Response(status_code=204, headers=tus.state_of(row))


@router.delete("/v1/uploads/{upload_id}", status_code=204, response_class=Response, openapi_extra=tus.described())
async def delete_upload(request: Request, upload_id: str, parts: PartsOf, principal: Submitter) -> Response:
    """Give up an upload; its bytes are removed. An artifact that it has become stays."""
    tus.check_version(request)
    row = await run_in_threadpool(_find, parts, principal.project, upload_id)
    await run_in_threadpool(receiving.discard, parts, row)
    return Response(status_code=204)


@router.post("/v1/uploads/{upload_id}", response_class=Response, include_in_schema=False)
async def post_for_another_method(request: Request, upload_id: str, parts: PartsOf, principal: Submitter) -> Response:
    """For clients that cannot send PATCH or DELETE, as the protocol asks."""
    match request.headers.get("x-http-method-override", "").upper():
        case "PATCH":
            return await patch_upload(request, upload_id, parts, principal)
        case "DELETE":
            return await delete_upload(request, upload_id, parts, principal)
        case _:
            raise MethodNotAllowed("POST is not taken here.", headers={"allow": "DELETE, GET, HEAD, OPTIONS, PATCH"})


def _check_fits(request: Request, room: int) -> None:
    if (announced_bytes(request) or 0) > max(room, 0):
        raise ArtifactTooLarge("The body reaches past the announced length of the upload.")


def _create(parts: Parts, project: str, size: int, metadata: tus.Metadata) -> UploadRow:
    with parts.sessions.begin() as session:
        # The workers do so as well; but where blobs lie in a bucket, the staged bytes are on this machine alone.
        expire_uploads(session, parts.staging)
    try:
        with quota_told(), parts.sessions.begin() as session:
            row = create_upload(
                session,
                project=project,
                size=size,
                expected=metadata.expected,
                metadata=metadata.text,
                lifetime_seconds=parts.settings.upload_lifetime_seconds,
                default_quota_bytes=parts.settings.project_quota_bytes,
            )
            parts.staging.create(row.id)
    except blobs.StorageFull:
        raise StorageFull("The disk of this service is full; nothing was begun.") from None
    return row


async def _settled(parts: Parts, principal: Principal, upload_id: str) -> UploadRow:
    row = await run_in_threadpool(_find, parts, principal.project, upload_id)
    await parts.receptions.settle(row.id)
    row = await run_in_threadpool(_find, parts, principal.project, upload_id)
    return await run_in_threadpool(receiving.resume, parts, row)


def _find(parts: Parts, project: str, upload_id: str) -> UploadRow:
    with parts.sessions() as session:
        row = find_upload(session, project=project, upload_id=upload_id)
    if row is None:
        raise NotFound("This project has no such upload.")
    if row.is_expired:
        raise UploadExpired("The time to go on with this upload is over; begin a new one.")
    return row
