"""A real TCP proxy that cuts connections after so many bytes."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass
class CuttingProxy:
    url: str
    cuts: list[int] = field(default_factory=list)
    """After how many bytes from the client each of the next large requests is cut."""
    num_cut: int = 0


@contextmanager
def cutting(target: str) -> Iterator[CuttingProxy]:
    listener = socket.create_server(("127.0.0.1", 0))
    proxy = CuttingProxy(f"http://127.0.0.1:{listener.getsockname()[1]}")
    address = (urlsplit(target).hostname or "", urlsplit(target).port or 80)

    def accept() -> None:
        with suppress(OSError):  # the listener is closed at the end
            while True:
                client, _ = listener.accept()
                server = socket.create_connection(address)
                for source, sink, is_upstream in ((client, server, True), (server, client, False)):
                    threading.Thread(target=pump, args=(source, sink, is_upstream), daemon=True).start()

    def pump(source: socket.socket, sink: socket.socket, is_upstream: bool) -> None:
        num_bytes = 0
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
                num_bytes += len(data)
                if is_upstream and proxy.cuts and num_bytes > proxy.cuts[0]:
                    proxy.cuts.pop(0)
                    proxy.num_cut += 1
                    break
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    thread = threading.Thread(target=accept)
    thread.start()
    yield proxy
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()
