"""One HTTP call: authorisation, retries with backoff, and problems as exceptions."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Protocol, TypeAlias, final

import httpx2

from saddlescope.client.answers import parse_problem
from saddlescope.client.errors import ConnectionFailed, error_of
from saddlescope.client.trace_context import current_traceparent

Params: TypeAlias = Mapping[str, str | int | Sequence[str]]

RETRIED_STATUSES = frozenset(
    {
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.INTERNAL_SERVER_ERROR,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)
FIRST_PAUSE_SECONDS = 0.25
LONGEST_PAUSE_SECONDS = 20.0
LONGEST_RETRY_AFTER_SECONDS = 120.0


class Chunks(Protocol):
    """Makes the bytes of a body anew, from an offset on."""

    def __call__(self, offset: int = 0, /) -> Iterator[bytes]: ...


@dataclass(frozen=True)
class Body:
    """The bytes of a request, made anew for every attempt."""

    size: int
    chunks: Chunks
    content_type: str = "application/octet-stream"
    offset: int = 0
    """Where the bytes of this request begin; `size` counts from there."""


@dataclass(frozen=True)
class Call:
    """One call; `wait_seconds` is how long the service was asked to hold its answer."""

    method: str
    path: str
    body: Body | None = None
    params: Params | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    wait_seconds: float = 0.0


@final
class Transport:
    """Sends calls to one service, again where it may help. Every call is safe to repeat: posts carry a key."""

    def __init__(self, url: str, *, api_key: str | None, timeout_seconds: float, retries: int) -> None:
        from saddlescope import __version__  # noqa: PLC0415  the package imports this module lazily

        parsed = httpx2.URL(url)
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise ValueError(f"{url!r} is no address of a service; expected one like http://127.0.0.1:8000")
        headers = {"User-Agent": f"saddlescope/{__version__}"}
        if api_key is not None:
            if not (api_key.isascii() and api_key.isprintable()):  # told here: the error of the header would quote it
                raise ValueError(
                    "the API key holds characters that no header can carry; was it copied whole, and alone?"
                )
            headers["Authorization"] = f"Bearer {api_key}"
        self.url = url
        self._timeout_seconds = timeout_seconds
        self._retries = retries
        # No redirects: the key must not follow one to another host.
        self._http = httpx2.Client(base_url=url, headers=headers, follow_redirects=False)

    def close(self) -> None:
        self._http.close()

    @property
    def retries(self) -> int:
        return self._retries

    def send_once(self, call: Call) -> httpx2.Response:
        """Send a call that is not to be repeated as it is.

        Raises:
            ConnectionFailed: if it was not answered.
            ApiError: if it was refused.
        """
        try:
            return _accepted(self._send_once(call))
        except httpx2.RequestError as failure:
            raise ConnectionFailed(f"cannot reach {self.url}: {failure or type(failure).__name__}") from failure

    def send(self, call: Call) -> httpx2.Response:
        """Send until it is answered.

        Raises:
            ConnectionFailed: if no attempt was answered.
            ApiError: the last refusal.
        """
        for attempt in range(self._retries):
            try:
                response = self._send_once(call)
            except httpx2.RequestError:
                time.sleep(pause(attempt, None))
                continue
            if response.status_code not in RETRIED_STATUSES:
                return _accepted(response)
            time.sleep(pause(attempt, response.headers.get("Retry-After")))
        return self.send_once(call)

    @contextmanager
    def stream(self, call: Call) -> Iterator[httpx2.Response]:
        """One attempt whose body is read as it comes; whoever reads resumes.

        Raises:
            ConnectionFailed: if it was not answered, or the connection broke while it was read.
            ApiError: a refusal.
        """
        timeout = httpx2.Timeout(self._timeout_seconds, read=self._timeout_seconds + call.wait_seconds)
        try:
            with self._http.stream(
                call.method, call.path, params=call.params, headers=dict(call.headers), timeout=timeout
            ) as response:
                if response.status_code >= HTTPStatus.MULTIPLE_CHOICES:
                    response.read()
                yield _accepted(response)
        except httpx2.RequestError as failure:
            raise ConnectionFailed(f"lost {self.url}: {failure or type(failure).__name__}") from failure

    def _send_once(self, call: Call) -> httpx2.Response:
        headers = dict(call.headers)
        if (traceparent := current_traceparent()) is not None:
            headers["traceparent"] = traceparent
        if call.body is not None:
            headers |= {"Content-Type": call.body.content_type, "Content-Length": str(call.body.size)}
        return self._http.request(
            call.method,
            call.path,
            content=None if call.body is None else call.body.chunks(call.body.offset),
            params=call.params,
            headers=headers,
            # The service holds a long poll open, so only the silence after that is suspicious.
            timeout=httpx2.Timeout(self._timeout_seconds, read=self._timeout_seconds + call.wait_seconds),
        )


def _accepted(response: httpx2.Response) -> httpx2.Response:
    """The response, or the refusal that it holds as an exception.

    Raises:
        ApiError: for every status from 300, since redirects are not followed.
    """
    if response.status_code < HTTPStatus.MULTIPLE_CHOICES:
        return response
    request_id = response.headers.get("X-Request-Id")
    raise error_of(parse_problem(response.content, status=response.status_code, request_id=request_id))


def retry_after_seconds(header: str | None) -> float | None:
    """Seconds of a Retry-After header; None without one, or with a date, which backoff serves as well."""
    if header is None or not header.strip().isdecimal():
        return None
    return min(float(header), LONGEST_RETRY_AFTER_SECONDS)


def pause(attempt: int, retry_after: str | None) -> float:
    """Seconds before the next attempt: what the service told, else growing and shaken."""
    told = retry_after_seconds(retry_after)
    if told is not None:
        return told
    # Jitter keeps a cluster's workers from coming back in step.
    return min(FIRST_PAUSE_SECONDS * 2.0**attempt, LONGEST_PAUSE_SECONDS) * random.uniform(0.5, 1.0)  # noqa: S311
