"""What can go wrong between a client and the service.

SaddlescopeError
├── ConnectionFailed      nothing answered, after all retries
│   └── Spooled           and the submission waits on disk to be sent later; `.waiting` is it
├── UnreadableAnswer      something answered that this version of the client does not understand
├── ApiError              the service refused; `.problem` says what, where and whether to try again
│   ├── InvalidRequest    400, 415, 422: mend the request; `.problem.errors` points at the places
│   ├── Unauthorized      401, 403: no key, a wrong one, or one without the scope
│   ├── NotFound          404
│   ├── Conflict          409: for example a report asked for before the job was done
│   ├── TooLarge          413
│   ├── RateLimited       429, after all retries
│   └── ServerError       5xx, after all retries
├── JobFailed             the job ended with an error; `.code` and `.detail` say which
├── JobCancelled
├── WaitTimeout           the job goes on; wait again or cancel it
└── WebhookInvalid        a message that claims to come from the service and cannot be trusted
"""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path

from saddlescope.contract.problems import Problem


class SaddlescopeError(Exception):
    """Everything this client raises on purpose."""


class ConnectionFailed(SaddlescopeError):
    """Nothing answered at the address."""


class Spooled(ConnectionFailed):
    """The service could not take the submission now; it waits on disk."""

    def __init__(self, waiting: Path, reason: str) -> None:
        self.waiting = waiting
        super().__init__(
            f"{reason}; the submission waits in {waiting} and is sent by Client.send_spooled() or `saddlescope send`"
        )


class UnreadableAnswer(SaddlescopeError):
    """An answer that is not of the contract; a newer service wants a newer client."""


class ApiError(SaddlescopeError):
    """The service refused the call."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        places = "".join(f"\n  {wrong.pointer or '/'}: {wrong.detail}" for wrong in problem.errors)
        request = f" [request {problem.request_id}]" if problem.request_id else ""
        super().__init__(f"{problem.detail} ({problem.status} {problem.code}){request}{places}")

    @property
    def status(self) -> int:
        return self.problem.status

    @property
    def code(self) -> str:
        return self.problem.code

    @property
    def request_id(self) -> str | None:
        return self.problem.request_id


class InvalidRequest(ApiError):
    """The request is wrong; found here before sending, or by the service."""


class Unauthorized(ApiError):
    """The key is missing, wrong, or lacks the scope."""


class NotFound(ApiError):
    """No such object in this project."""


class Conflict(ApiError):
    """The object is not in the state that the call needs."""


class TooLarge(ApiError):
    """More bytes than the service takes."""


class RateLimited(ApiError):
    """Too many calls, also after waiting as told."""


class ServerError(ApiError):
    """The service failed, also after retries."""


class JobFailed(SaddlescopeError):
    """The job ended with an error."""

    def __init__(self, job_id: str, *, code: str, detail: str) -> None:
        self.job_id = job_id
        self.code = code
        self.detail = detail
        super().__init__(f"{job_id} failed: {detail} ({code})")


class JobCancelled(SaddlescopeError):
    """The job was cancelled."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(f"{job_id} was cancelled")


class WaitTimeout(SaddlescopeError):
    """The job was not done in time. It goes on."""

    def __init__(self, job_id: str, *, seconds: float) -> None:
        self.job_id = job_id
        super().__init__(f"{job_id} was not done after {seconds:g} s; it goes on: wait again or cancel it")


class WebhookInvalid(SaddlescopeError):
    """Not signed by the service, or too old. Answer 400 and do nothing."""


_BY_STATUS: dict[int, type[ApiError]] = {
    HTTPStatus.BAD_REQUEST: InvalidRequest,
    HTTPStatus.UNAUTHORIZED: Unauthorized,
    HTTPStatus.FORBIDDEN: Unauthorized,
    HTTPStatus.NOT_FOUND: NotFound,
    HTTPStatus.CONFLICT: Conflict,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: TooLarge,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: InvalidRequest,
    HTTPStatus.UNPROCESSABLE_ENTITY: InvalidRequest,
    HTTPStatus.TOO_MANY_REQUESTS: RateLimited,
}


def error_of(problem: Problem) -> ApiError:
    """The exception of a problem, by its status."""
    if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return ServerError(problem)
    return _BY_STATUS.get(problem.status, ApiError)(problem)
