"""A cheap source of HTTP requests: `python -m benchmarks.hammer HOST PORT SECONDS CONNECTIONS < requests`.

One process, one raw asyncio protocol a connection, each sending its next request when the answer to the last is whole. What
comes on standard input is a JSON list of requests as text; they are sent in turn. Prints one JSON object: the statuses and
their numbers, and the sorted latencies in seconds.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator


class Connection(asyncio.Protocol):
    """Sends, waits for the whole answer, notes how long it took, and again until the time is up."""

    def __init__(self, requests: Iterator[bytes], ends: float, seen: Counter[int], latencies: list[float]) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._requests = requests
        self._ends = ends
        self._seen = seen
        self._latencies = latencies
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, blank, body = self._buffer.partition(b"\r\n\r\n")
        if not blank:
            return
        _, _, rest = head.lower().partition(b"content-length:")
        if rest and len(body) < int(rest.partition(b"\r\n")[0]):
            return
        self._latencies.append(time.perf_counter() - self._sent_at)
        self._seen[int(head[9:12])] += 1
        self._buffer = b""
        if time.perf_counter() < self._ends:
            self._send()
        else:
            self._transport.close()

    def connection_lost(self, _: Exception | None) -> None:
        self.done.set_result(None)

    def _send(self) -> None:
        self._sent_at = time.perf_counter()
        self._transport.write(next(self._requests))


async def hammer(host: str, port: int, *, seconds: float, connections: int, requests: list[bytes]) -> None:
    seen: Counter[int] = Counter()
    latencies: list[float] = []
    turns, ends = itertools.cycle(requests), time.perf_counter() + seconds
    loop = asyncio.get_running_loop()
    opened = [
        (await loop.create_connection(lambda: Connection(turns, ends, seen, latencies), host, port))[1]
        for _ in range(connections)
    ]
    await asyncio.gather(*(connection.done for connection in opened))
    print(json.dumps({"statuses": {str(code): count for code, count in seen.items()}, "latencies": sorted(latencies)}))


if __name__ == "__main__":
    _, HOST, PORT, SECONDS, CONNECTIONS = sys.argv
    REQUESTS = [text.encode() for text in json.load(sys.stdin)]
    asyncio.run(hammer(HOST, int(PORT), seconds=float(SECONDS), connections=int(CONNECTIONS), requests=REQUESTS))
