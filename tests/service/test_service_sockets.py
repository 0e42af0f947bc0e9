"""What comes before the application: heads that dawdle, that never end, and bodies that nobody asked for."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator

import pytest
import uvicorn
from api_process import Api, running_api

from service import sockets
from service.sockets import MAX_HEAD_BYTES, BoundedHead

GET = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with running_api(tmp_path_factory.mktemp("api")) as started:
        yield started


def everything(connection: socket.socket) -> bytes:
    connection.settimeout(30)
    said = b""
    while chunk := connection.recv(65536):
        said += chunk
    return said


def flood(connection: socket.socket, chunk: bytes, num_chunks: int) -> int:
    """How many bytes the other side let us send."""
    sent = 0
    connection.settimeout(20)
    try:
        for _ in range(num_chunks):
            connection.sendall(chunk)
            sent += len(chunk)
    except OSError:
        pass
    return sent


@pytest.mark.parametrize("chunk", [b"x" * 65536, b"a: b\r\n" * 10_000], ids=["one", "many"])
def test_headers_without_end_are_refused_and_take_no_memory(api: Api, chunk: bytes) -> None:
    before = api.peak_bytes()
    with api.connect() as connection:
        connection.sendall(GET + b"X-Long: ")
        assert flood(connection, chunk, 2000) < 100 * 2**20
    assert api.peak_bytes() - before < 20 * 2**20
    with api.connect() as connection:
        connection.sendall(GET + b"X-Long: " + b"x" * (MAX_HEAD_BYTES + 1))
        assert everything(connection).startswith(b"HTTP/1.1 431 ")


def test_trailers_without_end_take_no_memory_and_become_no_headers(api: Api) -> None:
    before = api.peak_bytes()
    head = (
        b"POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    with api.connect() as connection:
        connection.sendall(head + b"0\r\n")
        flood(connection, b"a: b\r\n" * 10_000, 600)
    assert api.peak_bytes() - before < 20 * 2**20


def test_what_is_sent_after_the_answer_ends_the_connection(api: Api) -> None:
    head = b"PUT /v1/artifacts/nonsense HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 10737418240\r\n\r\n"
    with api.connect() as connection:
        connection.sendall(head)
        connection.settimeout(20)
        assert connection.recv(65536).startswith(b"HTTP/1.1 422 ")
        with pytest.raises(OSError, match=r"reset|pipe"):  # noqa: PT012 - whichever byte it is
            while True:
                connection.sendall(b"x")
                time.sleep(0.1)


def test_large_heads_and_many_requests_on_one_connection_are_served(api: Api) -> None:
    with api.connect() as connection:
        for number in range(20):
            connection.sendall(GET + b"X-Long: " + b"x" * (MAX_HEAD_BYTES // 2) + b"\r\n")
            connection.sendall(b"X-Number: %d\r\n\r\n" % number)
            said = b""
            while not said.endswith(b'{"status":"ok"}'):
                said += connection.recv(65536)
            assert said.startswith(b"HTTP/1.1 200 OK")
        connection.sendall((GET + b"\r\n") * 3 + GET + b"Connection: close\r\n\r\n")
        assert everything(connection).count(b"HTTP/1.1 200 OK") == 4


def test_a_head_that_dawdles_is_cut_however_steadily_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "HEAD_SECONDS", 0.5)

    async def drip(first: bytes) -> bytes:
        """What a client hears that sends a byte every now and then until it is cut off."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(first)
        heard = asyncio.create_task(reader.read())
        for _ in range(400):
            writer.write(b"x")
            await asyncio.sleep(0.05)
            if heard.done():
                break
        writer.close()
        return await heard

    async def silent() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(20):
            said = await reader.read()
        writer.close()
        return said

    async def hello(scope: object, receive: object, send: object) -> None:
        await asyncio.sleep(1)  # longer than a head may take: the answer is no longer part of it
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    async def served() -> None:
        nonlocal port
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            server = uvicorn.Server(uvicorn.Config(hello, http=BoundedHead, log_config=None, lifespan="off"))
            running = asyncio.create_task(server.serve(sockets=[listener]))
            assert await asyncio.gather(drip(b"GET /"), drip(GET + b"X-Slow: "), silent()) == [b"", b"", b""]
            # The second head of a connection has its own time, and an answer is not cut.
            said = await drip(GET + b"\r\n" + GET + b"X-Slow: ")
            assert said.count(b"200 OK") == 1
            server.should_exit = True
            await running

    port = 0
    asyncio.run(served())
