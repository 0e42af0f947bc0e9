"""HTTP over sockets, as uvicorn speaks it, with bounds on what comes before the application: the head of a request.

uvicorn waits for ever for the first byte and for the last header, keeps headers of any size, and takes in what is sent
after the answer.
"""

from __future__ import annotations

import asyncio
from typing import final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_SECONDS = 20.0
# Who is answered before the whole body came may still read the answer; what is sent after that is sent to nobody.
LINGER_SECONDS = 5.0
MAX_HEAD_BYTES = 64 * 1024


@final
class BoundedHead(HttpToolsProtocol):
    """One connection. A head that is late ends it without a word, one that is too large with 431."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        super().connection_made(transport)
        self._head_bytes = 0
        self._is_head = True
        self._late: asyncio.TimerHandle | None = None
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_came()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_head:
            self._await_head()
            self._head_bytes += len(data)
        super().data_received(data)
        # What came with the last header may be body; a head is only too large while it has not ended.
        if self._is_head and self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.transport.write(
                b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
            )
            self.transport.close()

    def on_header(self, name: bytes, value: bytes) -> None:
        # Trailers come after the head: nobody here reads them, and uvicorn would add them to the headers.
        if self._is_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._head_came()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._is_head, self._head_bytes = True, 0

    def on_response_complete(self) -> None:
        if self.cycle.more_body:
            self.loop.call_later(LINGER_SECONDS, self.transport.close)
        super().on_response_complete()

    def _await_head(self) -> None:
        """One clock a head, from its first byte on; on a new connection, from the beginning.

        It rests while an answer is on its way, which it would cut.
        """
        if self._late is None and (self.cycle is None or self.cycle.response_complete):
            self._late = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _head_came(self) -> None:
        self._is_head = False
        if self._late is not None:
            self._late.cancel()
            self._late = None
