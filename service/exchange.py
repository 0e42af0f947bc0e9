"""One HTTP exchange: its id, its log line and count, the headers of every answer, patience with its body."""

from __future__ import annotations

import asyncio
import time

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.answer_headers import STANDARD_HEADERS
from service.answers import accepted_request_id, problem_response
from service.headers import traceparent
from service.hosts import host_refusal
from service.metrics import Metrics, method_label
from service.problems import Forbidden, RequestTimeout, ServiceProblem, UnsupportedMediaType
from service.settings import Settings
from store.identifiers import new_id
from telemetry.tracing import tell_route, trace_id

log = structlog.get_logger("service")


class Exchange:
    """ASGI middleware around every route."""

    def __init__(self, app: ASGIApp, *, settings: Settings, metrics: Metrics) -> None:
        self.app = app
        self.settings = settings
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        identity = accepted_request_id(headers.get("x-request-id")) or new_id("req")
        scope["saddlescope.request_id"] = identity
        started, status = time.perf_counter(), 500

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                tell_route(_route(scope))  # now: the span ends with the last byte
                answer = MutableHeaders(raw=message["headers"])
                answer["x-request-id"] = identity
                answer.update(scope.get("saddlescope.budget", {}))
                for name, value in STANDARD_HEADERS.items():
                    answer.setdefault(name, value)
                message["headers"] = answer.raw
            await send(message)

        trace = trace_id(traceparent(headers.get("traceparent")))
        try:
            with structlog.contextvars.bound_contextvars(request_id=identity, trace_id=trace):
                refused = _refusal(scope["method"], headers) or host_refusal(scope["method"], headers, self.settings)
                if refused is not None:
                    await problem_response(Request(scope), refused)(scope, receive, send_marked)
                else:
                    await self.app(scope, _patient(receive, self.settings), send_marked)
        finally:
            seconds = time.perf_counter() - started
            # Both are of a closed set: a caller who makes up methods or addresses makes no new series.
            method, route = method_label(scope["method"]), _route(scope)
            self.metrics.requests.labels(method, route, str(status)).inc()
            self.metrics.seconds.labels(method, route, str(status)).observe(seconds)
            log.info(
                "http",
                request_id=identity,
                trace_id=trace,
                project=scope.get("saddlescope.project"),
                method=method,
                route=route,
                status=status,
                seconds=round(seconds, 4),
            )


def _route(scope: Scope) -> str:
    return getattr(scope.get("route"), "path", "unmatched")


def _refusal(method: str, headers: Headers) -> ServiceProblem | None:
    if headers.get("content-encoding", "identity").strip().lower() != "identity":
        return UnsupportedMediaType("Send the body as it is: no content encoding is taken.")
    # A form on a foreign page can post to a loopback address, and the browser says so.
    if method not in ("GET", "HEAD", "OPTIONS") and headers.get("sec-fetch-site") in ("cross-site", "same-site"):
        return Forbidden("A page of another site may not change anything here.")
    return None


def _patient(receive: Receive, settings: Settings) -> Receive:
    """`receive` which gives up on a body that stalls, stays under the minimum rate, or takes longer than any may.

    uvicorn itself keeps a slow body open for ever.
    """
    patience, rate = settings.body_patience_seconds, settings.min_body_bytes_per_second
    deadline = settings.body_deadline_seconds
    if rate == 0:
        return receive
    started: float | None = None
    received, is_complete = 0, False

    async def receive_in_time() -> Message:
        nonlocal started, received, is_complete
        if is_complete:
            return await receive()
        # From the first read on: before it, nobody asked the client to send.
        started = time.monotonic() if started is None else started
        try:
            async with asyncio.timeout(patience):  # not wait_for, which makes a task for every chunk
                message = await receive()
        except TimeoutError:
            raise RequestTimeout(f"No byte of the body came for {patience:g} seconds.") from None
        if message["type"] != "http.request":
            is_complete = True
            return message
        received += len(message.get("body", b""))
        is_complete = not message.get("more_body", False)
        elapsed = time.monotonic() - started
        if not is_complete and elapsed > patience and received < rate * elapsed:
            raise RequestTimeout(f"The body came more slowly than {rate} bytes per second.")
        if not is_complete and elapsed > deadline:
            raise RequestTimeout(f"The body took longer than {deadline:g} seconds; send it as a resumable upload.")
        return message

    return receive_in_time
