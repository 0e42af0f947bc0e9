"""Carry one message to one receiver: to the address that was checked, within a time, without believing the answer."""

from __future__ import annotations

import re
import socket
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import final

import saddlescope
from service.destinations import Address, Allowance, Destination, parse_destination

LIMIT_SECONDS = 10.0
MAX_RESPONSE_BYTES = 16 * 2**10
# The status is known by then; who still writes is let finish for so long.
_DRAIN_SECONDS = 1.0
_MAX_ADDRESSES = 4
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: [^\r\n]*)?")

Resolver = Callable[[str, int], Sequence[str]]


class NotDelivered(Exception):
    """No answer came; the message says why."""


@dataclass(frozen=True)
class Answer:
    status: int
    milliseconds: int


def resolve(host: str, port: int) -> Sequence[str]:
    """Every address of a name; raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


@final
class Courier:
    """Posts to destinations that an allowance admits; safe to share between threads.

    Args:
        allowance: what may be called beyond the public internet.
        ca_file: certificates that are trusted beside the system's.
        resolver: every address of a name, as `resolve`.
        limit_seconds: for all of a post: resolving, connecting, sending and the answer's head.
    """

    def __init__(
        self,
        allowance: Allowance,
        *,
        ca_file: Path | None = None,
        resolver: Resolver = resolve,
        limit_seconds: float = LIMIT_SECONDS,
    ) -> None:
        self._allowance = allowance
        self._resolver = resolver
        self._limit_seconds = limit_seconds
        self._tls = ssl.create_default_context()
        if ca_file is not None:
            self._tls.load_verify_locations(ca_file)

    def post(self, url: str, *, headers: Mapping[str, str], body: bytes) -> Answer:
        """Post JSON once; a redirect is an answer like any other.

        Raises:
            DestinationRefused: if the URL or one of its addresses may not be called.
            NotDelivered: if no HTTP answer came in time.
        """
        clock = _Clock(self._limit_seconds)
        destination = parse_destination(url)
        addresses = self._addresses(destination)
        self._allowance.check_addresses(destination, addresses)
        try:
            with self._connect(destination, addresses, clock) as connection:
                clock.wind(connection)
                connection.sendall(_request(destination, headers, body))
                status, num_bytes = _status(connection, clock)
                answer = Answer(status, clock.milliseconds())
                _drain(connection, max_bytes=MAX_RESPONSE_BYTES - num_bytes)
                return answer
        except TimeoutError:
            raise NotDelivered(f"no answer within {self._limit_seconds:g} seconds") from None
        except ssl.SSLError as failure:
            raise NotDelivered(f"TLS failed: {failure.reason or 'the connection was closed'}{_why(failure)}") from None
        except OSError as failure:
            raise NotDelivered(f"the connection failed: {failure.strerror or type(failure).__name__}") from None

    def _addresses(self, destination: Destination) -> list[Address]:
        literal = destination.address
        if literal is not None:
            return [literal]
        try:
            found = self._resolver(destination.host, destination.port)
        except OSError as failure:
            raise NotDelivered(f"the name does not resolve: {failure.strerror}") from None
        return [ip_address(text) for text in found]

    def _connect(self, destination: Destination, addresses: Sequence[Address], clock: _Clock) -> socket.socket:
        """A connection to the first address that takes one, over TLS verified for the host's name unless http."""
        last: OSError = TimeoutError()
        candidates = addresses[:_MAX_ADDRESSES]
        for index, address in enumerate(candidates):
            try:
                # The text of an address: nothing is resolved a second time.
                plain = socket.create_connection((str(address), destination.port), clock.share(len(candidates) - index))
            except OSError as failure:
                last = failure
                continue
            if destination.scheme == "http":
                return plain
            with plain:  # detached by the wrapping
                clock.wind(plain)
                return self._tls.wrap_socket(plain, server_hostname=destination.host)
        raise last


@final
class _Clock:
    """One limit for many steps. Python's own timeouts begin anew with every call."""

    def __init__(self, seconds: float) -> None:
        self._started = time.monotonic()
        self._ends = self._started + seconds

    def share(self, num_shares: int) -> float:
        """An equal share of what is left; raises TimeoutError when nothing is."""
        left = self._ends - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left / num_shares

    def wind(self, connection: socket.socket) -> None:
        """Give the next call on the connection what is left."""
        connection.settimeout(self.share(1))

    def milliseconds(self) -> int:
        return round((time.monotonic() - self._started) * 1000)


def _request(destination: Destination, headers: Mapping[str, str], body: bytes) -> bytes:
    fields = {
        "Host": destination.authority,
        "User-Agent": f"Saddlescope/{saddlescope.__version__}",
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Connection": "close",
        **headers,
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"POST {destination.target} HTTP/1.1\r\n{head}\r\n".encode("ascii") + body


def _status(connection: socket.socket, clock: _Clock) -> tuple[int, int]:
    """The status of the final answer and the bytes read; interim answers and its head have to fit into the limit."""
    received, num_bytes = b"", 0
    while True:
        head, end, rest = received.partition(b"\r\n\r\n")
        if end:
            line = _STATUS_LINE.fullmatch(head.partition(b"\r\n")[0])
            if line is None:
                raise NotDelivered("the answer is no HTTP/1.1")
            if int(line[1]) >= 200:
                return int(line[1]), num_bytes
            received = rest
            continue
        if num_bytes >= MAX_RESPONSE_BYTES:
            raise NotDelivered(f"the answer's head is longer than {MAX_RESPONSE_BYTES} bytes")
        clock.wind(connection)
        chunk = connection.recv(min(4096, MAX_RESPONSE_BYTES - num_bytes))
        if not chunk:
            raise NotDelivered("the connection was closed without an answer")
        received += chunk
        num_bytes += len(chunk)


def _drain(connection: socket.socket, *, max_bytes: int) -> None:
    """Let the receiver say its last words: closing upon unread bytes would be a reset to it. They are not kept."""
    clock, left = _Clock(_DRAIN_SECONDS), max_bytes
    try:
        while left > 0:
            clock.wind(connection)
            chunk = connection.recv(min(4096, left))
            if not chunk:
                return
            left -= len(chunk)
    except OSError:
        return  # what it answered stands


def _why(failure: ssl.SSLError) -> str:
    """Which check the certificate did not pass."""
    return f" ({failure.verify_message})" if isinstance(failure, ssl.SSLCertVerificationError) else ""
