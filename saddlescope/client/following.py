"""Server-sent events of the service as an iterator that resumes by itself."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus

from saddlescope.client.answers import parse
from saddlescope.client.errors import ConnectionFailed, RateLimited, ServerError
from saddlescope.client.transport import Call, Params, Transport
from saddlescope.contract.jobs import Event

LONGEST_OUTAGE_SECONDS = 300.0
# The service says something every 15 seconds.
_SILENCE_SECONDS = 30.0
_FIRST_PAUSE_SECONDS, _LAST_PAUSE_SECONDS = 0.25, 10.0


def follow(
    transport: Transport, path: str, *, params: Params | None = None, after: str | None = None
) -> Iterator[Event]:
    """Each event once and in order, from the one after `after`; ends when the service says that nothing follows.

    Raises:
        ApiError: if the service refuses.
        ConnectionFailed: if it is not answering for five minutes.
    """
    last, pause, last_word = after, _FIRST_PAUSE_SECONDS, time.monotonic()
    while True:
        headers = {"Accept": "text/event-stream"} | ({} if last is None else {"Last-Event-ID": last})
        call = Call("GET", path, params=params, headers=headers, wait_seconds=_SILENCE_SECONDS)
        try:
            with transport.stream(call) as response:
                if response.status_code == HTTPStatus.NO_CONTENT:
                    return
                for message in read_messages(response.iter_bytes()):
                    last_word, pause = time.monotonic(), _FIRST_PAUSE_SECONDS
                    if message.data:
                        event = parse(Event, message.data.encode())
                        last = event.id
                        yield event
        except (ConnectionFailed, RateLimited, ServerError):
            if time.monotonic() - last_word > LONGEST_OUTAGE_SECONDS:
                raise
        # Also after an orderly end: of a job's stream the answer is then 204, and a project's goes on.
        time.sleep(pause)
        pause = min(2 * pause, _LAST_PAUSE_SECONDS)


@dataclass
class Message:
    """What stood between two blank lines; comments and hints leave it without data."""

    lines: list[str] = field(default_factory=list)

    @property
    def data(self) -> str:
        return "\n".join(self.lines)


def read_messages(chunks: Iterable[bytes]) -> Iterator[Message]:
    """Messages of a stream; one that the connection broke off is not told."""
    message, rest = Message(), b""
    for chunk in chunks:
        # Not str.splitlines: text of an event may hold characters that are line breaks to Python alone.
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            text = line.removesuffix(b"\r").decode()
            if not text:
                yield message
                message = Message()
            elif text.startswith("data:"):
                message.lines.append(text.removeprefix("data:").removeprefix(" "))
