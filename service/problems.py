"""Every way in which a request can go wrong, and how it is told (RFC 9457).

ServiceProblem
├── BadRequest             400  the HTTP request itself is broken
├── Unauthorized           401  no key, or not a valid one
├── Forbidden              403  the key lacks the scope
├── NotFound               404  no such object in this project
├── MethodNotAllowed       405
├── RequestTimeout         408  the body came too slowly
├── JobNotFinished         409  results are asked of a job that has none
├── JobNotRetryable        409  a job that has not ended cannot be retried
├── OffsetMismatch         409  the bytes do not begin where the upload goes on
├── UploadExpired          410
├── TusVersionUnsupported  412
├── WebhookLimit           409  the project has as many webhooks as it may have
├── RequestTooLarge        413  the JSON body is over its limit
├── ArtifactTooLarge       413  the uploaded bytes are over their limit
├── UnsupportedMediaType   415
├── RangeNotSatisfiable    416
├── Misdirected            421  the request names another host
├── RequestInvalid         422  the request is understood, and wrong; `errors` says where
├── DigestMismatch         422  the bytes are not those that the address names
├── IdempotencyKeyReused   422  the key was sent before with another body
├── UploadLocked           423  another request is sending bytes of the upload
├── ChecksumMismatch       460  a part of an upload has another checksum
├── RateLimited            429  the caller asks too fast
├── InternalError          500
├── DatabaseUnavailable    503  the database does not answer, or not in time
├── StorageUnavailable     503  the object store of the blobs does not answer
├── StorageFull            507
└── QuotaExceeded          507  the project may not store more
    └── JobQuotaExceeded   429  the project may not have more jobs waiting
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import ClassVar

from saddlescope.contract.problems import FieldProblem, Problem
from store import quotas

MEDIA_TYPE = "application/problem+json"


class ServiceProblem(Exception):
    """A caller's mistake or a fault of ours, with its status and code."""

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Problem"
    retryable: ClassVar[bool] = False
    code: str = "problem"

    def __init__(
        self, detail: str, *, errors: Sequence[FieldProblem] = (), headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = tuple(errors)
        self.headers = dict(headers or {})

    def describe(self, *, instance: str, request_id: str | None) -> Problem:
        return Problem(
            type=f"/problems/{self.code}",
            title=self.title,
            status=self.status,
            detail=self.detail,
            instance=instance,
            code=self.code,
            request_id=request_id,
            retryable=self.retryable,
            errors=self.errors,
        )


class BadRequest(ServiceProblem):
    """The HTTP request is broken: a header or the framing of its body cannot be understood."""

    status, code, title = 400, "bad_request", "The request cannot be understood"


class Unauthorized(ServiceProblem):
    """The request has no API key, or one that is unknown, expired or revoked. Send `Authorization: Bearer <key>`."""

    status, code, title = 401, "unauthorized", "A valid API key is needed"


class Forbidden(ServiceProblem):
    """The API key is valid and lacks the scope that this call needs."""

    status, code, title = 403, "forbidden", "The key lacks the scope"


class NotFound(ServiceProblem):
    """Your project has no such object. Objects of other projects are answered in the same way."""

    status, code, title = 404, "not_found", "Not found"


class MethodNotAllowed(ServiceProblem):
    """The address exists and does not take this method; the `Allow` header lists those it takes."""

    status, code, title = 405, "method_not_allowed", "Method not allowed"


class RequestTimeout(ServiceProblem):
    """The body came more slowly than the service waits for. Send it again over a better connection."""

    status, code, title, retryable = 408, "request_timeout", "The body came too slowly", True


class JobNotFinished(ServiceProblem):
    """The job has no results: it still runs, or it failed or was cancelled. `GET` the job to see which."""

    status, code, title = 409, "job_not_finished", "The job has no results"


class JobNotRetryable(ServiceProblem):
    """Only a job that failed, was cancelled or succeeded can be retried. Cancel it first."""

    status, code, title = 409, "job_not_retryable", "The job has not ended"


class OffsetMismatch(ServiceProblem):
    """The bytes do not begin where the upload goes on. Ask for its `Upload-Offset` by HEAD, and send from there."""

    status, code, title, retryable = 409, "offset_mismatch", "The offset is not that of the upload", True


class UploadExpired(ServiceProblem):
    """The upload was not gone on with before its `Upload-Expires`, and its bytes are removed. Begin a new one."""

    status, code, title = 410, "upload_expired", "The upload has expired"


class TusVersionUnsupported(ServiceProblem):
    """Resumable uploads are taken by tus 1.0.0; send `Tus-Resumable: 1.0.0`."""

    status, code, title = 412, "tus_version_unsupported", "This version of tus is not taken"


class WebhookLimit(ServiceProblem):
    """The project has as many webhooks as it may have. Delete one that is not needed."""

    status, code, title = 409, "webhook_limit", "Too many webhooks"


class RequestTooLarge(ServiceProblem):
    """The JSON body is over its limit. Upload large tensors as artifacts and name them by their hash."""

    status, code, title = 413, "request_too_large", "The request is too large"


class ArtifactTooLarge(ServiceProblem):
    """The uploaded bytes are over the limit that this service was started with."""

    status, code, title = 413, "artifact_too_large", "The artifact is too large"


class UnsupportedMediaType(ServiceProblem):
    """The body's media type or content encoding is not taken here. Send it as it is, without compression."""

    status, code, title = 415, "unsupported_media_type", "Unsupported media type"


class RangeNotSatisfiable(ServiceProblem):
    """The `Range` header asks for bytes that the artifact does not have."""

    status, code, title = 416, "range_not_satisfiable", "Range not satisfiable"


class Misdirected(ServiceProblem):
    """A service without keys takes requests under loopback's names and the host of its SADDLESCOPE_PUBLIC_URL alone, so
    that no page can make a browser on its machine read it. Ask under one of these, or use keys.
    """

    status, code, title = 421, "misdirected_request", "The request names another host"


class RequestInvalid(ServiceProblem):
    """The request is understood and wrong. `errors` lists each place by its JSON Pointer, and what to mend."""

    status, code, title = 422, "request_invalid", "The request is invalid"

    def __init__(
        self, detail: str, *, errors: Sequence[FieldProblem] = (), headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail, errors=errors, headers=headers)
        codes = {error.code for error in errors}
        if len(codes) == 1 and (code := codes.pop()) in SPECIFIC_CODES:
            self.code = code


class DigestMismatch(ServiceProblem):
    """The bytes that arrived have another SHA-256 than the address names; nothing was kept. Send them again."""

    status, code, title, retryable = 422, "digest_mismatch", "The bytes do not match their digest", True


class IdempotencyKeyReused(ServiceProblem):
    """This `Idempotency-Key` was sent before with another body. Take a new key for a new job."""

    status, code, title = 422, "idempotency_key_reused", "The idempotency key was used for another request"


class UploadLocked(ServiceProblem):
    """Another request is sending bytes of the same upload. Wait for it, or ask for the offset and go on from there."""

    status, code, title, retryable = 423, "upload_locked", "The upload is being written to", True


class ChecksumMismatch(ServiceProblem):
    """The body is not what its `Upload-Checksum` says; nothing of it was kept. Send it again."""

    status, code, title, retryable = 460, "checksum_mismatch", "The checksum does not match", True


class RateLimited(ServiceProblem):
    """More requests came than your project, or your address without a key, may make. `Retry-After` says when to go on."""

    status, code, title, retryable = 429, "rate_limited", "Too many requests", True


class InternalError(ServiceProblem):
    """A fault of the service. The operators find it in the log by the `request_id`."""

    status, code, title, retryable = 500, "internal", "Internal error", True


class DatabaseUnavailable(ServiceProblem):
    """The service cannot reach its database. Running jobs go on; try again in a moment, a submission under the same key."""

    status, code, title, retryable = 503, "database_unavailable", "The database does not answer", True


class StorageUnavailable(ServiceProblem):
    """The service cannot reach the store of its large files. Nothing was kept or lost; try again in a moment."""

    status, code, title, retryable = 503, "storage_unavailable", "The storage does not answer", True


class StorageFull(ServiceProblem):
    """The service has no room for these bytes; nothing was kept."""

    status, code, title, retryable = 507, "storage_full", "The storage is full", True


class QuotaExceeded(ServiceProblem):
    """Your project may not store that much (507), or not have that many jobs waiting (429); nothing of this request
    was kept. Ask the operators for a larger quota, or wait until some of the jobs are done.
    """

    status, code, title = 507, "quota_exceeded", "The project's quota is used up"


class JobQuotaExceeded(QuotaExceeded):
    """One code and one page with the storage's quota; this one passes by itself."""

    status, retryable = 429, True


@contextmanager
def quota_told() -> Iterator[None]:
    """Tell the store's refusal as the caller's problem."""
    try:
        yield
    except quotas.QuotaExceeded as wrong:
        raise QuotaExceeded(f"With this upload {wrong}.") from None


# A 422 whose places all have one of these codes takes it as its own, so that callers can tell them apart by `code`.
SPECIFIC_CODES: Mapping[str, str] = {
    "json_invalid": "The body is not JSON as this service takes it: UTF-8, no NaN or Infinity, no repeated keys, no "
    "NUL, bounded depth.",
    "multipart_invalid": "The multipart body is broken, lacks the `request` part, or names a part that did not come.",
    "artifact_not_found": "The request names an artifact that your project has not uploaded.",
    "references_disabled": "This service takes no checkpoints by reference. Upload the bytes.",
    "reference_not_allowed": "The path or bucket is not among those that this service may read.",
    "estimate_unknown": "The cost of a checkpoint by reference is not known before a worker reads it; submit the job.",
    "checkpoint_invalid": "The checkpoint cannot be read as tensors.",
    "loss_invalid": "The loss cannot be understood; for an expression the position of the mistake is told.",
    "data_invalid": "The data set does not fit the loss: a tensor is missing or empty, or the rows do not match.",
    "parameter_mismatch": "The checkpoint's tensors are not those that the loss reads, by name or by shape.",
    "destination_refused": "No webhook is sent to this address: it is not public, not https, or not written plainly. "
    "The operators can allow hosts and networks of their own by SADDLESCOPE_WEBHOOK_ALLOW.",
    "cursor_invalid": "The `after` cursor was not made by this service for this query.",
}


def catalogue() -> dict[str, tuple[str, str]]:
    """Title and explanation of every code that a request can be answered with."""
    specific = {code: (RequestInvalid.title, explanation) for code, explanation in SPECIFIC_CODES.items()}
    general = {kind.code: (kind.title, kind.__doc__ or kind.title) for kind in ServiceProblem.__subclasses__()}
    return specific | general
