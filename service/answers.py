"""Answers that every route shares: problems, and the headers that never lack."""

from __future__ import annotations

import re
from urllib.parse import urlencode

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolExhausted
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match

from saddlescope.contract.problems import FieldProblem
from service import problems
from service.answer_headers import STANDARD_HEADERS
from service.parts import Parts
from service.problems import ServiceProblem
from service.rendering import page
from service.sessions import SignInNeeded
from service.strict_json import pointer_token
from store import blobs
from store.database import is_disk_full, is_outage

log = structlog.get_logger("service")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:\-]{1,128}")


def accepted_request_id(header: str | None) -> str | None:
    """The caller's X-Request-Id if it is fit for a header and a log line."""
    return header if header is not None and _REQUEST_ID.fullmatch(header) else None


def request_id(request: Request) -> str | None:
    found: str | None = request.scope.get("saddlescope.request_id")
    return found


def problem_response(request: Request, problem: ServiceProblem) -> Response:
    """The problem as an object; on a page of the dashboard, in words."""
    identity = request_id(request)
    body = problem.describe(instance=request.url.path, request_id=identity)
    headers = {**STANDARD_HEADERS, **problem.headers}
    if identity is not None:
        headers["x-request-id"] = identity
    if _is_looked_at(request):
        shown = page(request, "refused.html", status_code=problem.status, problem=body)
        shown.headers.update({name: text for name, text in headers.items() if name not in shown.headers})
        return shown
    return Response(body.model_dump_json(), status_code=problem.status, media_type=problems.MEDIA_TYPE, headers=headers)


def _is_looked_at(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "") and not request.url.path.startswith("/v1/")


def tell_problems(app: FastAPI) -> None:
    """Answer every error as `application/problem+json`."""
    app.add_exception_handler(ServiceProblem, _service_problem)
    app.add_exception_handler(SignInNeeded, _sign_in)
    app.add_exception_handler(blobs.StorageUnavailable, _storage_problem)
    app.add_exception_handler(HTTPException, _http_problem)
    app.add_exception_handler(RequestValidationError, _parameter_problem)
    app.add_exception_handler(ClientDisconnect, _disconnected)
    for failure in (OperationalError, InterfaceError, PoolExhausted):
        app.add_exception_handler(failure, _database_problem)
    app.add_exception_handler(Exception, _internal_problem)


async def _service_problem(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, ServiceProblem)  # noqa: S101 - narrows what Starlette types as Exception
    if isinstance(problem, problems.StorageFull):
        _count_blob_error(request)
    return problem_response(request, problem)


async def _sign_in(request: Request, _: Exception) -> Response:
    there = urlencode({"next": request.url.path + (f"?{request.url.query}" if request.url.query else "")})
    return RedirectResponse(f"/login?{there}", status_code=303)


async def _storage_problem(request: Request, failure: Exception) -> Response:
    assert isinstance(failure, blobs.StorageUnavailable)  # noqa: S101 - as above
    log.warning("storage_unavailable", request_id=request_id(request), reason=failure.reason)
    problem = problems.StorageUnavailable(
        "The blob store does not answer; nothing of this request was kept.", headers={"retry-after": "5"}
    )
    return problem_response(request, problem)


async def _http_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - as above
    match error.status_code:
        case 404:
            problem: ServiceProblem = problems.NotFound("There is nothing at this address.")
        case 405:
            problem = problems.MethodNotAllowed(
                f"{request.method} is not taken here.", headers={"allow": ", ".join(_methods_here(request))}
            )
        case 413:
            problem = problems.RequestTooLarge("The body is over its limit.")
        case 415:
            problem = problems.UnsupportedMediaType("This media type is not taken here.")
        case _:
            problem = problems.BadRequest("The HTTP request is broken.", headers=error.headers)
    return problem_response(request, problem)


def _methods_here(request: Request) -> list[str]:
    """All that the address takes; Starlette names those of the first route alone."""
    app: FastAPI = request.app
    methods: set[str] = set()
    for method in ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT"):
        scope = {**request.scope, "method": method}
        if any(route.matches(scope)[0] is Match.FULL for route in app.routes):
            methods.add(method)
    return sorted(methods)


async def _parameter_problem(request: Request, error: Exception) -> Response:
    """Query, header and path parameters; bodies are parsed in `requests`."""
    assert isinstance(error, RequestValidationError)  # noqa: S101 - as above
    places = [
        FieldProblem(
            pointer="".join(f"/{pointer_token(key)}" for key in place["loc"]), detail=place["msg"], code=place["type"]
        )
        for place in error.errors()
    ]
    return problem_response(request, problems.RequestInvalid("A parameter is wrong.", errors=places))


async def _disconnected(request: Request, _: Exception) -> Response:
    # Nobody reads this; it keeps a broken upload out of the error log.
    return problem_response(request, problems.BadRequest("The connection closed before the body was complete."))


async def _database_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, OperationalError | InterfaceError | PoolExhausted)  # noqa: S101 - as above
    if isinstance(error, OperationalError) and is_disk_full(error):
        return problem_response(request, problems.StorageFull("The database has no room on its disk."))
    if not isinstance(error, PoolExhausted) and not is_outage(error):
        raise error
    reason = "no connection is free" if isinstance(error, PoolExhausted) else str(error.orig)
    log.warning("database_unavailable", request_id=request_id(request), reason=reason)
    problem = problems.DatabaseUnavailable(
        "The database does not answer. If this was a submission, send it again under the same Idempotency-Key.",
        headers={"retry-after": "2"},
    )
    return problem_response(request, problem)


async def _internal_problem(request: Request, error: Exception) -> Response:
    # The database wraps its own and counts them itself; what is left of the system's errors is the disk's.
    if isinstance(error, OSError | blobs.BlobError):
        _count_blob_error(request)
    return problem_response(request, problems.InternalError("The service made a mistake; it is in the log."))


def _count_blob_error(request: Request) -> None:
    parts: Parts = request.app.state.parts
    parts.metrics.errors.labels("blobs").inc()
